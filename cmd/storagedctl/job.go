package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
	"storaged/internal/term"
)

func (t *tool) jobCommand() *cli.Command {
	return &cli.Command{
		Name: "job", Usage: "jobs: the long tasks on pools and volumes", Subcommands: []*cli.Command{
			t.jobListCommand("list", "list the jobs that have not ended"),
			{Name: "show", Usage: "show all about a job", ArgsUsage: "JOB…", Flags: []cli.Flag{templateFlag()}, Action: t.reading(jobShow)},
			{
				Name: "watch", Usage: "show the progress of jobs until they end", ArgsUsage: "[JOB…]",
				Description: "Without JOB it shows all that have not ended. Ctrl-C leaves; the jobs go on.",
				Flags:       selecting(timeoutFlag()), Action: t.reading(jobWatch),
			},
			{
				Name: "wait", Usage: "wait until jobs end; the exit code is theirs", ArgsUsage: "[JOB…]",
				Description: "Ctrl-C leaves; the jobs go on.",
				Flags:       selecting(&cli.BoolFlag{Name: "any", Usage: "until the first of them ends"}, timeoutFlag()),
				Action:      t.reading(jobWait),
			},
			t.jobCancelCommand("cancel", "job cancel"),
			{Name: "pause", Usage: "stop the work of jobs until they are resumed", ArgsUsage: "[JOB…]", Flags: selecting(), Action: t.changing(jobPause)},
			{Name: "resume", Usage: "let paused jobs go on", ArgsUsage: "[JOB…]", Flags: selecting(), Action: t.changing(jobResume)},
			{
				Name: "limit", Usage: "set the highest rate of a job, in bytes per second", ArgsUsage: "[JOB] RATE|none",
				Description: "Examples:\n  storagedctl job limit 412 100M\n  storagedctl job limit --kind volume.clone 100M", Flags: selecting(), Action: t.changing(jobLimit),
			},
			{Name: "priority", Usage: "schedule a job before or after others", ArgsUsage: "[JOB] interactive|normal|background", Flags: selecting(), Action: t.changing(jobPriority)},
			t.jobRetryCommand(),
			{
				Name: "log", Usage: "print what a job's helper and its tools said", ArgsUsage: "JOB",
				Flags:  []cli.Flag{&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until the job ends"}},
				Action: t.reading(jobLog),
			},
			{
				Name: "pin", Usage: "keep the records of jobs for good", ArgsUsage: "[JOB…]",
				Flags: selecting(&cli.BoolFlag{Name: "off", Usage: "let them be removed again when they are old"}), Action: t.changing(jobPin),
			},
			{Name: "forget", Usage: "remove the records of ended jobs", ArgsUsage: "[JOB…]", Flags: destroying(selectFlags()...), Action: t.changing(jobForget)},
		},
	}
}

func timeoutFlag() cli.Flag {
	return &cli.StringFlag{Name: "timeout", Usage: "wait at most `TIME` (exit code 124)"}
}

func (t *tool) jobListCommand(name, usage string) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, Action: t.reading(jobList),
		Flags: selecting(&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also jobs that have ended"}, templateFlag()),
	}
}

// jobCancelCommand is at two places; words are those that lead to it.
func (t *tool) jobCancelCommand(name, words string) *cli.Command {
	return &cli.Command{
		Name: name, Usage: "cancel jobs and wait until their work has stopped", ArgsUsage: "[JOB…]",
		Description: "Jobs that are selected by flags are listed first and asked about; where there is no terminal,\n" +
			"--yes is needed.\n\nExamples:\n  storagedctl " + words + " 412\n  storagedctl " + words + " --state queued --pool images",
		Flags: destroying(selecting(
			&cli.BoolFlag{Name: "now", Usage: "kill the helper; another one cleans up after it"},
			&cli.BoolFlag{Name: "detach", Usage: "do not wait"}, timeoutFlag())...),
		Action: t.changing(jobCancel),
	}
}

func (s *session) jobShape() shape[record.Job] {
	return shape[record.Job]{
		columns: []term.Column[record.Job]{
			{Name: "job", Right: true, Cell: func(j record.Job) string { return fmt.Sprint(j.Number) }, Order: byValue(func(j record.Job) int64 { return j.Number })},
			{Name: "kind", Cell: func(j record.Job) string { return string(j.Kind) }},
			{Name: "object", Weight: 4, Middle: true, Cell: func(j record.Job) string { return j.Subject() }},
			{Name: "state", Cell: func(j record.Job) string { return string(j.State) }, Order: byValue(func(j record.Job) int { return slices.Index(record.States(), j.State) })},
			{Name: "done", Right: true, Cell: func(j record.Job) string { return percentDone(j) }, Order: byValue(func(j record.Job) float64 { return *cmp.Or(j.Progress.Percent, new(float64)) })},
			{Name: "rate", Spare: 2, Right: true, Cell: func(j record.Job) string { return s.rate(j) }, Order: byValue(func(j record.Job) int64 { return j.Progress.RateBytes })},
			{Name: "left", Spare: 3, Right: true, Cell: func(j record.Job) string { return remaining(j.Estimate.RemainingS) }, Order: byValue(func(j record.Job) float64 { return *cmp.Or(j.Estimate.RemainingS, new(float64)) })},
			{Name: "owner", Weight: 1, Spare: 4, Cell: func(j record.Job) string { return j.Owner.User }},
			timed(term.Column[record.Job]{Name: "created", Spare: 5}, func(j record.Job) *time.Time { return &j.Created }),
			{Name: "note", Weight: 4, Spare: 1, Cell: jobNote},
			timed(term.Column[record.Job]{Name: "started", Extra: true}, func(j record.Job) *time.Time { return j.Started }),
			timed(term.Column[record.Job]{Name: "ended", Extra: true}, func(j record.Job) *time.Time { return j.Ended }),
			{Name: "elapsed", Right: true, Extra: true, Cell: func(j record.Job) string { return seconds(j.ElapsedS) }, Order: byValue(func(j record.Job) float64 { return j.ElapsedS })},
			{Name: "phase", Weight: 1, Extra: true, Cell: phase},
			{Name: "priority", Extra: true, Cell: func(j record.Job) string { return string(j.Priority) }},
			{Name: "labels", Weight: 2, Extra: true, Cell: labels},
			{Name: "pid", Right: true, Extra: true, Cell: helperPID, Order: byValue(pid)},
			{Name: "id", Extra: true, Cell: func(j record.Job) string { return j.ID }},
		},
		name:   func(j record.Job) string { return fmt.Sprint(j.Number) },
		detail: jobFields,
	}
}

func percentDone(j record.Job) string {
	if j.Progress.Percent == nil {
		return ""
	}
	return fmt.Sprintf("%.1f %%", *j.Progress.Percent)
}

func (s *session) rate(j record.Job) string {
	switch {
	case j.Progress.RateBytes == 0 || j.State.Terminal():
		return ""
	case s.cli.Bool("bytes"):
		return fmt.Sprint(j.Progress.RateBytes)
	}
	return quantity.FormatRate(j.Progress.RateBytes)
}

func remaining(secondsLeft *float64) string {
	if secondsLeft == nil {
		return ""
	}
	return seconds(*secondsLeft)
}

func seconds(s float64) string { return quantity.FormatDuration(quantity.Seconds(s)) }

// jobNote says the most important thing about a job that its state does not.
func jobNote(j record.Job) string {
	switch {
	case j.Error != nil && j.State == record.Failed:
		return j.Error.Message
	case j.State == record.Queued || j.State == record.Paused:
		if text := standing(&j); text != string(j.State) {
			return text
		}
	case j.State == record.Canceling && len(j.WaitingOn) > 0:
		return strings.Join(nonEmpty([]string{unanswered(j.WaitingOn[0]), timeLeft(j.Estimate)}), "; ")
	case j.Estimate.StalledSince != nil:
		return timeLeft(j.Estimate)
	}
	return ""
}

func phase(j record.Job) string {
	if j.Phase == nil {
		return ""
	}
	return fmt.Sprintf("%s (%d of %d)", j.Phase.Name, j.Phase.Index, j.Phase.Count)
}

func labels(j record.Job) string { return pairs(j.Labels) }

// pairs shows keys with their values, in order.
func pairs(all map[string]string) string {
	var list []string
	for k, v := range all {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

func helperPID(j record.Job) string {
	if j.Helper == nil {
		return ""
	}
	return fmt.Sprint(pid(j))
}

// pid is the process of a job's helper, 0 without one.
func pid(j record.Job) int {
	if j.Helper == nil {
		return 0
	}
	return j.Helper.PID
}

// jobFields tells all about a job, in the order of its life.
func jobFields(s *session, j record.Job) []field {
	fields := []field{
		{"Job", fmt.Sprintf("%d (%s)", j.Number, j.ID)}, {"Kind", string(j.Kind) + " (" + string(j.Class) + ")"},
		{"State", string(j.State)}, {"Objects", objects(j.Objects)}, {"Phase", phase(j)}, {"Done", doneField(s, j)},
		{"Left", leftField(j)}, {"Paused because", strings.Join(j.PauseReasons, ", ")},
		{"Created", stamp(&j.Created)}, {"Started", stamp(j.Started)}, {"Ended", stamp(j.Ended)}, {"Elapsed", elapsed(j)},
		{"Owner", owner(j.Owner)}, {"Helper", helper(j)}, {"Confined", confinement(j)}, {"Limit", limit(j.Limit)}, {"Priority", string(j.Priority)},
		{"Labels", labels(j)}, {"Pinned", pinned(j)},
	}
	for _, c := range j.Changes {
		fields = append(fields, field{"Changed", changed(c)})
	}
	for _, b := range j.WaitingOn {
		fields = append(fields, field{"Waits", strings.TrimLeft(strings.TrimPrefix(blocker(b), "waits"), ": ")})
	}
	for _, w := range j.Warnings {
		fields = append(fields, field{"Warning", w})
	}
	return append(fields, endFields(s, j)...)
}

// changed says what was asked of a job, when and by whom.
func changed(c record.Change) string {
	text := c.What
	switch c.What {
	case record.ChangeLimit:
		text = "limit none"
		if c.Limit != nil {
			text = "limit " + limit(c.Limit)
		}
	case record.ChangePriority:
		text += " " + string(c.Priority)
	}
	return fmt.Sprintf("%s: %s, by %s", stamp(&c.Time), text, c.By.User)
}

func doneField(s *session, j record.Job) string {
	return strings.Join(nonEmpty([]string{percentDone(j), amount(j.Progress), s.rate(j)}), ", ")
}

func leftField(j record.Job) string {
	text := remaining(j.Estimate.RemainingS)
	if j.Estimate.StalledSince != nil {
		text = timeLeft(j.Estimate)
	}
	if e := j.Estimate; e.EndEarly != nil && e.EndLate != nil {
		text += fmt.Sprintf(", ends between %s and %s", clock(*e.EndEarly), clock(e.EndLate.Add(almostSecond)))
	}
	return text
}

func elapsed(j record.Job) string {
	if j.Started == nil {
		return ""
	}
	text := seconds(j.ElapsedS)
	if j.PausedS > 0 {
		text += ", paused for " + seconds(j.PausedS)
	}
	return text
}

// signaler says who canceled past the daemon, as far as anybody knows.
func signaler(o record.Owner) string {
	if o.PID == 0 {
		return "a signal from outside"
	}
	return fmt.Sprintf("a signal from outside (by process %d)", o.PID)
}

func owner(o record.Owner) string {
	if o.Via == record.ViaSignal {
		return signaler(o)
	}
	text := fmt.Sprintf("%s (uid %d)", o.User, o.UID)
	if o.LoginUser != "" && o.LoginUser != o.User {
		text += ", logged in as " + o.LoginUser
	}
	if o.Command != "" {
		text += fmt.Sprintf(", by %s (pid %d)", o.Command, o.PID)
	}
	return text + prefixed(", via ", o.Via)
}

func helper(j record.Job) string {
	if j.Helper == nil {
		return ""
	}
	return fmt.Sprintf("pid %d: %s", j.Helper.PID, shellLine(j.Helper.Argv))
}

func confinement(j record.Job) string {
	if j.Helper == nil || j.Helper.Confinement == nil {
		return ""
	}
	return j.Helper.Confinement.String()
}

func limit(n *int64) string {
	if n == nil {
		return ""
	}
	return quantity.FormatRate(*n)
}

func pinned(j record.Job) string {
	if !j.Pinned {
		return ""
	}
	return "yes"
}

// endFields tell what came of a job.
func endFields(s *session, j record.Job) []field {
	var fields []field
	if j.CanceledBy != nil {
		fields = append(fields, field{"Canceled by", owner(*j.CanceledBy)})
	}
	if j.Error != nil {
		fields = append(fields, field{"Error", fmt.Sprintf("%s (%s)", j.Error.Message, j.Error.Code)}, field{"Hint", cmdline.Hint(j.Error.Hint)})
	}
	if j.State.Terminal() {
		fields = append(fields, field{"Afterwards", aftermath(&j)})
	}
	if r := j.Resumable; r != nil {
		fields = append(fields, field{"Resumable", fmt.Sprintf("from %s of %s, by storagedctl job retry %d", quantity.FormatBytes(r.Done), quantity.FormatBytes(r.Total), j.Number)})
	}
	if j.RetryOf != nil {
		text := fmt.Sprintf("job %d", *j.RetryOf)
		if r := j.RetryFrom; r != nil {
			text += fmt.Sprintf(", to go on from %s of %s", quantity.FormatBytes(r.Done), quantity.FormatBytes(r.Total))
		}
		fields = append(fields, field{"Retry of", text})
	}
	if j.AnsweredBy != nil {
		fields = append(fields, field{"Answered by", fmt.Sprintf("job %d, which did the work of both", *j.AnsweredBy)})
	}
	fields = append(fields, resultFields(s, j.Result)...)
	return append(fields, statsFields(s, j.Stats)...)
}

func resultFields(s *session, r *record.Result) []field {
	if r == nil {
		return nil
	}
	exact := s.cli.Bool("bytes")
	format := r.Format
	if converted := formats(r); converted != "" {
		format = converted
	}
	fields := []field{{"Path", r.Path}, {"Format", format}, {"Method", r.Method}, {"Algorithm", r.Algorithm}, {"Device", r.Device}, {"Checksum", r.Checksum}, {"Limits", strings.Join(r.Limits, ", ")}}
	if r.Bytes > 0 {
		fields = append(fields, field{"Bytes", size(r.Bytes, exact)})
	}
	if r.Passes > 0 {
		fields = append(fields, field{"Passes", fmt.Sprint(r.Passes)})
	}
	if r.Verified != nil {
		fields = append(fields, field{"Verified", yesNo(*r.Verified)})
	}
	if c := r.Check; c != nil {
		fields = append(fields, field{"Tables", tables(c)})
	}
	for _, i := range r.Items {
		fields = append(fields, field{"Volume", itemText(i)})
	}
	return fields
}

// tables says what a check of an image has found.
func tables(c *record.Tables) string {
	text := fmt.Sprintf("%d corrupt, %d leaked", c.Corruptions, c.Leaks)
	if c.Errors > 0 {
		text += fmt.Sprintf(", %d not checked", c.Errors)
	}
	if c.Clusters > 0 {
		text += fmt.Sprintf(" of %d clusters, %d allocated", c.Clusters, c.Allocated)
	}
	if c.RepairedCorruptions+c.RepairedLeaks > 0 {
		text += fmt.Sprintf("; %d corrupt and %d leaked were repaired", c.RepairedCorruptions, c.RepairedLeaks)
	}
	return text
}

// measured is a figure of bytes, "" where nobody could measure it.
func measured(n *int64, exact bool) string {
	if n == nil {
		return ""
	}
	return size(*n, exact)
}

// itemText says how one of many volumes fared.
func itemText(i record.Item) string {
	text := i.Volume + " " + i.State + prefixed(", ", i.Checksum)
	if i.Error != nil {
		text += ": " + i.Error.Message
	}
	return text
}

func statsFields(s *session, st *record.Stats) []field {
	if st == nil {
		return nil
	}
	exact := s.cli.Bool("bytes")
	fields := []field{
		{"Read", measured(st.BytesRead, exact)}, {"Written", measured(st.BytesWritten, exact)}, {"Holes", measured(st.BytesHoles, exact)},
	}
	if st.CPUS != nil {
		fields = append(fields, field{"CPU time", seconds(*st.CPUS)})
	}
	if st.MaxRSSBytes != nil {
		fields = append(fields, field{"Memory", size(*st.MaxRSSBytes, exact) + " at most"})
	}
	for _, p := range st.Phases {
		fields = append(fields, field{"Phase " + p.Name, seconds(p.Seconds)})
	}
	return fields
}

func jobList(ctx context.Context, s *session) error {
	state := "live"
	if s.cli.Bool("all") {
		state = ""
	}
	jobs, err := s.selected(ctx, state)
	if err != nil {
		return err
	}
	slices.SortStableFunc(jobs, func(a, b record.Job) int { return byStanding(&a, &b) })
	if len(jobs) == 0 && s.format == "table" {
		if err := s.sayNone(ctx); err != nil {
			return err
		}
	}
	return printList(s, s.jobShape(), jobs)
}

// sayNone says that no job passes the filters that were given: a pool or an owner who is
// misspelt has none. Records outlive pools, so that none of them is refused.
func (s *session) sayNone(ctx context.Context) error {
	if !slices.ContainsFunc(selectFlags(), func(f cli.Flag) bool { return s.cli.IsSet(f.Names()[0]) }) {
		return nil
	}
	text := "storagedctl: no job is like that"
	pools, err := s.client.Pools(ctx)
	if err != nil {
		return err
	}
	for _, name := range s.cli.StringSlice("pool") {
		if !slices.ContainsFunc(pools, func(p record.Pool) bool { return p.Name == name || p.UUID == name }) {
			text += fmt.Sprintf("; there is no pool %q now", name)
		}
	}
	for _, name := range s.cli.StringSlice("volume") {
		r, err := s.volume(ctx, name)
		if err == nil && r.pool != "" {
			_, err = s.client.Volume(ctx, r.pool, r.name)
		}
		if record.CodeOf(err) == record.NotFound {
			text += fmt.Sprintf("; there is no volume %q now", name)
		}
	}
	for _, name := range s.cli.StringSlice("owner") {
		if _, err := user.Lookup(name); err != nil && !s.client.Far() && name != "storaged" { // which is the daemon
			text += fmt.Sprintf("; there is no user %q in /etc/passwd", name)
		}
	}
	s.note(text)
	return nil
}

// wantedVolumes are those of --volume: a name is that of any pool's.
func (s *session) wantedVolumes(ctx context.Context) ([]string, error) {
	var wanted []string
	for _, given := range s.cli.StringSlice("volume") {
		if strings.Contains(given, "/") {
			r, err := s.volume(ctx, given)
			if err != nil {
				return nil, err
			}
			given = r.String()
		}
		wanted = append(wanted, given)
	}
	return wanted, nil
}

// jobFilter reads the flags; without --state it is those in state.
func (s *session) jobFilter(ctx context.Context, state string) (contract.JobFilter, error) {
	f := contract.JobFilter{
		States: s.cli.StringSlice("state"), Kinds: s.cli.StringSlice("kind"), Pools: s.cli.StringSlice("pool"),
		Owners: s.cli.StringSlice("owner"), Labels: s.cli.StringSlice("label"),
	}
	if len(f.States) == 0 && state != "" {
		f.States = []string{state}
	}
	for flag, at := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		given := s.cli.String(flag)
		if given == "" {
			continue
		}
		var err error
		if *at, err = parseWhen(given, time.Now()); err != nil {
			return f, cmdline.Usagef("--%s: %s", flag, err)
		}
	}
	var err error
	f.Volumes, err = s.wantedVolumes(ctx)
	return f, err
}

// allJobs reads all pages.
func (s *session) allJobs(ctx context.Context, f contract.JobFilter) ([]record.Job, error) {
	return s.someJobs(ctx, f, math.MaxInt)
}

// someJobs reads pages until it has as many jobs as are wanted.
func (s *session) someJobs(ctx context.Context, f contract.JobFilter, wanted int) ([]record.Job, error) {
	jobs := []record.Job{}
	for page := (contract.Page{}); ; {
		l, err := s.client.Jobs(ctx, f, page)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, l.Items...)
		if l.Next == nil || len(jobs) >= wanted {
			return jobs, nil
		}
		page.Cursor = *l.Next
	}
}

func jobShow(ctx context.Context, s *session) error {
	return showEach(s, s.args(), s.jobShape(), func(id string) (record.Job, error) { return s.client.Job(ctx, id) })
}

func jobWait(ctx context.Context, s *session) error {
	ids, err := s.few(ctx, s.args(), "live")
	if err != nil {
		return err
	}
	outcomes, err := s.named(ctx, ids)
	if err != nil || len(outcomes) == 0 {
		return err
	}
	until := untilAllEnd
	if s.cli.Bool("any") {
		until = untilOneEnds
	}
	if err := s.awaitEach(ctx, outcomes, until); err != nil {
		return err
	}
	if until == untilOneEnds {
		outcomes = firstEnded(outcomes)
	}
	return s.finish(ctx, outcomes)
}

// firstEnded leaves one job that has ended, and what failed without one.
func firstEnded(outcomes []outcome) []outcome {
	one := false
	return slices.DeleteFunc(outcomes, func(o outcome) bool {
		ended := o.err == nil && !o.live()
		spare := o.live() || ended && one
		one = one || ended
		return spare
	})
}

// jobWatch shows jobs; it says how they ended, which is not its exit code.
func jobWatch(ctx context.Context, s *session) error {
	outcomes, err := s.watched(ctx)
	if err != nil {
		return err
	}
	if len(outcomes) == 0 {
		s.note("no job is live")
	}
	if err := s.awaitEach(ctx, outcomes, untilLeft); err != nil {
		return err
	}
	for _, o := range outcomes {
		if o.err != nil {
			continue
		}
		if err := jobError(o.job); err != nil {
			s.note(err.Error())
		}
	}
	if err := s.printOutcomes(outcomes); err != nil {
		return err
	}
	return s.verdict(outcomes)
}

// watched are the jobs to watch: those that are named, or the live ones that
// the flags select.
func (s *session) watched(ctx context.Context) ([]outcome, error) {
	if len(s.args()) > 0 {
		ids, err := s.few(ctx, s.args(), "live")
		if err != nil {
			return nil, err
		}
		return s.named(ctx, ids)
	}
	jobs, err := s.selected(ctx, "live")
	outcomes := make([]outcome, len(jobs))
	for i := range jobs {
		outcomes[i].job = &jobs[i]
	}
	return outcomes, err
}

// change is something that is done to jobs, and what there is to say of one
// afterwards.
type change struct {
	jobs []string
	make func(context.Context, string) (record.Job, error)
	say  func(record.Job) string
	all  ofMany // the same for all jobs of a selection
	done string // what there is to say of those
}

func stateWord(j record.Job) string { return strings.ReplaceAll(string(j.State), "_", " ") }

// eachJob makes a change to each of its jobs and prints what they are then.
func (s *session) eachJob(ctx context.Context, do change) error {
	outcomes := make([]outcome, len(do.jobs))
	for i, id := range do.jobs {
		j, err := do.make(ctx, id)
		outcomes[i] = outcome{start: start{object: id}, err: err}
		if err != nil {
			continue
		}
		outcomes[i].job = &j
		outcomes[i].object = fmt.Sprint(j.Number)
		s.note(jobTitle(&j) + ": " + do.say(j))
	}
	if err := s.printJobs(outcomes); err != nil {
		return err
	}
	return s.verdict(outcomes)
}

// printJobs writes jobs that were changed; where people read, the notes have
// said it.
func (s *session) printJobs(outcomes []outcome) error {
	switch s.format {
	case "json":
		return s.printDocuments(outcomes)
	case "jsonl":
		for _, o := range outcomes {
			if o.job != nil {
				if err := printJSON(s.out, o.job); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return s.printOutcomes(outcomes)
}

// canceling is the change that cancels.
func (s *session) canceling(r contract.JobCancel) change {
	return change{
		make: func(ctx context.Context, id string) (record.Job, error) { return s.client.CancelJob(ctx, id, r) },
		all: func(ctx context.Context, sel contract.Selection) (contract.Bulk, error) {
			return s.client.CancelJobs(ctx, sel, r)
		},
		say: stateWord, done: "canceled",
	}
}

// jobCancel cancels and waits: canceled means that the work has stopped.
func jobCancel(ctx context.Context, s *session) error {
	cancel := s.canceling(contract.JobCancel{Now: s.cli.Bool("now")})
	c, err := s.doomed(ctx, "cancel", "live", cancel.all)
	switch cancel.jobs = c.ids; {
	case err != nil:
		return err
	case c.many != nil:
		return s.cancelMany(ctx, *c.many, cancel)
	case len(c.ids) == 0:
		return nil
	case s.cli.Bool("detach"):
		return s.eachJob(ctx, cancel)
	}
	return s.cancelEach(ctx, cancel)
}

func (s *session) cancelEach(ctx context.Context, cancel change) error {
	outcomes := make([]outcome, len(cancel.jobs))
	for i, id := range cancel.jobs {
		j, err := cancel.make(ctx, id)
		outcomes[i] = outcome{start: start{object: id}, job: &j, err: err}
	}
	if err := s.awaitEach(ctx, outcomes, untilAllEnd); err != nil {
		return err
	}
	for i := range outcomes {
		if outcomes[i].err != nil {
			outcomes[i].job = nil
		} else {
			outcomes[i] = canceled(outcomes[i])
			s.warn(&outcomes[i])
			if outcomes[i].err == nil {
				s.note(jobError(outcomes[i].job).Error())
			}
		}
	}
	if err := s.printJobs(outcomes); err != nil {
		return err
	}
	return s.verdict(outcomes)
}

// cancelMany cancels all jobs of a selection, and waits for those whose work
// goes on for a moment.
func (s *session) cancelMany(ctx context.Context, sel contract.Selection, cancel change) error {
	failure := s.bulk(ctx, sel, cancel.all, cancel.done)
	if s.cli.Bool("detach") || failure != nil && record.CodeOf(failure) != record.Partial {
		return failure
	}
	rest := sel.JobFilter
	rest.States = []string{string(record.Canceling), string(record.RollingBack)}
	jobs, err := s.allJobs(ctx, rest)
	if err != nil {
		return err
	}
	outcomes := make([]outcome, len(jobs))
	for i := range jobs {
		outcomes[i].job = &jobs[i]
	}
	if err := s.awaitEach(ctx, outcomes, untilAllEnd); err != nil {
		return err
	}
	return failure
}

// canceled judges a job that was to be canceled: to be canceled is success.
func canceled(o outcome) outcome {
	o.object = fmt.Sprint(o.job.Number)
	switch o.job.State {
	case record.Canceled:
	case record.Succeeded:
		o.err = record.Errorf(record.WrongState, "too late to cancel %s: it has succeeded", jobTitle(o.job))
	default:
		o.err = jobError(o.job)
	}
	return o
}

func jobPause(ctx context.Context, s *session) error {
	return s.eachChosen(ctx, s.args(), s.pausing())
}

func (s *session) pausing() change {
	return change{make: s.client.PauseJob, say: func(j record.Job) string {
		if j.State == record.Running {
			return "pausing" // until its helper has come to rest
		}
		return stateWord(j)
	}, all: s.client.PauseJobs, done: "paused"}
}

func jobResume(ctx context.Context, s *session) error {
	return s.eachChosen(ctx, s.args(), s.resuming())
}

func (s *session) resuming() change {
	return change{make: s.client.ResumeJob, all: s.client.ResumeJobs, done: "resumed", say: func(j record.Job) string {
		if j.State == record.Paused && len(j.PauseReasons) == 0 {
			return "resuming" // until its helper goes on
		}
		if slices.Contains(j.PauseReasons, record.PauseAdmin) {
			return "stays paused, as an administrator asked for that" // who is not its owner
		}
		return stateWord(j)
	}}
}

// eachChosen makes a change to each job that is named, or that is live and
// selected.
func (s *session) eachChosen(ctx context.Context, ids []string, do change) error {
	return s.eachIn(ctx, ids, "live", do)
}

// eachIn is eachChosen for jobs in state.
func (s *session) eachIn(ctx context.Context, ids []string, state string, do change) error {
	c, err := s.chosen(ctx, ids, state)
	switch do.jobs = c.ids; {
	case err != nil:
		return err
	case c.many != nil:
		return s.bulk(ctx, *c.many, do.all, do.done)
	case len(c.ids) == 0:
		return nil
	}
	return s.eachJob(ctx, do)
}

// allButLast are the jobs of a verb whose last argument is something else.
func (s *session) allButLast() (ids []string, last string) {
	n := len(s.args()) - 1
	return s.args()[:n], s.arg(n)
}

// patch makes a change of properties.
func (s *session) patch(p contract.JobPatch, done string, say func(record.Job) string) change {
	return change{
		make: func(ctx context.Context, id string) (record.Job, error) { return s.client.PatchJob(ctx, id, p) },
		all: func(ctx context.Context, sel contract.Selection) (contract.Bulk, error) {
			return s.client.PatchJobs(ctx, sel, p)
		},
		say: say, done: done,
	}
}

// limitOf reads RATE or none.
func limitOf(given string) (json.RawMessage, error) {
	if given == "none" {
		return json.RawMessage("null"), nil
	}
	n, err := quantity.ParseRate(given)
	if err != nil {
		return nil, cmdline.Usagef("%s", err)
	}
	return json.RawMessage(fmt.Sprint(n)), nil
}

func jobLimit(ctx context.Context, s *session) error {
	ids, given := s.allButLast()
	do, err := s.limiting(given)
	if err != nil {
		return err
	}
	return s.eachChosen(ctx, ids, do)
}

// limiting sets the limit to RATE or none.
func (s *session) limiting(given string) (change, error) {
	rate, err := limitOf(given)
	return s.patch(contract.JobPatch{Limit: rate}, "limit "+given, func(j record.Job) string {
		if j.Limit == nil {
			return "no limit"
		}
		return "at most " + limit(j.Limit)
	}), err
}

func jobPriority(ctx context.Context, s *session) error {
	ids, given := s.allButLast()
	priority := record.Priority(given)
	return s.eachChosen(ctx, ids, s.patch(contract.JobPatch{Priority: &priority}, "priority "+given, func(j record.Job) string {
		return "priority " + string(j.Priority)
	}))
}

func jobPin(ctx context.Context, s *session) error {
	word := map[bool]string{true: "pinned", false: "not pinned"}
	pinned := !s.cli.Bool("off")
	return s.eachIn(ctx, s.args(), "", s.patch(contract.JobPatch{Pinned: &pinned}, word[pinned], func(j record.Job) string {
		return word[j.Pinned]
	}))
}

func jobForget(ctx context.Context, s *session) error {
	c, err := s.doomed(ctx, "forget", "ended", s.client.ForgetJobs)
	switch {
	case err != nil:
		return err
	case c.many != nil:
		return s.bulk(ctx, *c.many, s.client.ForgetJobs, "forgotten")
	case len(c.ids) == 0:
		return nil
	}
	outcomes := make([]outcome, len(c.ids))
	for i, id := range c.ids {
		trace, err := s.client.ForgetJob(ctx, id)
		outcomes[i] = outcome{start: start{object: id}, err: err}
		switch {
		case err != nil:
		case trace != nil:
			s.note(jobTitle(trace) + ": forgotten; that it was, on what, whose and when stays, for it may have destroyed content")
		default:
			s.note("job " + id + ": forgotten")
		}
	}
	return s.verdict(outcomes)
}

func jobLog(ctx context.Context, s *session) error {
	if !s.cli.Bool("follow") {
		n, err := s.copyLog(ctx, 0)
		if err == nil && n == 0 {
			s.note("storagedctl: nothing was logged")
		}
		return err
	}
	return s.followLog(ctx)
}

// copyLog prints the log behind the first skip bytes and gives its length.
func (s *session) copyLog(ctx context.Context, skip int64) (int64, error) {
	log, err := s.client.JobLog(ctx, s.arg(0))
	if err != nil {
		return skip, err
	}
	defer log.Close()
	skipped, err := io.CopyN(io.Discard, log, skip)
	if err == io.EOF {
		return skipped, nil
	}
	if err != nil {
		return skip, fmt.Errorf("cannot read the log: %w", err)
	}
	n, err := io.Copy(&visibly{s.out}, log)
	if err != nil {
		return skip, fmt.Errorf("cannot copy the log: %w", err)
	}
	return skip + n, nil
}

// visibly escapes what tools may have put into a log, except for line ends
// and tabs.
type visibly struct{ w io.Writer }

func (v *visibly) Write(p []byte) (int, error) {
	var b strings.Builder
	for line := range strings.Lines(string(p)) {
		text, ended := strings.CutSuffix(line, "\n")
		for i, cell := range strings.Split(text, "\t") {
			if i > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(term.Escape(cell))
		}
		if ended {
			b.WriteByte('\n')
		}
	}
	if _, err := io.WriteString(v.w, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// followLog prints more of the log whenever something happens to the job.
func (s *session) followLog(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.client.Events(ctx, 0)
	if err != nil {
		return err
	}
	defer stream.Close()
	job, err := s.client.Job(ctx, s.arg(0))
	if err != nil {
		return err
	}
	printed := int64(0)
	for {
		if printed, err = s.copyLog(ctx, printed); err != nil || job.State.Terminal() {
			return err
		}
		if job, err = nextOf(stream, job); err != nil {
			return err
		}
	}
}

// nextOf waits for the next event of a job and gives the job.
func nextOf(stream *client.EventStream, job record.Job) (record.Job, error) {
	for {
		e, err := stream.Next()
		if err != nil {
			return job, err
		}
		if e.Job != nil && e.Job.ID == job.ID {
			return *e.Job, nil
		}
	}
}
