package diskio

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Methods of a wipe. Nothing that the file system or the device could do by
// noting that a range is zero, and leaving it at that, counts as an overwrite.
const (
	MethodOverwrite = "overwrite" // every pass is written
	MethodPunch     = "punch"     // trim of a file: holes, fallocate(2)
	MethodDiscard   = "discard"   // trim of a device: BLKDISCARD
	MethodNone      = "none"      // there was nothing to overwrite, only holes
)

// WipeSpec says how a file is to be wiped.
type WipeSpec struct {
	Algorithm string // zero if empty; see Algorithms
	// Verify reads the last pass back from the device and compares it. The
	// algorithms whose definition asks for it do so anyway.
	Verify bool
	// Order is that of WipeOrder; nil makes one. Who continues a wipe needs the
	// one that it had.
	Order []int
	// Checkpoints count through all rounds, the reading back too. A random pass
	// that was interrupted goes on under another key, for the first one is kept
	// nowhere; if it is the one to be read back, it is begun anew.
	Checkpoints
}

// Rounds is how often the wipe goes over the whole file, which makes the total
// of its phase: the passes, and the reading back.
func (s WipeSpec) Rounds() int {
	return algorithms[cmp.Or(s.Algorithm, AlgorithmZero)].rounds(s.Verify)
}

// WipeStats is what a wipe did. Sizes are bytes.
type WipeStats struct {
	Algorithm string
	Method    string
	Passes    int   // completed
	From      int64 // where it began, of all rounds
	Bytes     int64 // overwritten by each pass, or given back
	Holes     int64 // not overwritten: no blocks, so no old content (zero only)
	Verified  bool
	Touched   bool // content was changed, or may have been
	Limits    []Limit
	Device    string // path of the block device that was written to, "" if there is none
}

// Wipe overwrites the whole size of a regular file or block device in place,
// durably, and never changes its size. Every pass is on the device before the
// next begins. zero leaves holes of a file alone; all others fill them; trim
// gives the blocks back instead, so that they are not reserved any more. After an
// error or a cancel some of it is overwritten, and nothing of ours is dirty any more.
func Wipe(ctx context.Context, p *Pacer, f *os.File, spec WipeSpec) (WipeStats, error) {
	w, err := newWiping(p, f, spec)
	if err != nil {
		return w.stats, err
	}
	if err := w.survey(ctx); err != nil {
		return w.stats, err
	}
	// Nobody needs the old content, and what came into the cache in small pieces
	// would be written back piece by piece.
	dropCache(f, 0, 0)
	before := p.Counts().Written
	err = w.work(ctx)
	w.stats.Touched = w.algorithm.trim || p.Counts().Written > before
	if err != nil {
		if ctx.Err() != nil { // canceled; otherwise the error is final and fsync would lie
			_ = syncFile(f) // after it no I/O goes on
		}
		return w.stats, err
	}
	if err := fsync(ctx, p, f); err != nil {
		return w.stats, err
	}
	if w.verify {
		return w.stats, w.compare(ctx)
	}
	return w.stats, nil
}

type wiping struct {
	p         *Pacer
	f         *os.File
	size      int64
	file      bool // regular, no device
	skipHoles bool
	algorithm algorithm
	verify    bool
	order     []pass
	keep      Checkpoints
	last      filler    // of the pass begun last
	spare     sync.Pool // of *[chunkBytes]byte
	stats     WipeStats
}

func newWiping(p *Pacer, f *os.File, spec WipeSpec) (*wiping, error) {
	if spec.Algorithm == "" {
		spec.Algorithm = AlgorithmZero
	}
	w := &wiping{p: p, f: f, stats: WipeStats{Algorithm: spec.Algorithm, Method: MethodOverwrite}}
	w.spare.New = func() any { return new([chunkBytes]byte) }
	var ok bool
	if w.algorithm, ok = algorithms[spec.Algorithm]; !ok {
		return w, fmt.Errorf("wipe algorithm %q: %w (there are %s)",
			spec.Algorithm, ErrUnsupported, strings.Join(Algorithms(), ", "))
	}
	w.verify = spec.Verify || w.algorithm.verify
	fi, err := f.Stat()
	if err != nil {
		return w, ioError("stat", nowhere, err)
	}
	w.file = fi.Mode().IsRegular()
	w.skipHoles = w.file && spec.Algorithm == AlgorithmZero
	switch {
	case w.algorithm.trim && w.file:
		w.stats.Method = MethodPunch
	case w.algorithm.trim:
		w.stats.Method = MethodDiscard
	}
	if w.size, err = fileSize(f); err != nil {
		return w, err
	}
	w.keep = spec.Checkpoints
	if spec.Order == nil {
		spec.Order = WipeOrder(spec.Algorithm)
	}
	w.order, err = w.algorithm.order(spec.Order)
	w.begin()
	return w, err
}

// begin says where the wipe begins. What is to be read back must have been
// written by this one, unless anybody knows what it wrote.
func (w *wiping) begin() {
	if w.algorithm.trim { // quick enough to be done again
		w.keep = Checkpoints{}
		return
	}
	last := len(w.algorithm.passes) - 1
	if w.verify && w.algorithm.passes[last] == nil {
		w.keep.From = min(w.keep.From, int64(last)*w.size)
	}
	w.keep.From = max(w.keep.From, 0)
	w.stats.From = w.keep.From
}

// survey finds what there is to overwrite and what cannot be reached.
func (w *wiping) survey(ctx context.Context) error {
	if err := w.limits(ctx); err != nil {
		return err
	}
	exact, err := w.walk(ctx, func(x extent) error {
		if x.hole {
			w.stats.Holes += x.len
		} else {
			w.stats.Bytes += x.len
		}
		return nil
	})
	if err != nil {
		return err
	}
	if w.stats.Bytes == 0 {
		w.stats.Method = MethodNone
	}
	if !exact && w.stats.Holes > 0 {
		w.limit("this file system cannot tell ranges that are allocated but unwritten from holes; neither was overwritten", false)
	}
	if !w.algorithm.trim {
		if err := checkOverwrite(ctx, w.f, extent{len: w.size}, w.stats.Holes); err != nil {
			return err
		}
	}
	rounds := int64(w.algorithm.rounds(w.verify))
	light := w.stats.Holes * rounds
	if w.algorithm.trim {
		light = w.size
	}
	w.p.expect(w.size*rounds, light)
	return nil
}

// walk visits what is to be overwritten; all of it is data unless holes are to
// be skipped.
func (w *wiping) walk(ctx context.Context, visit func(extent) error) (exact bool, err error) {
	if w.skipHoles {
		return walkAllocated(ctx, w.f, w.size, visit)
	}
	return true, visit(extent{len: w.size})
}

func (w *wiping) work(ctx context.Context) error {
	if w.algorithm.trim {
		return w.trim(ctx)
	}
	for _, pass := range w.order {
		w.last = pass.filler()
		if err := w.pass(ctx, w.last); err != nil {
			return err
		}
		w.stats.Passes++
	}
	return nil
}

// checkpointer is that of the current round.
func (w *wiping) checkpointer(sync func(context.Context) error) *checkpointer {
	return &checkpointer{Checkpoints: w.keep, base: int64(w.stats.Passes) * w.size, sync: sync}
}

// trim gives all blocks back.
func (w *wiping) trim(ctx context.Context) error {
	call := func(off, n int64) error { return discard(w.f, off, n) }
	if w.file {
		call = func(off, n int64) error {
			return fallocate(w.f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		}
	}
	w.last = pass{0x00}.filler() // what a verification looks for
	err := pieces{p: w.p, f: w.f, op: "trim", call: call}.run(ctx, 0, w.size)
	if cannotFallocate(err) {
		return ioError("trim", nowhere, ErrUnsupported)
	}
	return err
}

// discard is BLKDISCARD of linux/fs.h.
func discard(f *os.File, off, n int64) error {
	part := [2]uint64{uint64(off), uint64(n)}
	return retry(func() error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKDISCARD, uintptr(unsafe.Pointer(&part)))
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// pass overwrites everything once and waits until the device has it.
func (w *wiping) pass(ctx context.Context, fill filler) error {
	flusher := newFlusher(w.p, w.f)
	defer flusher.stop()
	s := streams{p: w.p, keep: w.checkpointer(syncWith(w.p, w.f, flusher)), step: func(ctx context.Context, buf []byte, off int64) (Moved, error) {
		return writeAndFlush(ctx, flusher, fill(buf, off), off)
	}}
	err := s.run(ctx, func(visit func(extent) error) error {
		_, err := w.walk(ctx, visit)
		return err
	})
	if err != nil {
		return err
	}
	if err := flusher.drain(ctx); err != nil {
		return err
	}
	return dataSync(ctx, w.p, w.f)
}

// compare reads the last pass back, past the page cache where it can.
func (w *wiping) compare(ctx context.Context) error {
	restore, err := uncache(w.f)
	if err != nil {
		return err
	}
	defer restore()
	s := streams{p: w.p, keep: w.checkpointer(nil), step: func(_ context.Context, buf []byte, off int64) (Moved, error) {
		if err := readAligned(w.f, buf, off); err != nil {
			return Moved{}, err
		}
		n := int64(len(buf))
		return Moved{Read: n, Done: n, Durable: n}, w.check(buf, off)
	}}
	err = s.run(ctx, func(visit func(extent) error) error {
		_, err := w.walk(ctx, visit)
		return err
	})
	w.stats.Verified = err == nil
	return err
}

// check compares what was read with what the last pass wrote there.
func (w *wiping) check(got []byte, off int64) error {
	spare := w.spare.Get().(*[chunkBytes]byte)
	defer w.spare.Put(spare)
	want := w.last(spare[:len(got)], off)
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range got {
		if got[i] != want[i] {
			return ioError("verify", off+int64(i), ErrMismatch)
		}
	}
	return nil
}

// uncache makes reads of f come from the device: by O_DIRECT, or, where the file
// system has none, because the cache was dropped. Nothing of f may be dirty.
// Changing the flag needs no second open, which a confined process may not do.
func uncache(f *os.File) (restore func(), err error) {
	dropCache(f, 0, 0)
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return nil, ioError("verify", nowhere, err)
	}
	set := func(flags int) error {
		_, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
		return err
	}
	if err := set(flags | unix.O_DIRECT); err != nil && !errors.Is(err, unix.EINVAL) {
		return nil, ioError("verify", nowhere, err)
	}
	return func() { _ = set(flags) }, nil // they were in force before
}

// readAligned reads all of buf, asking for whole pages as O_DIRECT wants them.
// buf is the beginning of a worker's buffer, which has room for them, since a
// chunk crosses no multiple of its size.
func readAligned(f *os.File, buf []byte, off int64) error {
	first := off &^ (alignment - 1)
	skip := int(off - first)
	whole := buf[:(skip+len(buf)+alignment-1)&^(alignment-1)]
	n, err := f.ReadAt(whole, first)
	if n >= skip+len(buf) {
		copy(buf, whole[skip:])
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = ErrShrunk
	}
	return ioError("verify", first+int64(n), err)
}
