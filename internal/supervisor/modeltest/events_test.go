package modeltest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"storaged/internal/events"
	"storaged/internal/record"
	"storaged/internal/supervisor"
)

// legal says once more which state may follow on which.
var legal = map[record.State]string{
	record.Queued:      "starting failed canceled",
	record.Starting:    "running canceling failed canceled recovering",
	record.Running:     "paused finalizing canceling rolling_back succeeded failed canceled recovering",
	record.Paused:      "running finalizing canceling rolling_back succeeded failed canceled recovering",
	record.Finalizing:  "rolling_back succeeded failed canceling canceled recovering",
	record.Canceling:   "rolling_back canceled succeeded failed recovering",
	record.RollingBack: "canceled failed succeeded recovering",
	record.Recovering:  "queued running paused finalizing canceling rolling_back succeeded failed canceled",
}

// event is what is kept of one.
type event struct {
	seq   int64
	what  string
	id    string
	state record.State
}

const marker = "test.marker"

// eventLog reads all events of a daemon and holds them together: numbers rise, each
// job is created once and ends once, and moves from state to state as it may,
// with nothing left out.
type eventLog struct {
	hub  *events.Hub
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	list    []event
	grown   chan struct{}           // closed and replaced with each event
	at      map[string]record.State // of live jobs, as far as events told
	ended   map[string]bool
	percent map[string]float64
	faults  []string
}

func newEventLog(hub *events.Hub) *eventLog {
	ctx, stop := context.WithCancel(context.Background())
	l := &eventLog{hub: hub, stop: stop, grown: make(chan struct{}), ended: map[string]bool{}}
	l.forget()
	stream := hub.Subscribe(ctx, 0)
	l.done.Go(func() {
		for e := range stream {
			l.enter(e)
		}
	})
	return l
}

// forget is for another supervisor: what it does not tell of is not known.
func (l *eventLog) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at, l.percent = map[string]record.State{}, map[string]float64{}
}

func (l *eventLog) wait() {
	l.stop()
	l.done.Wait()
}

func (l *eventLog) fault(format string, args ...any) {
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}

func (l *eventLog) enter(e record.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := event{seq: e.Seq, what: e.Type}
	if len(l.list) > 0 && e.Seq <= l.list[len(l.list)-1].seq {
		l.fault("event %d comes after event %d", e.Seq, l.list[len(l.list)-1].seq)
	}
	if e.Job != nil {
		n.id, n.state = e.Job.ID, e.Job.State
		l.follow(e)
	}
	l.list = append(l.list, n)
	close(l.grown)
	l.grown = make(chan struct{})
}

// follow holds an event against those before of the same job.
func (l *eventLog) follow(e record.Event) {
	j := e.Job
	was, known := l.at[j.ID]
	switch {
	case l.ended[j.ID]:
		l.fault("%s of job %d, which had ended", e.Type, j.Number)
	case e.Type == "job.created":
		if known || j.State != record.Queued {
			l.fault("job %d is created as %s, was %s", j.Number, j.State, was)
		}
	case e.Type == "job.progress":
		if known && was != j.State {
			l.fault("progress of job %d in state %s, was %s", j.Number, j.State, was)
		}
	case known && !slices.Contains(strings.Fields(legal[was]), string(j.State)):
		l.fault("job %d goes from %s to %s (%s)", j.Number, was, j.State, e.Type)
	case (e.Type == "job.ended") != j.State.Terminal():
		l.fault("%s of job %d in state %s", e.Type, j.Number, j.State)
	}
	l.at[j.ID] = j.State
	l.measure(j)
	if e.Type == "job.ended" {
		l.ended[j.ID] = true
		delete(l.at, j.ID)
	}
}

// measure holds that percent never falls, and stays below the end before it.
func (l *eventLog) measure(j *record.Job) {
	if j.Progress.Percent == nil {
		return
	}
	is, was := *j.Progress.Percent, l.percent[j.ID]
	if is < was || is > 100 || is > 99.9 && j.State != record.Succeeded {
		l.fault("job %d (%s) is at %v %%, was at %v", j.Number, j.State, is, was)
	}
	l.percent[j.ID] = is
}

// until waits until ok, which is called with mu held, at each event, and now
// and then for what has no event.
func (l *eventLog) until(ok func() bool) bool {
	late, look := time.NewTimer(patience), time.NewTicker(5*time.Millisecond)
	defer late.Stop()
	defer look.Stop()
	for {
		l.mu.Lock()
		done, grown := ok(), l.grown
		l.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-grown:
		case <-look.C:
		case <-late.C:
			return false
		}
	}
}

// proceed waits a little for that many more events.
func (l *eventLog) proceed(n int) {
	enough := time.NewTimer(20 * time.Millisecond)
	defer enough.Stop()
	for range n {
		l.mu.Lock()
		grown := l.grown
		l.mu.Unlock()
		select {
		case <-grown:
		case <-enough.C:
			return
		}
	}
}

// mark publishes a marker and gives the number of it, when all before it is
// in the eventLog.
func (l *eventLog) mark() (seq int64, ok bool) {
	l.mu.Lock()
	n := len(l.list)
	l.mu.Unlock()
	l.hub.Publish(record.Event{Type: marker})
	ok = l.until(func() bool {
		i := slices.IndexFunc(l.list[n:], func(e event) bool { return e.what == marker })
		if i >= 0 {
			seq = l.list[n+i].seq
		}
		return i >= 0
	})
	return seq, ok
}

// take gives the faults so far and forgets them.
func (l *eventLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.faults
	l.faults = nil
	return out
}

// complete says what was not told of a supervisor that has stopped.
func (l *eventLog) complete(s *supervisor.Supervisor) []string {
	if _, ok := l.mark(); !ok {
		return []string{"a marker does not come"}
	}
	l.mu.Lock()
	for id, told := range l.at {
		j, err := s.Job(id)
		switch {
		case err != nil || j.State.Terminal():
			l.fault("the end of job %s was not told; it was %s", id, told)
		case j.State != told:
			l.fault("job %d is %s, told was %s", j.Number, j.State, told)
		}
	}
	l.mu.Unlock()
	return l.take()
}

// replay reads again from the n-th event on, as a client that was away, and
// says what it gets otherwise than the first reader. Of progress some may be
// left out.
func (l *eventLog) replay(n int) []string {
	l.mu.Lock()
	if len(l.list) == 0 {
		l.mu.Unlock()
		return nil
	}
	from := n % len(l.list)
	seq := l.list[from].seq
	l.mu.Unlock()
	last, ok := l.mark()
	if !ok {
		return []string{"a marker does not come"}
	}
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	var again []event
	for e := range l.hub.Subscribe(ctx, seq) {
		m := event{seq: e.Seq, what: e.Type}
		if e.Job != nil {
			m.id, m.state = e.Job.ID, e.Job.State
		}
		again = append(again, m)
		if e.Seq == last {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	first := slices.Clone(l.list[from+1:])
	first = first[:1+slices.IndexFunc(first, func(e event) bool { return e.seq == last })]
	facts := func(list []event) []event {
		return slices.DeleteFunc(slices.Clone(list), func(e event) bool { return e.what == "job.progress" })
	}
	if !slices.Equal(facts(first), facts(again)) {
		return []string{fmt.Sprintf("after event %d the first reader got %v, the second %v", seq, facts(first), facts(again))}
	}
	return nil
}
