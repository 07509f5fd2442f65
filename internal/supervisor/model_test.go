//go:build !lean

package supervisor

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"storaged/internal/ipc"
	"storaged/internal/record"
)

const (
	// modelSteps are executed at least, in modelRuns runs, which is what rapid
	// does by default. A step waits more than it works, so several crews of
	// clients do a part of the runs each, all at once.
	modelSteps = 10_000
	modelRuns  = 100
	modelCrews = 5
)

// The model of the supervisor is a test in which three kinds of processes take
// part. The test process is the clients: it draws what they do, remembers what
// was acknowledged, and judges. A host is a process with a supervisor in it, which
// the test may kill at any instruction. The helpers that this supervisor starts
// are the test binary again, each with a behaviour that the test drew for it.
//
//	model_test.go         the clients: drawing steps, doing them, what is known of each job, the end of a run
//	model_ends_test.go    how a job may end, from its helper's behaviour and what was done to it
//	model_host_test.go    the host, both sides: orders to it and answers from it, its start and death
//	model_helper_test.go  the helpers: a behaviour (role), how one (actor) follows it, its entry in a list of those alive (census)
//	model_audit_test.go   in the host, after each step: locks, order of the queue, places, shares, what people see (auditor)
//	model_ledger_test.go  in the host, at each event: numbers, states and percent of each job in their order (ledger)
//
// A run: newModel starts a host; each step is drawn (drawStep), done (model.step)
// and followed by a check in the host, whose faults fail the test; restart and
// kill replace the host, after which reconcile asks what became of unanswered
// requests; finish brings all jobs to their ends, compares these with what may
// have been (outcomes), and sees that nothing is left on the disk (swept).
//
// TestModel lets random clients use a supervisor whose helpers begin, work,
// obey and end in every way, stops and kills it, and checks after each step
// what must hold always (model_audit_test.go, model_ledger_test.go) and that
// all that was acknowledged came true.
//
// What is done depends on the seed alone, which a failure tells together with
// the crew. When the helpers run does not: -rapid.seed without a crew
// lets all of them do the same, which shows a rare order sooner.
func TestModel(t *testing.T) {
	act("child")                           // what a process that a helper starts does
	setFlag(t, "rapid.nofailfile", "true") // the seed tells as much
	setFlag(t, "rapid.checks", strconv.Itoa(modelRuns/modelCrews))
	programs := buildPrograms(t)
	sums := make([]tally, modelCrews)
	var crews sync.WaitGroup
	for i := range sums {
		crews.Go(func() {
			t.Run(fmt.Sprint(i), func(t *testing.T) { runModel(t, programs, &sums[i]) })
		})
	}
	crews.Wait()
	var sum tally
	for _, s := range sums {
		sum.add(s)
	}
	t.Log(sum)
}

// runModel is one crew at work.
func runModel(t *testing.T, programs programs, sum *tally) {
	sum.ends = map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(t, rt, programs, sum)
		defer m.abandon()
		for range modelSteps/modelRuns + 1 {
			m.step(drawStep(rt))
		}
		m.finish()
	})
	if least := modelSteps / modelCrews; flag.Lookup("rapid.checks").Value.String() == strconv.Itoa(modelRuns/modelCrews) && sum.steps < least {
		t.Errorf("only %d steps were executed, want %d", sum.steps, least)
	}
}

type tally struct {
	steps, jobs, helpers, restarts, kills int
	ends                                  map[string]int
}

func (y *tally) add(more tally) {
	y.steps, y.jobs, y.helpers = y.steps+more.steps, y.jobs+more.jobs, y.helpers+more.helpers
	y.restarts, y.kills = y.restarts+more.restarts, y.kills+more.kills
	if y.ends == nil {
		y.ends = map[string]int{}
	}
	for end, n := range more.ends {
		y.ends[end] += n
	}
}

func (y tally) String() string {
	return fmt.Sprintf("%d steps, %d jobs, %d helpers, %d restarts, %d kills of the supervisor; ends: %v",
		y.steps, y.jobs, y.helpers, y.restarts, y.kills, y.ends)
}

// setFlag gives a flag another value for the time of a test, unless it was
// given one.
func setFlag(t *testing.T, name, value string) {
	f := flag.Lookup(name)
	if f.Value.String() != f.DefValue {
		return
	}
	if err := f.Value.Set(value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Value.Set(f.DefValue) })
}

// buildPrograms builds them by the tag that leaves out what imports rapid.
func buildPrograms(t *testing.T) programs {
	dir := t.TempDir()
	build := func(name string, args ...string) string {
		path := filepath.Join(dir, name)
		args = append([]string{"test", "-c", "-vet=off", "-tags", "lean", "-o", path}, args...)
		if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
			t.Fatalf("cannot build the %s: %v\n%s", name, err, out)
		}
		return path
	}
	helper := build("helper")
	info, ok := debug.ReadBuildInfo()
	if !ok || !slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" }) {
		return programs{helper, helper}
	}
	return programs{build("host", "-race"), helper}
}

// step is one thing that a client does, or that happens. Numbers are taken
// modulo what there is.
type step struct {
	Do    string
	Job   int
	N     int
	On    bool
	Text  string
	Req   *wish `json:",omitempty"`
	Burst []step
}

func (s step) String() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// wish is what a client asks for.
type wish struct {
	Kind     record.Kind
	Class    record.Class
	Objects  []record.Object
	Priority record.Priority
	Limit    int64
	Key      string
	Wait     int // milliseconds for locks; -1: for ever; -2: as the class does
	Keep     bool
	Destroys bool
	Refuse   bool
	Role     role
	Undo     *role
}

// weighted names each action as often as it is drawn.
func weighted(counts map[string]int) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, slices.Repeat([]string{name}, counts[name])...)
	}
	return all
}

var (
	soloActions = append([]string{"let"}, weighted(map[string]int{
		"let": 10, "submit": 30, "again": 4, "retry": 2, "cancel": 9, "pause": 5, "resume": 6, "limit": 3, "priority": 3, "label": 2,
		"pin": 2, "limits": 4, "watch": 5, "wait": 3, "forget": 3, "prune": 2, "drain": 1, "restart": 2, "kill": 1, "strike": 3,
		"replay": 2, "settle": 2, "history": 1, "burst": 8,
	})...)
	burstActions = weighted(map[string]int{
		"submit": 3, "cancel": 3, "pause": 3, "resume": 3, "limit": 2, "priority": 2, "label": 1, "pin": 1,
	})
	stepKinds = []record.Kind{record.VolumeClone, record.VolumeWipe, record.PoolRefresh}
)

func drawStep(rt *rapid.T) step {
	return rapid.Custom(func(t *rapid.T) step {
		s := drawAction(t, soloActions)
		if s.Do == "burst" || s.Do == "kill" || s.Do == "restart" {
			n := rapid.IntRange(0, 4).Draw(t, "clients")
			for range n {
				s.Burst = append(s.Burst, drawAction(t, burstActions))
			}
		}
		return s
	}).Draw(rt, "step")
}

func drawAction(t *rapid.T, from []string) step {
	s := step{
		Do:   rapid.SampledFrom(from).Draw(t, "do"),
		Job:  rapid.IntRange(0, 1<<20).Draw(t, "job"),
		N:    rapid.IntRange(0, 1<<20).Draw(t, "n"),
		On:   rapid.Bool().Draw(t, "on"),
		Text: rapid.SampledFrom([]string{record.PauseUser, record.PauseAdmin}).Draw(t, "text"),
	}
	if s.Do == "submit" {
		w := drawWish(t)
		s.Req = &w
	}
	return s
}

func one[T any](t *rapid.T, label string, from ...T) T { return rapid.SampledFrom(from).Draw(t, label) }

func drawWish(t *rapid.T) wish {
	w := wish{
		Kind:     one(t, "kind", stepKinds...),
		Class:    one(t, "class", record.Async, record.Async, record.Normal),
		Objects:  rapid.SliceOfN(rapid.Custom(drawObject), 1, 2).Draw(t, "objects"),
		Priority: one(t, "priority", record.NormalPriority, record.Interactive, record.Background),
		Limit:    one[int64](t, "limit", 0, 0, 1000, 5000),
		Key:      one(t, "key", "", "", "", "", "k1", "k2", "k3"),
		Wait:     one(t, "wait", -2, -2, -1, 0, 20),
		Keep:     rapid.Bool().Draw(t, "keep"),
		Destroys: rapid.Bool().Draw(t, "destroys"),
		Refuse:   rapid.IntRange(0, 20).Draw(t, "refused") == 20,
		Role:     drawRole(t),
	}
	if rapid.IntRange(0, 5).Draw(t, "host") == 5 { // it walks a pool
		w.Class, w.Objects, w.Role.Mask = record.Async, []record.Object{{Pool: w.Objects[0].Pool, Mode: record.ModeRead}}, "RMGWD"
	}
	if rapid.IntRange(0, 3).Draw(t, "settled") > 0 {
		u := role{Settles: true, Work: rapid.IntRange(0, 2).Draw(t, "undo work"), End: one(t, "undo end", append(slices.Repeat([]string{"undone"}, 4), settlerEnds...)...)}
		w.Undo = &u
	}
	return w
}

func drawObject(t *rapid.T) record.Object {
	return record.Object{
		Pool:   one(t, "pool", "p", "q"),
		Volume: one(t, "volume", "a", "b", "c", "d", "e", ""),
		Mode:   record.Mode(one(t, "mode", "R", "W", "M", "G", "D", "Q")),
	}
}

func drawRole(t *rapid.T) role {
	r := role{
		Start: one(t, "start", append(slices.Repeat([]string{""}, 30), roleStarts...)...),
		Work:  one(t, "work", 0, 1, 3, 6, forever, forever),
		Lies:  rapid.IntRange(0, 5).Draw(t, "lies") == 5,
		Child: rapid.IntRange(0, 9).Draw(t, "child") == 9,
		Told:  one(t, "told", append(slices.Repeat([]string{"obey"}, 6), roleTold...)...),
		Final: rapid.IntRange(0, 4).Draw(t, "final") == 4,
		End:   one(t, "end", append(slices.Repeat([]string{"success"}, 6), roleEnds...)...),
	}
	return r
}

// maybe is what something may be: one value, or several while it is not known
// which of some orders came last.
type maybe []string

func (v *maybe) be(value string, certain bool) {
	if certain {
		*v = nil
	}
	if !slices.Contains(*v, value) {
		*v = append(*v, value)
	}
}

// modelJob is what the model knows of a job.
type modelJob struct {
	id      string
	nonce   string
	wish    wish
	retryOf *int64

	limit, priority, label, pinned maybe
	reasons                        map[string]*maybe

	cancel  bool // was asked for, or may have been
	acked   bool // that was acknowledged: it needs no other cancel
	struck  bool // its helper may have got a signal from the model
	undone  bool // the one that settles it may have
	adopted bool // it lived when a supervisor ended
	ended   *record.Job
	gone    bool // forgotten or pruned, without a trace
	trace   bool // forgotten, with one
}

// model is the clients, and what they know.
type model struct {
	t        *testing.T
	rt       *rapid.T
	sum      *tally
	dir      string
	programs programs
	host     *hostProcess
	log      *lockedBuffer
	over     bool

	jobs    []*modelJob
	pending []*modelJob // submits without an answer
	keys    map[string]*modelJob
	nonces  int
	limits  record.Limits
	drain   bool
	age     int  // steps since the supervisor was started
	forgot  bool // a job was forgotten soon after the start, and counted perhaps when that pruned
	waits   []pendingWait
	steps   []string
}

type pendingWait struct {
	id     string
	answer <-chan hostAnswer
}

func newModel(t *testing.T, rt *rapid.T, programs programs, sum *tally) *model {
	base := "/dev/shm" // a file system in memory, where there is one: what is killed here is no host
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "model")
	if err != nil {
		t.Fatal(err)
	}
	m := &model{t: t, rt: rt, sum: sum, dir: dir, programs: programs, log: &lockedBuffer{}, keys: map[string]*modelJob{}}
	for _, d := range []string{"run", "state", "census", "dead"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m.boot()
	return m
}

func (m *model) boot() {
	var err error
	if m.host, err = startHost(m.programs, m.dir, m.log); err != nil {
		m.fail("%v", err)
	}
	m.must(hostOrder{Do: "limits", Limits: &m.limits})
	m.drain, m.forgot, m.age = false, false, 0
}

// abandon ends what a failure has left.
func (m *model) abandon() {
	if !m.over {
		m.host.kill()
		for range 100 { // each round meets those who were forked meanwhile
			pids := processesOf(filepath.Join(m.dir, "run"))
			for _, pid := range pids {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			if len(pids) == 0 {
				break
			}
		}
	}
	os.RemoveAll(m.dir)
}

// fail tells all there is to tell: rapid leaves it out when it fails to come to
// the same end again.
func (m *model) fail(format string, args ...any) {
	m.t.Logf("the last steps:\n%s\nthe host's log:\n%s", strings.Join(m.steps[max(0, len(m.steps)-40):], "\n"), said(m.log))
	m.t.Logf(format, args...)
	m.rt.Fatalf(format, args...)
}

// must gives the answer to an order; a dead host is a failure.
func (m *model) must(o hostOrder) hostAnswer {
	late := time.NewTimer(2 * hostPatience) // a host has patience itself
	defer late.Stop()
	var a hostAnswer
	var ok bool
	select {
	case a, ok = <-m.host.send(o):
	case <-late.C:
		m.fail("the host does not answer %s", o.Do)
	}
	if !ok {
		m.fail("the host died of %s", o.Do)
	}
	if len(a.Faults) > 0 {
		m.fail("after %s:\n%s", o.Do, strings.Join(a.Faults, "\n"))
	}
	return a
}

func code(a hostAnswer) record.Code {
	if a.Err == nil {
		return ""
	}
	return a.Err.Code
}

// step does one thing and looks at everything.
func (m *model) step(s step) {
	m.steps = append(m.steps, s.String())
	m.sum.steps++
	m.age++
	switch s.Do {
	case "submit", "again", "retry":
		if j := m.ask(s); j != nil {
			m.submitted(j, m.must(j.order(m.dir)))
		}
	case "burst":
		m.burst(s, func() {})
	case "restart":
		m.burst(s, func() { m.restart(s) })
	case "kill":
		m.kill(s)
	case "prune":
		m.prune()
	case "let", "replay", "settle":
		m.must(hostOrder{Do: s.Do, N: int64(s.N % 8)})
	case "history":
		m.history()
	case "limits":
		m.setLimits(s)
	case "drain":
		m.drain = s.On
		m.must(hostOrder{Do: "drain", On: s.On})
	case "strike":
		m.strike(s)
	default:
		m.verb(s)
	}
	m.must(hostOrder{Do: "audit"})
	m.collect(false)
}

// pick gives a job that is not forgotten, the newer ones more often.
func (m *model) pick(n int) *modelJob {
	known := slices.DeleteFunc(slices.Clone(m.jobs), func(j *modelJob) bool { return j.gone })
	if len(known) == 0 {
		return nil
	}
	if n%4 > 0 {
		known = known[max(0, len(known)-8):]
	}
	return known[n/4%len(known)]
}

// ask makes the job of a request, nil when there is nothing to repeat.
func (m *model) ask(s step) *modelJob {
	m.nonces++
	j := &modelJob{nonce: fmt.Sprint("client ", m.nonces), reasons: map[string]*maybe{}}
	switch s.Do {
	case "submit":
		j.wish = *s.Req
	default:
		old := m.pick(s.Job)
		if old == nil {
			return nil
		}
		j.wish = old.wish
		if s.Do == "retry" {
			if old.ended == nil {
				return nil
			}
			j.retryOf, j.wish.Key = &old.ended.Number, ""
		}
	}
	j.limit.be(strconv.FormatInt(j.wish.Limit, 10), true)
	j.priority.be(string(j.wish.Priority), true)
	j.label.be("", true)
	j.pinned.be("false", true)
	for _, r := range []string{record.PauseUser, record.PauseAdmin} {
		j.reasons[r] = &maybe{"false"}
	}
	return j
}

// digest stands for the request.
func (j *modelJob) digest() string {
	b, err := json.Marshal(j.wish)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (j *modelJob) order(dir string) hostOrder {
	w := j.wish
	w.Role.Census = filepath.Join(dir, "census")
	req := &hostRequest{Request: Request{
		Kind: w.Kind, Class: w.Class, Objects: w.Objects, Argv: w.Role.part(), Priority: w.Priority, Limit: rateOf(w.Limit),
		Key: w.Key, Owner: uid1000, OnFailure: record.RollbackOnFailure, Destroys: w.Destroys, RetryOf: j.retryOf,
	}}
	req.Owner.Command = j.nonce
	if w.Key != "" {
		req.Digest = j.digest()
	}
	if w.Keep {
		req.OnFailure = record.KeepOnFailure
	}
	if w.Refuse {
		req.Params = []byte(refused)
	}
	if w.Undo != nil {
		u := *w.Undo
		u.Census = w.Role.Census
		req.UndoArgv = u.part()
	}
	if w.Wait >= -1 {
		d := time.Duration(w.Wait) * time.Millisecond
		req.LockWait = &d
	}
	return hostOrder{Do: "submit", Req: req}
}

// holder is the job that has a key, nil when none has it.
func (m *model) holder(key string) *modelJob {
	if j := m.keys[key]; key != "" && j != nil && !j.gone {
		return j
	}
	return nil
}

// submitted takes the answer to one request that was alone.
func (m *model) submitted(j *modelJob, a hostAnswer) {
	switch known := m.holder(j.wish.Key); {
	case known != nil && known.digest() == j.digest():
		if a.Err != nil || a.Job.ID != known.id {
			m.fail("a request under key %s gives %v %v, before it gave job %s", j.wish.Key, a.Job, a.Err, known.id)
		}
		m.verify(known, *a.Job)
	case known != nil:
		if code(a) != record.KeyReused {
			m.fail("another request under key %s gives %v %v", j.wish.Key, a.Job, a.Err)
		}
	default:
		m.accepted(j, a)
	}
}

// accepted takes the answer to a request that is new, and holds that a refusal
// is one with a reason.
func (m *model) accepted(j *modelJob, a hostAnswer) {
	if a.Err == nil {
		m.accept(j, *a.Job)
		return
	}
	ok := false
	switch a.Err.Code {
	case record.Busy:
		ok = j.wish.Wait == 0 && len(a.Err.Holders) > 0
	case record.QueueFull:
		ok = m.limits.Queued > 0
	case record.Draining:
		ok = m.drain
	}
	if !ok {
		m.fail("a request is refused: %v (%s)", a.Err, a.Err.Code)
	}
}

func (m *model) accept(j *modelJob, r record.Job) {
	j.id = r.ID
	if slices.ContainsFunc(m.jobs, func(o *modelJob) bool { return o.id == r.ID }) {
		m.fail("a new request gives job %d of before", r.Number)
	}
	m.jobs = append(m.jobs, j)
	m.sum.jobs++
	if j.wish.Key != "" {
		m.keys[j.wish.Key] = j
	}
	m.verify(j, r)
}

// verbOrder makes the order of a verb on a job.
func verbOrder(s step, j *modelJob) hostOrder {
	o := hostOrder{Do: s.Do, ID: j.id}
	switch s.Do {
	case "cancel", "pin":
		o.On = s.On
	case "pause", "resume":
		o.Text = s.Text
	case "label":
		o.Text = s.Text + fmt.Sprint(s.N%5)
	case "limit":
		o.N = []int64{0, 700, 3000, 1 << 30}[s.N%4]
	case "priority":
		o.Text = []string{string(record.Interactive), string(record.NormalPriority), string(record.Background)}[s.N%3]
	case "watch":
		o.Do, o.N = "wait", int64(s.N%15)
	case "wait":
		o.N = hostPatience.Milliseconds()
	}
	return o
}

// verb does one on a job, alone.
func (m *model) verb(s step) {
	j := m.pick(s.Job)
	if j == nil {
		return
	}
	o := verbOrder(s, j)
	if s.Do == "wait" {
		m.waits = append(m.waits, pendingWait{j.id, m.host.send(o)})
		return
	}
	m.effect(j, o, m.must(o), true)
}

// effect takes the answer to a verb. One that was not alone, or that nobody
// knows the answer of, may have come before or after others.
func (m *model) effect(j *modelJob, o hostOrder, a hostAnswer, certain bool) {
	switch c := code(a); {
	case c == "":
	case c == record.WrongState, c == "too_long" && o.Do == "wait":
		if o.Do == "forget" && j.ended != nil && j.pinned.is("false") {
			m.fail("job %d cannot be forgotten: %v", j.ended.Number, a.Err)
		}
		return
	case !certain && (c == record.NotFound || c == "unknown" || c == record.RecoveringCode || c == record.StateUnwritable || c == record.Draining):
		// A restart was under way.
	case certain && c == record.NotFound && m.pruned(j):
		return
	default:
		m.fail("%s of job %s: %v (%s)", o.Do, j.id, a.Err, c)
	}
	m.assume(j, o, certain && code(a) == "")
	if o.Do == "forget" && a.Err == nil {
		m.forgotten(j, a)
		return
	}
	if a.Job != nil && a.Err == nil && certain {
		m.verify(j, *a.Job)
	}
}

// pruned finds out whether the record of a job is gone, which it may be: a
// supervisor prunes beside all else after its start.
func (m *model) pruned(j *modelJob) bool {
	m.history()
	return j.gone
}

func (v maybe) is(value string) bool { return len(v) == 1 && v[0] == value }

// assume notes what a verb does.
func (m *model) assume(j *modelJob, o hostOrder, certain bool) {
	switch o.Do {
	case "cancel":
		j.cancel, j.acked = true, j.acked || certain
	case "pause":
		j.reasons[o.Text].be("true", certain)
	case "resume": // an administrator takes all away, the owner its own
		j.reasons[record.PauseUser].be("false", certain)
		if o.Text == record.PauseAdmin {
			j.reasons[record.PauseAdmin].be("false", certain)
		}
	case "limit":
		j.limit.be(strconv.FormatInt(o.N, 10), certain)
	case "priority":
		j.priority.be(o.Text, certain)
	case "label":
		j.label.be(o.Text, certain)
	case "pin":
		j.pinned.be(strconv.FormatBool(o.On), certain)
	}
}

// forgotten notes that a job was forgotten: one that may have destroyed leaves
// a trace.
func (m *model) forgotten(j *modelJob, a hostAnswer) {
	m.forgot = m.forgot || m.age < 10
	if j.ended == nil {
		// It had ended a moment before.
		j.gone, j.trace = a.Job == nil, a.Job != nil
		if a.Job != nil {
			j.ended = a.Job
		}
		return
	}
	if j.pinned.is("true") {
		m.fail("job %d is forgotten though pinned", j.ended.Number)
	}
	want := j.wish.Destroys && (j.ended.Helper != nil || j.trace)
	if (a.Job != nil) != want {
		m.fail("job %d is forgotten with the trace %v; it destroys: %v, its helper was %v", j.ended.Number, a.Job, j.wish.Destroys, j.ended.Helper)
	}
	if want {
		j.trace, j.ended = true, a.Job
		j.limit, j.label, j.pinned = maybe{"0"}, maybe{""}, maybe{"false"}
	} else {
		j.gone = true
	}
}

// limits gives what may run from now on.
func (s step) limits() record.Limits {
	rate := func(n int) *int64 { return rateOf([]int64{0, 10_000, 999}[n%3]) }
	l := record.Limits{Running: s.N % 6, RunningPool: s.N / 6 % 4, Rate: rate(s.Job), Queued: []int{0, 0, 12}[s.Job/3%3]}
	if s.On {
		l.PoolRates = map[string]int64{"p": 2500}
		l.PoolRunning = map[string]int{"q": 1 + s.Job%3}
		l.RunningDevice, l.DeviceRunning = s.N%4, map[string]int{"8:16": 1 + s.N%2}
		l.DeviceRates = map[string]int64{"8:16": 1500}
	}
	return l
}

// setLimits changes what may run.
func (m *model) setLimits(s step) {
	m.limits = s.limits()
	m.must(hostOrder{Do: "limits", Limits: &m.limits})
}

// strike sends a signal to a helper, as the kernel or a person does.
func (m *model) strike(s step) {
	all := census(filepath.Join(m.dir, "census"))
	names := slices.Sorted(maps.Keys(all))
	if len(names) == 0 {
		return
	}
	r := all[names[s.N%len(names)]]
	m.hit(r, map[bool]syscall.Signal{false: syscall.SIGTERM, true: syscall.SIGKILL}[s.On])
}

// hit signals a process that is surely one of ours.
func (m *model) hit(r resident, sig syscall.Signal) {
	for _, j := range append(slices.Clone(m.jobs), m.pending...) {
		if j.id == r.job || j.id == "" {
			j.struck, j.undone = j.struck || !r.note.Settles, j.undone || r.note.Settles
		}
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", r.pid))
	if err == nil && bytes.Contains(env, []byte(ipc.EnvRuntime+"="+m.dir)) {
		syscall.Kill(r.pid, sig)
	}
}

// burst lets several clients ask at once, while what is done.
func (m *model) burst(s step, what func()) {
	type pair struct {
		j      *modelJob
		o      hostOrder
		answer <-chan hostAnswer
	}
	var asked []pair
	for _, b := range s.Burst {
		var j *modelJob
		var o hostOrder
		if b.Do == "submit" {
			j = m.ask(b)
			o = j.order(m.dir)
			m.pending = append(m.pending, j)
		} else if j = m.pick(b.Job); j == nil {
			continue
		} else {
			o = verbOrder(b, j)
			j.cancel = j.cancel || b.Do == "cancel" // its end may be seen before its answer
		}
		asked = append(asked, pair{j, o, m.host.send(o)})
	}
	what()
	winners := map[string]string{}
	for _, p := range asked {
		a, ok := <-p.answer
		switch {
		case p.o.Do != "submit":
			if ok {
				m.effect(p.j, p.o, a, false)
			} else {
				m.assume(p.j, p.o, false)
			}
		case ok && a.Err == nil:
			m.won(p.j, a, winners)
		case ok && s.Do == "burst" && a.Err.Code != record.KeyReused:
			m.accepted(p.j, a)
		}
	}
	m.reconcile()
}

// won takes the acknowledgement of one of several requests at once: those
// under one key give one job.
func (m *model) won(j *modelJob, a hostAnswer, winners map[string]string) {
	if key := j.wish.Key; key != "" {
		if old, ok := winners[key]; ok && old != a.Job.ID {
			m.fail("requests under key %s give jobs %s and %s", key, old, a.Job.ID)
		}
		winners[key] = a.Job.ID
		if known := m.holder(key); known != nil && (known.id != a.Job.ID || known.digest() != j.digest()) {
			m.fail("a request under key %s gives job %s, before it gave %s", key, a.Job.ID, known.id)
		}
	}
	if a.Job.Owner.Command == j.nonce {
		m.accept(j, *a.Job)
	}
}

// reconcile looks what became of requests without an answer, and of orders
// whose turn is not known.
func (m *model) reconcile() {
	all := m.must(hostOrder{Do: "jobs"}).Jobs
	for _, r := range all {
		i := slices.IndexFunc(m.pending, func(j *modelJob) bool { return j.nonce == r.Owner.Command })
		if i >= 0 && m.pending[i].id == "" {
			m.accept(m.pending[i], r)
		}
	}
	m.pending = nil
	m.compare(all)
	for _, r := range all {
		m.collapse(m.find(r.ID), r)
	}
}

func (m *model) find(id string) *modelJob {
	i := slices.IndexFunc(m.jobs, func(j *modelJob) bool { return j.id == id })
	if i < 0 {
		m.fail("there is a job %s that nobody asked for", id)
	}
	return m.jobs[i]
}

// collapse takes over what has become of things that could be several.
func (m *model) collapse(j *modelJob, r record.Job) {
	if r.Forgotten {
		return
	}
	j.limit, j.priority = maybe{limitOf(r)}, maybe{string(r.Priority)}
	j.label, j.pinned = maybe{r.Labels["l"]}, maybe{strconv.FormatBool(r.Pinned)}
	if heeds(r) {
		for reason, v := range j.reasons {
			*v = maybe{strconv.FormatBool(slices.Contains(r.PauseReasons, reason))}
		}
	}
}

func limitOf(r record.Job) string {
	if r.Limit == nil {
		return "0"
	}
	return strconv.FormatInt(*r.Limit, 10)
}

// heeds says that reasons to pause mean something for the job.
func heeds(r record.Job) bool {
	return slices.Contains([]record.State{record.Queued, record.Starting, record.Running, record.Paused}, r.State)
}

// history compares all jobs there are with those that were acknowledged.
func (m *model) history() { m.compare(m.must(hostOrder{Do: "jobs"}).Jobs) }

func (m *model) compare(all []record.Job) {
	there := map[string]bool{}
	for i, r := range all {
		there[r.ID] = true
		if i > 0 && all[i-1].Number <= r.Number {
			m.fail("job %d is listed after %d", r.Number, all[i-1].Number)
		}
		m.verify(m.find(r.ID), r)
	}
	for _, j := range m.jobs {
		if there[j.id] || j.gone {
			continue
		}
		if j.ended == nil && !m.mayBePruned(j, all) {
			m.fail("job %s was acknowledged and is not there", j.id)
		}
		if j.ended != nil && !m.mayBePruned(j, all) {
			m.fail("job %d (%s) was removed and should not have been", j.ended.Number, j.ended.State)
		}
		j.gone = true
	}
}

// mayBePruned says that the record of a job may have been removed for its age:
// as many of its class as are kept are newer, those that are gone themselves
// among them.
func (m *model) mayBePruned(j *modelJob, all []record.Job) bool {
	if j.wish.Key != "" || j.pinned.is("true") || j.wish.Destroys {
		return false
	}
	newer := 0
	for _, o := range m.jobs[slices.Index(m.jobs, j)+1:] {
		if !o.wish.Destroys {
			newer++
		}
	}
	return newer >= hostRetention.Routine.Count
}

// prune lets the history be pruned, and holds that what is one too many goes, and
// nothing else. Who ends meanwhile may count or not.
func (m *model) prune() {
	before := m.must(hostOrder{Do: "jobs"}).Jobs
	m.compare(before)
	m.must(hostOrder{Do: "prune"})
	left := map[string]record.Job{}
	after := m.must(hostOrder{Do: "jobs"}).Jobs
	for _, r := range after {
		left[r.ID] = r
	}
	least, most := map[*Keep]int{}, map[*Keep]int{}
	for _, r := range before { // newest first
		j := m.find(r.ID)
		now, stays := left[r.ID]
		switch {
		case !r.State.Terminal():
			if !stays || now.State.Terminal() {
				for _, k := range []*Keep{&hostRetention.Ordinary, &hostRetention.Failed, &hostRetention.Routine} {
					most[k]++
				}
			}
		case !r.Pinned:
			k := j.kept(r.State)
			least[k], most[k] = least[k]+1, most[k]+1
			due := j.wish.Key == "" && k.Count > 0
			if stays && due && least[k] > k.Count || !stays && !m.forgot && (!due || most[k] <= k.Count) {
				m.fail("job %d (%s, key %q) is left: %v; %d to %d of its kind are as new, %d are kept", r.Number, r.State, j.wish.Key, stays, least[k], most[k], k.Count)
			}
		case !stays:
			m.fail("job %d was removed though pinned", r.Number)
		}
	}
	m.compare(after)
}

// kept is how many of the job's kind are kept.
func (j *modelJob) kept(ended record.State) *Keep {
	switch r := &hostRetention; {
	case j.wish.Destroys:
		return &r.Destructive
	case j.wish.Kind == record.PoolRefresh:
		return &r.Routine
	case ended == record.Failed:
		return &r.Failed
	default:
		return &r.Ordinary
	}
}

// verify holds a job against what is known of it.
func (m *model) verify(j *modelJob, r record.Job) {
	if r.Forgotten != j.trace {
		m.fail("job %d is forgotten: %v, should be %v", r.Number, r.Forgotten, j.trace)
	}
	w, keep := j.wish, record.RollbackOnFailure
	if w.Keep {
		keep = record.KeepOnFailure
	}
	same := r.ID == j.id && r.Kind == w.Kind && r.Class == w.Class && slices.Equal(r.Objects, w.Objects) && r.OnFailure == keep
	if j.retryOf != nil {
		same = same && r.RetryOf != nil && *r.RetryOf == *j.retryOf
	}
	if !same {
		m.fail("job %d is %+v, was asked for as %+v", r.Number, r, w)
	}
	m.verifyNotes(j, r)
	m.verifyState(j, r)
}

func (m *model) verifyState(j *modelJob, r record.Job) {
	switch {
	case r.State.Terminal() && j.ended == nil:
		m.verifyEnd(j, r)
	case r.State.Terminal() && !sameEnd(*j.ended, r), !r.State.Terminal() && j.ended != nil:
		m.fail("job %d had ended as %+v and is %+v", r.Number, *j.ended, r)
	}
}

func (m *model) verifyNotes(j *modelJob, r record.Job) {
	expect := func(what, is string, may maybe) {
		if !slices.Contains(may, is) {
			m.fail("%s of job %d (%s) is %q, should be %q", what, r.Number, r.State, is, may)
		}
	}
	expect("priority", string(r.Priority), j.priority)
	if !r.Forgotten {
		expect("limit", limitOf(r), j.limit)
		expect("label", r.Labels["l"], j.label)
		expect("pin", strconv.FormatBool(r.Pinned), j.pinned)
	}
	if heeds(r) && !j.cancel {
		for reason, may := range j.reasons {
			expect("reason "+reason, strconv.FormatBool(slices.Contains(r.PauseReasons, reason)), *may)
		}
	}
}

// sameEnd says that nothing of an ended job has changed but what is written on
// it.
func sameEnd(was, is record.Job) bool {
	was.Labels, was.Pinned = is.Labels, is.Pinned
	a, err1 := json.Marshal(was)
	b, err2 := json.Marshal(is)
	return err1 == nil && err2 == nil && bytes.Equal(a, b)
}

// verifyEnd holds that a job has ended as it could.
func (m *model) verifyEnd(j *modelJob, r record.Job) {
	j.ended = &r
	is := fmt.Sprintf("%s/%s", r.State, r.Rollback)
	may := j.outcomes(r)
	if j.adopted && m.unbegun(j) {
		j.settled(may, "failed")
	}
	if !may[is] {
		m.fail("job %d ended %s (%v, warnings %q), could have ended %v; asked for as %+v, canceled %v, struck %v, adopted %v",
			r.Number, is, r.Error, r.Warnings, slices.Sorted(maps.Keys(may)), j.wish, j.cancel, j.struck, j.adopted)
	}
	if r.Ended == nil || r.Ended.Before(r.Created) || r.Started != nil && r.Ended.Before(*r.Started) {
		m.fail("job %d was created %v, started %v, ended %v", r.Number, r.Created, r.Started, r.Ended)
	}
	if r.CanceledBy != nil && !j.cancel && !j.struck {
		m.fail("job %d was canceled by nobody, and says %+v", r.Number, *r.CanceledBy)
	}
	if r.State == record.Canceled && r.Error != nil && r.Error.Code != record.CanceledCode {
		m.fail("job %d was canceled, and says %+v", r.Number, r.Error)
	}
	if (r.Error == nil) != (r.State == record.Succeeded) || r.Cancelable || len(r.WaitingOn) > 0 {
		m.fail("job %d has ended as %+v", r.Number, r)
	}
	if p := r.Progress.Percent; r.State == record.Succeeded && (p == nil || *p != 100) || r.State != record.Succeeded && p != nil && *p > 99.9 {
		m.fail("job %d ended %s at %v %%", r.Number, r.State, *p)
	}
	key := is
	if r.Error != nil {
		key += "/" + string(r.Error.Code)
	}
	m.sum.ends[key]++
}

// unbegun says that a helper of the job never heard GO: whoever killed the
// supervisor between the record of GO and the frame did that.
func (m *model) unbegun(j *modelJob) bool {
	for _, list := range []string{"census", "dead"} {
		paths, err := filepath.Glob(filepath.Join(m.dir, list, j.id+".*"))
		if err != nil {
			panic(err)
		}
		for _, path := range paths {
			var n note
			b, err := os.ReadFile(path)
			if err == nil && json.Unmarshal(b, &n) == nil && !n.Go && !n.Settles && !n.Child {
				return true
			}
		}
	}
	return false
}

// restart stops the supervisor and starts another, perhaps with other limits.
func (m *model) restart(s step) {
	m.sum.restarts++
	m.orphan()
	m.must(hostOrder{Do: "restart"})
	m.relimit(s)
	m.must(hostOrder{Do: "limits", Limits: &m.limits})
	m.drain, m.forgot, m.age = false, false, 0
	m.collect(true)
}

// relimit is for limits that were changed while there was no supervisor.
func (m *model) relimit(s step) {
	if s.Job%2 == 0 {
		m.limits = s.limits()
	}
}

// kill kills the host, while others ask, and starts another.
func (m *model) kill(s step) {
	m.sum.kills++
	m.burst(s, func() {
		if s.On { // let it come to work on what was asked
			m.host.send(hostOrder{Do: "let", N: int64(s.N % 4)})
		}
		m.orphan()
		m.host.kill()
		if s.N%3 == 0 {
			m.strike(s)
		}
		m.collect(true)
		m.relimit(s)
		m.boot()
	})
}

// orphan notes which jobs outlive a supervisor.
func (m *model) orphan() {
	for _, j := range append(slices.Clone(m.jobs), m.pending...) {
		j.adopted = j.adopted || j.ended == nil
	}
}

// collect takes the answers of those that wait. Each has the end of its job,
// unless the supervisor stopped.
func (m *model) collect(stopped bool) {
	m.waits = slices.DeleteFunc(m.waits, func(w pendingWait) bool {
		var a hostAnswer
		var ok bool
		if stopped {
			a, ok = <-w.answer
		} else {
			select {
			case a, ok = <-w.answer:
			default:
				return false
			}
		}
		m.waited(w, a, ok)
		return true
	})
}

func (m *model) waited(w pendingWait, a hostAnswer, ok bool) {
	j := m.find(w.id)
	switch c := code(a); {
	case !ok, c == record.Draining, c == record.RecoveringCode, c == "too_long", c == "unknown", j.gone && c == record.NotFound:
	case c != "" || !a.Job.State.Terminal():
		if !j.adopted { // else it was asked between two supervisors
			m.fail("a wait for job %s gives %v %v", w.id, a.Job, a.Err)
		}
	case !j.gone && !j.trace:
		m.verifyState(j, *a.Job) // what is written on it may have changed since
	}
}

// finish brings all jobs to their end: those that would end by themselves by
// themselves.
func (m *model) finish() {
	m.limits = record.Limits{}
	m.must(hostOrder{Do: "limits", Limits: &m.limits})
	m.must(hostOrder{Do: "drain"})
	late := time.Now().Add(hostPatience)
	for round := 0; ; round++ {
		alive := m.push(round)
		if len(alive) == 0 {
			break
		}
		if time.Now().After(late) {
			m.fail("jobs do not end: %s", strings.Join(alive, "; "))
		}
		m.must(hostOrder{Do: "let", N: 4})
		m.must(hostOrder{Do: "audit"})
	}
	m.history()
	m.collect(true)
	for _, j := range m.jobs {
		if !j.gone && j.ended == nil {
			m.fail("job %s has no end", j.id)
		}
	}
	m.must(hostOrder{Do: "stop"})
	if err := m.host.end(); err != nil {
		m.fail("the host: %v", err)
	}
	m.over = true
	m.swept()
}

// push helps those to their end that live and need help, and gives all that
// live. A job of which a cancel was acknowledged needs none, unless its helper
// has said that it is done and takes its time to go.
func (m *model) push(round int) (alive []string) {
	for _, r := range m.must(hostOrder{Do: "jobs"}).Jobs {
		if r.State.Terminal() {
			continue
		}
		j := m.find(r.ID)
		alive = append(alive, fmt.Sprintf("job %d is %s, cancel acknowledged: %v, asked for as %+v", r.Number, r.State, j.acked, j.wish))
		if len(r.PauseReasons) > 0 {
			o := hostOrder{Do: "resume", ID: j.id, Text: record.PauseAdmin}
			m.effect(j, o, m.must(o), true)
		}
		if !j.endless() || j.acked && j.wish.Role.End != "linger" {
			continue
		}
		o := hostOrder{Do: "cancel", ID: j.id, On: round > 3 || r.State == record.Finalizing}
		m.effect(j, o, m.must(o), true)
	}
	return alive
}

// swept holds that nothing is left but the records and what belongs to them.
func (m *model) swept() {
	if pids := processesOf(filepath.Join(m.dir, "run")); len(pids) > 0 {
		m.fail("processes are left: %v", pids)
	}
	if left := jobDirs(filepath.Join(m.dir, "run", "jobs")); len(left) > 0 {
		m.fail("runtime directories are left: %v", left)
	}
	for _, id := range jobDirs(filepath.Join(m.dir, "state", "jobs")) {
		if j := m.find(id); j.gone || j.trace {
			m.fail("files of the forgotten job %s are left", id)
		}
	}
	for _, list := range []string{"census", "dead"} {
		entries, err := os.ReadDir(filepath.Join(m.dir, list))
		if err != nil {
			m.fail("%v", err)
		}
		m.sum.helpers += len(entries)
	}
}
