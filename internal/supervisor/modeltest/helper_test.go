package modeltest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/ipc"
	"storaged/internal/supervisor/helpertest"
)

// behavior says how a helper begins, works, obeys and ends, each in one of many
// ways.
type behavior struct {
	Alive    string // directory in which it registers
	Settles  bool   // it settles the job of another that died
	Start    string // how it begins, "" well; see enter
	Work     int    // steps; forever: until it is stopped
	Mask     string // of the windows that it opens between two steps
	Lies     bool   // its progress is absurd
	Child    bool   // it leaves a process behind
	OnCancel string // what it does when canceled; see canceled
	Final    bool   // it passes a point of no return before its end
	End      string // see end
}

const forever = -1

// What the words of a behavior may be. The first is the best behaviour.
var (
	starts        = []string{"", "silent", "dead", "wrongJob", "wrongProto", "early", "eager"}
	cancelAnswers = []string{"obey", "slow", "quiet", "succeeds", "fails", "exits", "ignores"}
	endings       = []string{
		"success", "fail", "canceled", "exit0", "exit5", "killBefore", "killSaved", "killAfter", "success1", "fail0",
		"torn", "digest", "halfFrame", "garbage", "linger", "hang",
	}
	settlerEndings = []string{"undone", "success", "fail", "exit0", "killBefore", "dead"}
)

// argv is that of a helper with the behavior.
func (b behavior) argv() []string {
	text, err := json.Marshal(b)
	if err != nil {
		panic(err)
	}
	return helpertest.Argv(modelHelper, string(text))
}

// The names of the fake helpers.
const (
	modelHelper = "model"
	modelChild  = "child" // a process that such a helper starts
)

func behaviorOf(argv []string) (r behavior) {
	if len(argv) == 2 && argv[0] == helpertest.Argv(modelHelper)[0] {
		if err := json.Unmarshal([]byte(argv[1]), &r); err != nil {
			panic(err)
		}
	}
	return r
}

// helper is a helper of the model.
type helper struct {
	*helpertest.Helper
	behavior
	entry  *os.File // among those alive
	note   note
	window int64
	deaf   bool // ignores CANCEL and SIGTERM from now on
	done   int64
}

// note is what a helper says of itself.
type note struct {
	Go      bool
	Settles bool
	Child   bool
	Closed  bool  // it takes its window for closed
	Turns   int   // how often that has changed
	Limit   int64 // that it obeys
}

func runHelper(f *helpertest.Helper) {
	a := &helper{Helper: f, behavior: behaviorOf(helpertest.Argv(modelHelper, f.Args...))}
	a.note = note{Settles: a.Settles, Closed: true}
	a.register()
	a.enter()
	a.note.Go = true
	a.write()
	if a.Child {
		a.StartChild(helpertest.Argv(modelChild, a.Alive))
	}
	a.Plan(a.total(), a.Mask)
	for i := 0; i != a.Work; i++ {
		a.step(i)
	}
	a.end()
}

// register makes an entry among those alive and locks it. It is descriptor 0, which
// the kernel closes first when a process dies: whoever finds the entry locked
// knows that the job's lock, descriptor 3, is still held.
func (a *helper) register() {
	path := filepath.Join(a.Alive, fmt.Sprintf("%s.%d", a.Dir.Job, os.Getpid()))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	helpertest.Check(err)
	helpertest.Check(unix.Flock(int(f.Fd()), unix.LOCK_EX))
	helpertest.Check(unix.Dup3(int(f.Fd()), 0, unix.O_CLOEXEC))
	helpertest.Check(f.Close())
	a.entry = os.NewFile(0, path)
	a.write()
}

const noteSize = 128

func (a *helper) write() {
	b, err := json.Marshal(a.note)
	helpertest.Check(err)
	_, err = a.entry.WriteAt(fmt.Appendf(nil, "%-*s", noteSize, b), 0)
	helpertest.Check(err)
}

// enter begins: it returns when GO has come.
func (a *helper) enter() {
	switch a.Start {
	case "":
		a.Begin()
		a.note.Limit = a.Limit
		return
	case "dead":
		os.Exit(3)
	case "eager":
		_, err := ipc.SaveReport(a.Dir.Result(), &ipc.Report{Summary: helpertest.Success()})
		helpertest.Check(err)
		os.Exit(0)
	}
	a.Connect()
	switch a.Start {
	case "wrongJob":
		a.HelloOf("another")
	case "wrongProto":
		a.HelloFromTheFuture()
	case "early":
		a.Raw(helpertest.Garbage)
	}
	select {}
}

func (a *helper) total() int64 {
	if a.Work == forever {
		return 1 << 40
	}
	return int64(a.Work)
}

// beat is the length of a step, restBeat that of one who works for ever, when
// it has begun: what it says then is nothing new.
const (
	beat     = 2 * time.Millisecond
	restBeat = 20 * time.Millisecond
)

func (a *helper) step(i int) {
	if a.Work == forever && i >= 8 {
		a.hear(restBeat, 0)
	} else {
		a.hear(beat, 0)
	}
	a.done++
	at := a.done
	if a.Lies {
		a.lie(i, &at)
	}
	a.Progress(at, a.total())
	if a.Mask == "" {
		return
	}
	a.note.Closed, a.note.Turns = false, a.note.Turns+1
	a.write()
	a.Say(ipc.Window{ID: a.window + 1, Open: true})
	if i%2 == 0 {
		a.hear(beat, 0) // else it opens for those who wait only
	}
	a.window += 2
	a.Say(ipc.Window{ID: a.window, Next: a.done + 1})
	a.hear(0, a.window)
	a.note.Closed, a.note.Turns = true, a.note.Turns+1
	a.write()
}

// lie says what cannot be.
func (a *helper) lie(i int, at *int64) {
	switch i % 4 {
	case 0:
		*at = 10 * a.total()
	case 1:
		*at = 0
	case 2:
		a.Say(ipc.Phase{Index: 0})
	default:
		a.Say(ipc.Plan{Phases: []ipc.PlanPhase{
			{Name: "open", Unit: "items", Total: 1, Weight: 1, Bounded: true},
			{Name: "copy", Unit: "bytes", Total: 100 * a.total(), Weight: 98, Data: true, Bounded: true, Mask: a.Mask},
			{Name: "commit", Unit: "items", Total: 9, Weight: 70, Bounded: true},
		}})
	}
}

// hear obeys for a while, longer when paused, or, with an id, until the window
// of that id is closed.
func (a *helper) hear(d time.Duration, id int64) {
	over := time.NewTimer(d)
	defer over.Stop()
	for passed := false; !passed || a.Paused; {
		select {
		case m, ok := <-a.Orders:
			if ack, is := m.(ipc.WindowAck); is && ack.ID == id && id != 0 {
				passed = true
			} else if ok {
				a.obey(m)
			} else {
				a.Orders = nil // the daemon sent what is no frame
			}
		case <-a.Signals:
			a.signaled()
		case <-over.C:
			passed = passed || id == 0
		}
	}
}

func (a *helper) obey(m ipc.Message) {
	if _, is := m.(ipc.Cancel); is {
		a.canceled(ipc.State{Activity: ipc.ActivityCanceling, Limit: a.Limit})
		return
	}
	a.Helper.Obey(m)
	if a.note.Limit != a.Limit {
		a.note.Limit = a.Limit
		a.write()
	}
}

// signaled finds out whether CANCEL came with the signal.
func (a *helper) signaled() {
	enough := time.NewTimer(50 * time.Millisecond)
	defer enough.Stop()
	for {
		select {
		case m := <-a.Orders:
			if _, is := m.(ipc.Cancel); is {
				a.obey(m)
				return
			}
			a.Helper.Obey(m)
		case <-enough.C:
			a.canceled(ipc.State{Activity: ipc.ActivityCanceling, FromAfar: true, SenderPID: 4711})
			return
		}
	}
}

// canceled does what the behavior has for a cancel. It returns only to one that goes on.
func (a *helper) canceled(ack ipc.State) {
	if a.deaf {
		return
	}
	switch a.OnCancel {
	case "ignores":
		a.deaf = true
		return
	case "exits":
		os.Exit(9)
	case "quiet":
		a.Finish(helpertest.Undone(), 130)
	}
	a.Say(ack)
	switch a.OnCancel {
	case "succeeds":
		a.Finish(helpertest.Success(), 0)
	case "fails":
		a.Finish(failed(ipc.Summary{Rollback: "failed"}), 1)
	case "slow":
		a.deaf, a.Paused = true, false // who undoes is not paused any more
		a.State(ipc.ActivityRollingBack)
		for range 3 {
			a.Say(ipc.Beat{})
			a.hear(beat, 0)
		}
	}
	a.Finish(helpertest.Undone(), 130)
}

func failed(s ipc.Summary) ipc.Summary {
	s.Outcome, s.Error = ipc.Failed, &ipc.Error{Code: "io_error", Message: "cannot write", Path: "/pool/x", Offset: 4096}
	return s
}

func (a *helper) kill() {
	helpertest.Check(syscall.Kill(os.Getpid(), syscall.SIGKILL))
	select {}
}

// end ends the helper as its behavior says.
func (a *helper) end() {
	if a.Final {
		a.deaf = true
		a.Say(ipc.Phase{Index: 2, NoReturn: true})
		a.State(ipc.ActivityFinalizing)
	}
	switch a.End {
	case "success":
		a.Finish(helpertest.Success(), 0)
	case "success1":
		a.Finish(helpertest.Success(), 1)
	case "fail":
		a.Finish(failed(ipc.Summary{Rollback: "done"}), 7)
	case "fail0":
		a.Finish(failed(ipc.Summary{Rollback: "done"}), 0)
	case "canceled", "undone":
		a.Finish(helpertest.Undone(), 130)
	case "dead", "exit5":
		os.Exit(5)
	case "exit0":
		os.Exit(0)
	case "killBefore":
		a.kill()
	case "killAfter":
		a.Announce(helpertest.Success())
		a.kill()
	case "linger":
		a.Announce(helpertest.Success())
		signal.Ignore(syscall.SIGTERM)
		select {}
	}
	a.endBadly()
}

func (a *helper) endBadly() {
	switch a.End {
	case "halfFrame":
		a.HalfFrame()
	case "garbage":
		a.Raw(helpertest.Garbage)
		for {
			a.hear(time.Minute, 0)
		}
	case "hang":
		signal.Ignore(syscall.SIGTERM)
		select {}
	}
	_, err := ipc.SaveReport(a.Dir.Result(), &ipc.Report{Summary: helpertest.Success()})
	helpertest.Check(err)
	switch a.End {
	case "torn":
		st, err := os.Stat(a.Dir.Result())
		helpertest.Check(err)
		helpertest.Check(os.Truncate(a.Dir.Result(), st.Size()-3))
	case "digest":
		a.Say(ipc.Result{Outcome: ipc.Succeeded, Digest: strings.Repeat("0", 64)})
	case "killSaved":
		a.kill()
	}
	os.Exit(0)
}

func runChild(f *helpertest.Helper) {
	a := &helper{Helper: f, behavior: behavior{Alive: f.Args[0]}, note: note{Go: true, Child: true}}
	a.register()
	a.Stay()
}
