package supervisor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"storaged/internal/ipc"
	"storaged/internal/record"
)

// queries are the query helpers at work and those whose answer is still good.
type queries struct {
	mu      sync.Mutex
	running map[string]*query  // by key; those that were abandoned too, until their helpers are gone
	staying map[string]*asking // helpers that have answered and wait for the next query, by key
	all     sync.WaitGroup
}

// query is one query helper. Its goroutine sets report, err and ended before
// it closes done.
type query struct {
	key       string
	done      chan struct{}
	abandoned chan struct{} // closed by the last who waited, when it gave up first
	waiting   int           // guarded by queries.mu
	names     []string      // of what is to be looked at
	began     time.Time
	exact     bool // for who wants none begun before some time; who names no time does not get its answer later
	report    *ipc.Report
	err       error
	ended     time.Time
}

func (qs *queries) wait() { qs.all.Wait() }

// question is what a query is to answer.
type question struct {
	key   string
	argv  []string  // of the helper
	names []string  // of what is to be looked at; nil: whatever the command line says
	since time.Time // when the helper must have been started at the earliest
}

// Query runs a helper that only looks, without a record. There is at most one at work
// per key at a time, which answers everyone who asks meanwhile and, unless it
// failed, for one second after; the report is shared and must not be changed. One that can
// look again waits for the next query a little while, so that none has to be started for it. When nobody
// waits any more it is killed, and the next one for the key is started when it is gone: of those
// that cannot be killed, for what they look at is stuck, there is never more than one per key.
// A failure that the helper reports is a
// *record.Error; ctx's error comes as it is. began is a time before the helper
// looked.
func (s *Supervisor) Query(ctx context.Context, key string, argv []string) (report *ipc.Report, began time.Time, err error) {
	return s.QuerySince(ctx, key, argv, time.Time{})
}

// QuerySince is Query with the answer of a helper that was started after then.
// One that was started before is waited for, since there is at most one.
func (s *Supervisor) QuerySince(ctx context.Context, key string, argv []string, since time.Time) (report *ipc.Report, began time.Time, err error) {
	for began.Before(since) || began.IsZero() {
		if report, began, err = s.await(ctx, question{key: key, argv: argv, since: since}); began.IsZero() || ctx.Err() != nil {
			break
		}
	}
	return report, began, err
}

// QueryNames is Query of a task that looks at what it is given the names of, and tells of
// each in their order. It begins now, and nobody else gets its answer.
func (s *Supervisor) QueryNames(ctx context.Context, key string, argv, names []string) (report *ipc.Report, began time.Time, err error) {
	return s.await(ctx, question{key: key, argv: argv, names: names})
}

// await joins a query and waits for its end.
func (s *Supervisor) await(ctx context.Context, a question) (report *ipc.Report, began time.Time, err error) {
	q, err := s.joinQuery(ctx, a)
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

// joinQuery gives the query that answers, when no helper is left that was abandoned at the same.
func (s *Supervisor) joinQuery(ctx context.Context, a question) (*query, error) {
	for {
		q, lost, err := s.tryJoin(a)
		if lost == nil {
			return q, err
		}
		select {
		case <-lost.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryJoin gives a query that answers, or else the abandoned one that is in its way.
func (s *Supervisor) tryJoin(a question) (q, lost *query, err error) {
	s.queries.mu.Lock()
	defer s.queries.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return nil, nil, record.Errorf(record.RecoveringCode, "storaged is starting or stopping").WithHint("try again in a moment")
	}
	switch q = s.queries.running[a.key]; {
	case q == nil:
	case q.lost():
		return nil, q, nil
	case !q.over(s.times.QueryReuse, a.since):
		q.waiting++
		return q, nil, nil
	}
	q = &query{key: a.key, done: make(chan struct{}), abandoned: make(chan struct{}), waiting: 1, names: a.names, began: time.Now(), exact: !a.since.IsZero()}
	if a.names == nil { // else it is nobody else's
		s.queries.running[a.key] = q
	}
	if w := s.queries.staying[a.key]; w != nil && slices.Equal(w.argv, a.argv) {
		delete(s.queries.staying, a.key)
		w.next <- q // has room for one
		return q, nil, nil
	}
	s.queries.all.Go(func() {
		for next := q; next != nil; {
			next = s.ask(next, a.key, a.argv)
		}
	})
	return q, nil, nil
}

// answer is what became of the query, for all who wait.
func (q *query) answer(report *ipc.Report, err error) {
	q.report, q.err, q.ended = report, err, time.Now()
	close(q.done)
}

// lost reports whether nobody waits for the query any more, and its helper is not gone yet.
func (q *query) lost() bool {
	select {
	case <-q.done:
		return false
	default:
	}
	select {
	case <-q.abandoned:
		return true
	default:
		return false
	}
}

// over reports whether the query has an answer that is of no use to who wants one begun
// since then.
func (q *query) over(reuse time.Duration, since time.Time) bool {
	select {
	case <-q.done:
		return q.names != nil || q.err != nil || time.Since(q.ended) > reuse || q.began.Before(since) || q.exact && since.IsZero()
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
			s.queries.running[q.key] = q // though it was for names
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

// ask has a helper answer a query, and those for the same that come soon after it, until it
// ends. It gives the one that a helper left unanswered which had answered others: another
// is to, for the pool may have become one that the first could not open.
func (s *Supervisor) ask(q *query, key string, argv []string) (left *query) {
	id, err := uuid.NewV7()
	if err != nil {
		q.answer(nil, fmt.Errorf("cannot make an id for a query: %w", err))
		return nil
	}
	d := s.launcher.dir(id.String())
	d.State = d.Runtime // nothing of it is kept
	h, err := s.launcher.launch(d, argv, given{short: true})
	if err != nil {
		q.answer(nil, record.Errorf(record.Internal, "the helper could not be started: %v", err))
		return nil
	}
	w := &asking{s: s, key: key, argv: argv, h: h, q: q, began: time.Now(), next: make(chan *query, 1)}
	e := w.attend()
	h.close()
	w.leave()
	if r, _, err := ipc.LoadReport(d.Result()); err == nil && w.answers == 0 { // else it may be that of an earlier query
		e.report = r
	}
	if err := s.launcher.remove(d); err != nil {
		s.log.Warn("directory of a query is left behind", "error", err)
	}
	switch {
	case w.q == nil:
	case w.answers > 0 && !w.over:
		return w.q
	default:
		w.q.answer(answerOf(e))
		s.queries.expire()
	}
	return nil
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

// asking is a query helper at work, or one that waits for the next query.
type asking struct {
	s     *Supervisor
	key   string
	argv  []string
	h     *helper
	q     *query // nil: it waits
	began time.Time
	next  chan *query // the query that it is given when it waits
	alarm *time.Timer
	end   ending

	hello     bool // it has said HELLO
	answers   int
	over      bool // nobody waits for what it is at
	dismissed bool
}

// attend follows the helper until it and all it started are dead.
func (w *asking) attend() ending {
	w.alarm = time.NewTimer(w.s.times.Hello)
	defer w.alarm.Stop()
	frames, exited := w.h.frames, w.h.exited()
	for exited != nil {
		select {
		case f, ok := <-frames:
			if !ok {
				frames = nil
				w.kill()
				continue
			}
			w.frame(f)
		case q := <-w.next:
			w.again(q)
		case <-exited:
			exited = nil
		case <-w.alarm.C:
			w.late()
		case <-w.abandoned():
			w.over = true
			w.kill()
			w.alarm.Reset(w.s.times.KillAgain)
		case <-w.s.stopping:
			w.over = true
			w.kill()
			w.part()
			return w.end
		}
	}
	w.end.exit = w.h.proc.Exit()
	w.clear()
	return w.end
}

// abandoned is closed when nobody waits for the query any more, until that is seen.
func (w *asking) abandoned() <-chan struct{} {
	if w.q == nil || w.over {
		return nil
	}
	return w.q.abandoned
}

// late ends a helper that nobody has asked anything, and kills one that does not end.
func (w *asking) late() {
	if w.q == nil && !w.dismissed {
		w.dismiss()
		return
	}
	w.kill()
	w.alarm.Reset(w.s.times.KillAgain)
}

// dismiss has the helper read end of file, unless a query was given to it at this moment.
func (w *asking) dismiss() {
	if w.leave(); w.q != nil {
		w.again(w.q)
		return
	}
	w.dismissed = true
	w.h.hangUp()
	w.alarm.Reset(w.s.times.Linger)
}

// leave takes the helper from those that wait. A query that it was given by then is its own.
func (w *asking) leave() {
	qs := &w.s.queries
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if qs.staying[w.key] == w {
		delete(qs.staying, w.key)
	}
	select {
	case w.q = <-w.next:
	default:
	}
}

// again has a helper that waited answer a query.
func (w *asking) again(q *query) {
	w.q = q
	w.alarm.Stop()
	if err := w.h.send(ipc.Again{Names: q.names}); err != nil {
		w.kill() // another will answer
	}
}

// result takes the answer of a helper that stays, and has it wait. One that says
// something else than its file is killed.
func (w *asking) result(m ipc.Result) {
	if !m.Stays || w.q == nil || !w.hello { // who was asked nothing has no answer
		w.alarm.Reset(w.s.times.Linger)
		return
	}
	report, digest, err := ipc.LoadReport(w.h.dir.Result())
	if err != nil || digest != m.Digest || report.Outcome != ipc.Succeeded {
		w.end.fault = record.Errorf(record.Internal, "the helper announced another result than it saved")
		w.kill()
		return
	}
	q := w.q
	w.q = nil
	w.answers++
	if time.Since(w.began) < w.s.times.QueryAge {
		w.wait()
	} else {
		w.dismiss()
	}
	q.answer(report, nil)
	w.s.queries.expire()
}

// wait lets the next query for the same be given to the helper.
func (w *asking) wait() {
	qs := &w.s.queries
	qs.mu.Lock()
	defer qs.mu.Unlock()
	qs.staying[w.key] = w // whoever was there waits in vain, and not for long
	w.alarm.Reset(w.s.times.QueryStay)
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

// letGo lets the helper begin, once.
func (w *asking) letGo(m ipc.Hello) {
	if w.hello {
		return
	}
	w.hello = true
	w.alarm.Stop()
	proto, err := m.Agree(w.s.speaks)
	if err == nil {
		err = w.h.send(ipc.Go{Proto: proto, Stay: true, Names: w.q.names})
	}
	if err != nil {
		w.end.fault = record.Errorf(record.Internal, "cannot let the helper begin: %v", err)
		w.kill()
	}
}

func (w *asking) frame(f ipc.Frame) {
	switch m := f.Body.(type) {
	case ipc.Hello:
		w.letGo(m)
	case ipc.Log:
		w.s.log.Debug(m.Text, "query", w.h.dir.Job)
	case ipc.Result:
		w.result(m)
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
