package supervisor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"storaged/internal/ipc"
	"storaged/internal/record"
)

// queries are the query helpers at work and those whose answer is still good.
type queries struct {
	mu      sync.Mutex
	running map[string]*query // by key
	all     sync.WaitGroup
}

// query is one query helper. Its goroutine sets report, err and ended before
// it closes done.
type query struct {
	done      chan struct{}
	abandoned chan struct{} // closed by the last who waited, when it gave up first
	waiting   int           // guarded by queries.mu
	began     time.Time
	exact     bool // for who wants none begun before some time; who names no time does not get its answer later
	report    *ipc.Report
	err       error
	ended     time.Time
}

func (qs *queries) wait() { qs.all.Wait() }

// Query runs a helper that only looks, without a record. There is at most one
// per key at a time, which answers everyone who asks meanwhile and, unless it
// failed, for one second after; the report is shared and must not be changed. When nobody
// waits any more it is killed. A failure that the helper reports is a
// *record.Error; ctx's error comes as it is. began is a time before the helper
// looked.
func (s *Supervisor) Query(ctx context.Context, key string, argv []string) (report *ipc.Report, began time.Time, err error) {
	return s.QuerySince(ctx, key, argv, time.Time{})
}

// QuerySince is Query with the answer of a helper that was started after then.
// One that was started before is waited for, since there is at most one.
func (s *Supervisor) QuerySince(ctx context.Context, key string, argv []string, since time.Time) (report *ipc.Report, began time.Time, err error) {
	for began.Before(since) || began.IsZero() {
		if report, began, err = s.await(ctx, key, argv, since); began.IsZero() || ctx.Err() != nil {
			break
		}
	}
	return report, began, err
}

// await joins a query and waits for its end.
func (s *Supervisor) await(ctx context.Context, key string, argv []string, since time.Time) (report *ipc.Report, began time.Time, err error) {
	q, err := s.joinQuery(key, argv, since)
	if err != nil {
		return nil, time.Time{}, err
	}
	select {
	case <-q.done:
	case <-ctx.Done():
	}
	s.leaveQuery(q)
	select {
	case <-q.done:
		return q.report, q.began, q.err
	default:
		return nil, q.began, ctx.Err()
	}
}

func (s *Supervisor) joinQuery(key string, argv []string, since time.Time) (*query, error) {
	s.queries.mu.Lock()
	defer s.queries.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return nil, record.Errorf(record.RecoveringCode, "storaged is starting or stopping").WithHint("try again in a moment")
	}
	if q := s.queries.running[key]; q != nil && !q.over(s.times.QueryReuse, since) {
		q.waiting++
		return q, nil
	}
	q := &query{done: make(chan struct{}), abandoned: make(chan struct{}), waiting: 1, began: time.Now(), exact: !since.IsZero()}
	s.queries.running[key] = q
	s.queries.all.Go(func() {
		q.report, q.err = s.ask(q, argv)
		q.ended = time.Now()
		close(q.done)
		s.queries.expire()
	})
	return q, nil
}

// over reports whether the query is of no use to who wants one begun since then.
func (q *query) over(reuse time.Duration, since time.Time) bool {
	select {
	case <-q.abandoned:
		return true
	default:
	}
	select {
	case <-q.done:
		return q.err != nil || time.Since(q.ended) > reuse || q.began.Before(since) || q.exact && since.IsZero()
	default:
		return false
	}
}

func (s *Supervisor) leaveQuery(q *query) {
	s.queries.mu.Lock()
	defer s.queries.mu.Unlock()
	if q.waiting--; q.waiting == 0 {
		select {
		case <-q.done:
		default:
			close(q.abandoned)
		}
	}
}

// keptAnswers is how many answers may wait for their age before the old ones
// are dropped.
const keptAnswers = 64

// expire drops answers when there are many.
func (qs *queries) expire() {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if len(qs.running) < keptAnswers {
		return
	}
	for key, q := range qs.running {
		if q.over(0, time.Time{}) {
			delete(qs.running, key)
		}
	}
}

// ask runs one query helper to its end.
func (s *Supervisor) ask(q *query, argv []string) (*ipc.Report, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("cannot make an id for a query: %w", err)
	}
	d := s.launcher.dir(id.String())
	d.State = d.Runtime // nothing of it is kept
	h, err := s.launcher.launch(d, argv, given{short: true})
	if err != nil {
		return nil, record.Errorf(record.Internal, "the helper could not be started: %v", err)
	}
	w := &asking{s: s, q: q, h: h}
	e := w.attend()
	h.close()
	if r, _, err := ipc.LoadReport(d.Result()); err == nil {
		e.report = r
	}
	if err := s.launcher.remove(d); err != nil {
		s.log.Warn("directory of a query is left behind", "error", err)
	}
	return answerOf(e)
}

func answerOf(e ending) (*ipc.Report, error) {
	switch {
	case e.report == nil:
		return nil, e.cause()
	case e.report.Outcome != ipc.Succeeded:
		return nil, e.report.Error.Record()
	default:
		return e.report, nil
	}
}

// asking is a query helper at work.
type asking struct {
	s   *Supervisor
	q   *query
	h   *helper
	end ending
}

// attend follows the helper until it and all it started are dead.
func (w *asking) attend() ending {
	alarm := time.NewTimer(w.s.times.Hello)
	defer alarm.Stop()
	abandoned, stopping := w.q.abandoned, w.s.stopping
	frames, exited := w.h.frames, w.h.exited()
	for exited != nil {
		select {
		case f, ok := <-frames:
			if !ok {
				frames = nil
				w.kill()
				continue
			}
			w.frame(f, alarm)
		case <-exited:
			exited = nil
		case <-alarm.C:
			w.kill()
			alarm.Reset(w.s.times.KillAgain)
		case <-abandoned:
			abandoned = nil
			w.kill()
			alarm.Reset(w.s.times.KillAgain)
		case <-stopping:
			w.kill()
			w.part()
			return w.end
		}
	}
	w.end.exit = w.h.proc.Exit()
	w.clear()
	return w.end
}

// part reaps a helper that was killed because the supervisor stops; one that
// is stuck in the kernel is for process 1 to reap.
func (w *asking) part() {
	t := time.NewTimer(w.s.times.Drain)
	defer t.Stop()
	select {
	case <-w.h.exited():
		w.end.exit = w.h.proc.Exit()
	case <-t.C:
	}
}

func (w *asking) frame(f ipc.Frame, alarm *time.Timer) {
	switch m := f.Body.(type) {
	case ipc.Hello:
		alarm.Stop()
		proto, err := m.Agree(w.s.speaks)
		if err == nil {
			err = w.h.send(ipc.Go{Proto: proto})
		}
		if err != nil {
			w.end.fault = record.Errorf(record.Internal, "cannot let the helper begin: %v", err)
			w.kill()
		}
	case ipc.Log:
		w.s.log.Debug(m.Text, "query", w.h.dir.Job)
	case ipc.Result:
		alarm.Reset(w.s.times.Linger)
	}
}

func (w *asking) kill() {
	if err := w.h.family.Kill(); err != nil {
		w.s.log.Warn("cannot kill a query helper", "error", err)
	}
}

// clear waits for what the helper started.
func (w *asking) clear() {
	gap := time.NewTimer(0)
	defer gap.Stop()
	for wait := w.s.times.LockPoll; ; wait = min(2*wait, w.s.times.LockPollUp) {
		select {
		case <-gap.C:
		case <-w.s.stopping:
			return
		}
		held, err := w.h.family.Held()
		if err == nil && !held {
			return
		}
		w.kill()
		gap.Reset(wait)
	}
}
