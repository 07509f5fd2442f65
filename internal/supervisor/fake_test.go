package supervisor

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/supervisor/helpertest"
)

// fake is a helper that misbehaves in some way, or does well.
type fake struct{ *helpertest.Helper }

// gate is closed when the test opens the gate whose path is argument i; without
// that argument never.
func (f *fake) gate(i int) <-chan struct{} {
	passed := make(chan struct{})
	if i >= len(f.Args) {
		return passed
	}
	go func() {
		g, err := os.OpenFile(f.Args[i], os.O_RDONLY, 0) // waits for the other end
		helpertest.Check(err)
		g.Close()
		close(passed)
	}()
	return passed
}

// work goes on until it is canceled, or until its gate is opened.
func (f *fake) work() {
	f.Begin()
	const total = 1 << 40
	f.Plan(total, "")
	f.workAt(5*time.Millisecond, total)
}

// idle is work that reports as seldom as a real helper.
func (f *fake) idle() {
	f.Begin()
	const total = 1 << 40
	f.Plan(total, "")
	f.workAt(200*time.Millisecond, total)
}

func (f *fake) workAt(pace time.Duration, total int64) {
	tick := time.NewTicker(pace)
	finish := f.gate(0)
	for done := int64(1 << 20); ; {
		select {
		case m := <-f.Orders:
			if !f.Obey(m) {
				f.Finish(helpertest.Undone(), 130)
			}
		case <-f.Signals:
			f.Say(ipc.State{Activity: ipc.ActivityCanceling, FromAfar: true, SenderPID: 4711})
			select {
			case m := <-f.Orders:
				f.Obey(m)
			case <-time.After(50 * time.Millisecond):
			}
			s := helpertest.Undone()
			s.Error = &ipc.Error{Code: "canceled", Message: "canceled by a signal (terminated)", Offset: -1}
			f.Finish(s, 130)
		case <-finish:
			f.Finish(helpertest.Success(), 0)
		case <-tick.C:
			if !f.Paused {
				f.Progress(done, total)
				done += 1 << 20
			}
		}
	}
}

// short does its work at once.
func (f *fake) short() {
	f.Begin()
	f.Plan(1000, "")
	f.Progress(1000, 1000)
	f.Finish(helpertest.Success(), 0)
}

// lackRoom waits for room by itself until its gate is opened, however often it is resumed.
func (f *fake) lackRoom() {
	f.Begin()
	f.Plan(1000, "")
	f.Progress(500, 1000)
	f.Say(ipc.State{Activity: ipc.ActivityPaused, Waits: "no more may be taken of the thin pool"})
	<-f.gate(0)
	f.Say(ipc.State{Activity: ipc.ActivityRunning})
	f.Finish(helpertest.Success(), 0)
}

func (f *fake) hang() { select {} }

// silent connects and never says HELLO.
func (f *fake) silent() {
	f.Connect()
	select {}
}

// ignoreTerm neither hears CANCEL nor minds SIGTERM.
func (f *fake) ignoreTerm() {
	f.Begin()
	signal.Ignore(syscall.SIGTERM)
	f.Say(ipc.Warn{Text: "deaf now"})
	select {}
}

// leaveOrphan ends well but leaves a process behind that holds lock and FIFO.
func (f *fake) leaveOrphan() {
	f.Begin()
	f.StartChild(helpertest.Argv("orphan"))
	f.Finish(helpertest.Success(), 0)
}

// leaveOrphanAndWait has such a process and waits to be killed.
func (f *fake) leaveOrphanAndWait() {
	f.Begin()
	f.StartChild(helpertest.Argv("orphan"))
	f.Say(ipc.Warn{Text: "has a child"})
	select {}
}

func (f *fake) halfFrame() {
	f.Begin()
	f.HalfFrame()
}

func (f *fake) orphan() { f.Stay() }

// stopped ends as a good helper does that is told to.
func (f *fake) stopped() {
	<-f.Signals
	f.Finish(helpertest.Undone(), 130)
}

func (f *fake) garbage() {
	f.Begin()
	f.Raw(helpertest.Garbage)
	f.stopped()
}

// garbageLate is garbage that stops when its gate is opened.
func (f *fake) garbageLate() {
	f.Begin()
	f.Raw(helpertest.Garbage)
	<-f.Signals
	<-f.gate(0)
	f.Finish(helpertest.Undone(), 130)
}

func (f *fake) hugeHeader() {
	f.Begin()
	f.Raw([]byte{0xa5, 'S', 'G', 'F', 0xff, 0xff, 0xff, 0xff})
	f.stopped()
}

func (f *fake) exitWithout() {
	f.Begin()
	code, err := strconv.Atoi(f.Args[0])
	helpertest.Check(err)
	os.Exit(code)
}

func (f *fake) exitOneSuccess() {
	f.Begin()
	f.Finish(helpertest.Success(), 1)
}

// flood reports far more than anybody can read.
func (f *fake) flood() {
	f.Begin()
	const n = 100_000
	f.Plan(n, "")
	for i := range int64(n) {
		f.Progress(i, n)
	}
	f.Finish(helpertest.Success(), 0)
}

func (f *fake) reportThenHang() {
	f.Begin()
	signal.Ignore(syscall.SIGTERM) // before the supervisor has a reason to send one
	f.Announce(helpertest.Success())
	select {}
}

// mute saves a result without a word: before GO, or with an argument after it.
func (f *fake) mute() {
	outcome := ipc.Outcome(f.Args[0])
	if len(f.Args) > 1 {
		f.Begin()
	}
	_, err := ipc.SaveReport(f.Dir.Result(), &ipc.Report{Summary: ipc.Summary{Outcome: outcome, Rollback: "none"}})
	helpertest.Check(err)
	os.Exit(0)
}

func (f *fake) wrongJob() {
	f.Connect()
	f.HelloOf("another")
	select {}
}

// speaks says that it knows the protocols from argument 1 to argument 0, and
// ends well when GO names argument 2. With a gate as argument 3 it waits for
// that, says what it has heard GO name, and obeys meanwhile.
func (f *fake) speaks() {
	var n [3]int
	for i := range n {
		var err error
		n[i], err = strconv.Atoi(f.Args[i])
		helpertest.Check(err)
	}
	f.Connect()
	f.Say(ipc.Hello{Proto: n[0], ProtoMin: n[1], PID: os.Getpid(), Job: f.Dir.Job, Version: "other"})
	for finish := f.gate(3); ; {
		select {
		case m := <-f.Orders:
			g, ok := m.(ipc.Go)
			switch {
			case !ok:
				f.Obey(m)
			case g.Proto != n[2]:
				helpertest.Check(fmt.Errorf("GO names protocol %d", g.Proto))
			case len(f.Args) == 3:
				f.Finish(helpertest.Success(), 0)
			default:
				f.State(ipc.ActivityRunning)
			}
		case <-f.Signals:
			f.Finish(helpertest.Undone(), 130)
		case <-finish:
			f.Finish(helpertest.Success(), 0)
		}
	}
}

func (f *fake) wrongProto() {
	f.Connect()
	f.HelloFromTheFuture()
	select {}
}

// negative writes a frame that the codec would refuse to make: durable is -1.
func (f *fake) negative() {
	f.Begin()
	f.Plan(100, "")
	b, err := ipc.Encode(ipc.Frame{Seq: 9, Body: ipc.Progress{Phase: 1, Durable: 1, Total: 100}}, ipc.MaxFrame)
	helpertest.Check(err)
	i := indexAfter(b, "durable")
	b[i] = 0xff // msgpack's -1 in the place of 1
	f.Raw(b)
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
	f.Begin()
	f.Finish(ipc.Summary{Outcome: ipc.Failed, Rollback: "done", Error: &ipc.Error{
		Code: "no_space", Message: "cannot write: no space left", Path: "/pool/x", Offset: 4096,
	}}, 7)
}

// undo settles a job whose helper died: there was nothing complete.
func (f *fake) undo() {
	f.Begin()
	f.Say(ipc.Plan{Phases: []ipc.PlanPhase{{Name: "settle", Unit: "items", Total: 1, Weight: 1, Data: true, Bounded: true}}})
	f.Say(ipc.Phase{Index: 0})
	f.Say(ipc.Progress{Done: 1, Durable: 1, Total: 1, Work: 1, WorkAll: 1})
	s := helpertest.Undone()
	s.Warnings = []string{"something of it is left"}
	s.Phases = []ipc.Spent{{Name: "settle", NS: 1}}
	f.Finish(s, 130)
}

// undoUnpaused undoes when its gate is opened, and fails if it is paused.
func (f *fake) undoUnpaused() {
	f.Begin()
	f.Say(ipc.Warn{Text: "undoing"})
	for passed := f.gate(0); ; {
		select {
		case m := <-f.Orders:
			if f.Obey(m); f.Paused {
				f.undoFailed()
			}
		case <-passed:
			f.Finish(helpertest.Undone(), 130)
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
	f.Begin()
	f.Finish(helpertest.Success(), 0)
}

func (f *fake) undoFails() {
	f.Begin()
	f.undoFailed()
}

func (f *fake) undoFailed() {
	f.Finish(ipc.Summary{Outcome: ipc.Failed, Rollback: "failed", Error: &ipc.Error{Code: "io_error", Message: "cannot remove it", Offset: -1}}, 1)
}

// slowRollback acknowledges at once and takes its time, showing that it lives,
// until its gate is opened.
func (f *fake) slowRollback() {
	f.Begin()
	<-f.Signals
	f.State(ipc.ActivityRollingBack)
	finish, beat := f.gate(0), time.NewTicker(5*time.Millisecond)
	for {
		select {
		case <-finish:
			f.Finish(helpertest.Undone(), 130)
		case m := <-f.Orders:
			if m.Type() == ipc.TypeResync {
				f.Resync()
			}
		case <-beat.C:
			f.Say(ipc.Beat{})
		}
	}
}

// chatty logs and writes to standard error more than is kept.
func (f *fake) chatty() {
	f.Begin()
	f.Say(ipc.Log{Level: "info", Text: "a line of the helper"})
	f.Say(ipc.Warn{Text: "the source has holes"})
	f.Say(ipc.Warn{Text: "the source has holes"})
	line := make([]byte, 1023)
	for i := range line {
		line[i] = 'x'
	}
	for range 3 * maxLog / 1024 {
		fmt.Fprintln(os.Stderr, string(line))
	}
	for look := time.NewTicker(time.Millisecond); ; <-look.C { // a file has no event for being cut
		st, err := os.Stat(f.Dir.Log())
		helpertest.Check(err)
		if st.Size() <= maxLog {
			break
		}
	}
	fmt.Fprintln(os.Stderr, "last words")
	f.Finish(helpertest.Success(), 0)
}

// torn leaves a result file that is cut.
func (f *fake) torn() {
	f.Begin()
	f.SaveTorn()
	os.Exit(0)
}

// noReturn passes its point of no return and says so.
func (f *fake) noReturn() {
	f.Begin()
	f.Plan(10, "")
	f.Say(ipc.Phase{Index: 2, NoReturn: true})
	<-f.gate(0)
	f.Finish(helpertest.Success(), 0)
}

// query leaves a file of its pid in a directory, to be counted, and answers as
// its second argument says, when its gate is opened.
func (f *fake) query() {
	f.Begin()
	helpertest.Check(os.WriteFile(filepath.Join(f.Args[1], strconv.Itoa(os.Getpid())), nil, 0o600))
	<-f.gate(0)
	if len(f.Args) > 2 {
		f.Finish(ipc.Summary{Outcome: ipc.Failed, Error: &ipc.Error{Code: "not_found", Message: "no such pool", Offset: -1}}, 3)
	}
	f.Finish(ipc.Summary{Outcome: ipc.Succeeded, Bytes: 42}, 0)
}

// queries answers one query after the other with how many it has answered, and what it was
// to look at. Argument 0 is a
// directory that it leaves a file in, 1 what it does when it is asked for the second time:
// "die", "fail", "lie", "hang", or else it answers.
func (f *fake) queries() {
	f.Begin()
	helpertest.Check(os.WriteFile(filepath.Join(f.Args[0], strconv.Itoa(os.Getpid())), nil, 0o600))
	for n := int64(1); ; n++ {
		if n == 2 {
			f.spoilt(f.Args[1])
		}
		f.Answer(ipc.Summary{Outcome: ipc.Succeeded, Bytes: n, Warnings: f.Names})
	}
}

func (f *fake) spoilt(how string) {
	switch how {
	case "die":
		os.Exit(3)
	case "fail":
		f.Finish(ipc.Summary{Outcome: ipc.Failed, Error: &ipc.Error{Code: "permission", Message: "not to be opened", Offset: -1}}, 1)
	case "lie":
		f.Say(ipc.Result{Outcome: ipc.Succeeded, Digest: strings.Repeat("0", 64), Stays: true})
		select {}
	case "hang":
		select {}
	}
}

// greets says HELLO again after each answer, and answers before its first one, too.
func (f *fake) greets() {
	digest, err := ipc.SaveReport(f.Dir.Result(), &ipc.Report{Summary: ipc.Summary{Outcome: ipc.Succeeded, Bytes: 42}})
	helpertest.Check(err)
	f.Connect()
	answer := ipc.Result{Outcome: ipc.Succeeded, Digest: digest, Stays: true}
	f.Say(answer)
	f.Hello()
	for range f.Orders {
		f.Say(answer)
		f.Hello()
	}
}
