//go:build !lean

package modeltest

import (
	"flag"
	"fmt"
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

	"storaged/internal/record"
	"storaged/internal/supervisor/helpertest"
)

const (
	// modelSteps are executed at least, in modelRuns runs, which is what rapid
	// does by default. A step waits more than it works, so several
	// groups of clients do a part of the runs each, all at once.
	modelSteps    = 10_000
	modelRuns     = 100
	modelParallel = 5
)

// TestModel is the model; see the package's documentation.
func TestModel(t *testing.T) {
	setFlag(t, "rapid.nofailfile", "true") // the seed tells as much
	setFlag(t, "rapid.checks", strconv.Itoa(modelRuns/modelParallel))
	programs := buildPrograms(t)
	sums := make([]tally, modelParallel)
	var groups sync.WaitGroup
	for i := range sums {
		groups.Go(func() {
			t.Run(fmt.Sprint(i), func(t *testing.T) { runModel(t, programs, &sums[i]) })
		})
	}
	groups.Wait()
	var sum tally
	for _, s := range sums {
		sum.add(s)
	}
	t.Log(sum)
}

// runModel is a part of the runs.
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
	if least := modelSteps / modelParallel; flag.Lookup("rapid.checks").Value.String() == strconv.Itoa(modelRuns/modelParallel) && sum.steps < least {
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
	return programs{build("daemon", "-race"), helper}
}

// model is the clients, and what they know.
type model struct {
	t        *testing.T
	rt       *rapid.T
	sum      *tally
	dir      string
	programs programs
	daemon   *daemonProcess
	log      *helpertest.Buffer
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

func newModel(t *testing.T, rt *rapid.T, programs programs, sum *tally) *model {
	base := "/dev/shm" // a file system in memory, where there is one: what is killed here is no daemon
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "model")
	if err != nil {
		t.Fatal(err)
	}
	m := &model{t: t, rt: rt, sum: sum, dir: dir, programs: programs, log: &helpertest.Buffer{}, keys: map[string]*modelJob{}}
	for _, d := range []string{"run", "state", "alive", "dead"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m.boot()
	return m
}

func (m *model) boot() {
	var err error
	if m.daemon, err = startDaemon(m.programs, m.dir, m.log); err != nil {
		m.fail("%v", err)
	}
	m.must(order{Do: "limits", Limits: &m.limits})
	m.drain, m.forgot, m.age = false, false, 0
}

// abandon ends what a failure has left.
func (m *model) abandon() {
	if !m.over {
		m.daemon.kill()
		for range 100 { // each round meets those who were forked meanwhile
			pids := helpertest.Processes(filepath.Join(m.dir, "run"))
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
	m.t.Logf("the last steps:\n%s\nthe daemon's log:\n%s", strings.Join(m.steps[max(0, len(m.steps)-40):], "\n"), said(m.log))
	m.t.Logf(format, args...)
	m.rt.Fatalf(format, args...)
}

// must gives the answer to an order; a dead daemon is a failure.
func (m *model) must(o order) answer {
	late := time.NewTimer(2 * patience) // a daemon has patience itself
	defer late.Stop()
	var a answer
	var ok bool
	select {
	case a, ok = <-m.daemon.send(o):
	case <-late.C:
		m.fail("the daemon does not answer %s", o.Do)
	}
	if !ok {
		m.fail("the daemon died of %s", o.Do)
	}
	if len(a.Faults) > 0 {
		m.fail("after %s:\n%s", o.Do, strings.Join(a.Faults, "\n"))
	}
	return a
}

func code(a answer) record.Code {
	if a.Err == nil {
		return ""
	}
	return a.Err.Code
}

// finish brings all jobs to their end: those that would end by themselves by
// themselves.
func (m *model) finish() {
	m.limits = record.Limits{}
	m.must(order{Do: "limits", Limits: &m.limits})
	m.must(order{Do: "drain"})
	late := time.Now().Add(patience)
	for round := 0; ; round++ {
		alive := m.push(round)
		if len(alive) == 0 {
			break
		}
		if time.Now().After(late) {
			m.fail("jobs do not end: %s", strings.Join(alive, "; "))
		}
		m.must(order{Do: "proceed", N: 4})
		m.must(order{Do: "checks"})
	}
	m.history()
	m.collect(true)
	for _, j := range m.jobs {
		if !j.gone && j.ended == nil {
			m.fail("job %s has no end", j.id)
		}
	}
	m.must(order{Do: "stop"})
	if err := m.daemon.end(); err != nil {
		m.fail("the daemon: %v", err)
	}
	m.over = true
	m.nothingRemains()
}

// push helps those to their end that live and need help, and gives all that
// live. A job of which a cancel was acknowledged needs none, unless its helper
// has said that it is done and takes its time to go.
func (m *model) push(round int) (alive []string) {
	for _, r := range m.must(order{Do: "jobs"}).Jobs {
		if r.State.Terminal() {
			continue
		}
		j := m.find(r.ID)
		alive = append(alive, fmt.Sprintf("job %d is %s, cancel acknowledged: %v, asked for as %+v", r.Number, r.State, j.acked, j.request))
		if len(r.PauseReasons) > 0 {
			o := order{Do: "resume", ID: j.id, Text: record.PauseAdmin}
			m.effect(j, o, m.must(o), true)
		}
		if !j.endless() || j.acked && j.request.Behavior.End != "linger" {
			continue
		}
		o := order{Do: "cancel", ID: j.id, On: round > 3 || r.State == record.Finalizing}
		m.effect(j, o, m.must(o), true)
	}
	return alive
}

// nothingRemains holds that nothing is left but the records and what belongs to them.
func (m *model) nothingRemains() {
	if pids := helpertest.Processes(filepath.Join(m.dir, "run")); len(pids) > 0 {
		m.fail("processes are left: %v", pids)
	}
	if left := jobsIn(filepath.Join(m.dir, "run", "jobs")); len(left) > 0 {
		m.fail("runtime directories are left: %v", left)
	}
	for _, id := range jobsIn(filepath.Join(m.dir, "state", "jobs")) {
		if j := m.find(id); j.gone || j.trace {
			m.fail("files of the forgotten job %s are left", id)
		}
	}
	for _, list := range []string{"alive", "dead"} {
		entries, err := os.ReadDir(filepath.Join(m.dir, list))
		if err != nil {
			m.fail("%v", err)
		}
		m.sum.helpers += len(entries)
	}
}

// jobsIn lists the directories of jobs in another.
func jobsIn(dir string) (ids []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids
}
