package modeltest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"storaged/internal/events"
	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor"
	"storaged/internal/supervisor/helpertest"
)

// The model speaks to a supervisor in a process of its own, the daemon, so that
// it can be killed at any instruction. Orders are lines of JSON, carried out at
// once, each by a goroutine of its own; answers come in any order.

// envDaemon makes the test binary a daemon on the directory it names.
const envDaemon = "STORAGED_TEST_DAEMON"

// order is one line to the daemon.
type order struct {
	Seq    int
	Do     string
	ID     string         `json:",omitempty"`
	Text   string         `json:",omitempty"`
	On     bool           `json:",omitempty"`
	N      int64          `json:",omitempty"`
	Req    *orderRequest  `json:",omitempty"`
	Limits *record.Limits `json:",omitempty"`
}

// Who asks.
var (
	uid1000 = record.Owner{UID: 1000, User: "alice", PID: 1, Command: "test", Via: "rest"}
	root    = record.Owner{UID: 0, User: "root", PID: 1, Command: "test", Via: "rest"}
)

// orderRequest is a Request without what cannot be written down.
type orderRequest struct {
	supervisor.Request
	Also, Known, Data *int `json:",omitempty"` // hide functions and a file
}

// answer is one line from it.
type answer struct {
	Seq    int
	Job    *record.Job   `json:",omitempty"`
	Jobs   []record.Job  `json:",omitempty"`
	Err    *record.Error `json:",omitempty"`
	Faults []string      `json:",omitempty"` // what must not be
}

// refused marks a request that the daemon's catalog refuses at the grant.
const refused = "refused"

// catalog is one that refuses some, and holds that it hears of ends only.
type catalog struct{}

func (catalog) Granted(_ *store.Tx, j *store.Job) error {
	if string(j.Params) == refused {
		return record.Errorf(record.Exists, "the catalog refuses")
	}
	return nil
}

func (catalog) Advanced(*store.Tx, *store.Job, []ipc.Item) error { return nil }

func (catalog) Ended(_ *store.Tx, j *store.Job, _ *ipc.Report) error {
	if !j.State.Terminal() {
		return errors.New("told of the end of a live job")
	}
	return nil
}

// daemon is the supervisor's side.
type daemon struct {
	dir      string
	cfg      supervisor.Config
	hub      *events.Hub
	store    *store.Store
	sup      atomic.Pointer[supervisor.Supervisor]
	noise    goleak.Option
	fds      int
	checks   *checker
	eventLog *eventLog

	mu  sync.Mutex // of out
	out *bufio.Writer
}

// patience bounds each wait of a daemon: several groups of clients keep a machine busy that
// others may use too.
const patience = 2 * time.Minute

// daemonTimes are short where the test is to wait them out, and long where only a
// part that never ends would reach them: the machine may be slow.
func daemonTimes() supervisor.Times {
	t := supervisor.DefaultTimes()
	t.LockPollUp, t.RetrySave = 50*time.Millisecond, 20*time.Millisecond
	t.CancelAck, t.GroupTerm = 200*time.Millisecond, 100*time.Millisecond
	t.LockWait = 100 * time.Millisecond
	t.Ageing = 30 * time.Millisecond
	t.Hello, t.Linger, t.Silence = 2*patience, 2*patience, 2*patience
	t.Tick, t.Progress = 50*time.Millisecond, 5*time.Millisecond // what the model sees of either is enough
	t.KillAgain = 100 * time.Millisecond                         // each kill looks at all processes there are
	return t
}

var retention = supervisor.Retention{
	Ordinary: supervisor.Keep{Count: 12}, Failed: supervisor.Keep{Count: 8}, Routine: supervisor.Keep{Count: 3}, Destructive: supervisor.Keep{Age: 400 * 24 * time.Hour},
}

// devicesOf are where the pools lie.
var devicesOf = map[string][]string{"p": {"8:0"}, "q": {"8:0", "8:16"}}

func newDaemon(dir, helper string) *daemon {
	tt := daemonTimes()
	d := &daemon{dir: dir, out: bufio.NewWriter(os.Stdout)}
	d.cfg = supervisor.Config{
		RuntimeDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Helper: helper, Retention: retention,
		Log: hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Debug}), Times: tt,
	}
	d.noise, d.fds = goleak.IgnoreCurrent(), openFiles()
	d.open()
	d.hub = events.New(100_000)
	d.eventLog = newEventLog(d.hub)
	d.checks = newChecker(d)
	return d
}

func (d *daemon) open() {
	var err error
	d.store, err = store.Open(filepath.Join(d.cfg.StateDir, "db"))
	helpertest.Check(err)
}

// openFiles counts the open descriptors of this process, those of the poller
// among them.
func openFiles() int {
	r, w, err := os.Pipe()
	helpertest.Check(err)
	r.Close()
	w.Close()
	entries, err := os.ReadDir("/proc/self/fd")
	helpertest.Check(err)
	return len(entries)
}

func runDaemon() {
	dir := os.Getenv(envDaemon)
	os.Unsetenv(envDaemon) // helpers are no daemons
	orders := make(chan order)
	go func() { // before the leaks are counted: it waits in read until the end
		lines := bufio.NewScanner(os.Stdin)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var o order
			helpertest.Check(json.Unmarshal(lines.Bytes(), &o))
			orders <- o
		}
		os.Exit(4) // the test has died
	}()
	o := <-orders
	d := newDaemon(dir, o.Text)
	d.start()
	d.reply(answer{Seq: o.Seq})
	var all sync.WaitGroup
	for o := range orders {
		if o.Do == "stop" {
			all.Wait()
			d.reply(answer{Seq: o.Seq, Faults: d.stop()})
			os.Exit(0)
		}
		all.Go(func() {
			a := d.do(o)
			a.Seq = o.Seq
			d.reply(a)
		})
	}
}

func (d *daemon) start() {
	s := supervisor.New(d.cfg, d.store, catalog{}, d.hub)
	for pool, devices := range devicesOf {
		s.SetDevices(pool, devices...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	helpertest.Check(s.Start(ctx))
	d.sup.Store(s)
}

func (d *daemon) reply(a answer) {
	b, err := json.Marshal(a)
	helpertest.Check(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err = fmt.Fprintf(d.out, "%s\n", b)
	helpertest.Check(err)
	helpertest.Check(d.out.Flush())
}

func (d *daemon) do(o order) (a answer) {
	s := d.sup.Load()
	switch o.Do {
	case "restart":
		a.Faults = d.restart()
	case "checks":
		a.Faults = d.checks.check(s)
	case "settle":
		a.Faults = d.checks.settled(s)
	case "replay":
		a.Faults = d.eventLog.replay(int(o.N))
	case "proceed":
		d.eventLog.proceed(int(o.N))
	case "limits":
		d.checks.limit(*o.Limits)
		s.SetLimits(*o.Limits)
	case "drain":
		s.Drain(o.On, root)
	default:
		var err error
		a.Job, a.Jobs, err = verbOf(s, o)
		a.Err = errorToTell(err)
	}
	return a
}

func verbOf(s *supervisor.Supervisor, o order) (j *record.Job, all []record.Job, err error) {
	var one record.Job
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(max(o.N, 1))*time.Millisecond)
	defer cancel()
	switch o.Do {
	case "submit":
		one, err = s.Submit(context.Background(), o.Req.Request)
	case "cancel":
		one, err = s.Cancel(o.ID, uid1000, o.On)
	case "pause":
		one, err = s.Pause(o.ID, byWhom(o.Text))
	case "resume":
		one, err = s.Resume(o.ID, byWhom(o.Text))
	case "limit":
		one, err = s.SetLimit(o.ID, rateOf(o.N), uid1000)
	case "priority":
		one, err = s.SetPriority(o.ID, record.Priority(o.Text), uid1000)
	case "pin":
		one, err = s.SetPinned(o.ID, o.On)
	case "label":
		one, err = s.SetLabels(o.ID, map[string]string{"l": o.Text})
	case "wait":
		one, err = s.Wait(ctx, o.ID)
	case "forget":
		j, err = s.Forget(o.ID)
		return j, nil, err
	case "prune":
		_, err = s.Prune()
		return nil, nil, err
	case "job":
		one, err = s.Job(o.ID)
	case "jobs":
		all, _, err = s.Jobs(supervisor.Query{})
		return nil, all, err
	default:
		err = fmt.Errorf("no such order %q", o.Do)
	}
	return &one, nil, err
}

// byWhom gives the person whose reason to pause that is.
func byWhom(reason string) record.Owner {
	if reason == record.PauseAdmin {
		return root
	}
	return uid1000
}

func rateOf(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}

// errorToTell makes any error one of the record; a wait that took too long is
// its own code.
func errorToTell(err error) *record.Error {
	var e *record.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return record.Errorf("too_long", "%v", err)
	}
	return record.Errorf("unknown", "%v", err)
}

// restart stops the supervisor as an update of the program does, and starts
// another on the same store.
func (d *daemon) restart() []string {
	faults := d.quit()
	d.open()
	d.checks.forget()
	d.eventLog.forget()
	waited := d.queued()
	d.start()
	return append(faults, d.checks.queueOrder(d.sup.Load(), waited)...)
}

// queued gives those that wait in the record, for no resume. One that was about to start comes
// to wait again later, when it is known that it had not begun.
func (d *daemon) queued() map[string]bool {
	waited := map[string]bool{}
	helpertest.Check(d.store.View(func(tx *store.Tx) error {
		live, err := tx.LiveJobs()
		for _, j := range live {
			waited[j.ID] = j.State == record.Queued && len(j.PauseReasons) == 0
		}
		return err
	}))
	return waited
}

// quit stops the supervisor and looks at what it has told.
func (d *daemon) quit() []string {
	s := d.sup.Load()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	helpertest.Check(s.Stop(ctx))
	faults := d.eventLog.complete(s)
	helpertest.Check(d.store.Close())
	return faults
}

// stop is quit for good: what a daemon needs to run must be gone.
func (d *daemon) stop() []string {
	faults := d.quit()
	d.hub.Close()
	d.eventLog.wait()
	if err := goleak.Find(d.noise); err != nil {
		faults = append(faults, err.Error())
	}
	if n := openFiles(); n > d.fds {
		faults = append(faults, fmt.Sprintf("%d files are open, %d were before", n, d.fds))
	}
	return faults
}

// programs are the test binary without what only this side of the model needs:
// rapid alone makes the start of a process twice as dear.
type programs struct {
	daemon string // with the race detector if we have it
	helper string // always without, for its start is five times as dear
}

// daemonProcess is the model's side of a daemon.
type daemonProcess struct {
	cmd  *exec.Cmd
	in   io.Writer
	log  *helpertest.Buffer
	read sync.WaitGroup

	mu      sync.Mutex
	dead    bool
	seq     int
	waiting map[int]chan answer
}

// startDaemon gives a daemon that has started.
func startDaemon(programs programs, dir string, log *helpertest.Buffer) (*daemonProcess, error) {
	p := &daemonProcess{cmd: exec.Command(programs.daemon), log: log, waiting: map[int]chan answer{}}
	p.cmd.Env = append(os.Environ(), envDaemon+"="+dir, "GORACE=atexit_sleep_ms=0 halt_on_error=1", "GOGC=400")
	p.cmd.Stderr = log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.read.Go(func() { p.receive(bufio.NewReader(out)) })
	if _, ok := <-p.send(order{Text: programs.helper}); !ok {
		return nil, errors.New("the daemon does not start")
	}
	return p, nil
}

// receive hands answers on until the daemon ends; who waits then gets none.
func (p *daemonProcess) receive(out *bufio.Reader) {
	for {
		line, err := out.ReadBytes('\n')
		var a answer
		if err == nil {
			err = json.Unmarshal(line, &a)
		}
		p.mu.Lock()
		if err != nil {
			p.dead = true
			for _, c := range p.waiting {
				close(c)
			}
			p.waiting = nil
			p.mu.Unlock()
			return
		}
		c := p.waiting[a.Seq]
		delete(p.waiting, a.Seq)
		p.mu.Unlock()
		c <- a
	}
}

// send gives the channel on which the answer comes, closed when there is none.
func (p *daemonProcess) send(o order) <-chan answer {
	c := make(chan answer, 1)
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		close(c)
		return c
	}
	p.seq++
	o.Seq = p.seq
	p.waiting[o.Seq] = c
	p.mu.Unlock()
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	_, _ = fmt.Fprintf(p.in, "%s\n", b) // a dead daemon answers nothing
	return c
}

// kill ends the daemon as kill -9 does.
func (p *daemonProcess) kill() {
	p.cmd.Process.Kill()
	p.end()
}

// end waits for the end of the daemon.
func (p *daemonProcess) end() error {
	p.read.Wait() // before Wait, which closes the pipe
	return p.cmd.Wait()
}

// said gives the end of what the daemon logged.
func said(log *helpertest.Buffer) string {
	lines := strings.Split(log.String(), "\n")
	if n := len(lines); n > 400 {
		lines = lines[n-400:]
	}
	return strings.Join(lines, "\n")
}
