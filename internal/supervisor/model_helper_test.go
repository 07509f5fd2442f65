package supervisor

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
)

// role is the behaviour of an actor: a helper of the model, which begins, works, obeys
// and ends in one of many ways.
type role struct {
	Census  string // directory in which it enrols
	Settles bool   // it settles the job of another that died
	Start   string // how it begins, "" well; see enter
	Work    int    // steps; forever: until it is stopped
	Mask    string // of the windows that it opens between two steps
	Lies    bool   // its progress is absurd
	Child   bool   // it leaves a process behind
	Told    string // what it does when canceled; see told
	Final   bool   // it passes a point of no return before its end
	End     string // see end
}

const forever = -1

// What the words of a role may be. The first is the best behaviour.
var (
	roleStarts = []string{"", "silent", "dead", "wrongJob", "wrongProto", "early", "eager"}
	roleTold   = []string{"obey", "slow", "quiet", "deny", "fails", "gone", "deaf"}
	roleEnds   = []string{
		"success", "fail", "canceled", "exit0", "exit5", "killBefore", "killSaved", "killAfter", "success1", "fail0",
		"torn", "digest", "halfFrame", "garbage", "linger", "hang",
	}
	settlerEnds = []string{"undone", "success", "fail", "exit0", "killBefore", "dead"}
)

// part gives the argv by which the role is passed on.
func (r role) part() []string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return act("actor", string(b))
}

func roleOf(argv []string) (r role) {
	if len(argv) == 2 && argv[0] == actPrefix+"actor" {
		if err := json.Unmarshal([]byte(argv[1]), &r); err != nil {
			panic(err)
		}
	}
	return r
}

// actor is a helper that behaves by its role.
type actor struct {
	*fake
	role
	entry  *os.File // in the census
	note   note
	window int64
	deaf   bool // to CANCEL and SIGTERM from now on
	done   int64
}

// note is what an actor says of itself in the census.
type note struct {
	Go      bool
	Settles bool
	Child   bool
	Closed  bool  // it takes its window for closed
	Turns   int   // how often that has changed
	Limit   int64 // that it obeys
}

func (f *fake) actor() {
	a := &actor{fake: f, role: roleOf(append([]string{actPrefix + "actor"}, f.args...))}
	a.note = note{Settles: a.Settles, Closed: true}
	a.enrol()
	a.enter()
	a.note.Go = true
	a.tell()
	if a.Child {
		a.startChild()
	}
	a.schedule()
	for i := 0; i != a.Work; i++ {
		a.step(i)
	}
	a.end()
}

// enrol makes an entry in the census and locks it. It is descriptor 0, which
// the kernel closes first when a process dies: whoever finds the entry locked
// knows that the job's lock, descriptor 3, is still held.
func (a *actor) enrol() {
	path := filepath.Join(a.Census, fmt.Sprintf("%s.%d", a.dir.Job, os.Getpid()))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	check(err)
	check(unix.Flock(int(f.Fd()), unix.LOCK_EX))
	check(unix.Dup3(int(f.Fd()), 0, unix.O_CLOEXEC))
	check(f.Close())
	a.entry = os.NewFile(0, path)
	a.tell()
}

const noteSize = 128

func (a *actor) tell() {
	b, err := json.Marshal(a.note)
	check(err)
	_, err = a.entry.WriteAt(fmt.Appendf(nil, "%-*s", noteSize, b), 0)
	check(err)
}

// enter begins: it returns when GO has come.
func (a *actor) enter() {
	switch a.Start {
	case "":
		a.begin()
		a.note.Limit = a.limit
		return
	case "dead":
		os.Exit(3)
	case "eager":
		_, err := ipc.SaveReport(a.dir.Result(), &ipc.Report{Summary: success()})
		check(err)
		os.Exit(0)
	}
	a.connect()
	switch a.Start {
	case "wrongJob":
		a.say(ipc.Hello{Proto: ipc.Proto, ProtoMin: ipc.ProtoMin, PID: os.Getpid(), Job: "another", Version: "test"})
	case "wrongProto":
		a.say(ipc.Hello{Proto: ipc.Proto + 7, ProtoMin: ipc.Proto + 6, PID: os.Getpid(), Job: a.dir.Job, Version: "9.9"})
	case "early":
		a.raw([]byte("this is no frame, and long enough for a head"))
	}
	select {}
}

func (a *actor) total() int64 {
	if a.Work == forever {
		return 1 << 40
	}
	return int64(a.Work)
}

// schedule sends the plan.
func (a *actor) schedule() {
	a.say(ipc.Plan{Phases: []ipc.PlanPhase{
		{Name: "open", Unit: "items", Total: 1, Weight: 1, Bounded: true},
		{Name: "copy", Unit: "bytes", Total: a.total(), Weight: 98, Data: true, Bounded: true, Mask: a.Mask},
		{Name: "commit", Unit: "items", Total: 1, Weight: 1, Bounded: true},
	}})
	a.say(ipc.Phase{Index: 1})
}

// beat is the length of a step, restBeat that of one who works for ever, when
// it has begun: what it says then is nothing new.
const (
	beat     = 2 * time.Millisecond
	restBeat = 20 * time.Millisecond
)

func (a *actor) step(i int) {
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
	a.progress(at, a.total())
	if a.Mask == "" {
		return
	}
	a.note.Closed, a.note.Turns = false, a.note.Turns+1
	a.tell()
	a.say(ipc.Window{ID: a.window + 1, Open: true})
	if i%2 == 0 {
		a.hear(beat, 0) // else it opens for those who wait only
	}
	a.window += 2
	a.say(ipc.Window{ID: a.window, Next: a.done + 1})
	a.hear(0, a.window)
	a.note.Closed, a.note.Turns = true, a.note.Turns+1
	a.tell()
}

// lie says what cannot be.
func (a *actor) lie(i int, at *int64) {
	switch i % 4 {
	case 0:
		*at = 10 * a.total()
	case 1:
		*at = 0
	case 2:
		a.say(ipc.Phase{Index: 0})
	default:
		a.say(ipc.Plan{Phases: []ipc.PlanPhase{
			{Name: "open", Unit: "items", Total: 1, Weight: 1, Bounded: true},
			{Name: "copy", Unit: "bytes", Total: 100 * a.total(), Weight: 98, Data: true, Bounded: true, Mask: a.Mask},
			{Name: "commit", Unit: "items", Total: 9, Weight: 70, Bounded: true},
		}})
	}
}

// hear obeys for a while, longer when paused, or, with an id, until the window
// of that id is closed.
func (a *actor) hear(d time.Duration, id int64) {
	over := time.NewTimer(d)
	defer over.Stop()
	for passed := false; !passed || a.paused; {
		select {
		case m, ok := <-a.orders:
			if ack, is := m.(ipc.WindowAck); is && ack.ID == id && id != 0 {
				passed = true
			} else if ok {
				a.obey(m)
			} else {
				a.orders = nil // the daemon sent what is no frame
			}
		case <-a.signals:
			a.signaled()
		case <-over.C:
			passed = passed || id == 0
		}
	}
}

func (a *actor) obey(m ipc.Message) {
	if _, is := m.(ipc.Cancel); is {
		a.told(ipc.State{Activity: ipc.ActivityCanceling, Limit: a.limit})
		return
	}
	a.follow(m)
	if a.note.Limit != a.limit {
		a.note.Limit = a.limit
		a.tell()
	}
}

// signaled finds out whether CANCEL came with the signal.
func (a *actor) signaled() {
	enough := time.NewTimer(50 * time.Millisecond)
	defer enough.Stop()
	for {
		select {
		case m := <-a.orders:
			if _, is := m.(ipc.Cancel); is {
				a.obey(m)
				return
			}
			a.follow(m)
		case <-enough.C:
			a.told(ipc.State{Activity: ipc.ActivityCanceling, FromAfar: true, SenderPID: 4711})
			return
		}
	}
}

// told does what the role has for a cancel. It returns only to one that goes on.
func (a *actor) told(ack ipc.State) {
	if a.deaf {
		return
	}
	switch a.Told {
	case "deaf":
		a.deaf = true
		return
	case "gone":
		os.Exit(9)
	case "quiet":
		a.finish(undone(), 130)
	}
	a.say(ack)
	switch a.Told {
	case "deny":
		a.finish(success(), 0)
	case "fails":
		a.finish(failed(ipc.Summary{Rollback: "failed"}), 1)
	case "slow":
		a.deaf, a.paused = true, false // who undoes is not paused any more
		a.state(ipc.ActivityRollingBack)
		for range 3 {
			a.say(ipc.Beat{})
			a.hear(beat, 0)
		}
	}
	a.finish(undone(), 130)
}

func failed(s ipc.Summary) ipc.Summary {
	s.Outcome, s.Error = ipc.Failed, &ipc.Error{Code: "io_error", Message: "cannot write", Path: "/pool/x", Offset: 4096}
	return s
}

func (a *actor) kill() {
	check(syscall.Kill(os.Getpid(), syscall.SIGKILL))
	select {}
}

// end ends the helper as its role says.
func (a *actor) end() {
	if a.Final {
		a.deaf = true
		a.say(ipc.Phase{Index: 2, NoReturn: true})
		a.state(ipc.ActivityFinalizing)
	}
	switch a.End {
	case "success":
		a.finish(success(), 0)
	case "success1":
		a.finish(success(), 1)
	case "fail":
		a.finish(failed(ipc.Summary{Rollback: "done"}), 7)
	case "fail0":
		a.finish(failed(ipc.Summary{Rollback: "done"}), 0)
	case "canceled", "undone":
		a.finish(undone(), 130)
	case "dead", "exit5":
		os.Exit(5)
	case "exit0":
		os.Exit(0)
	case "killBefore":
		a.kill()
	case "killAfter":
		a.announce(success())
		a.kill()
	case "linger":
		a.announce(success())
		signal.Ignore(syscall.SIGTERM)
		select {}
	}
	a.endBadly()
}

func (a *actor) endBadly() {
	switch a.End {
	case "halfFrame":
		b, err := ipc.Encode(ipc.Frame{Seq: 9, Body: ipc.Warn{Text: "never seen whole"}}, ipc.MaxFrame)
		check(err)
		a.raw(b[:len(b)/2])
		os.Exit(3)
	case "garbage":
		a.raw([]byte("this is no frame, and long enough for a head"))
		for {
			a.hear(time.Minute, 0)
		}
	case "hang":
		signal.Ignore(syscall.SIGTERM)
		select {}
	}
	_, err := ipc.SaveReport(a.dir.Result(), &ipc.Report{Summary: success()})
	check(err)
	switch a.End {
	case "torn":
		st, err := os.Stat(a.dir.Result())
		check(err)
		check(os.Truncate(a.dir.Result(), st.Size()-3))
	case "digest":
		a.say(ipc.Result{Outcome: ipc.Succeeded, Digest: strings.Repeat("0", 64)})
	case "killSaved":
		a.kill()
	}
	os.Exit(0)
}

// startChild leaves a process that holds lock and FIFO and ignores SIGTERM.
func (a *actor) startChild() { a.startPart("child", a.Census) }

func (f *fake) child() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
	a := &actor{fake: f, role: role{Census: f.args[0]}, note: note{Go: true, Child: true}}
	a.enrol()
	_, err := ipc.OpenFrames(f.dir.Frames())
	check(err)
	fmt.Println("ready")
	select {}
}
