package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"storaged/internal/ipc"
)

// fake is a helper as the tests need it.
type fake struct {
	dir     ipc.JobDir
	args    []string
	fifo    *os.File
	out     *ipc.Sender
	control *ipc.Control
	orders  chan ipc.Message
	signals chan os.Signal
	limit   int64
	paused  bool
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "fake helper:", err)
		os.Exit(99)
	}
}

// gate is closed when the test opens the gate whose path is argument i; without
// that argument never.
func (f *fake) gate(i int) <-chan struct{} {
	passed := make(chan struct{})
	if i >= len(f.args) {
		return passed
	}
	go func() {
		g, err := os.OpenFile(f.args[i], os.O_RDONLY, 0) // waits for the other end
		check(err)
		g.Close()
		close(passed)
	}()
	return passed
}

// connect opens the lines without saying anything.
func (f *fake) connect() {
	f.signals = make(chan os.Signal, 8)
	signal.Notify(f.signals, syscall.SIGTERM)
	var err error
	f.fifo, err = ipc.OpenFrames(f.dir.Frames())
	check(err)
	f.out = ipc.NewSender(f.fifo)
	f.control, err = ipc.JoinControl(f.dir.Control())
	check(err)
	f.orders = make(chan ipc.Message)
	go func() {
		for {
			m, err := f.control.Next()
			if err != nil {
				close(f.orders)
				return
			}
			if _, ok := m.Body.(ipc.Go); ok {
				check(f.control.Keep())
			}
			f.orders <- m.Body
		}
	}()
}

func (f *fake) say(m ipc.Message) { f.out.Send(m) }

func (f *fake) hello() {
	f.say(ipc.Hello{Proto: ipc.Proto, ProtoMin: ipc.ProtoMin, PID: os.Getpid(), Job: f.dir.Job, Version: "test"})
}

// begin connects, says HELLO and waits for GO.
func (f *fake) begin() {
	f.connect()
	f.hello()
	for m := range f.orders {
		if g, ok := m.(ipc.Go); ok {
			f.limit, f.paused = g.Limit, g.Paused
			f.state(ipc.ActivityRunning)
			if f.paused {
				f.state(ipc.ActivityPaused)
			}
			return
		}
	}
	os.Exit(0) // the daemon went away before GO
}

func (f *fake) state(a ipc.Activity) { f.say(ipc.State{Activity: a, Limit: f.limit}) }

func (f *fake) plan(total int64) {
	f.say(ipc.Plan{Phases: []ipc.PlanPhase{
		{Name: "open", Unit: "items", Total: 1, Weight: 1, Bounded: true},
		{Name: "copy", Unit: "bytes", Total: total, Weight: 98, Data: true, Bounded: true},
		{Name: "commit", Unit: "items", Total: 1, Weight: 1, Bounded: true},
	}})
	f.say(ipc.Phase{Index: 1})
}

func (f *fake) progress(done, total int64) {
	f.say(ipc.Progress{Phase: 1, Done: done, Durable: done, Total: total, Work: done, WorkAll: total, Written: done})
}

// finish saves and announces the result and exits.
func (f *fake) finish(r ipc.Summary, code int) {
	f.announce(r)
	os.Exit(code)
}

func (f *fake) announce(r ipc.Summary) {
	digest, err := ipc.SaveReport(f.dir.Result(), &ipc.Report{Summary: r})
	check(err)
	f.say(ipc.Result{Outcome: r.Outcome, Digest: digest})
}

func success() ipc.Summary {
	return ipc.Summary{Outcome: ipc.Succeeded, Rollback: "none", Method: "copy", MaxRSS: 12 << 20}
}

func undone() ipc.Summary { return ipc.Summary{Outcome: ipc.Canceled, Rollback: "done"} }

// follow obeys one order or signal; it gives false when the work is to stop.
func (f *fake) follow(m ipc.Message) bool {
	switch m := m.(type) {
	case ipc.Cancel:
		f.state(ipc.ActivityCanceling)
		return false
	case ipc.Pause:
		f.paused = true
		f.state(ipc.ActivityPaused)
	case ipc.Resume:
		f.paused = false
		f.state(ipc.ActivityRunning)
	case ipc.Limit:
		f.limit = m.Rate
		f.state(map[bool]ipc.Activity{false: ipc.ActivityRunning, true: ipc.ActivityPaused}[f.paused])
	case ipc.Resync:
		f.out.Resync()
	}
	return true
}

// work goes on until it is canceled, or until its gate is opened.
func (f *fake) work() {
	f.begin()
	const total = 1 << 40
	f.plan(total)
	f.workAt(5*time.Millisecond, total)
}

// idle is work that reports as seldom as a real helper.
func (f *fake) idle() {
	f.begin()
	const total = 1 << 40
	f.plan(total)
	f.workAt(200*time.Millisecond, total)
}

func (f *fake) workAt(pace time.Duration, total int64) {
	tick := time.NewTicker(pace)
	finish := f.gate(0)
	for done := int64(1 << 20); ; {
		select {
		case m := <-f.orders:
			if !f.follow(m) {
				f.finish(undone(), 130)
			}
		case <-f.signals:
			f.say(ipc.State{Activity: ipc.ActivityCanceling, FromAfar: true, SenderPID: 4711})
			select {
			case m := <-f.orders:
				f.follow(m)
			case <-time.After(50 * time.Millisecond):
			}
			s := undone()
			s.Error = &ipc.Error{Code: "canceled", Message: "canceled by a signal (terminated)", Offset: -1}
			f.finish(s, 130)
		case <-finish:
			f.finish(success(), 0)
		case <-tick.C:
			if !f.paused {
				f.progress(done, total)
				done += 1 << 20
			}
		}
	}
}

// short does its work at once.
func (f *fake) short() {
	f.begin()
	f.plan(1000)
	f.progress(1000, 1000)
	f.finish(success(), 0)
}

func (f *fake) hang() { select {} }

// silent connects and never says HELLO.
func (f *fake) silent() {
	f.connect()
	select {}
}

// ignoreTerm neither hears CANCEL nor minds SIGTERM.
func (f *fake) ignoreTerm() {
	f.begin()
	signal.Ignore(syscall.SIGTERM)
	f.say(ipc.Warn{Text: "deaf now"})
	select {}
}

// leaveOrphan ends well but leaves a process behind that holds lock and FIFO.
func (f *fake) leaveOrphan() {
	f.begin()
	f.startOrphan()
	f.finish(success(), 0)
}

// leaveOrphanAndWait has such a process and waits to be killed.
func (f *fake) leaveOrphanAndWait() {
	f.begin()
	f.startOrphan()
	f.say(ipc.Warn{Text: "has a child"})
	select {}
}

func (f *fake) startOrphan() { f.startPart("orphan") }

// startPart starts another part in a session of its own, which inherits the
// lock, and waits until it says that it is ready.
func (f *fake) startPart(name string, args ...string) {
	self, err := os.Executable()
	check(err)
	cmd := exec.Command(self, append([]string{actPrefix + name}, args...)...)
	cmd.Env = os.Environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = []*os.File{os.NewFile(ipc.LockFD, "lock")}
	out, err := cmd.StdoutPipe()
	check(err)
	check(cmd.Start())
	_, err = out.Read(make([]byte, 1)) // it is ready
	check(err)
}

func (f *fake) orphan() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
	_, err := ipc.OpenFrames(f.dir.Frames())
	check(err)
	fmt.Println("ready")
	select {}
}

func (f *fake) raw(b []byte) {
	_, err := f.fifo.Write(b)
	check(err)
}

func (f *fake) halfFrame() {
	f.begin()
	b, err := ipc.Encode(ipc.Frame{Seq: 9, Body: ipc.Warn{Text: "never seen whole"}}, ipc.MaxFrame)
	check(err)
	f.raw(b[:len(b)/2])
	os.Exit(3)
}

// stopped ends as a good helper does that is told to.
func (f *fake) stopped() {
	<-f.signals
	f.finish(undone(), 130)
}

func (f *fake) garbage() {
	f.begin()
	f.raw([]byte("this is no frame, and long enough for a head"))
	f.stopped()
}

// garbageLate is garbage that stops when its gate is opened.
func (f *fake) garbageLate() {
	f.begin()
	f.raw([]byte("this is no frame, and long enough for a head"))
	<-f.signals
	<-f.gate(0)
	f.finish(undone(), 130)
}

func (f *fake) hugeHeader() {
	f.begin()
	f.raw([]byte{0xa5, 'S', 'G', 'F', 0xff, 0xff, 0xff, 0xff})
	f.stopped()
}

func (f *fake) exitWithout() {
	f.begin()
	code, err := strconv.Atoi(f.args[0])
	check(err)
	os.Exit(code)
}

func (f *fake) exitOneSuccess() {
	f.begin()
	f.finish(success(), 1)
}

// flood reports far more than anybody can read.
func (f *fake) flood() {
	f.begin()
	const n = 100_000
	f.plan(n)
	for i := range int64(n) {
		f.progress(i, n)
	}
	f.finish(success(), 0)
}

func (f *fake) reportThenHang() {
	f.begin()
	signal.Ignore(syscall.SIGTERM) // before the supervisor has a reason to send one
	f.announce(success())
	select {}
}

// mute saves a result without a word: before GO, or with an argument after it.
func (f *fake) mute() {
	outcome := ipc.Outcome(f.args[0])
	if len(f.args) > 1 {
		f.begin()
	}
	_, err := ipc.SaveReport(f.dir.Result(), &ipc.Report{Summary: ipc.Summary{Outcome: outcome, Rollback: "none"}})
	check(err)
	os.Exit(0)
}

func (f *fake) wrongJob() {
	f.connect()
	f.say(ipc.Hello{Proto: ipc.Proto, ProtoMin: ipc.ProtoMin, PID: os.Getpid(), Job: "another", Version: "test"})
	select {}
}

// speaks says that it knows the protocols from argument 1 to argument 0, and
// ends well when GO names argument 2. With a gate as argument 3 it waits for
// that, says what it has heard GO name, and obeys meanwhile.
func (f *fake) speaks() {
	var n [3]int
	for i := range n {
		var err error
		n[i], err = strconv.Atoi(f.args[i])
		check(err)
	}
	f.connect()
	f.say(ipc.Hello{Proto: n[0], ProtoMin: n[1], PID: os.Getpid(), Job: f.dir.Job, Version: "other"})
	for finish := f.gate(3); ; {
		select {
		case m := <-f.orders:
			g, ok := m.(ipc.Go)
			switch {
			case !ok:
				f.follow(m)
			case g.Proto != n[2]:
				check(fmt.Errorf("GO names protocol %d", g.Proto))
			case len(f.args) == 3:
				f.finish(success(), 0)
			default:
				f.state(ipc.ActivityRunning)
			}
		case <-f.signals:
			f.finish(undone(), 130)
		case <-finish:
			f.finish(success(), 0)
		}
	}
}

func (f *fake) wrongProto() {
	f.connect()
	f.say(ipc.Hello{Proto: ipc.Proto + 7, ProtoMin: ipc.Proto + 6, PID: os.Getpid(), Job: f.dir.Job, Version: "9.9"})
	select {}
}

// negative writes a frame that the codec would refuse to make: durable is -1.
func (f *fake) negative() {
	f.begin()
	f.plan(100)
	b, err := ipc.Encode(ipc.Frame{Seq: 9, Body: ipc.Progress{Phase: 1, Durable: 1, Total: 100}}, ipc.MaxFrame)
	check(err)
	i := indexAfter(b, "durable")
	b[i] = 0xff // msgpack's -1 in the place of 1
	f.raw(b)
	f.stopped()
}

func indexAfter(b []byte, key string) int {
	for i := range b {
		if i >= len(key) && string(b[i-len(key):i]) == key {
			return i
		}
	}
	panic("key is not in the frame")
}

// fail reports a failure that it has undone.
func (f *fake) fail() {
	f.begin()
	f.finish(ipc.Summary{Outcome: ipc.Failed, Rollback: "done", Error: &ipc.Error{
		Code: "no_space", Message: "cannot write: no space left", Path: "/pool/x", Offset: 4096,
	}}, 7)
}

// undo settles a job whose helper died: there was nothing complete.
func (f *fake) undo() {
	f.begin()
	f.say(ipc.Plan{Phases: []ipc.PlanPhase{{Name: "settle", Unit: "items", Total: 1, Weight: 1, Data: true, Bounded: true}}})
	f.say(ipc.Phase{Index: 0})
	f.say(ipc.Progress{Done: 1, Durable: 1, Total: 1, Work: 1, WorkAll: 1})
	s := undone()
	s.Warnings = []string{"something of it is left"}
	s.Phases = []ipc.Spent{{Name: "settle", NS: 1}}
	f.finish(s, 130)
}

// undoUnpaused undoes when its gate is opened, and fails if it is paused.
func (f *fake) undoUnpaused() {
	f.begin()
	f.say(ipc.Warn{Text: "undoing"})
	for passed := f.gate(0); ; {
		select {
		case m := <-f.orders:
			if f.follow(m); f.paused {
				f.undoFailed()
			}
		case <-passed:
			f.finish(undone(), 130)
		}
	}
}

// undoLate passes two gates before it says HELLO.
func (f *fake) undoLate() {
	<-f.gate(0)
	<-f.gate(1)
	f.undo()
}

func (f *fake) settleCommitted() {
	f.begin()
	f.finish(success(), 0)
}

func (f *fake) undoFails() {
	f.begin()
	f.undoFailed()
}

func (f *fake) undoFailed() {
	f.finish(ipc.Summary{Outcome: ipc.Failed, Rollback: "failed", Error: &ipc.Error{Code: "io_error", Message: "cannot remove it", Offset: -1}}, 1)
}

// slowRollback acknowledges at once and takes its time, showing that it lives,
// until its gate is opened.
func (f *fake) slowRollback() {
	f.begin()
	<-f.signals
	f.state(ipc.ActivityRollingBack)
	finish, beat := f.gate(0), time.NewTicker(5*time.Millisecond)
	for {
		select {
		case <-finish:
			f.finish(undone(), 130)
		case m := <-f.orders:
			if m.Type() == ipc.TypeResync {
				f.out.Resync()
			}
		case <-beat.C:
			f.say(ipc.Beat{})
		}
	}
}

// chatty logs and writes to standard error more than is kept.
func (f *fake) chatty() {
	f.begin()
	f.say(ipc.Log{Level: "info", Text: "a line of the helper"})
	f.say(ipc.Warn{Text: "the source has holes"})
	f.say(ipc.Warn{Text: "the source has holes"})
	line := make([]byte, 1023)
	for i := range line {
		line[i] = 'x'
	}
	for range 3 * maxLog / 1024 {
		fmt.Fprintln(os.Stderr, string(line))
	}
	for look := time.NewTicker(time.Millisecond); ; <-look.C { // a file has no event for being cut
		st, err := os.Stat(f.dir.Log())
		check(err)
		if st.Size() <= maxLog {
			break
		}
	}
	fmt.Fprintln(os.Stderr, "last words")
	f.finish(success(), 0)
}

// torn leaves a result file that is cut.
func (f *fake) torn() {
	f.begin()
	_, err := ipc.SaveReport(f.dir.Result(), &ipc.Report{Summary: success()})
	check(err)
	st, err := os.Stat(f.dir.Result())
	check(err)
	check(os.Truncate(f.dir.Result(), st.Size()-3))
	os.Exit(0)
}

// noReturn passes its point of no return and says so.
func (f *fake) noReturn() {
	f.begin()
	f.plan(10)
	f.say(ipc.Phase{Index: 2, NoReturn: true})
	<-f.gate(0)
	f.finish(success(), 0)
}

// query leaves a file of its pid in a directory, to be counted, and answers as
// its second argument says, when its gate is opened.
func (f *fake) query() {
	f.begin()
	check(os.WriteFile(filepath.Join(f.args[1], strconv.Itoa(os.Getpid())), nil, 0o600))
	<-f.gate(0)
	if len(f.args) > 2 {
		f.finish(ipc.Summary{Outcome: ipc.Failed, Error: &ipc.Error{Code: "not_found", Message: "no such pool", Offset: -1}}, 3)
	}
	f.finish(ipc.Summary{Outcome: ipc.Succeeded, Bytes: 42}, 0)
}
