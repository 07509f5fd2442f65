package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"storaged/internal/events"
	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/helpertest"
	"storaged/internal/supervisor/process"
)

// attempts are how often a job of these tests goes on by itself.
const attempts = 2

// patience bounds every wait of a test: it is reached only by a failure.
const patience = 2 * time.Minute

var (
	uid1000 = record.Owner{UID: 1000, User: "alice", PID: 1, Command: "test", Via: "rest"}
	root    = record.Owner{UID: 0, User: "root", PID: 1, Command: "test", Via: "rest"}
)

// testTimes are short where a test waits for them to pass, and generous where
// only a failure would reach them: the host may be slow.
func testTimes() Times {
	t := DefaultTimes()
	t.Progress = time.Millisecond
	t.Tick = 20 * time.Millisecond
	t.KillAgain = 20 * time.Millisecond
	t.LockPollUp = 50 * time.Millisecond
	t.RetrySave = 20 * time.Millisecond
	return t
}

// rig is a supervisor on a store and directories of its own.
type rig struct {
	t       testing.TB
	dir     string
	store   *store.Store
	hub     *events.Hub
	catalog *testCatalog
	sup     *Supervisor
	cfg     Config
	logged  *helpertest.Buffer
}

// newRig starts a supervisor; change may alter its times first. When the test
// is over, whatever still runs is killed and the invariants are checked.
func newRig(t *testing.T, change ...func(*Times)) *rig {
	t.Helper()
	r := stillRig(t, t.TempDir(), change...)
	r.start()
	return r
}

// stillRig makes the rig without starting it.
func stillRig(t testing.TB, dir string, change ...func(*Times)) *rig {
	t.Helper()
	r, finish := bareRig(t, dir, change...)
	t.Cleanup(finish)
	return r
}

// bareRig leaves the finish to its caller.
func bareRig(t testing.TB, dir string, change ...func(*Times)) (_ *rig, finish func()) {
	t.Helper()
	noise := goleak.IgnoreCurrent()
	tt := testTimes()
	for _, c := range change {
		c(&tt)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, catalog: newTestCatalog(), logged: &helpertest.Buffer{}, hub: events.New(100_000)}
	r.cfg = Config{
		RuntimeDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Helper: self,
		Log:   hclog.New(&hclog.LoggerOptions{Output: r.logged, Level: hclog.Debug}),
		Times: tt, Attempts: attempts,
	}
	for _, d := range []string{r.cfg.RuntimeDir, r.cfg.StateDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.store, err = store.Open(filepath.Join(r.cfg.StateDir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	r.sup = New(r.cfg, r.store, r.catalog, r.hub)
	return r, func() { r.finish(noise) }
}

func (r *rig) start() {
	r.t.Helper()
	if err := r.sup.Start(r.ctx()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.t.Cleanup(cancel)
	return ctx
}

// again stops the supervisor, leaves the helpers, and starts another one on
// the same store.
func (r *rig) again() {
	r.t.Helper()
	if err := r.sup.Stop(r.ctx()); err != nil {
		r.t.Fatal(err)
	}
	r.sup = New(r.cfg, r.store, r.catalog, r.hub)
	r.start()
}

// request is a job on one volume.
func request(argv []string, objects ...record.Object) Request {
	if len(objects) == 0 {
		objects = []record.Object{{Pool: "p", Volume: "v", Mode: record.ModeWrite}}
	}
	return Request{Kind: record.VolumeWipe, Class: record.Async, Objects: objects, Argv: argv, UndoArgv: fakeHelper("undo"), Owner: uid1000}
}

func (r *rig) submit(req Request) record.Job {
	r.t.Helper()
	j, err := r.sup.Submit(r.ctx(), req)
	if err != nil {
		r.t.Fatal(err)
	}
	return j
}

// ended waits for the end of a job and checks its state.
func (r *rig) ended(id string, want record.State) record.Job {
	r.t.Helper()
	j, err := r.sup.Wait(r.ctx(), id)
	if err != nil {
		r.t.Fatalf("job %d is %s: %v\n%s", j.Number, j.State, err, r.logged)
	}
	if j.State != want {
		r.t.Fatalf("job %d ended %s (%+v, warnings %q), want %s\n%s", j.Number, j.State, j.Error, j.Warnings, want, r.logged)
	}
	return j
}

// until waits for a job to be as ok says, looking at each event.
func (r *rig) until(id string, ok func(record.Job) bool) record.Job {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream := r.hub.Subscribe(ctx, 0)
	var j record.Job
	for {
		var err error
		if j, err = r.sup.Job(id); err != nil {
			r.t.Fatal(err)
		}
		if ok(j) {
			return j
		}
		if _, open := <-stream; !open {
			r.t.Fatalf("job %d stays %s (%+v)\n%s", j.Number, j.State, j.Error, r.logged)
		}
	}
}

func (r *rig) untilState(id string, want record.State) record.Job {
	r.t.Helper()
	return r.until(id, func(j record.Job) bool { return j.State == want })
}

// working waits until the helper reports progress.
func (r *rig) working(id string) record.Job {
	r.t.Helper()
	return r.until(id, func(j record.Job) bool { return j.State == record.Running && j.Progress.Done > 0 })
}

func (r *rig) jobDir(id string) ipc.JobDir { return r.sup.launcher.dir(id) }

// finish kills what is left and checks what must hold after every test.
func (r *rig) finish(noise goleak.Option) {
	for _, j := range r.sup.Live() {
		if _, err := r.sup.Cancel(j.ID, uid1000, true); err != nil && record.CodeOf(err) != record.WrongState {
			r.t.Errorf("cannot end job %d: %v", j.Number, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, j := range r.sup.Live() {
		if _, err := r.sup.Wait(ctx, j.ID); err != nil {
			r.t.Errorf("job %d does not end: %v\n%s", j.Number, err, r.logged)
		}
	}
	if err := r.sup.Stop(ctx); err != nil {
		r.t.Error(err)
	}
	r.checkProcesses()
	r.checkDirs()
	r.checkStore()
	if err := r.store.Close(); err != nil {
		r.t.Error(err)
	}
	r.hub.Close()
	if err := goleak.Find(noise); err != nil {
		r.t.Error(err)
	}
	if r.t.Failed() {
		r.t.Logf("log:\n%s", r.logged)
	}
}

// checkProcesses looks for any process of any job of ours.
func (r *rig) checkProcesses() {
	for _, pid := range helpertest.Processes(r.cfg.RuntimeDir) {
		r.t.Errorf("process %d is left", pid)
	}
}

// checkDirs looks for FIFOs, locks and cgroups: no runtime directory of a job
// may be left, and no cgroup.
func (r *rig) checkDirs() {
	for _, id := range jobDirs(r.sup.launcher.runtime) {
		r.t.Errorf("runtime directory of %s is left", id)
	}
	groups := process.FindCgroups()
	defer groups.Close()
	for _, j := range r.all() {
		if groups.Find(j.ID) != "" {
			r.t.Errorf("cgroup of job %d is left", j.Number)
		}
	}
}

func (r *rig) all() (out []*store.Job) {
	err := r.store.View(func(tx *store.Tx) error {
		return tx.JobsBefore(0, func(_ *store.JobHead, load func() (*store.Job, error)) (bool, error) {
			j, err := load()
			out = append(out, j)
			return true, err
		})
	})
	if err != nil {
		r.t.Error(err)
	}
	return out
}

// checkStore holds that each job has one terminal state, told to the catalog
// once, and that the catalog heard of no end without a grant before it.
func (r *rig) checkStore() {
	for _, j := range r.all() {
		if !j.State.Terminal() {
			r.t.Errorf("job %d is %s in the store", j.Number, j.State)
		}
		if j.Ended == nil {
			r.t.Errorf("job %d has no end", j.Number)
		}
		r.catalog.check(r.t, j)
	}
}

// testCatalog counts what it is told, when it has become durable.
type testCatalog struct {
	mu      sync.Mutex
	granted map[string]int
	ended   map[string]int
	refuse  *record.Error
	fails   int           // calls that fail as on a full disk, from now on
	notYet  bool          // grants are refused for a while
	failed  chan struct{} // told of each such grant, if somebody listens
	broken  error         // of every end, as of one that no catalog can take
	report  map[string]*ipc.Report
	items   map[string][]ipc.Item
}

func newTestCatalog() *testCatalog {
	return &testCatalog{granted: map[string]int{}, ended: map[string]int{}, report: map[string]*ipc.Report{}, items: map[string][]ipc.Item{}}
}

func (k *testCatalog) Granted(tx *store.Tx, j *store.Job) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse != nil {
		return k.refuse
	}
	if k.notYet {
		return fmt.Errorf("%w: pool p is away", ErrNotYet)
	}
	if k.fails > 0 {
		k.fails--
		select {
		case k.failed <- struct{}{}:
		default:
		}
		return fmt.Errorf("%w: disk is full", store.ErrUnwritable)
	}
	id := j.ID
	tx.OnCommit(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.granted[id]++
	})
	return nil
}

func (k *testCatalog) Ended(tx *store.Tx, j *store.Job, report *ipc.Report) error {
	if !j.State.Terminal() {
		return errors.New("told of the end of a live job")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.broken != nil {
		return k.broken
	}
	if k.fails > 0 {
		k.fails--
		return fmt.Errorf("%w: disk is full", store.ErrUnwritable)
	}
	id := j.ID
	tx.OnCommit(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.ended[id]++
		k.report[id] = report
	})
	return nil
}

func (k *testCatalog) Advanced(tx *store.Tx, j *store.Job, items []ipc.Item) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fails > 0 {
		k.fails--
		return fmt.Errorf("%w: disk is full", store.ErrUnwritable)
	}
	id := j.ID
	tx.OnCommit(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.items[id] = append(k.items[id], items...)
	})
	return nil
}

func (k *testCatalog) check(t testing.TB, j *store.Job) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended[j.ID] != 1 {
		t.Errorf("the catalog was told %d times of the end of job %d", k.ended[j.ID], j.Number)
	}
}

// gate lets a fake helper pass, by a FIFO.
type gate struct {
	t    *testing.T
	path string
}

func newGate(t *testing.T) gate {
	t.Helper()
	g := gate{t, filepath.Join(t.TempDir(), "gate")}
	if err := unix.Mkfifo(g.path, 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

// open waits for the helper to come to the gate, lets it pass, and waits until it has:
// one that is slow to leave the gate would pass it again, in place of the next helper.
func (g gate) open() {
	g.t.Helper()
	done := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(g.path, os.O_WRONLY, 0)
		if err == nil {
			err = errors.Join(left(f), f.Close())
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			g.t.Fatal(err)
		}
	case <-time.After(patience):
		g.t.Fatal("no helper comes to the gate")
	}
}

// left waits until nobody has the reading end of a FIFO.
func left(fifo *os.File) error {
	for {
		ends := []unix.PollFd{{Fd: int32(fifo.Fd())}} // the kernel tells of POLLERR without being asked
		n, err := unix.Poll(ends, int(patience/time.Millisecond))
		switch {
		case errors.Is(err, unix.EINTR):
		case err == nil && n == 0:
			return errors.New("a helper stays at the gate")
		default:
			return err
		}
	}
}

// A gate that is opened twice lets two helpers pass, also where the first is slow to go.
func TestGateLetsOneHelperPassForEachOpening(t *testing.T) {
	g := newGate(t)
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		g.open()
	}()
	slow, err := os.OpenFile(g.path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-opened:
		t.Error("it is open again while the first helper is in it")
	case <-time.After(50 * time.Millisecond):
	}
	if err := slow.Close(); err != nil {
		t.Fatal(err)
	}
	<-opened
}
