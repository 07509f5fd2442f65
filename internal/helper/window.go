package helper

import (
	"context"
	"sync"

	"storaged/internal/ipc"
)

// windows lets other jobs visit the objects of a run, as the mask of its phase
// says (ipc/PROTOCOL.md). The task opens and closes them, one at a time;
// acknowledgements come from another goroutine.
type windows struct {
	view   view
	Called chan struct{} // one token: somebody waits for a window

	mu    sync.Mutex
	last  int64         // id of the last frame
	acked chan struct{} // closed when the last frame is acknowledged; nil: nobody waits for that
}

// Visit opens the window and closes it again: who waits comes in. When it
// returns without an error nobody is inside, and what the task knew of its
// objects may have changed. A cancel ends the waiting, and then others may
// still be inside. next is how much of the phase will be durable when the next
// window opens, in its unit; 0 is not known.
func (w *windows) Visit(ctx context.Context, next int64) error {
	w.view.window(ipc.Window{ID: w.id(nil), Open: true})
	acked := make(chan struct{})
	if !w.view.window(ipc.Window{ID: w.id(acked), Next: next}) {
		return nil
	}
	select {
	case <-acked:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Expect tells, before the first window, when it will open: next is as for
// visit.
func (w *windows) Expect(next int64) {
	w.view.window(ipc.Window{ID: w.id(nil), Next: next})
}

// id gives the id of the next frame, whose acknowledgement closes acked.
func (w *windows) id(acked chan struct{}) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	w.acked = acked
	return w.last
}

// call is told that somebody waits for a window.
func (w *windows) call() {
	select {
	case w.Called <- struct{}{}:
	default: // it is known
	}
}

// ack is told of an acknowledgement. One of another id is of the past.
func (w *windows) ack(id int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if id == w.last && w.acked != nil {
		close(w.acked)
		w.acked = nil
	}
}

// Everybody may visit: it is the mask of a phase between whose objects none is open.
const Everybody = "QRMGWD"
