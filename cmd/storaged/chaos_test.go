package main_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"storaged/internal/crash"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// The gate runs a seeded part of what scripts/chaos runs.
var (
	chaosSeed   = flag.Uint64("chaos.seed", 1, "seed of all choices of the chaos tests")
	chaosPoints = flag.Int("chaos.points", 40, "crash points to die at, of all deeds together; 0: each of each")
	chaosKills  = flag.Int("chaos.kills", 12, "random kills of daemons and helpers")

	chaosCancels = flag.Int("chaos.cancels", 16, "cancels at random moments")
)

// deadlyPrograms builds the programs with the crash points in them. They have
// no race detector: what counts here is how many deaths there is time for.
var deadlyPrograms = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(bin, "chaos")
	out, err := exec.Command("go", "build", "-tags", "chaos", "-o", dir+"/", "storaged/cmd/...").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%v\n%s", err, out)
	}
	return dir, nil
})

// newDeadlyHost is a host whose programs die where they are told to.
func newDeadlyHost(t *testing.T) *host {
	t.Helper()
	programs, err := deadlyPrograms()
	if err != nil {
		t.Fatal(err)
	}
	h := unbegun(t)
	h.bin, h.env = programs, []string{"STORAGED_CRASH_DIR=" + filepath.Join(h.dir, "crash")}
	h.must(os.Mkdir(filepath.Join(h.dir, "crash"), 0o755))
	h.begin()
	return h
}

func (h *host) crashFile(name string) string { return filepath.Join(h.dir, "crash", name) }

// arm has the programs die at the points, each once.
func (h *host) arm(points []crash.Point) {
	h.t.Helper()
	for _, p := range points {
		h.must(os.WriteFile(h.crashFile(string(p)), []byte("1"), 0o600))
	}
}

// fired takes up that something died: it gives the point, "" if nothing did.
func (h *host) fired() crash.Point {
	found, _ := filepath.Glob(h.crashFile("fired-*"))
	if len(found) == 0 {
		return ""
	}
	h.must(os.Remove(found[0]))
	_, name, _ := strings.Cut(filepath.Base(found[0]), "-")
	p := crash.Point(name)
	if strings.HasPrefix(string(p), "daemon.") {
		_ = h.daemon.Wait() // says that it was killed
		h.start()
	}
	return p
}

// commit does a deed to its end, with deaths at the points on the way, checks
// what is left, and gives how many of them it met. A client that lost its
// answer asks again.
func (h *host) commit(d deed, n string, points ...crash.Point) (met int) {
	h.t.Helper()
	d.prepare(h, n)
	h.arm(points)
	s := key("key-" + n)
	st, err := d.start(h, n, s)
	h.await(fmt.Sprintf("%s: %v", d.name, points), func() bool {
		for h.fired() != "" {
			met++
			st, err = d.start(h, n, s)
		}
		if err != nil { // what died may have been a helper that only looked
			st, err = d.start(h, n, s)
		}
		if err != nil || met < len(points) && ofDaemon(points) {
			return met == len(points) && err == nil // the daemon passes all of its points, the last after the end
		}
		j, werr := h.client.WaitJob(h.ctx(), st.Job.ID, time.Millisecond)
		return werr == nil && j.State.Terminal()
	})
	gone := h.disarm(points)
	h.await("to see what has died", func() bool { // the job may have ended in the same moment
		for h.fired() != "" {
			met++
		}
		return met >= gone
	})
	j := h.end(d.start(h, n, s))
	d.check(h, n, j)
	h.tidy(j)
	return met
}

func ofDaemon(points []crash.Point) bool {
	return slices.ContainsFunc(points, func(p crash.Point) bool { return strings.HasPrefix(string(p), "daemon.") })
}

// disarm lets the programs live on, and gives at how many of the points something
// has died, or does so now.
func (h *host) disarm(points []crash.Point) (gone int) {
	h.t.Helper()
	for _, p := range points {
		switch err := os.Remove(h.crashFile(string(p))); {
		case os.IsNotExist(err):
			gone++
		case err != nil:
			h.t.Fatal(err)
		}
	}
	return gone
}

// tidy checks that an ended job left nothing that runs, holds or is half done.
func (h *host) tidy(j record.Job) {
	h.t.Helper()
	for _, o := range j.Objects {
		if blockers := h.blockers(o); len(blockers) > 0 {
			h.fault(j, "%s is held: %s", o, shown(blockers))
		}
	}
	for _, pattern := range []string{filepath.Join(h.dir, "run/jobs", j.ID), h.pool + "*/." + j.ID + ".storaged"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			h.fault(j, "left behind: %v", left)
		}
	}
	for _, pid := range h.processes() {
		if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err == nil && strings.Contains(string(env), j.ID) {
			h.fault(j, "process %d is left", pid)
		}
	}
}

// blockers asks who would be in the way of a delete of the volume.
func (h *host) blockers(o record.Object) []record.Blocker {
	if o.Volume == "" {
		return nil // the checks start and stop it
	}
	st, err := h.remove(o.Pool+"/"+o.Volume, dryRun)
	if err != nil || st.Plan == nil {
		return nil // it is gone
	}
	return st.Plan.WaitingOn
}

// record gives the points that a deed passes, in order, each once.
func (h *host) record(d deed, n string, dying ...crash.Point) (points []crash.Point) {
	h.t.Helper()
	h.must(os.WriteFile(h.crashFile("record"), nil, 0o600))
	d.prepare(h, n)
	h.must(os.Truncate(h.crashFile("record"), 0))
	prepare := d.prepare
	d.prepare = nothing
	h.commit(d, n, dying...)
	d.prepare = prepare
	b := must(os.ReadFile(h.crashFile("record")))(h.t)
	h.must(os.Remove(h.crashFile("record")))
	for line := range strings.Lines(string(b)) {
		if p := crash.Point(strings.TrimSpace(line)); !slices.Contains(points, p) {
			points = append(points, p)
		}
	}
	return points
}

// death is a deed and the points to die at.
type death struct {
	deed   deed
	points []crash.Point
}

// deaths finds out at which points each deed can die: those that it passes, and
// those that its settling passes after the helper died first.
func (h *host) deaths() (all []death) {
	for i, d := range deeds() {
		plain := h.record(d, fmt.Sprintf("%d-plain", i))
		for _, p := range plain {
			all = append(all, death{d, []crash.Point{p}})
		}
		for _, p := range h.record(d, fmt.Sprintf("%d-settled", i), crash.Resumed) {
			if !slices.Contains(plain, p) {
				all = append(all, death{d, []crash.Point{crash.Resumed, p}})
			}
		}
	}
	return all
}

// TestEveryCrashPointIsRecoveredFrom dies at every named instant of every kind
// of job, or in the gate at a part of them that has each instant.
func TestEveryCrashPointIsRecoveredFrom(t *testing.T) {
	t.Parallel()
	h := newDeadlyHost(t)
	all := h.deaths()
	for _, p := range crash.Points() {
		if !slices.ContainsFunc(all, func(d death) bool { return slices.Contains(d.points, p) }) {
			t.Errorf("no kind of job passes %s", p)
		}
	}
	chosen, met := sample(all, *chaosPoints), map[crash.Point]int{}
	missed := 0
	for i, d := range chosen {
		if h.commit(d.deed, fmt.Sprintf("%d-%d", i, len(all)), d.points...) == len(d.points) {
			met[d.last()]++
		} else {
			missed++
		}
		if t.Failed() {
			t.Fatalf("%s died at %v (seed %d)", d.deed.name, d.points, *chaosSeed)
		}
	}
	for _, d := range chosen {
		if met[d.last()] == 0 && !fickle(d.last()) {
			t.Errorf("nothing ever died at %s", d.last())
		}
	}
	t.Logf("died at %d of %d instants there are, %d were not passed this time (seed %d)", len(chosen)-missed, len(all), missed, *chaosSeed)
	if missed > len(chosen)/5 {
		t.Errorf("%d of %d instants were not met", missed, len(chosen))
	}
}

// last is the point that the death is about.
func (d death) last() crash.Point { return d.points[len(d.points)-1] }

// fickle are the points that a run passes or not, by the time that it takes:
// after a BEAT and after a line of the log.
func fickle(p crash.Point) bool { return p == crash.Sent(5) || p == crash.Sent(9) }

// sample takes n of the deaths by the seed, each point at least once; all of
// them where n is 0.
func sample(all []death, n int) []death {
	if n == 0 {
		return all
	}
	rng := rand.New(rand.NewPCG(*chaosSeed, 0))
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	seen := map[crash.Point]bool{}
	var chosen, rest []death
	for _, d := range all {
		if seen[d.last()] {
			rest = append(rest, d)
			continue
		}
		seen[d.last()] = true
		chosen = append(chosen, d)
	}
	return append(chosen, rest[:min(len(rest), max(0, n-len(chosen)))]...)
}

// work is a deed under way.
type workload struct {
	deed deed
	n    string
	st   started
}

// A host is used for so many kills or cancels, then comes another: thousands of
// pools from earlier jobs would only make it slow.
const (
	killsPerHost   = 50
	cancelsPerHost = 100
)

// TestKillsAtRandomMomentsLoseNothing kills the daemon, helpers, or both, again
// and again, while jobs of all kinds run. Every accepted job keeps its number
// and ends once, and what it left is what it says.
func TestKillsAtRandomMomentsLoseNothing(t *testing.T) {
	t.Parallel()
	for i, left := 0, *chaosKills; left > 0; i, left = i+1, left-killsPerHost {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			h := newDeadlyHost(t)
			t.Cleanup(h.dropFrozen)
			h.suffer(rand.New(rand.NewPCG(*chaosSeed, uint64(i))), min(left, killsPerHost))
		})
	}
}

// suffer survives so many kills.
func (h *host) suffer(rng *rand.Rand, kills int) {
	var under []workload
	count, jobs, ofDaemon := 0, 0, 0
	for kill := range kills {
		for len(under) < 6 {
			under = append(under, h.undertake(rng, count, allDeeds()))
			count++
		}
		pause := time.NewTimer(time.Duration(rng.IntN(150)) * time.Millisecond) // the moment is the point
		<-pause.C
		if h.strike(rng) {
			ofDaemon++
		}
		under = h.settle(under, &jobs)
		if h.t.Failed() {
			h.t.Fatalf("after kill %d (seed %d)", kill, *chaosSeed)
		}
	}
	for _, w := range under {
		w.deed.check(h, w.n, h.end(w.st, nil))
		jobs++
	}
	h.t.Logf("%d kills, %d of them of the daemon, %d jobs (seed %d)", kills, ofDaemon, jobs, *chaosSeed)
}

// undertake starts one of the deeds.
func (h *host) undertake(rng *rand.Rand, count int, all []deed) workload {
	w := workload{deed: all[rng.IntN(len(all))], n: fmt.Sprintf("r%d", count)}
	w.deed.prepare(h, w.n)
	var err error
	if w.st, err = w.deed.start(h, w.n, key("key-"+w.n)); err != nil {
		h.t.Fatal(err)
	}
	return w
}

// strike kills the daemon, a helper, or both, and starts the daemon again. It
// tells whether the daemon was killed.
func (h *host) strike(rng *rand.Rand) (daemon bool) {
	what := rng.IntN(4)
	if helpers := h.processes(); what < 2 && len(helpers) > 0 {
		victim, err := os.FindProcess(helpers[rng.IntN(len(helpers))])
		if err == nil {
			_ = victim.Kill() // it may have ended just now
		}
	}
	if what > 0 {
		h.kill()
		h.start()
	}
	return what > 0
}

// settle looks at every job that is under way, and checks those that have ended.
func (h *host) settle(under []workload, jobs *int) []workload {
	return slices.DeleteFunc(under, func(w workload) bool {
		j, err := h.client.Job(h.ctx(), w.st.Job.ID)
		if err != nil || j.Number != w.st.Job.Number {
			h.t.Errorf("job %d was accepted and is %s (%v)", w.st.Job.Number, outcome(j), err)
			return true
		}
		if !j.State.Terminal() {
			return false
		}
		*jobs++
		w.deed.check(h, w.n, j)
		h.tidy(j)
		return true
	})
}

// TestCancelsAtRandomMomentsKeepTheirPromise cancels jobs of every kind at any
// moment. How long each took from the cancel to the end is told, not judged.
func TestCancelsAtRandomMomentsKeepTheirPromise(t *testing.T) {
	t.Parallel()
	ends, took := map[record.State]int{}, []time.Duration{}
	for i, left := 0, *chaosCancels; left > 0; i, left = i+1, left-cancelsPerHost {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			h, rng := newDeadlyHost(t), rand.New(rand.NewPCG(*chaosSeed, uint64(i)))
			t.Cleanup(h.dropFrozen)
			for n := range min(left, cancelsPerHost) {
				state, after := h.thinkBetter(rng, fmt.Sprintf("c%d", n))
				ends[state]++
				if state == record.Canceled {
					took = append(took, after)
				}
				if t.Failed() {
					t.Fatalf("at cancel %d (seed %d)", n, *chaosSeed)
				}
			}
		})
	}
	slices.Sort(took)
	t.Logf("%d jobs: %v (seed %d)", *chaosCancels, ends, *chaosSeed)
	if len(took) == 0 {
		t.Fatal("nothing was ever canceled")
	}
	t.Logf("from cancel to end: median %v, 99 %% %v, worst %v", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}

// thinkBetter starts a job of any kind and cancels it at any moment. It gives
// the job's end, and how long after the cancel that was.
func (h *host) thinkBetter(rng *rand.Rand, n string) (record.State, time.Duration) {
	all := allDeeds()
	d := all[rng.IntN(len(all))]
	d.prepare(h, n)
	st := h.began(d.start(h, n))
	pause := time.NewTimer(time.Duration(rng.IntN(250)) * time.Millisecond) // the moment is the point
	<-pause.C
	asked := time.Now()
	h.cancelUnlessEnded(st)
	j := h.end(st, nil)
	after := time.Since(asked)
	d.check(h, n, j)
	h.tidy(j)
	return j.State, after
}

// TestSixtyFourHelpersSurviveTheDaemon kills the daemon over as many copies as
// may run at once, with a long history. Each goes on in the same process and
// copies no byte twice. How long the start took is told, not judged.
func TestSixtyFourHelpersSurviveTheDaemon(t *testing.T) {
	t.Parallel()
	const history = 10_000
	h := newDeadlyHost(t)
	h.stop()
	h.fill(history, time.Hour)
	h.start()
	h.patchLimits(contract.LimitsPatch{Running: ptr(64), RunningPool: ptr(64), RunningDevice: ptr(64)})
	h.put("src")
	pids, jobs := map[string]int{}, []started{}
	for i := range 64 {
		st := h.began(h.clone("src", fmt.Sprintf("copy%d", i), noReflink, limited(deedBytes/128)))
		jobs = append(jobs, st)
	}
	for _, st := range jobs {
		pids[st.Job.ID] = h.running(st).Helper.PID
	}
	h.kill()
	begun := time.Now()
	h.start()
	t.Logf("ready %v after the start, with %d jobs of history and %d helpers", time.Since(begun).Round(time.Millisecond), history, len(jobs))
	for _, st := range jobs {
		j := must(h.client.PatchJob(h.ctx(), st.Job.ID, contract.JobPatch{Limit: []byte("null")}))(t)
		if j.Helper == nil || j.Helper.PID != pids[j.ID] {
			t.Errorf("the helper of job %d was %d, is %s", j.Number, pids[j.ID], shown(j.Helper))
		}
	}
	for i, st := range jobs {
		j := h.succeed(st, nil)
		if j.Stats == nil || j.Stats.BytesWritten == nil || *j.Stats.BytesWritten != deedBytes {
			t.Errorf("job %d wrote %s, of %d bytes", j.Number, shown(j.Stats), deedBytes)
		}
		if file, v := h.stored(j, fmt.Sprintf("copy%d", i)); !ready(v) || !slices.Equal(file, content("src", deedBytes)) {
			h.fault(j, "its copy is %s", shown(v))
		}
	}
}
