package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"storaged/internal/record"
)

// Event is a notice as receivers are told it.
type Event struct {
	record.Notice
	Host    string `json:"host"`
	Dropped int    `json:"dropped,omitempty"` // notices before this one that were not told, since the last that was
}

const (
	// queueLength is how many events wait for a receiver at most: those of a night of
	// failures, and little memory.
	queueLength = 1000

	// keepFor is how long one waits at most: later nobody has a use for it, and one that a
	// receiver never takes keeps no others from it for longer.
	keepFor = 24 * time.Hour

	// saveEvery is how long a change waits at most to be saved.
	saveEvery = time.Second

	// overlap is by how much what is looked for at the next start begins before what was
	// saved last. It is more than lies between a job's end and the notice of it.
	overlap = 2 * time.Minute
)

// queue is what waits for a receiver, oldest first, and what the next daemon has to know of
// it. It is safe for concurrent use.
type queue struct {
	file string // where it is saved

	mu      sync.Mutex
	waiting []Event
	dropped int                  // since the last event that was told
	seen    map[string]time.Time // when each of the last ids came
	since   time.Time            // what came before this is waiting or has been
	born    time.Time            // what came before this is not for the receiver
	behind  bool                 // what came after since is to be looked for yet

	grown   chan struct{} // has room for one: there may be more to tell
	changed chan struct{} // has room for one: there is something to save
}

// saved is a queue in its file.
type saved struct {
	Waiting []Event              `json:"waiting"`
	Dropped int                  `json:"dropped"`
	Seen    map[string]time.Time `json:"seen"`
	Since   time.Time            `json:"since"`
	Born    time.Time            `json:"born"`
}

// openQueue reads the queue from its file. Without one it is new: what happened before now
// is not for it. An error is of a file that cannot be read: what was in it is to be looked
// for.
func openQueue(file string) (q *queue, err error) {
	now := time.Now().UTC()
	q = &queue{file: file, seen: map[string]time.Time{}, since: now, born: now, grown: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
	text, err := os.ReadFile(file)
	var is saved
	if err == nil {
		err = json.Unmarshal(text, &is)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	case err != nil:
		err = fmt.Errorf("cannot read what waits for a receiver of notices: %w", err)
		q.since, q.behind = now.Add(-keepFor), true
		q.born = q.since
	default:
		q.waiting, q.dropped, q.since, q.born, q.behind = is.Waiting, is.Dropped, is.Since, is.Born, true
		maps.Copy(q.seen, is.Seen)
	}
	q.alter()
	return q, err
}

// offer puts an event behind the others, unless it came before. It reports whether an older
// one had to go for it.
func (q *queue) offer(e Event) (dropped bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, came := q.seen[e.ID]; came {
		return false
	}
	q.seen[e.ID] = time.Now().UTC()
	if dropped = len(q.waiting) == queueLength; dropped {
		q.waiting = slices.Delete(q.waiting, 0, 1)
		q.dropped++
	}
	q.waiting = append(q.waiting, e)
	q.alter()
	return dropped
}

// alter says that something may be to tell, and is to save.
func (q *queue) alter() {
	for _, c := range []chan struct{}{q.grown, q.changed} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// first gives the oldest event that is not too old, with how many were dropped before it.
func (q *queue) first() (e Event, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	fresh := slices.DeleteFunc(q.waiting, func(e Event) bool { return time.Since(e.Time) > keepFor })
	if gone := len(q.waiting) - len(fresh); gone > 0 {
		q.dropped += gone
		q.alter()
	}
	if q.waiting = fresh; len(fresh) == 0 {
		return e, false
	}
	e = fresh[0]
	e.Dropped = q.dropped
	return e, true
}

// done removes an event that was told, or was refused.
func (q *queue) done(e Event, told bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.IndexFunc(q.waiting, func(w Event) bool { return w.ID == e.ID })
	if at >= 0 {
		q.waiting = slices.Delete(q.waiting, at, at+1)
	}
	switch {
	case !told && at >= 0:
		q.dropped++
	case told && at < 0: // it had to go for another one meanwhile
		q.dropped -= e.Dropped + 1
	case told:
		q.dropped -= e.Dropped
	}
	q.alter()
}

// count gives how many wait, and how many were dropped since the last that was told.
func (q *queue) count() (waiting, dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting), q.dropped
}

// from is since when events are looked for that may not have come.
func (q *queue) from() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if from := q.since.Add(-overlap); from.After(q.born) {
		return from
	}
	return q.born
}

// caughtUp says that all that came after since was offered.
func (q *queue) caughtUp() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.behind = false
	q.alter()
}

// snapshot gives what is to be saved, and forgets ids that nobody will offer again.
func (q *queue) snapshot() saved {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.behind {
		q.since = time.Now().UTC()
		maps.DeleteFunc(q.seen, func(_ string, at time.Time) bool { return q.since.Sub(at) > 2*overlap })
	}
	return saved{slices.Clone(q.waiting), q.dropped, maps.Clone(q.seen), q.since, q.born}
}

// save writes the queue to its file: either it is the new one whole, or the old one.
func (q *queue) save() error {
	text, err := json.Marshal(q.snapshot())
	if err == nil {
		err = os.MkdirAll(filepath.Dir(q.file), 0o700)
	}
	if err == nil {
		err = os.WriteFile(q.file+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(q.file+".new", q.file)
	}
	if err != nil {
		return fmt.Errorf("cannot save what waits for a receiver of notices: %w", err)
	}
	return nil
}

// keepSaved saves the queue when it has changed, not more often than every, and once more
// when ctx ends. wrong gets what saving comes to.
func (q *queue) keepSaved(ctx context.Context, every time.Duration, wrong func(error)) {
	for ctx.Err() == nil {
		select {
		case <-q.changed:
			wrong(q.save())
		case <-ctx.Done():
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
		}
	}
	wrong(q.save())
}
