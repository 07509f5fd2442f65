package diskio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// allocatePiece is reserved in one call, which cannot be canceled.
	allocatePiece = 256 << 20
	// allocateSync bounds how long allocated bytes wait to count as durable.
	allocateSync = 200 * time.Millisecond
	// blockUnit is the unit of st_blocks, whatever the file system's block size.
	blockUnit = 512
)

// Methods of an allocation.
const (
	MethodFallocate = "fallocate"
	MethodWrite     = "write" // zeros, where the file system has no fallocate
	MethodSparse    = "sparse"
)

// AllocateSpec says how large a file shall be and how much of it, from the
// start, shall have blocks. Both are bytes. The file may not be larger than
// Capacity already; an Allocation above Capacity means all of it.
type AllocateSpec struct {
	Capacity   int64
	Allocation int64
	// Written says that zeros are written to what shall have blocks and has no data:
	// blocks that are only reserved may cost more when they are written first.
	Written bool
	// Clean says of what is no regular file that it reads as zeros.
	Clean bool
	// Keep makes checkpoints. An allocation that was interrupted is simply made
	// again: what has blocks is passed over, so that From is of no use.
	Keep Checkpoints
}

// AllocateStats is what an allocation did.
type AllocateStats struct {
	Method    string
	Allocated int64 // bytes the file has now, by st_blocks
	// Kept is whether that is at least what was asked. A file system that
	// compresses or only pretends leaves it false; space may then run out later.
	Kept bool
}

// Allocate sizes a regular file and reserves its blocks, durably. Content stays
// as it is; what is new reads as zeros. Too little space is ENOSPC before
// anything is changed, as far as the file system can tell. After an error or a
// cancel the file may have any size and allocation up to what was asked. Any
// other content has the size that it has, and its storage; one that is not clean
// is made zeros, all of it.
func Allocate(ctx context.Context, p *Pacer, c Content, spec AllocateSpec) (AllocateStats, error) {
	f := regularOf(c)
	if f == nil {
		return clearAll(ctx, p, c, spec)
	}
	size, err := fileSize(f)
	if err != nil {
		return AllocateStats{}, err
	}
	if spec.Capacity < size {
		return AllocateStats{}, fmt.Errorf("a capacity of %d bytes is less than the %d that the file has", spec.Capacity, size)
	}
	if spec.Allocation < 0 {
		return AllocateStats{}, fmt.Errorf("an allocation of %d bytes is negative", spec.Allocation)
	}
	a := &allocation{p: p, f: f, capacity: spec.Capacity, want: min(spec.Allocation, spec.Capacity), write: spec.Written, keep: spec.Keep}
	return a.run(ctx)
}

// allocation gives a file its size, and blocks to its bytes from from to want.
type allocation struct {
	p        *Pacer
	f        *os.File
	capacity int64
	from     int64
	want     int64
	write    bool // and not only reserve
	oldSize  int64
	before   int64 // bytes it had at the start, by st_blocks
	flusher  *flusher
	keep     Checkpoints
	stats    AllocateStats
}

func (a *allocation) run(ctx context.Context) (AllocateStats, error) {
	if err := a.prepare(); err != nil {
		return a.stats, err
	}
	a.p.Expect(a.want-a.from, a.want-a.from)
	err := error(unix.EOPNOTSUPP)
	if !a.write || a.want == a.from {
		err = a.fallocateAll(ctx)
	}
	if cannotFallocate(err) {
		err = a.writeZeros(ctx)
	}
	if err != nil {
		return a.stats, err
	}
	return a.stats, a.conclude(ctx)
}

// prepare refuses what cannot be, and sizes the file.
func (a *allocation) prepare() error {
	fi, err := a.f.Stat()
	if err != nil {
		return ioError("stat", nowhere, err)
	}
	if !fi.Mode().IsRegular() {
		return ioError("allocate", nowhere, ErrUnsupported)
	}
	a.oldSize = fi.Size()
	if err := a.checkSpace(); err != nil {
		return err
	}
	return ioError("resize", nowhere, a.f.Truncate(a.capacity))
}

// checkSpace finds a lack of space before the work instead of in its middle.
func (a *allocation) checkSpace() error {
	var err error
	if a.before, err = allocated(a.f); err != nil {
		return err
	}
	have := a.before
	if a.from > 0 {
		have = 0 // what is behind the old size has no blocks yet
	}
	return checkRoom(a.f, a.want-a.from-have)
}

// allocated is what the file occupies, in bytes.
func allocated(f *os.File) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, ioError("stat", nowhere, err)
	}
	return st.Blocks * blockUnit, nil
}

// fallocateAll reserves piece by piece. Pieces count as durable when a
// fdatasync has followed them.
func (a *allocation) fallocateAll(ctx context.Context) error {
	a.stats.Method = MethodSparse
	if a.want == a.from {
		return nil
	}
	a.stats.Method = MethodFallocate
	steps := pieces{p: a.p, c: file{a.f}, op: "allocate", keep: a.keep, call: reserving(a.p, a.f)}
	return steps.run(ctx, a.from, a.want)
}

// reserving gives ranges of a file their blocks, and counts them.
func reserving(p *Pacer, f *os.File) func(off, n int64) error {
	return func(off, n int64) error {
		err := fallocate(f, 0, off, n)
		if err == nil {
			p.account(Moved{Allocated: n})
		}
		return err
	}
}

// pieces change how ranges are stored, which moves no bytes. Each is one call
// that cannot be canceled.
type pieces struct {
	p    *Pacer
	c    Content
	op   string
	keep Checkpoints
	call func(off, n int64) error
}

// run makes the calls for what lies from lo to hi. Pieces count as durable when
// a fdatasync has followed them.
func (s pieces) run(ctx context.Context, lo, hi int64) error {
	synced, settled := time.Now(), lo
	told := synced
	for off := lo; off < hi; {
		n := min(allocatePiece, hi-off)
		if err := s.one(ctx, off, n); err != nil {
			return err
		}
		s.p.account(Moved{Done: n})
		off += n
		if time.Since(synced) < allocateSync && off < hi {
			continue
		}
		if err := dataSync(ctx, s.p, s.c); err != nil {
			return err
		}
		s.p.account(Moved{Durable: off - settled, Light: off - settled})
		synced, settled = time.Now(), off
		told = s.checkpoint(told, off)
	}
	return nil
}

// checkpoint tells how far it is durable, if it is time.
func (s pieces) checkpoint(told time.Time, off int64) time.Time {
	if s.keep.Save == nil || time.Since(told) < s.keep.next(0) {
		return told
	}
	s.keep.Save(off)
	return time.Now()
}

// one makes one call, as one chunk that a pause waits for.
func (s pieces) one(ctx context.Context, off, n int64) error {
	if _, err := s.p.Admit(ctx, 0); err != nil {
		return err
	}
	defer s.p.Finished(Moved{})
	return ioError(s.op, off, s.call(off, n))
}

// cannotFallocate tells "this file system cannot" from a failure.
func cannotFallocate(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS)
}

func fallocate(f *os.File, mode uint32, off, n int64) error {
	return retry(func() error { return unix.Fallocate(int(f.Fd()), mode, off, n) })
}

// writeZeros fills the holes of the old content, and all behind it.
func (a *allocation) writeZeros(ctx context.Context) error {
	a.stats.Method = MethodWrite
	a.p.Expect(0, a.from-a.want)
	if err := flushSource(ctx, a.p, file{a.f}); err != nil {
		return err
	}
	a.flusher = newFlusher(a.p, file{a.f})
	defer a.flusher.stop()
	keep := &checkpointer{Checkpoints: Checkpoints{Save: a.keep.Save, Every: a.keep.Every}, sync: syncWith(a.p, a.flusher)}
	s := streams{p: a.p, keep: keep, requests: workers, step: func(ctx context.Context, buf []byte, off int64) (Moved, error) {
		return writeAndFlush(ctx, a.flusher, zeros[:len(buf)], off)
	}}
	err := s.run(ctx, func(visit func(Extent) error) error { return a.walkHoles(ctx, visit) })
	if err != nil {
		return err
	}
	return a.flusher.drain(ctx)
}

// walkHoles visits what has no blocks, as data to be written.
func (a *allocation) walkHoles(ctx context.Context, visit func(Extent) error) error {
	old := max(min(a.oldSize, a.want), a.from)
	if a.from < old {
		err := walkAll(ctx, file{a.f}, old, func(x Extent) error {
			if x.Kind != Data {
				return visit(Extent{Off: x.Off, Len: x.Len})
			}
			a.p.Expect(0, x.Len)
			a.p.account(Moved{Done: x.Len, Durable: x.Len, Light: x.Len})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return visit(Extent{Off: old, Len: a.want - old})
}

// conclude makes it durable and looks whether the promise was kept.
func (a *allocation) conclude(ctx context.Context) error {
	if err := flush(ctx, a.p, file{a.f}); err != nil {
		return err
	}
	var err error
	a.stats.Allocated, err = allocated(a.f)
	if a.from == 0 {
		a.stats.Kept = a.stats.Allocated >= a.want
	} else { // the first new block may have been the last old one
		a.stats.Kept = a.stats.Allocated-a.before > a.want-a.from-pageSize
	}
	return err
}

// zeros is what holes are filled with; never written to.
var zeros [chunkBytes]byte

// writeAndFlush is the step of a transfer that only writes.
func writeAndFlush(ctx context.Context, w *flusher, buf []byte, off int64) (Moved, error) {
	if err := writeFull(w.c, buf, off); err != nil {
		return Moved{}, err
	}
	n := int64(len(buf))
	w.p.account(Moved{Done: n})
	return Moved{Written: n}, w.wrote(ctx, off, n)
}

// dataSync makes what was written durable, as one chunk that a pause waits for.
// Its error is final.
func dataSync(ctx context.Context, p *Pacer, c Content) error {
	f := FileOf(c)
	if f == nil {
		return flush(ctx, p, c)
	}
	if _, err := p.Admit(ctx, 0); err != nil {
		return err
	}
	defer p.Finished(Moved{})
	return ioError("fdatasync", nowhere, unix.Fdatasync(int(f.Fd())))
}
