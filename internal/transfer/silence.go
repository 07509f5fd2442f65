package transfer

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"storaged/internal/record"
)

// silenceSteps is in how many steps a client's silence is counted: it lasts up to
// one step longer than its bound before it is noticed, and a pause of the job that
// is shorter than a step counts with it.
const silenceSteps = 10

// heardBody is what a client sends, of which it is known whether somebody waits
// for it. One goroutine reads; others may ask meanwhile.
type heardBody struct {
	io.Reader
	waits atomic.Int64 // counts the begins and the ends of reading: odd while the client is waited for
}

func (b *heardBody) Read(p []byte) (int, error) {
	b.waits.Add(1)
	defer b.waits.Add(1)
	return b.Reader.Read(p)
}

// silent returns true when the client has sent nothing for bound while it was
// waited for and the job was at work, or false when ctx is over. A job that is
// paused, limited or waits takes nothing, and that is not the client's silence.
func (b *heardBody) silent(ctx context.Context, bound time.Duration, atWork func() bool) bool {
	tick := time.NewTicker(max(bound/silenceSteps, 1))
	defer tick.Stop()
	last := b.waits.Load()
	for quiet := 0; quiet < silenceSteps; {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		now := b.waits.Load()
		if quiet++; now != last || now%2 == 0 || !atWork() {
			quiet = 0
		}
		last = now
	}
	return true
}

// listen ends the job of an upload whose client stays connected and sends
// nothing: the job would have its locks as long as the client likes.
func (t *Transfer) listen(b *heardBody) {
	atWork := func() bool {
		j, err := t.jobs.Job(t.ctx, t.job.ID)
		return err == nil && j.State == record.Running
	}
	bound := t.client.Silence
	for b.silent(t.ctx, bound, atWork) {
		why := record.Errorf(record.Interrupted, "the client was connected and sent nothing for %v", bound).
			WithHint("a client that may be silent for longer needs another bound: silence under [upload] in the settings")
		if err := t.jobs.FailJob(t.ctx, t.job.ID, why); err == nil {
			return // and its watcher breaks the connection
		}
	}
}

// goneInterval is how often it is looked whether a client is still there whom
// nobody reads from.
const goneInterval = time.Second

// mind breaks an upload whose client has gone while the job takes nothing,
// because it waits or is paused: nobody reads from the client then, which would
// tell. The job would keep its place, and begin to write what is not whole.
func (t *Transfer) mind(b *heardBody) {
	tick := time.NewTicker(goneInterval)
	defer tick.Stop()
	last := int64(-1)
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-tick.C:
		}
		now := b.waits.Load()
		if now == last && now%2 == 0 && t.client.Connection.PeerClosed() {
			t.deadlines(time.Unix(1, 0))
			return
		}
		last = now
	}
}
