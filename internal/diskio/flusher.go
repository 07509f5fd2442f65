package diskio

import (
	"context"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxDirty bounds what waits for write-back: the latency of the neighbours
	// and the time of a cancel depend on it.
	maxDirty = 64 << 20
	// windowBytes is what is written back in one go. Large enough to keep a
	// device busy, small enough to be waited for quickly.
	windowBytes = 8 << 20
	// windowsUnderWay stay with the device while the next one is filled.
	windowsUnderWay = 2
	// flushEvery bounds how long a slow stream's bytes wait for write-back, so
	// that durable progress moves more than twice a second.
	flushEvery = 250 * time.Millisecond
)

// window is a part of a file, from lo to hi, in which so many bytes were
// written.
type window struct{ lo, hi, bytes int64 }

func (w *window) include(off, n int64) {
	if w.bytes == 0 {
		w.lo, w.hi = off, off+n
	}
	w.lo, w.hi = min(w.lo, off), max(w.hi, off+n)
	w.bytes += n
}

// flusher writes one content back behind its writers. Only of a file anything
// waits for that, in the page cache: the flusher starts the write-back of
// a finished window, waits for an older one, counts it as durable and drops it
// from the page cache. sync_file_range(2) makes nothing safe against power
// loss; finish does.
//
// An error of a write-back is reported by the kernel once per open file, and
// fsync would say yes after it: the first one is therefore kept and final.
type flusher struct {
	c Content
	f *os.File // c; nil if it is no file
	p *Pacer

	through bool // nothing waits for write-back: it is no file

	calls sync.Mutex // held while the kernel is asked, until its answer is kept

	mu     sync.Mutex
	dirty  int64    // bytes written and not yet waited for
	open   window   // being filled
	full   []window // to be started
	err    error
	room   chan struct{} // closed and replaced when dirty falls
	busy   bool          // a window became full since the last tick
	finish bool          // nothing will be written any more

	wake  chan struct{} // has one place; says that mu's fields changed
	quit  chan struct{} // closed by stop
	ended chan struct{} // closed by the goroutine
}

// newFlusher starts the flusher of c; its maker ends it by stop, after drain if
// all went well.
func newFlusher(p *Pacer, c Content) *flusher {
	w := &flusher{
		c: c, f: FileOf(c), p: p, through: FileOf(c) == nil,
		room:  make(chan struct{}),
		wake:  make(chan struct{}, 1),
		quit:  make(chan struct{}),
		ended: make(chan struct{}),
	}
	if w.through {
		close(w.ended)
		return w
	}
	go w.run()
	return w
}

// wrote hands over n bytes just written at off. It blocks while too much is
// dirty and gives the first error of the write-back.
func (w *flusher) wrote(ctx context.Context, off, n int64) error {
	if w.through {
		w.p.account(Moved{Durable: n})
		return nil
	}
	w.mu.Lock()
	if w.dirty == 0 {
		w.p.hold()
	}
	w.dirty += n
	w.open.include(off, n)
	full := w.open.bytes >= windowBytes
	if full {
		w.busy = true
		w.seal()
	}
	w.mu.Unlock()
	if still, _ := w.p.activity(); full || still { // what is open waits for the tick, unless a pause waits for it
		w.nudge()
	}
	return w.awaitRoom(ctx)
}

func (w *flusher) awaitRoom(ctx context.Context) error {
	for {
		w.mu.Lock()
		err, dirty, room := w.err, w.dirty, w.room
		w.mu.Unlock()
		if err != nil || dirty < maxDirty {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-room:
		}
	}
}

// seal makes the open window a full one. The caller holds mu.
func (w *flusher) seal() {
	if w.open.bytes > 0 {
		w.full = append(w.full, w.open)
		w.open = window{}
	}
}

func (w *flusher) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// drain writes everything back, waits for it and ends the flusher. Nothing may
// be written meanwhile.
func (w *flusher) drain(ctx context.Context) error {
	w.mu.Lock()
	w.finish = true
	w.mu.Unlock()
	w.nudge()
	select {
	case <-w.ended:
		return w.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop ends the flusher after the write-back it waits for; what else is dirty
// stays so. After a drain nothing is.
func (w *flusher) stop() {
	close(w.quit)
	<-w.ended
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dirty > 0 {
		w.dirty = 0
		w.p.release()
	}
}

func (w *flusher) run() {
	defer close(w.ended)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var started []window
	for {
		idle := w.sleep(tick.C)
		next, last := w.take(idle)
		started = w.start(started, next)
		keep := windowsUnderWay
		if idle || last {
			keep = 0
		}
		for len(started) > keep && w.fine() {
			w.settle(started[0])
			started = w.start(started[1:], w.takeFull())
		}
		if last || w.stopped() || !w.fine() {
			return
		}
	}
}

// sleep waits for work. It is idle when the stream is so slow or still that
// everything written shall be settled now.
func (w *flusher) sleep(tick <-chan time.Time) (idle bool) {
	paused, changed := w.p.activity()
	if paused {
		changed = nil // look at w.wake and the tick only, or this would spin
	}
	select {
	case <-w.wake:
		return paused
	case <-changed:
	case <-tick:
		w.mu.Lock()
		defer w.mu.Unlock()
		idle, w.busy = !w.busy, false
		return idle
	case <-w.quit:
	}
	paused, _ = w.p.activity()
	return paused
}

// take gives the windows to be started; all of them, and the open one too, when
// idle or last.
func (w *flusher) take(idle bool) (next []window, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if idle || w.finish {
		w.seal()
	}
	next, w.full = w.full, nil
	return next, w.finish
}

func (w *flusher) takeFull() []window {
	next, _ := w.take(false)
	return next
}

func (w *flusher) fine() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err == nil && !w.stopped()
}

func (w *flusher) stopped() bool {
	select {
	case <-w.quit:
		return true
	default:
		return false
	}
}

// start begins the write-back of next and appends it to started.
func (w *flusher) start(started, next []window) []window {
	for _, x := range next {
		w.sync(x, unix.SYNC_FILE_RANGE_WRITE) // a failure is kept
		started = append(started, x)
	}
	return started
}

// sync asks the kernel for a part of a write-back and keeps its first failure.
func (w *flusher) sync(x window, flags int) (ok bool) {
	w.calls.Lock()
	defer w.calls.Unlock()
	err := syncRange(w.f, x, flags)
	w.fail(x, err)
	return err == nil
}

// trouble gives the first failure of the write-back. A call to the kernel that
// is under way is waited for, whose failure nobody else would be told.
func (w *flusher) trouble() error {
	w.calls.Lock()
	defer w.calls.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// settle waits until x is written back, counts it and drops its pages.
func (w *flusher) settle(x window) {
	if !w.sync(x, unix.SYNC_FILE_RANGE_WRITE_AND_WAIT) {
		return
	}
	dropCache(w.f, x.lo, x.hi-x.lo)
	w.p.account(Moved{Durable: x.bytes})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirty -= x.bytes
	if w.dirty == 0 {
		w.p.release()
	}
	w.freeRoom()
}

// fail keeps the first error and lets waiting writers see it.
func (w *flusher) fail(x window, err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = ioError("write back", x.lo, err)
		w.freeRoom()
	}
}

func (w *flusher) freeRoom() {
	close(w.room)
	w.room = make(chan struct{})
}

// syncRange is sync_file_range(2).
func syncRange(f *os.File, x window, flags int) error {
	return retry(func() error { return unix.SyncFileRange(int(f.Fd()), x.lo, x.hi-x.lo, flags) })
}

// dropCache lets go of clean pages, of a file. It is advice: a failure costs memory
// only.
func dropCache(f *os.File, off, n int64) {
	if f == nil {
		return
	}
	_ = unix.Fadvise(int(f.Fd()), off, n, unix.FADV_DONTNEED)
}

// opSync is a flush, the first error of which is final.
const opSync = "fsync"

// flushNow asks nobody whether it may. Its error is final.
func flushNow(c Content) error {
	return ioError(opSync, nowhere, c.Flush())
}
