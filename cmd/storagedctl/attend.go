package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/term"
)

// echoInterval is how close two signals are that mean one: timeout(1), for
// example, signals its child and then the group. Nobody who means it
// twice is so quick.
const echoInterval = 100 * time.Millisecond

// until is how long others' jobs are waited for.
type until int

const (
	untilAllEnd until = iota
	untilOneEnds
	untilLeft // or all end: it is only to look at them, so that to leave needs no word
)

// slowCancel is after how long a cancel that has not come to its end is said to be slow: most
// take less than a second, and what does not answer gets up to twenty.
const slowCancel = 3 * time.Second

// attendance is the waiting for some jobs: those this command started, which
// Ctrl-C cancels, or those of others, which Ctrl-C only leaves.
type attendance struct {
	*session
	ours    bool
	until   until
	feed    *feed
	display *term.Display
	jobs    []outcome

	unanswered int // starts on their way
	canceling  bool
	signaled   time.Time // when a signal last asked to cancel
	lost       bool
	shown      string // ids of the jobs on the display

	answers chan answer
	replies chan error // of requests to cancel
	signals <-chan os.Signal
	timeout <-chan time.Time
	expiry  <-chan time.Time // --cancel-after
	slow    <-chan time.Time // slowCancel, from the first job on that is being canceled
	tasks   sync.WaitGroup   // goroutines of this attendance
}

// answer is what became of the start at index.
type answer struct {
	index   int
	started contract.Started
	err     error
}

// attend starts the jobs and waits for their ends.
func (s *session) attend(ctx context.Context, starts []start) ([]outcome, error) {
	a := s.attendance()
	a.ours, a.unanswered = true, len(starts)
	for _, st := range starts {
		a.jobs = append(a.jobs, outcome{start: st})
	}
	return a.wait(ctx, func(ctx context.Context) { a.submit(ctx, starts) })
}

// watch waits for the ends of jobs that others may have started.
func (s *session) watch(ctx context.Context, jobs []record.Job, until until) ([]outcome, error) {
	a := s.attendance()
	a.until = until
	for i := range jobs {
		a.jobs = append(a.jobs, outcome{start: start{object: fmt.Sprint(jobs[i].Number)}, job: &jobs[i]})
	}
	return a.wait(ctx, nil)
}

func (s *session) attendance() *attendance {
	a := &attendance{
		session: s, display: term.NewDisplay(s.notes),
		answers: make(chan answer), replies: make(chan error),
		timeout: after(s, "timeout"), expiry: after(s, "cancel-after"),
	}
	a.display.Rest(func(fit int) string {
		live := a.live()
		return moreOf(live[min(fit, len(live)):])
	})
	return a
}

// after gives the channel of a timer set by a flag, nil without.
func after(s *session, flag string) <-chan time.Time {
	if d := cmdline.Duration(s.cli, flag); d != nil {
		return s.tool.after(*d)
	}
	return nil
}

// wait does it. It returns when the jobs have ended, or with an error when it
// leaves them alone.
func (a *attendance) wait(ctx context.Context, submit func(context.Context)) ([]outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		a.tasks.Wait()
		a.display.Flush()
	}()
	feed, err := openFeed(ctx, a.session, 0) // to begin is not waited for: a signal ends that as it ends any program
	if err != nil {
		return nil, err
	}
	a.feed = feed
	signals, stop := a.tool.signals()
	defer stop()
	a.signals = signals
	if submit == nil {
		if err := a.refresh(ctx); err != nil {
			return nil, err
		}
		a.follow(ctx)
	} else {
		a.goDo(func() { submit(ctx) })
	}
	err = a.loop(ctx)
	a.display.End("")
	return a.jobs, err
}

// goDo runs f in a goroutine that wait waits for.
func (a *attendance) goDo(f func()) { a.tasks.Go(f) }

// refresh reads the jobs again, now that no event can be missed.
func (a *attendance) refresh(ctx context.Context) error {
	for _, o := range a.jobs {
		j, err := a.client.Job(ctx, o.job.ID)
		if err != nil {
			return err
		}
		a.learn(j)
	}
	return nil
}

// follow begins to read the events, as all jobs are known.
func (a *attendance) follow(ctx context.Context) {
	var ids []string
	for _, o := range a.jobs {
		if o.job != nil {
			ids = append(ids, o.job.ID)
		}
	}
	a.feed.reread = func(ctx context.Context) ([]record.Job, error) { return a.each(ctx, ids) }
	a.goDo(func() { a.feed.run(ctx) })
}

// each reads some jobs.
func (s *session) each(ctx context.Context, ids []string) ([]record.Job, error) {
	jobs := make([]record.Job, 0, len(ids))
	for _, id := range ids {
		j, err := s.client.Job(ctx, id)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// submit makes the requests, one after the other, and answers each.
func (a *attendance) submit(ctx context.Context, starts []start) {
	for i, st := range starts {
		started, err := a.insist(ctx, st, a.submission(st.object, len(starts) > 1))
		select {
		case a.answers <- answer{i, started, err}:
		case <-ctx.Done():
			return
		}
	}
}

// insist asks until there is an answer: a daemon that went away meanwhile
// gives the same job for the same key.
func (a *attendance) insist(ctx context.Context, st start, sub contract.Submit) (contract.Started, error) {
	deadline := time.Now().Add(a.patience)
	tick := time.NewTicker(a.knockInterval())
	defer tick.Stop()
	for lost := false; ; lost = true {
		started, err := st.ask(ctx, sub)
		if code := record.CodeOf(err); code != record.Unreachable && !(lost && passing(err)) {
			return started, err
		}
		if !lost {
			a.say(fmt.Sprintf("%s; asking again for up to %s", err, quantity.FormatDuration(a.patience)))
		}
		if time.Now().After(deadline) {
			return started, record.Errorf(record.Unreachable, "%s; whether a job for %s was started is not known", err, st.object).
				WithHint("try again with --idempotency-key %s", sub.Key)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return started, ctx.Err()
		}
	}
}

// loop takes what happens, one thing after the other.
func (a *attendance) loop(ctx context.Context) error {
	for !a.over() {
		var err error
		select {
		case r := <-a.answers:
			a.answered(ctx, r)
		case n, open := <-a.news():
			if !open {
				return ctx.Err()
			}
			err = a.hear(ctx, n)
		case sig := <-a.signals:
			err = a.signal(ctx, sig)
		case r := <-a.replies:
			a.replied(r)
		case <-a.timeout:
			err = a.timedOut()
		case <-a.expiry:
			a.say("the time is up")
			a.canceling = true
			a.cancel(ctx)
		case <-a.slow:
			a.saySlow()
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// news are those of the feed once it runs.
func (a *attendance) news() <-chan news {
	if a.unanswered > 0 {
		return nil
	}
	return a.feed.out
}

// over reports that there is nothing to wait for any more.
func (a *attendance) over() bool {
	live, ended := 0, 0
	for _, o := range a.jobs {
		if o.live() {
			live++
		} else {
			ended++
		}
	}
	return a.unanswered == 0 && (live == 0 || a.until == untilOneEnds && ended > 0)
}

func (o *outcome) live() bool { return o.err == nil && o.job != nil && !o.job.State.Terminal() }

// answered takes the answer to a start.
func (a *attendance) answered(ctx context.Context, r answer) {
	a.unanswered--
	a.jobs[r.index].err = r.err
	a.jobs[r.index].same = r.started.Unchanged
	if r.err == nil && r.started.Job != nil {
		a.jobs[r.index].job = r.started.Job
		a.learn(*r.started.Job)
	}
	if a.unanswered > 0 {
		return
	}
	if a.canceling {
		a.cancel(ctx)
	}
	a.follow(ctx)
}

// hear takes news of the feed.
func (a *attendance) hear(ctx context.Context, n news) error {
	switch {
	case n.gone != nil:
		return a.givenUp(n.gone)
	case n.lost != nil:
		a.lost = true
		a.say(fmt.Sprintf("%s; trying again for up to %s, %s", n.lost, quantity.FormatDuration(a.patience), a.goesOn()))
	case n.event != nil:
		a.event(*n.event)
	default:
		a.caughtUp(ctx, n)
	}
	return nil
}

// caughtUp takes jobs that were read anew after a gap in the events.
func (a *attendance) caughtUp(ctx context.Context, n news) {
	if n.back {
		a.lost = false
		a.say("connected to the daemon again")
	}
	for _, j := range n.jobs {
		a.learn(j)
	}
	if n.back && a.canceling {
		a.cancel(ctx) // the first request may not have arrived
	}
}

func (a *attendance) event(e record.Event) {
	if e.Job == nil || a.find(e.Job.ID) == nil {
		return
	}
	a.print(e)
	a.take(*e.Job)
}

// learn takes a job that was read, and did not come with an event. If that is its
// end, the event of it may never be heard.
func (a *attendance) learn(j record.Job) {
	if j.State.Terminal() {
		a.print(record.Event{Time: time.Now().UTC(), Type: "job.ended", Job: &j})
	}
	a.take(j)
}

// print writes an event for -o jsonl.
func (a *attendance) print(e record.Event) {
	if a.format == "jsonl" {
		_ = printJSON(a.out, e) // a reader that is gone is reported by SIGPIPE
	}
}

func (a *attendance) find(id string) *outcome {
	for i := range a.jobs {
		if j := a.jobs[i].job; j != nil && j.ID == id {
			return &a.jobs[i]
		}
	}
	return nil
}

// take notes what a job is now and shows it. What has ended stays so: events
// may be older than what was read.
func (a *attendance) take(j record.Job) {
	o := a.find(j.ID)
	if o == nil || o.job.State.Terminal() && !j.State.Terminal() {
		return
	}
	o.job = &j
	if j.State == record.Canceling && a.slow == nil {
		a.slow = a.tool.after(slowCancel)
	}
	for _, text := range a.session.news(o) { // they may say what it waits for
		a.display.Note(text)
	}
	if j.State.Terminal() {
		a.ended(&j)
		return
	}
	a.show()
}

// maxBars bounds the jobs on the display: terminals have fewer lines.
const maxBars = 100

// show shows the jobs that have not ended: on a terminal as many as it has lines
// for, elsewhere the first.
func (a *attendance) show() {
	live, most := a.live(), 1
	if a.notes.Terminal {
		most = maxBars
	}
	var all []term.Figures
	ids := ""
	for _, j := range live[:min(len(live), most)] {
		all, ids = append(all, figures(j, a.rank())), ids+" "+j.ID
	}
	switch {
	case len(all) == 0:
	case a.shown != ids:
		a.shown = ids
		a.display.Start(all...)
	default:
		a.display.Update(all...)
	}
}

// ended says how a job ended. Failures are said at the end of the command.
func (a *attendance) ended(j *record.Job) {
	if j.State == record.Succeeded {
		a.display.Note(endLine(j, a.cli.Bool("bytes")))
	}
	a.show()
}

// live are the jobs that have not ended, as people look at them.
func (a *attendance) live() (jobs []*record.Job) {
	for i := range a.jobs {
		if a.jobs[i].live() {
			jobs = append(jobs, a.jobs[i].job)
		}
	}
	slices.SortStableFunc(jobs, byStanding)
	return jobs
}

// rank says how many of several jobs are over, "" for a single one, and where
// all are to be seen.
func (a *attendance) rank() string {
	if len(a.jobs) < 2 || a.notes.Terminal {
		return ""
	}
	over := a.unanswered
	for i := range a.jobs {
		if a.jobs[i].live() {
			over++
		}
	}
	return fmt.Sprintf("%d of %d left", over, len(a.jobs))
}

func (a *attendance) say(text string) { a.display.Note("storagedctl: " + text) }

// signal answers a signal by the rules of leaving.
func (a *attendance) signal(ctx context.Context, sig os.Signal) error {
	interrupt := sig == syscall.SIGINT || sig == syscall.SIGTERM
	switch {
	case interrupt && a.ours && time.Since(a.signaled) < echoInterval:
		return nil
	case interrupt && a.ours && !a.canceling:
		a.signaled, a.canceling = time.Now(), true
		a.say("canceling; once more leaves at once")
		a.cancel(ctx)
		return nil
	case interrupt && a.ours:
		return a.leaving(record.CanceledCode, "left while canceling").
			WithHint("storagedctl job show %s", a.numbers("NUMBER"))
	case interrupt && a.until == untilLeft:
		return cmdline.ErrInterrupted
	case interrupt:
		return record.Errorf(record.CanceledCode, "left; %s", a.goesOn())
	}
	return a.letGo()
}

// letGo leaves the jobs running and prints their numbers (SIGQUIT, SIGHUP).
func (a *attendance) letGo() error {
	if a.unanswered > 0 {
		return record.Errorf(record.CanceledCode, "left before the daemon had answered; a job may have been started").
			WithHint("storagedctl list")
	}
	switch {
	case a.streams():
		return a.leaving(record.CanceledCode, "left").WithHint("storagedctl job show %s", a.numbers("NUMBER"))
	case !a.ours:
		a.say(a.goesOn())
		return cmdline.ErrInterrupted
	}
	a.say(a.goesOn())
	return &detached{a.jobs}
}

// detached is no failure: the jobs go on without us.
type detached struct{ jobs []outcome }

func (*detached) Error() string { return "the jobs go on" }

// cancel asks the daemon to cancel what is alive, and says what that will
// undo. Requests that are still on their way are canceled when they arrive.
func (a *attendance) cancel(ctx context.Context) {
	for i := range a.jobs {
		o := &a.jobs[i]
		if !o.live() {
			continue
		}
		if !o.announced {
			o.announced = true
			a.say(fmt.Sprintf("canceling %s%s", jobTitle(o.job), prefixed("; ", foretold(o.job))))
		}
		id := o.job.ID
		a.goDo(func() { a.requestCancel(ctx, id) })
	}
}

// requestCancel waits for its answer as long as it takes on a busy host, and asks again
// where a connection broke that the request was sent on; leaving ends it.
func (a *attendance) requestCancel(ctx context.Context, id string) {
	deadline := time.Now().Add(a.patience)
	tick := time.NewTicker(a.knockInterval())
	defer tick.Stop()
	_, err := a.client.CancelJob(ctx, id, contract.JobCancel{})
	for record.CodeOf(err) == record.Unreachable && time.Now().Before(deadline) {
		select {
		case <-tick.C:
			_, err = a.client.CancelJob(ctx, id, contract.JobCancel{})
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	select {
	case a.replies <- err:
	case <-ctx.Done():
	}
}

// replied takes the answer to a request to cancel. One that came too late
// needs no word: the end of the job will tell.
func (a *attendance) replied(err error) {
	if err != nil && record.CodeOf(err) != record.WrongState && !a.lost {
		a.say("cannot cancel: " + err.Error())
	}
}

// saySlow says how a cancel that takes its time is made quick.
func (a *attendance) saySlow() {
	for _, j := range a.live() {
		if j.State == record.Canceling {
			a.say(fmt.Sprintf("%s is still %s; storagedctl job cancel %d --now does not wait and kills its helper", jobTitle(j), standing(j), j.Number))
		}
	}
}

func (a *attendance) timedOut() error {
	a.tool.hurry()
	d := cmdline.Duration(a.cli, "timeout")
	return a.leaving(record.TimedOut, "not over after "+quantity.FormatDuration(*d)).
		WithHint("storagedctl job wait %s", a.numbers("NUMBER"))
}

func (a *attendance) givenUp(err error) error {
	return record.Errorf(record.Unreachable, "%s; gave up after %s: the outcome of %s is unknown", err, quantity.FormatDuration(a.patience), a.alive()).
		WithHint("storagedctl job wait %s", a.numbers("NUMBER"))
}

// leaving is the error of leaving early.
func (a *attendance) leaving(code record.Code, why string) *record.Error {
	if a.streams() {
		return record.Errorf(code, "%s; %s", why, a.goesOn())
	}
	return record.Errorf(code, "%s: %s", why, a.alive())
}

// streams reports whether a content passes through this command.
func (a *attendance) streams() bool {
	return slices.ContainsFunc(a.jobs, func(o outcome) bool { return o.streams && o.live() })
}

// alive names the jobs that have not ended.
func (a *attendance) alive() string {
	var titles []string
	for i := range a.jobs {
		if a.jobs[i].live() {
			titles = append(titles, jobTitle(a.jobs[i].job))
		}
	}
	if len(titles) == 0 {
		return "a job that the daemon has not answered for"
	}
	return strings.Join(titles, ", ")
}

// goesOn says what becomes of the jobs while nobody here hears of them: "job 412
// (…) goes on".
func (a *attendance) goesOn() string {
	n := 0
	for i := range a.jobs {
		if a.jobs[i].live() {
			n++
		}
	}
	switch {
	case a.streams():
		return a.alive() + " ends unfinished, as its stream breaks off"
	case n == 1:
		return a.alive() + " goes on"
	}
	return a.alive() + " go on"
}

// numbers lists the numbers of the jobs that have not ended, for hints.
func (a *attendance) numbers(none string) string {
	var list []string
	for i := range a.jobs {
		if a.jobs[i].live() {
			list = append(list, fmt.Sprint(a.jobs[i].job.Number))
		}
	}
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, " ")
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}
