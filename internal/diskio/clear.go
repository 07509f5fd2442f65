package diskio

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// MethodZero makes parts zeros without moving them.
const MethodZero = "zero"

// clearAll makes a content of fixed size read as zeros, durably, if it does not.
func clearAll(ctx context.Context, p *Pacer, c Content, spec AllocateSpec) (AllocateStats, error) {
	size, err := contentSize(c)
	if err == nil && size < spec.Capacity {
		err = ioError("allocate", size, unix.ENOSPC)
	}
	if err != nil || spec.Clean {
		return AllocateStats{Method: MethodNone, Allocated: size, Kept: true}, err
	}
	return Clear(ctx, p, c, 0)
}

// Clear makes a content of fixed size read as zeros from a byte on, durably. The storage
// does that where it can without being written to; else zeros are written.
func Clear(ctx context.Context, p *Pacer, c Content, from int64) (did AllocateStats, err error) {
	size, err := contentSize(c)
	did = AllocateStats{Method: MethodNone, Allocated: size, Kept: true}
	if err != nil || from >= size {
		return did, err
	}
	did.Method = MethodZero
	p.Expect(size-from, size-from)
	unmapping := pieces{p: p, c: c, op: "zero", call: func(off, n int64) error { return c.Zero(off, n, true) }}
	if err = unmapping.run(ctx, from, size); !errors.Is(err, ErrUnsupported) {
		return did, err
	}
	p.Expect(0, from-size)
	did.Method = MethodWrite
	return did, Overwrite(ctx, p, behind{c, from}, Round{Size: size - from, Pattern: func(buf []byte, _ int64) []byte { return zeros[:len(buf)] }})
}

// behind is what lies behind a byte of a content, to be written.
type behind struct {
	Content
	off int64
}

func (b behind) WriteAt(buf []byte, off int64) (int, error) { return b.Content.WriteAt(buf, b.off+off) }
