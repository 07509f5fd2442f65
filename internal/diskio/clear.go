package diskio

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// MethodZero makes parts zeros without moving them.
const MethodZero = "zero"

// clearAll makes a content of fixed size read as zeros, durably, if it does not. The
// storage does that where it can without being written to; else zeros are written.
func clearAll(ctx context.Context, p *Pacer, c Content, spec AllocateSpec) (did AllocateStats, err error) {
	size, err := contentSize(c)
	if err == nil && size < spec.Capacity {
		err = ioError("allocate", size, unix.ENOSPC)
	}
	did = AllocateStats{Method: MethodNone, Allocated: size, Kept: true}
	if err != nil || spec.Clean || size == 0 {
		return did, err
	}
	did.Method = MethodZero
	p.Expect(size, size)
	unmapping := pieces{p: p, c: c, op: "zero", call: func(off, n int64) error { return c.Zero(off, n, true) }}
	if err = unmapping.run(ctx, 0, size); !errors.Is(err, ErrUnsupported) {
		return did, err
	}
	p.Expect(0, -size)
	did.Method = MethodWrite
	return did, Overwrite(ctx, p, c, Round{Size: size, Pattern: func(buf []byte, _ int64) []byte { return zeros[:len(buf)] }})
}
