package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// maxPause is how long it takes at most until a receiver is tried again: twice as long as
	// before, less a part that is left to chance, so that many hosts do not come at once to a
	// server that is back.
	maxPause = 5 * time.Minute

	// linger is how long a process stays that has nothing to tell.
	linger = time.Minute
)

// runner tells one receiver. Its goroutines are run and keepSaved.
type runner struct {
	mission Mission
	queue   *queue
	pause   time.Duration // before the second try
	log     hclog.Logger
	cancel  context.CancelFunc
	all     sync.WaitGroup

	process *process // nil: there is none; for run alone

	mu       sync.Mutex
	trouble  error // why it is not told, nil: it is
	since    time.Time
	dropping bool  // that was said
	unsaved  error // why its queue could not be saved the last time
}

// begin starts a runner.
func begin(m Mission, q *queue, s Setup) *runner {
	ctx, cancel := context.WithCancel(context.Background())
	r := &runner{mission: m, queue: q, pause: cmp.Or(s.Pause, time.Second), log: s.Log.With("receiver", m.Name), cancel: cancel}
	r.all.Go(func() { r.run(ctx) })
	r.all.Go(func() { q.keepSaved(ctx, saveEvery, r.saved) })
	return r
}

// stop ends it. What waits is saved.
func (r *runner) stop() {
	r.cancel()
	r.all.Wait()
}

// is reports whether it does for a receiver what is to be done now.
func (r *runner) is(m Mission) bool { return reflect.DeepEqual(r.mission, m) }

// offer takes an event, if it is for the receiver.
func (r *runner) offer(e Event) {
	if !r.mission.Filter.Passes(&e.Notice) || !r.queue.offer(e) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.dropping {
		r.log.Warn("notices for a receiver are dropped, the oldest first", "waiting", queueLength)
	}
	r.dropping = true
}

// run tells what waits until ctx ends.
func (r *runner) run(ctx context.Context) {
	defer r.hangUp()
	for tries := 0; ; {
		e, ok := r.queue.first()
		if !ok {
			r.idle(ctx)
		} else if err := r.tell(ctx, e); err == nil {
			tries = 0
		} else if ctx.Err() == nil {
			r.hangUp()
			wait(ctx, pause(r.pause, tries))
			tries++
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// pause is how long to wait before another try, after as many more than the first that were
// in vain.
func pause(first time.Duration, tries int) time.Duration {
	longest := min(maxPause, first<<min(tries, 10))
	return longest/2 + rand.N(longest/2)
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// idle waits for something to tell, and sends the process home if that takes long.
func (r *runner) idle(ctx context.Context) {
	var ended <-chan struct{}
	var enough <-chan time.Time
	if r.process != nil {
		ended, enough = r.process.ended, time.After(linger)
	}
	select {
	case <-r.queue.grown:
	case <-ended:
		r.log.Warn("the process that tells a receiver of notices has died, and is started again when there is something to tell", "error", r.process.died(nil))
		r.hangUp()
	case <-enough:
		r.hangUp()
	case <-ctx.Done():
	}
}

// hangUp ends the process, if there is one.
func (r *runner) hangUp() {
	if r.process != nil {
		r.process.end()
		r.process = nil
	}
}

// tell tells an event; without an error it need not be told again.
func (r *runner) tell(ctx context.Context, e Event) error {
	a, err := r.attempt(ctx, e)
	switch {
	case err == nil && a.Error == "":
		r.queue.done(e, true)
		r.well()
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		err = errors.New(a.Error)
	}
	if a.Refused {
		r.queue.done(e, false)
		r.ail(fmt.Errorf("%w; the notice is dropped", err), a.Said)
		return nil
	}
	r.ail(err, a.Said)
	return err
}

// attempt has the process tell an event, and starts it if there is none.
func (r *runner) attempt(ctx context.Context, e Event) (a Answer, err error) {
	if r.process == nil || r.process.dead() {
		r.hangUp()
		if r.process, err = start(r.mission); err != nil {
			return a, err
		}
	}
	a, err = r.process.tell(ctx, e, r.mission.Timeout+grace)
	if err != nil {
		r.hangUp()
	}
	return a, err
}

// ail notes why the receiver is not told. The log says when that begins, and what its program
// said, which may be secret to others than the log's readers.
func (r *runner) ail(err error, said string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trouble == nil {
		r.since = time.Now()
		words := []any{"error", err}
		if said != "" {
			words = append(words, "said", said)
		}
		r.log.Warn("a receiver of notices cannot be told", words...)
	}
	r.trouble = err
}

// well notes that the receiver is told.
func (r *runner) well() {
	waiting, dropped := r.queue.count()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trouble != nil {
		r.log.Info("a receiver of notices is told again", "waiting", waiting)
	}
	r.trouble = nil
	r.dropping = r.dropping && dropped > 0
}

// saved notes what saving the queue came to.
func (r *runner) saved(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.unsaved == nil {
		r.log.Warn("what waits for a receiver of notices cannot be saved; if the daemon ends it may be lost", "error", err)
	}
	r.unsaved = err
}

// complaint is what a person has to know of the receiver, "" if there is nothing.
func (r *runner) complaint() string {
	waiting, dropped := r.queue.count()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trouble == nil || waiting == 0 { // it may take the next one
		return ""
	}
	text := fmt.Sprintf("receiver %q of notices cannot be told since %s: %v; %d wait", r.mission.Name, r.since.Format(time.DateTime), r.trouble, waiting)
	if dropped > 0 {
		text += fmt.Sprintf(", %d were dropped", dropped)
	}
	return text
}
