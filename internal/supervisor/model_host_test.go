package supervisor

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
	"storaged/internal/record"
	"storaged/internal/store"
)

// The model speaks to a supervisor in a process of its own, the host, so that
// it can be killed at any instruction. Orders are lines of JSON, carried out at
// once, each by a goroutine of its own; answers come in any order.

// envHost makes the test binary a host on the directory it names.
const envHost = "STORAGED_TEST_HOST"

// hostOrder is one line to the host.
type hostOrder struct {
	Seq    int
	Do     string
	ID     string         `json:",omitempty"`
	Text   string         `json:",omitempty"`
	On     bool           `json:",omitempty"`
	N      int64          `json:",omitempty"`
	Req    *hostRequest   `json:",omitempty"`
	Limits *record.Limits `json:",omitempty"`
}

// hostRequest is a Request without what cannot be written down.
type hostRequest struct {
	Request
	Also, Known, Data *int `json:",omitempty"` // hide functions and a file
}

// hostAnswer is one line from it.
type hostAnswer struct {
	Seq    int
	Job    *record.Job   `json:",omitempty"`
	Jobs   []record.Job  `json:",omitempty"`
	Err    *record.Error `json:",omitempty"`
	Faults []string      `json:",omitempty"` // what must not be
}

// refused marks a request that the host's Keeper refuses at the grant.
const refused = "refused"

// hostKeeper is a Keeper that refuses some.
type hostKeeper struct{ *testKeeper }

func (k hostKeeper) Granted(tx *store.Tx, j *store.Job) error {
	if string(j.Params) == refused {
		return record.Errorf(record.Exists, "the catalogue refuses")
	}
	return k.testKeeper.Granted(tx, j)
}

// host is the supervisor's side.
type host struct {
	dir    string
	cfg    Config
	keeper hostKeeper
	hub    *events.Hub
	store  *store.Store
	sup    atomic.Pointer[Supervisor]
	noise  goleak.Option
	fds    int
	audit  *auditor
	ledger *ledger

	mu  sync.Mutex // of out
	out *bufio.Writer
}

// hostPatience bounds each wait of a host: several crews keep a machine busy that
// others may use too.
const hostPatience = 4 * patience

// hostTimes are short where the test is to wait them out, and long where only a
// part that never ends would reach them: the machine may be slow.
func hostTimes() times {
	t := testTimes()
	t.cancelAck, t.groupTerm = 200*time.Millisecond, 100*time.Millisecond
	t.lockWait = 100 * time.Millisecond
	t.ageing = 30 * time.Millisecond
	t.hello, t.linger, t.silence = 2*hostPatience, 2*hostPatience, 2*hostPatience
	t.tick, t.progress = 50*time.Millisecond, 5*time.Millisecond // what the model sees of either is enough
	t.killAgain = 100 * time.Millisecond                         // each kill looks at all processes there are
	return t
}

var hostRetention = Retention{
	Ordinary: Keep{Count: 12}, Failed: Keep{Count: 8}, Routine: Keep{Count: 3}, Destructive: Keep{Age: 400 * 24 * time.Hour},
}

// hostDevices are where the pools lie.
var hostDevices = map[string][]string{"p": {"8:0"}, "q": {"8:0", "8:16"}}

func newHost(dir, helper string) *host {
	tt := hostTimes()
	h := &host{dir: dir, keeper: hostKeeper{newTestKeeper()}, out: bufio.NewWriter(os.Stdout)}
	h.cfg = Config{
		RuntimeDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Helper: helper, Retention: hostRetention,
		Log: hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Debug}), times: &tt,
	}
	h.noise, h.fds = goleak.IgnoreCurrent(), openFiles()
	h.open()
	h.hub = events.New(100_000)
	h.ledger = newLedger(h.hub)
	h.audit = newAuditor(h)
	return h
}

func (h *host) open() {
	var err error
	h.store, err = store.Open(filepath.Join(h.cfg.StateDir, "db"))
	check(err)
}

// openFiles counts the open descriptors of this process, those of the poller
// among them.
func openFiles() int {
	r, w, err := os.Pipe()
	check(err)
	r.Close()
	w.Close()
	entries, err := os.ReadDir("/proc/self/fd")
	check(err)
	return len(entries)
}

func runHost() {
	dir := os.Getenv(envHost)
	os.Unsetenv(envHost) // helpers are no hosts
	orders := make(chan hostOrder)
	go func() { // before the leaks are counted: it waits in read until the end
		lines := bufio.NewScanner(os.Stdin)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var o hostOrder
			check(json.Unmarshal(lines.Bytes(), &o))
			orders <- o
		}
		os.Exit(4) // the test has died
	}()
	o := <-orders
	h := newHost(dir, o.Text)
	h.start()
	h.reply(hostAnswer{Seq: o.Seq})
	var all sync.WaitGroup
	for o := range orders {
		if o.Do == "stop" {
			all.Wait()
			h.reply(hostAnswer{Seq: o.Seq, Faults: h.stop()})
			os.Exit(0)
		}
		all.Go(func() {
			a := h.do(o)
			a.Seq = o.Seq
			h.reply(a)
		})
	}
}

func (h *host) start() {
	s := New(h.cfg, h.store, h.keeper, h.hub)
	for pool, devices := range hostDevices {
		s.SetDevices(pool, devices...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), hostPatience)
	defer cancel()
	check(s.Start(ctx))
	h.sup.Store(s)
}

func (h *host) reply(a hostAnswer) {
	b, err := json.Marshal(a)
	check(err)
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err = fmt.Fprintf(h.out, "%s\n", b)
	check(err)
	check(h.out.Flush())
}

func (h *host) do(o hostOrder) (a hostAnswer) {
	s := h.sup.Load()
	switch o.Do {
	case "restart":
		a.Faults = h.restart()
	case "audit":
		a.Faults = h.audit.check(s)
	case "settle":
		a.Faults = h.audit.settled(s)
	case "replay":
		a.Faults = h.ledger.replay(int(o.N))
	case "let":
		h.ledger.let(int(o.N))
	case "limits":
		h.audit.limit(*o.Limits)
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

func verbOf(s *Supervisor, o hostOrder) (j *record.Job, all []record.Job, err error) {
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
		_, err = s.prune()
		return nil, nil, err
	case "job":
		one, err = s.Job(o.ID)
	case "jobs":
		all, _, err = s.Jobs(Query{})
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
func (h *host) restart() []string {
	faults := h.quit()
	h.open()
	h.audit.forget()
	h.ledger.forget()
	waited := h.queued()
	h.start()
	return append(faults, h.audit.queueOrder(h.sup.Load(), waited)...)
}

// queued gives those that wait in the record, for no resume. One that was about to start comes
// to wait again later, when it is known that it had not begun.
func (h *host) queued() map[string]bool {
	waited := map[string]bool{}
	check(h.store.View(func(tx *store.Tx) error {
		live, err := tx.LiveJobs()
		for _, j := range live {
			waited[j.ID] = j.State == record.Queued && len(j.PauseReasons) == 0
		}
		return err
	}))
	return waited
}

// quit stops the supervisor and looks at what it has told.
func (h *host) quit() []string {
	s := h.sup.Load()
	ctx, cancel := context.WithTimeout(context.Background(), hostPatience)
	defer cancel()
	check(s.Stop(ctx))
	faults := h.ledger.complete(s)
	check(h.store.Close())
	return faults
}

// stop is quit for good: what a host needs to run must be gone.
func (h *host) stop() []string {
	faults := h.quit()
	h.hub.Close()
	h.ledger.wait()
	if err := goleak.Find(h.noise); err != nil {
		faults = append(faults, err.Error())
	}
	if n := openFiles(); n > h.fds {
		faults = append(faults, fmt.Sprintf("%d files are open, %d were before", n, h.fds))
	}
	return faults
}

// programs are the test binary without what only this side of the model needs:
// rapid alone makes the start of a process twice as dear.
type programs struct {
	host   string // with the race detector if we have it
	helper string // always without, for its start is five times as dear
}

// hostProcess is the model's side of a host.
type hostProcess struct {
	cmd  *exec.Cmd
	in   io.Writer
	log  *lockedBuffer
	read sync.WaitGroup

	mu      sync.Mutex
	dead    bool
	seq     int
	waiting map[int]chan hostAnswer
}

// startHost gives a host that has started.
func startHost(programs programs, dir string, log *lockedBuffer) (*hostProcess, error) {
	p := &hostProcess{cmd: exec.Command(programs.host), log: log, waiting: map[int]chan hostAnswer{}}
	p.cmd.Env = append(os.Environ(), envHost+"="+dir, "GORACE=atexit_sleep_ms=0 halt_on_error=1", "GOGC=400")
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
	if _, ok := <-p.send(hostOrder{Text: programs.helper}); !ok {
		return nil, errors.New("the host does not start")
	}
	return p, nil
}

// receive hands answers on until the host ends; who waits then gets none.
func (p *hostProcess) receive(out *bufio.Reader) {
	for {
		line, err := out.ReadBytes('\n')
		var a hostAnswer
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
func (p *hostProcess) send(o hostOrder) <-chan hostAnswer {
	c := make(chan hostAnswer, 1)
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
	_, _ = fmt.Fprintf(p.in, "%s\n", b) // a dead host answers nothing
	return c
}

// kill ends the host as kill -9 does.
func (p *hostProcess) kill() {
	p.cmd.Process.Kill()
	p.end()
}

// end waits for the end of the host.
func (p *hostProcess) end() error {
	p.read.Wait() // before Wait, which closes the pipe
	return p.cmd.Wait()
}

// said gives the end of what the host logged.
func said(log *lockedBuffer) string {
	lines := strings.Split(log.String(), "\n")
	if n := len(lines); n > 400 {
		lines = lines[n-400:]
	}
	return strings.Join(lines, "\n")
}
