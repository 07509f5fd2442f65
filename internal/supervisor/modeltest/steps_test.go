//go:build !lean

package modeltest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/supervisor"
)

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
	request request
	retryOf *int64

	limit, priority, label, pinned maybe
	reasons                        map[string]*maybe

	cancel   bool // was asked for, or may have been
	acked    bool // that was acknowledged: it needs no other cancel
	signaled bool // its helper may have got a signal from the model
	undone   bool // the one that settles it may have
	adopted  bool // it lived when a supervisor ended
	ended    *record.Job
	gone     bool // forgotten or pruned, without a trace
	trace    bool // forgotten, with one
}

type pendingWait struct {
	id     string
	answer <-chan answer
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
	case "proceed", "replay", "settle":
		m.must(order{Do: s.Do, N: int64(s.N % 8)})
	case "history":
		m.history()
	case "limits":
		m.setLimits(s)
	case "drain":
		m.drain = s.On
		m.must(order{Do: "drain", On: s.On})
	case "signal":
		m.signal(s)
	default:
		m.verb(s)
	}
	m.must(order{Do: "checks"})
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
		j.request = *s.Req
	default:
		old := m.pick(s.Job)
		if old == nil {
			return nil
		}
		j.request = old.request
		if s.Do == "retry" {
			if old.ended == nil {
				return nil
			}
			j.retryOf, j.request.Key = &old.ended.Number, ""
		}
	}
	j.limit.be(strconv.FormatInt(j.request.Limit, 10), true)
	j.priority.be(string(j.request.Priority), true)
	j.label.be("", true)
	j.pinned.be("false", true)
	for _, r := range []string{record.PauseUser, record.PauseAdmin} {
		j.reasons[r] = &maybe{"false"}
	}
	return j
}

// digest stands for the request.
func (j *modelJob) digest() string {
	b, err := json.Marshal(j.request)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (j *modelJob) order(dir string) order {
	w := j.request
	w.Behavior.Alive = filepath.Join(dir, "alive")
	req := &orderRequest{Request: supervisor.Request{
		Kind: w.Kind, Class: w.Class, Objects: w.Objects, Argv: w.Behavior.argv(), Priority: w.Priority, Limit: rateOf(w.Limit),
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
		u.Alive = w.Behavior.Alive
		req.UndoArgv = u.argv()
	}
	if w.Wait >= -1 {
		d := time.Duration(w.Wait) * time.Millisecond
		req.LockWait = &d
	}
	return order{Do: "submit", Req: req}
}

// holder is the job that has a key, nil when none has it.
func (m *model) holder(key string) *modelJob {
	if j := m.keys[key]; key != "" && j != nil && !j.gone {
		return j
	}
	return nil
}

// submitted takes the answer to one request that was alone.
func (m *model) submitted(j *modelJob, a answer) {
	switch known := m.holder(j.request.Key); {
	case known != nil && known.digest() == j.digest():
		if a.Err != nil || a.Job.ID != known.id {
			m.fail("a request under key %s gives %v %v, before it gave job %s", j.request.Key, a.Job, a.Err, known.id)
		}
		m.verify(known, *a.Job)
	case known != nil:
		if code(a) != record.KeyReused {
			m.fail("another request under key %s gives %v %v", j.request.Key, a.Job, a.Err)
		}
	default:
		m.accepted(j, a)
	}
}

// accepted takes the answer to a request that is new, and holds that a refusal
// is one with a reason.
func (m *model) accepted(j *modelJob, a answer) {
	if a.Err == nil {
		m.accept(j, *a.Job)
		return
	}
	ok := false
	switch a.Err.Code {
	case record.Busy:
		ok = j.request.Wait == 0 && len(a.Err.Holders) > 0
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
	if j.request.Key != "" {
		m.keys[j.request.Key] = j
	}
	m.verify(j, r)
}

// verbOrder makes the order of a verb on a job.
func verbOrder(s step, j *modelJob) order {
	o := order{Do: s.Do, ID: j.id}
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
		o.N = patience.Milliseconds()
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
		m.waits = append(m.waits, pendingWait{j.id, m.daemon.send(o)})
		return
	}
	m.effect(j, o, m.must(o), true)
}

// effect takes the answer to a verb. One that was not alone, or that nobody
// knows the answer of, may have come before or after others.
func (m *model) effect(j *modelJob, o order, a answer, certain bool) {
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
func (m *model) assume(j *modelJob, o order, certain bool) {
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
func (m *model) forgotten(j *modelJob, a answer) {
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
	want := j.request.Destroys && (j.ended.Helper != nil || j.trace)
	if (a.Job != nil) != want {
		m.fail("job %d is forgotten with the trace %v; it destroys: %v, its helper was %v", j.ended.Number, a.Job, j.request.Destroys, j.ended.Helper)
	}
	if want {
		j.trace, j.ended = true, a.Job
		j.limit, j.label, j.pinned = maybe{"0"}, maybe{""}, maybe{"false"}
	} else {
		j.gone = true
	}
}

// setLimits changes what may run.
func (m *model) setLimits(s step) {
	m.limits = s.limits()
	m.must(order{Do: "limits", Limits: &m.limits})
}

// signal sends a signal to a helper, as the kernel or a person does.
func (m *model) signal(s step) {
	all := alive(filepath.Join(m.dir, "alive"))
	names := slices.Sorted(maps.Keys(all))
	if len(names) == 0 {
		return
	}
	r := all[names[s.N%len(names)]]
	m.hit(r, map[bool]syscall.Signal{false: syscall.SIGTERM, true: syscall.SIGKILL}[s.On])
}

// hit signals a process that is surely one of ours.
func (m *model) hit(r liveHelper, sig syscall.Signal) {
	for _, j := range append(slices.Clone(m.jobs), m.pending...) {
		if j.id == r.job || j.id == "" {
			j.signaled, j.undone = j.signaled || !r.note.Settles, j.undone || r.note.Settles
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
		o      order
		answer <-chan answer
	}
	var asked []pair
	for _, b := range s.Burst {
		var j *modelJob
		var o order
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
		asked = append(asked, pair{j, o, m.daemon.send(o)})
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
func (m *model) won(j *modelJob, a answer, winners map[string]string) {
	if key := j.request.Key; key != "" {
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
	all := m.must(order{Do: "jobs"}).Jobs
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

// history compares all jobs there are with those that were acknowledged.
func (m *model) history() { m.compare(m.must(order{Do: "jobs"}).Jobs) }

// restart stops the supervisor and starts another, perhaps with other limits.
func (m *model) restart(s step) {
	m.sum.restarts++
	m.orphan()
	m.must(order{Do: "restart"})
	m.relimit(s)
	m.must(order{Do: "limits", Limits: &m.limits})
	m.drain, m.forgot, m.age = false, false, 0
	m.collect(true)
}

// relimit is for limits that were changed while there was no supervisor.
func (m *model) relimit(s step) {
	if s.Job%2 == 0 {
		m.limits = s.limits()
	}
}

// kill kills the daemon, while others ask, and starts another.
func (m *model) kill(s step) {
	m.sum.kills++
	m.burst(s, func() {
		if s.On { // let it come to work on what was asked
			m.daemon.send(order{Do: "proceed", N: int64(s.N % 4)})
		}
		m.orphan()
		m.daemon.kill()
		if s.N%3 == 0 {
			m.signal(s)
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
		var a answer
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

func (m *model) waited(w pendingWait, a answer, ok bool) {
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
