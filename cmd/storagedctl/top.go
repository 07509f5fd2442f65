package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/term"
)

func (t *tool) topCommand() *cli.Command {
	return &cli.Command{
		Name: "top", Usage: "show all live jobs as they go on, and act on them by keys", Action: t.reading(showTop),
		Description: "Jobs that have ended stay for ten seconds. Ctrl-C leaves; the jobs go on.\n\n" +
			"Keys:\n  Up, Down, PgUp, PgDn, Home, End  select a job, at first none\n  p, Space     pause the selected job, or let it go on\n" +
			"  c            cancel it, after a question\n  l            limit its rate, after a question\n" +
			"  s, S         order by the next or the previous column; at first what runs comes before what waits\n" +
			"  r            the opposite order\n  Ctrl-L       draw anew\n  Ctrl-Z       stop storagedctl; fg goes on\n  q            leave\n\n" +
			"Example: storagedctl top --sort -rate",
	}
}

// endedStays is how long a job is shown that has ended: so that whoever looks at it sees how.
const endedStays = 10 * time.Second

// drawInterval is the least time between two drawings that nobody typed for, and
// tickInterval the most: times that are told go on.
const drawInterval, tickInterval = 200 * time.Millisecond, time.Second

// overview is the live view of all jobs.
type overview struct {
	*session
	screen  *term.Screen
	feed    *feed
	jobs    map[string]*record.Job // by id
	ended   map[string]time.Time   // when those were heard of that have ended
	columns []term.Column[*record.Job]

	order    string // column, "" by standing
	backward bool
	selected string // id, "" or one that is gone: none
	first    int    // index of the job at the top
	shown    []*record.Job
	question *question
	said     reply  // until the next key
	lost     string // "" while there is a daemon

	replies chan reply
	awaited int // replies that are still to come
	tasks   sync.WaitGroup
}

// reply is what came of a key, a change that somebody asked for.
type reply struct {
	text string
	job  *record.Job // as it was then; nil: none was changed
}

// question is put to whoever looks, about one job.
type question struct {
	text   string
	line   bool // it is answered by a line, else by a key
	typed  string
	answer func(string)
}

// showTop shows the jobs until a key or a signal ends it.
func showTop(ctx context.Context, s *session) error {
	in := term.FileOf(s.in)
	out, ok := s.out.(*term.Writer)
	if !isTerminal(s.in) || !ok || !out.Output().Terminal {
		return cmdline.Usagef("top needs a terminal, to show and to be typed at").WithHint("storagedctl list, or storagedctl job watch")
	}
	o := &overview{session: s, ended: map[string]time.Time{}, replies: make(chan reply), columns: s.topColumns()}
	if err := o.orderBy(s.cli.String("sort")); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		o.tasks.Wait()
	}()
	if err := o.begin(ctx); err != nil {
		return err
	}
	signals, stop := s.tool.signals()
	defer stop()
	var err error
	if o.screen, err = term.OpenScreen(in, out); err != nil {
		return err
	}
	err = o.loop(ctx, signals)
	o.tool.hurry() // what is left is told on both streams
	o.screen.Close()
	o.outcomes(signals)
	return err
}

// begin opens the stream of events and reads the jobs behind that.
func (o *overview) begin(ctx context.Context) error {
	feed, err := openFeed(ctx, o.session, 0)
	if err != nil {
		return err
	}
	o.feed, feed.reread = feed, o.liveJobs
	jobs, err := o.liveJobs(ctx)
	if err != nil {
		_ = feed.stream.Close()
		return err
	}
	o.replace(jobs)
	o.tasks.Go(func() { feed.run(ctx) })
	return nil
}

// loop takes what happens, one thing after the other.
func (o *overview) loop(ctx context.Context, signals <-chan os.Signal) error {
	resized, control := make(chan os.Signal, 1), make(chan os.Signal, 2) // a stop and what ends it are both taken
	signal.Notify(resized, syscall.SIGWINCH)
	signal.Notify(control, syscall.SIGTSTP, syscall.SIGCONT)
	defer signal.Stop(resized)
	defer signal.Stop(control)
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	var due <-chan time.Time // set while there is something new
	for o.draw(); ; {
		draw := true
		select {
		case k, open := <-o.screen.Keys():
			if !open || k == term.KeyInterrupt || k == term.KeyQuit {
				return cmdline.ErrInterrupted
			}
			if k == "q" && o.question == nil {
				return nil
			}
			if err := o.key(ctx, k); err != nil {
				return err
			}
		case <-signals:
			return cmdline.ErrInterrupted
		case <-resized:
		case sig := <-control:
			switch sig {
			case syscall.SIGTSTP:
				if err := o.screen.Suspend(); err != nil {
					return err
				}
			case syscall.SIGCONT:
				o.screen.Retake()
			}
		case n, open := <-o.feed.out:
			if !open {
				return ctx.Err()
			}
			if n.gone != nil {
				return record.Errorf(record.Unreachable, "%s; gave up after %s", n.gone, quantity.FormatDuration(o.patience))
			}
			o.hear(n)
			if draw = n.event == nil; !draw && due == nil {
				due = o.tool.after(drawInterval)
			}
		case r := <-o.replies:
			o.awaited--
			o.say(r)
		case <-tick.C:
		case <-due:
		case <-ctx.Done():
			return ctx.Err()
		}
		if draw {
			due = nil
			o.draw()
		}
	}
}

// replyPatience is how long who leaves waits for what came of the keys of before: as a rule
// that is there at once.
const replyPatience = 2 * time.Second

// outcomes tells what came of keys after which somebody left before it was shown; a signal
// ends the waiting for it.
func (o *overview) outcomes(signals <-chan os.Signal) {
	for late := o.tool.after(replyPatience); o.awaited > 0; o.awaited-- {
		select {
		case r := <-o.replies:
			o.note("storagedctl: " + r.text)
			continue
		case <-late:
		case <-signals:
		}
		o.note("storagedctl: left before the daemon had answered to a key; storagedctl list shows what came of it")
		return
	}
}

// hear takes news of the feed.
func (o *overview) hear(n news) {
	switch {
	case n.lost != nil:
		o.lost = fmt.Sprintf("%s; trying again for up to %s", n.lost, quantity.FormatDuration(o.patience))
	case n.event != nil:
		if j := n.event.Job; j != nil {
			o.take(*j)
		}
	default:
		o.replace(n.jobs)
		if n.back {
			o.say(reply{text: "connected to the daemon again"})
		}
		o.lost = ""
	}
}

// say tells what came of a key.
func (o *overview) say(r reply) {
	if o.said = r; r.job != nil {
		o.take(*r.job) // its event may be still on its way
	}
}

// message is what was said last, unless the job that it was said of has gone on.
func (o *overview) message() string {
	if was := o.said.job; was != nil {
		if now := o.jobs[was.ID]; now == nil || now.State != was.State {
			return ""
		}
	}
	return o.said.text
}

// replace takes all live jobs, as they were read.
func (o *overview) replace(jobs []record.Job) {
	o.jobs = map[string]*record.Job{}
	clear(o.ended)
	for i := range jobs {
		o.jobs[jobs[i].ID] = &jobs[i]
	}
}

// take notes what a job is now. What has ended stays so, and what had ended before it
// was known is not shown.
func (o *overview) take(j record.Job) {
	was := o.jobs[j.ID]
	switch over := j.State.Terminal(); {
	case was == nil && over, was != nil && was.State.Terminal():
		return
	case over:
		o.ended[j.ID] = time.Now()
	}
	o.jobs[j.ID] = &j
}

// forget leaves out what has been shown long enough.
func (o *overview) forget() {
	for id, at := range o.ended {
		if time.Since(at) > endedStays {
			delete(o.ended, id)
			delete(o.jobs, id)
		}
	}
}

// orderBy sets the order by --sort.
func (o *overview) orderBy(given string) error {
	name, backward := strings.CutPrefix(given, "-")
	o.order, o.backward = strings.ToLower(name), backward
	if given == "" {
		return nil
	}
	if _, err := term.Choose(o.columns, []string{name}); err != nil {
		return cmdline.Usagef("--sort: %s", err)
	}
	return nil
}

// sorted gives the jobs in order.
func (o *overview) sorted() []*record.Job {
	var jobs []*record.Job
	for _, j := range o.jobs {
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, byPlace)
	switch {
	case o.order == "" && o.backward:
		slices.Reverse(jobs)
	case o.order == "":
	default:
		dash := ""
		if o.backward {
			dash = "-"
		}
		if err := term.Sort(o.columns, jobs, dash+o.order); err != nil {
			panic("internal error: " + err.Error())
		}
	}
	return jobs
}

// byPlace is byStanding, but that a job which has just ended stays where it was.
func byPlace(a, b *record.Job) int {
	rank := func(j *record.Job) int {
		if j.State.Terminal() {
			return 0
		}
		return ranks[j.State]
	}
	if rank(a) == 0 && rank(b) == 0 {
		return cmp.Compare(b.Number, a.Number)
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), byStanding(a, b))
}

// nextOrder goes by steps through the columns; before the first is the order by standing.
func (o *overview) nextOrder(steps int) {
	names := append([]string{""}, term.Names(o.columns)...)
	names = slices.DeleteFunc(names, func(n string) bool { return n == "progress" }) // which is that of done
	at := slices.Index(names, o.order) + steps + len(names)
	o.order = names[at%len(names)]
	o.say(reply{text: "in the order of the queue, what runs first"})
	if o.order != "" {
		o.say(reply{text: "ordered by " + o.order})
	}
}

// topColumns are those of the view: what a column of a list shows in words is a bar here
// and why a job stands still.
func (s *session) topColumns() []term.Column[*record.Job] {
	number := func(j *record.Job) int64 { return j.Number }
	done := byValue(func(j *record.Job) float64 { return *cmp.Or(j.Progress.Percent, new(float64)) })
	return []term.Column[*record.Job]{
		{Name: "job", Right: true, Cell: func(j *record.Job) string { return fmt.Sprint(j.Number) }, Order: byValue(number)},
		{Name: "kind", Spare: 4, Cell: func(j *record.Job) string { return string(j.Kind) }},
		{Name: "object", Weight: 4, Middle: true, Cell: func(j *record.Job) string { return j.Subject() }},
		{Name: "progress", Spare: 3, Cell: meterOf(wideMeter), Short: meterOf(narrowMeter), Order: done},
		{Name: "done", Right: true, Cell: func(j *record.Job) string { return percentDone(*j) }, Order: done},
		{Name: "rate", Spare: 2, Right: true, Cell: func(j *record.Job) string { return s.rate(*j) }, Order: byValue(func(j *record.Job) int64 { return j.Progress.RateBytes })},
		{Name: "left", Spare: 1, Right: true, Cell: func(j *record.Job) string { return remaining(j.Estimate.RemainingS) },
			Order: byValue(func(j *record.Job) float64 { return *cmp.Or(j.Estimate.RemainingS, new(float64)) })},
		{Name: "owner", Weight: 1, Spare: 5, Cell: func(j *record.Job) string { return j.Owner.User }},
		{Name: "state", Weight: 4, Cell: situation, Order: byPlace},
	}
}

// wideMeter and narrowMeter are the widths of a bar: where there is room for all else in
// full, and where there is not.
const wideMeter, narrowMeter = 24, 8

// meterOf gives how far a job is as a bar of that width.
func meterOf(width int) func(*record.Job) string {
	return func(j *record.Job) string {
		if j.Progress.Percent == nil {
			return ""
		}
		full := int(max(0, min(*j.Progress.Percent, 100)) / 100 * float64(width))
		return "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "]"
	}
}

// situation says what a job does, or why it does nothing.
func situation(j *record.Job) string {
	switch {
	case j.State == record.Failed && j.Error != nil:
		return "failed: " + j.Error.Message
	case j.State.Terminal():
		return outcomeWord(j)
	case j.Estimate.StalledSince != nil:
		return timeLeft(j.Estimate)
	case standing(j) != "":
		return standing(j)
	case j.Phase != nil:
		return j.Phase.Name
	}
	return stateWord(*j)
}

// shortSituation leaves out what would be cut in the middle of a state on a narrow terminal:
// times, and for what a job is paused.
func shortSituation(j *record.Job) string {
	switch {
	case j.State == record.Failed && j.Error != nil:
		return "failed: " + j.Error.Message
	case j.State.Terminal() || j.State == record.Paused:
		return stateWord(*j)
	case j.Estimate.StalledSince != nil:
		return "stalled" + prefixed(": ", j.Estimate.StalledOn)
	}
	return situation(j)
}

// mood is the colour of a job's line.
func mood(j *record.Job) term.Colour {
	switch {
	case j.State == record.Failed:
		return term.Red
	case j.State == record.Succeeded:
		return term.Green
	case j.State == record.Paused || j.State == record.Canceling || j.State == record.RollingBack || j.Estimate.StalledSince != nil:
		return term.Yellow
	}
	return 0
}

// draw draws all of the screen.
func (o *overview) draw() {
	o.forget()
	width, height := o.screen.Size()
	const besides = 3 // summary, header and footer
	room := max(height-besides, 1)
	o.shown = o.sorted()
	at := o.seek(room)
	lines := []term.Line{{Text: o.summary(), Style: term.Bold}}
	lines = append(lines, o.table(at, room, width)...)
	for len(lines) < height-1 {
		lines = append(lines, term.Line{})
	}
	o.screen.Draw(append(lines[:max(min(len(lines), height-1), 1)], o.footer()))
}

// place is the index of the selected job, -1 where none is: another one in its place
// would be acted on that nobody chose.
func (o *overview) place() int {
	return slices.IndexFunc(o.shown, func(j *record.Job) bool { return j.ID == o.selected })
}

// seek gives the place of the selected job, and has it among the room rows on the screen;
// without one these are the first.
func (o *overview) seek(room int) int {
	at := o.place()
	o.first = max(min(o.first, at, len(o.shown)-1), at-room+1, 0)
	return at
}

// table gives the header and the rows from first on.
func (o *overview) table(at, room, width int) []term.Line {
	rows := o.shown[o.first:min(o.first+room, len(o.shown))]
	texts := o.texts(rows, width, nil)
	cut := func(j *record.Job) bool {
		line := texts[slices.Index(rows, j)+1]
		return strings.HasSuffix(line, "…") || utf8.RuneCountInString(line) > width
	}
	if slices.ContainsFunc(rows, cut) {
		texts = o.texts(rows, width, cut)
	}
	lines := []term.Line{{Text: texts[0], Style: term.Bold}}
	for i, j := range rows {
		style := mood(j)
		if o.first+i == at {
			style = term.Reverse
		}
		lines = append(lines, term.Line{Text: texts[i+1], Style: style})
	}
	if len(rows) == 0 {
		lines = append(lines, term.Line{Text: "no job is live"})
	}
	return lines
}

// texts are those of header and rows; short is of which jobs the situation is told shortly.
func (o *overview) texts(rows []*record.Job, width int, short func(*record.Job) bool) []string {
	columns := slices.Clone(o.columns)
	columns[len(columns)-1].Cell = func(j *record.Job) string {
		if short != nil && short(j) {
			return shortSituation(j)
		}
		return situation(j)
	}
	var b bytes.Buffer
	if err := term.Table(&b, columns, rows, term.Layout{Width: width}); err != nil {
		panic("internal error: " + err.Error()) // a buffer takes all
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// summary counts the jobs, and their rates together.
func (o *overview) summary() string {
	states, rate := map[string]int{}, int64(0)
	for _, j := range o.jobs {
		if !j.State.Terminal() {
			states[stateWord(*j)]++
		}
		if j.State == record.Running {
			rate = quantity.Sum(rate, j.Progress.RateBytes)
		}
	}
	parts := []string{"storagedctl top", time.Now().Format(time.TimeOnly), counts(states)}
	if rate > 0 {
		parts = append(parts, quantity.FormatRate(rate))
	}
	return strings.Join(parts, "   ")
}

// footer is what is asked or said, or which keys there are.
func (o *overview) footer() term.Line {
	switch {
	case o.question != nil && o.question.line:
		return term.Line{Text: o.question.text + " " + o.question.typed + "_", Style: term.Bold}
	case o.question != nil:
		return term.Line{Text: o.question.text, Style: term.Bold}
	case o.lost != "":
		return term.Line{Text: o.lost, Style: term.Red}
	case o.message() != "":
		return term.Line{Text: o.message(), Style: term.Yellow}
	}
	return term.Line{Text: "q leave  p pause  c cancel  l limit  s order  r reverse"}
}

// key does what a key is for.
func (o *overview) key(ctx context.Context, k term.Key) error {
	if k == term.KeySuspend {
		return o.screen.Suspend()
	}
	if o.question != nil {
		o.answered(k)
		return nil
	}
	o.said = reply{}
	switch k {
	case "s":
		o.nextOrder(1)
	case "S":
		o.nextOrder(-1)
	case "r":
		o.backward = !o.backward
	default:
		if !o.move(k) {
			o.act(ctx, k)
		}
	}
	return nil
}

// move selects another job, if the key is for that.
func (o *overview) move(k term.Key) bool {
	_, height := o.screen.Size()
	page := max(height-4, 1)
	steps, ok := map[term.Key]int{
		term.KeyUp: -1, term.KeyDown: 1, term.KeyPageUp: -page, term.KeyPageDown: page, term.KeyHome: -len(o.shown), term.KeyEnd: len(o.shown),
	}[k]
	if !ok || len(o.shown) == 0 {
		return ok
	}
	at := o.place()
	if at < 0 && steps < 0 {
		at = len(o.shown) // upwards from behind the last
	}
	o.selected = o.shown[max(min(at+steps, len(o.shown)-1), 0)].ID
	return true
}

// act does something to the selected job, or asks before.
func (o *overview) act(ctx context.Context, k term.Key) {
	does := map[term.Key]func(context.Context, *record.Job){"p": o.pauseOrResume, " ": o.pauseOrResume, "c": o.askToCancel, "l": o.askForLimit}[k]
	switch at := o.place(); {
	case does == nil || len(o.shown) == 0:
	case at < 0:
		o.say(reply{text: "select a job with the arrows first"})
	default:
		does(ctx, o.shown[at]) // as it was when it was drawn
	}
}

// pauseOrResume lets a job go on that waits for somebody to say so, and pauses any other:
// what waits for room goes on by itself.
func (o *overview) pauseOrResume(ctx context.Context, j *record.Job) {
	held := slices.ContainsFunc(j.PauseReasons, func(reason string) bool { return reason != record.PauseSpace })
	if held {
		o.change(ctx, *j, o.resuming())
	} else {
		o.change(ctx, *j, o.pausing())
	}
}

func (o *overview) askToCancel(ctx context.Context, j *record.Job) {
	o.question = &question{text: fmt.Sprintf("Cancel %s? [y/N]%s", jobTitle(j), prefixed(" ", foretold(j))), answer: func(typed string) {
		if typed == "y" || typed == "Y" {
			o.change(ctx, *j, o.canceling(contract.JobCancel{}))
		}
	}}
}

func (o *overview) askForLimit(ctx context.Context, j *record.Job) {
	o.question = &question{text: fmt.Sprintf("Limit of job %d (now %s), like 100M, or none:", j.Number, cmp.Or(limit(j.Limit), "none")), line: true, answer: func(typed string) {
		do, err := o.limiting(typed)
		if err != nil {
			o.say(reply{text: err.Error()})
			return
		}
		o.change(ctx, *j, do)
	}}
}

// longestAnswer is more than anybody types to a question.
const longestAnswer = 64

// answered takes a key while there is a question.
func (o *overview) answered(k term.Key) {
	q := o.question
	switch {
	case k == term.KeyRedraw:
	case k == term.KeyEscape:
		o.question = nil
	case !q.line:
		o.question = nil
		q.answer(string(k))
	case k == term.KeyEnter:
		o.question = nil
		if q.typed != "" {
			q.answer(q.typed)
		}
	case k == term.KeyClear:
		q.typed = ""
	case k == term.KeyBackspace:
		runes := []rune(q.typed)
		q.typed = string(runes[:max(len(runes)-1, 0)])
	case len([]rune(string(k))) == 1 && len(q.typed) < longestAnswer:
		q.typed += string(k)
	}
}

// change makes a change to a job; what comes of it is said in the footer, and the job
// comes with the events.
func (o *overview) change(ctx context.Context, j record.Job, do change) {
	o.awaited++
	o.tasks.Go(func() {
		r := reply{}
		if now, err := do.make(ctx, j.ID); err != nil {
			r.text = err.Error()
		} else {
			r.text, r.job = jobTitle(&now)+": "+do.say(now), &now
		}
		select {
		case o.replies <- r:
		case <-ctx.Done():
		}
	})
}
