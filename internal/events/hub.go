// Package events keeps the last events of the daemon and gives them to any
// number of readers, none of which can hold up a publisher or another reader.
package events

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"storaged/internal/record"
)

// Reset is the type of the event that says: there are events you did not get
// and will not get; read the present state anew.
const Reset = "reset"

// progress events give only a present figure, so a newer one of the same job
// replaces an older one for a reader that is behind.
const progress = "job.progress"

// batchSize is how many events a reader takes from the ring at once: large
// enough that a reader behind loses most of its superseded progress, small
// enough that copying it under the lock costs a publisher microseconds.
const batchSize = 256

// Hub is a bounded ring of events and its readers. All methods may be called
// concurrently.
type Hub struct {
	mu     sync.Mutex
	ring   []record.Event // event number seq is at seq % len(ring)
	start  int64          // number before the first event
	last   int64          // number of the newest event, start when there is none
	grown  chan struct{}  // closed and replaced by Publish
	closed chan struct{}  // closed by Close
	pumps  sync.WaitGroup // one per open subscription

	dropped atomic.Int64
}

// New makes a hub that remembers the last capacity events. Numbers start at
// the present time in microseconds, so that a number from before a restart of
// the daemon is always known from one of now, and stays exact in JSON.
func New(capacity int) *Hub {
	if capacity < 1 {
		panic("internal error: events: a hub needs room for one event")
	}
	now := time.Now().UnixMicro()
	return &Hub{
		ring:   make([]record.Event, capacity),
		start:  now,
		last:   now,
		grown:  make(chan struct{}),
		closed: make(chan struct{}),
	}
}

// Publish gives e the next number and the present time and lets all readers
// see it. It never waits for a reader. After Close it does nothing.
func (h *Hub) Publish(e record.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isClosed() {
		return
	}
	h.last++
	e.Seq, e.Time = h.last, time.Now().UTC()
	h.ring[h.last%int64(len(h.ring))] = e
	close(h.grown)
	h.grown = make(chan struct{})
}

// Subscribe gives the events after number after, or with 0 those from now on,
// each once and in order; of a reader that is behind, progress of a job that
// newer progress of the same job follows is dropped.
//
// When events after that number are no longer remembered, or the number is not
// of this hub, the first event is a Reset with the number from which the
// stream goes on. A reader that later falls behind by the hub's capacity gets
// a Reset as its last event. The channel is closed then, when ctx ends, and
// with Close.
func (h *Hub) Subscribe(ctx context.Context, after int64) <-chan record.Event {
	p := &pump{hub: h, out: make(chan record.Event)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isClosed() {
		close(p.out)
		return p.out
	}
	switch {
	case after == 0:
		p.seen = h.last
	case after < h.oldest()-1 || after > h.last:
		p.seen, p.first = h.last, h.reset()
	default:
		p.seen = after
	}
	h.pumps.Go(func() { p.run(ctx) })
	return p.out
}

// Close ends all subscriptions, also those whose reader has events to read, and
// waits until they are ended.
func (h *Hub) Close() {
	h.mu.Lock()
	if !h.isClosed() {
		close(h.closed)
	}
	h.mu.Unlock()
	h.pumps.Wait()
}

// Dropped counts the events that readers did not get because they were behind:
// superseded progress, and what was forgotten before a Reset.
func (h *Hub) Dropped() int64 { return h.dropped.Load() }

func (h *Hub) isClosed() bool {
	select {
	case <-h.closed:
		return true
	default:
		return false
	}
}

// oldest is the number of the oldest event remembered; the next one's when
// there is none.
func (h *Hub) oldest() int64 { return max(h.start, h.last-int64(len(h.ring))) + 1 }

func (h *Hub) reset() *record.Event {
	return &record.Event{Seq: h.last, Time: time.Now().UTC(), Type: Reset}
}

// after copies up to batchSize events after number seen. With lost those next
// in line are forgotten already. Without events grown says when to ask again.
func (h *Hub) after(seen int64) (batch []record.Event, grown <-chan struct{}, lost *record.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seen < h.oldest()-1 {
		return nil, nil, h.reset()
	}
	for n := seen + 1; n <= h.last && len(batch) < batchSize; n++ {
		batch = append(batch, h.ring[n%int64(len(h.ring))])
	}
	return batch, h.grown, nil
}

// pump is one subscription. Its goroutine belongs to the hub, which waits for
// it in Close.
type pump struct {
	hub   *Hub
	seen  int64         // number of the last event taken from the ring
	first *record.Event // a Reset to begin with
	out   chan record.Event
}

// run carries events from the ring to the reader until the reader leaves,
// falls behind, or the hub closes. It closes out.
func (p *pump) run(ctx context.Context) {
	defer close(p.out)
	if p.first != nil && !p.send(ctx, *p.first) {
		return
	}
	for {
		batch, grown, lost := p.hub.after(p.seen)
		if lost != nil {
			p.hub.dropped.Add(lost.Seq - p.seen)
			p.send(ctx, *lost)
			return
		}
		if len(batch) == 0 && !p.wait(ctx, grown) {
			return
		}
		for i, e := range batch {
			p.seen = e.Seq
			if superseded(batch, i) {
				p.hub.dropped.Add(1)
			} else if !p.send(ctx, e) {
				return
			}
		}
	}
}

func (p *pump) send(ctx context.Context, e record.Event) bool {
	select {
	case p.out <- e:
		return true
	case <-ctx.Done():
	case <-p.hub.closed:
	}
	return false
}

func (p *pump) wait(ctx context.Context, grown <-chan struct{}) bool {
	select {
	case <-grown:
		return true
	case <-ctx.Done():
	case <-p.hub.closed:
	}
	return false
}

// superseded reports whether batch[i] is progress of a job of which newer
// progress follows in the batch.
func superseded(batch []record.Event, i int) bool {
	if batch[i].Type != progress || batch[i].Job == nil {
		return false
	}
	for _, e := range batch[i+1:] {
		if e.Type == progress && e.Job != nil && e.Job.ID == batch[i].Job.ID {
			return true
		}
	}
	return false
}
