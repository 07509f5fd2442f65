// Package helpertest has test binaries impersonate helpers: run by a supervisor
// with the argv that Argv gives, such a binary behaves as a helper of that name.
package helpertest

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"storaged/internal/ipc"
)

const prefix = "fake:"

// Argv is that of a fake helper which behaves by that name.
func Argv(name string, args ...string) []string { return append([]string{prefix + name}, args...) }

// lifetime is more than any test takes.
const lifetime = 10 * time.Minute

// Called says as which helper this process was started, if as one.
func Called() (name string, h *Helper, ok bool) {
	if len(os.Args) < 2 {
		return "", nil, false
	}
	if name, ok = strings.CutPrefix(os.Args[1], prefix); !ok {
		return "", nil, false
	}
	dir, ok := ipc.JobDirFromEnv()
	if !ok {
		fmt.Fprintln(os.Stderr, "a fake helper runs for a job only")
		os.Exit(2)
	}
	// A helper whose test was killed has nobody else to end it.
	time.AfterFunc(lifetime, func() { os.Exit(3) })
	return name, &Helper{Dir: dir, Args: os.Args[2:]}, true
}

// Helper is a helper as the tests need it.
type Helper struct {
	Dir     ipc.JobDir
	Args    []string
	Orders  chan ipc.Message // closed where the daemon sent what is no frame
	Signals chan os.Signal
	Limit   int64
	Paused  bool
	Names   []string // that it is to look at

	fifo    *os.File
	out     *ipc.Sender
	control *ipc.Control
}

// Check ends a helper that has met an error of the test's own.
func Check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "fake helper:", err)
		os.Exit(99)
	}
}

// Connect opens the lines without saying anything.
func (h *Helper) Connect() {
	h.Signals = make(chan os.Signal, 8)
	signal.Notify(h.Signals, syscall.SIGTERM)
	var err error
	h.fifo, err = ipc.OpenFrames(h.Dir.Frames())
	Check(err)
	h.out = ipc.NewSender(h.fifo)
	h.control, err = ipc.JoinControl(h.Dir.Control())
	Check(err)
	h.Orders = make(chan ipc.Message)
	go func() {
		for {
			m, err := h.control.Next()
			if err != nil {
				close(h.Orders)
				return
			}
			if g, ok := m.Body.(ipc.Go); ok && !g.Stay {
				Check(h.control.Keep())
			}
			h.Orders <- m.Body
		}
	}()
}

// Say sends a frame.
func (h *Helper) Say(m ipc.Message) { h.out.Send(m) }

// Raw writes what need not be a frame.
func (h *Helper) Raw(b []byte) {
	_, err := h.fifo.Write(b)
	Check(err)
}

// Resync repeats what was said last.
func (h *Helper) Resync() { h.out.Resync() }

// Hello says HELLO as it is right.
func (h *Helper) Hello() {
	h.Say(ipc.Hello{Proto: ipc.Proto, ProtoMin: ipc.ProtoMin, PID: os.Getpid(), Job: h.Dir.Job, Version: "test"})
}

// HelloOf says HELLO for another job.
func (h *Helper) HelloOf(job string) {
	h.Say(ipc.Hello{Proto: ipc.Proto, ProtoMin: ipc.ProtoMin, PID: os.Getpid(), Job: job, Version: "test"})
}

// HelloFromTheFuture says HELLO with protocols that nobody knows yet.
func (h *Helper) HelloFromTheFuture() {
	h.Say(ipc.Hello{Proto: ipc.Proto + 7, ProtoMin: ipc.Proto + 6, PID: os.Getpid(), Job: h.Dir.Job, Version: "9.9"})
}

// Begin connects, says HELLO and waits for GO.
func (h *Helper) Begin() {
	h.Connect()
	h.Hello()
	for m := range h.Orders {
		if g, ok := m.(ipc.Go); ok {
			h.Limit, h.Paused, h.Names = g.Limit, g.Paused, g.Names
			h.State(ipc.ActivityRunning)
			if h.Paused {
				h.State(ipc.ActivityPaused)
			}
			return
		}
	}
	os.Exit(0) // the daemon went away before GO
}

// State says what the helper does.
func (h *Helper) State(a ipc.Activity) { h.Say(ipc.State{Activity: a, Limit: h.Limit}) }

// Plan says what is to be done: a copy of total bytes above all, where visitors
// with a mode of mask may come in.
func (h *Helper) Plan(total int64, mask string) {
	h.Say(ipc.Plan{Phases: []ipc.PlanPhase{
		{Name: "open", Unit: "items", Total: 1, Weight: 1, Bounded: true},
		{Name: "copy", Unit: "bytes", Total: total, Weight: 98, Data: true, Bounded: true, Mask: mask},
		{Name: "commit", Unit: "items", Total: 1, Weight: 1, Bounded: true},
	}})
	h.Say(ipc.Phase{Index: 1})
}

// Progress says how much of the copy is done.
func (h *Helper) Progress(done, total int64) {
	h.Say(ipc.Progress{Phase: 1, Done: done, Durable: done, Total: total, Work: done, WorkAll: total, Written: done})
}

// Finish saves and announces the result and exits.
func (h *Helper) Finish(r ipc.Summary, code int) {
	h.Announce(r)
	os.Exit(code)
}

// Announce saves the result and announces it.
func (h *Helper) Announce(r ipc.Summary) {
	digest, err := ipc.SaveReport(h.Dir.Result(), &ipc.Report{Summary: r})
	Check(err)
	h.Say(ipc.Result{Outcome: r.Outcome, Digest: digest})
}

// Answer announces the result of a helper that stays, and waits for AGAIN. Without it the
// helper exits.
func (h *Helper) Answer(r ipc.Summary) {
	digest, err := ipc.SaveReport(h.Dir.Result(), &ipc.Report{Summary: r})
	Check(err)
	h.Say(ipc.Result{Outcome: r.Outcome, Digest: digest, Stays: true})
	for m := range h.Orders {
		if again, ok := m.(ipc.Again); ok {
			h.Names = again.Names
			return
		}
	}
	os.Exit(0)
}

// SaveTorn saves a result file that is cut.
func (h *Helper) SaveTorn() {
	_, err := ipc.SaveReport(h.Dir.Result(), &ipc.Report{Summary: Success()})
	Check(err)
	st, err := os.Stat(h.Dir.Result())
	Check(err)
	Check(os.Truncate(h.Dir.Result(), st.Size()-3))
}

// HalfFrame writes the first half of a frame and exits.
func (h *Helper) HalfFrame() {
	b, err := ipc.Encode(ipc.Frame{Seq: 9, Body: ipc.Warn{Text: "never seen complete"}}, ipc.MaxFrame)
	Check(err)
	h.Raw(b[:len(b)/2])
	os.Exit(3)
}

// Garbage is no frame, and long enough for a head.
var Garbage = []byte("this is no frame, and long enough for a head")

// Success is the result of what went well.
func Success() ipc.Summary {
	return ipc.Summary{Outcome: ipc.Succeeded, Rollback: "none", Method: "copy", MaxRSS: 12 << 20}
}

// Undone is the result of what was canceled.
func Undone() ipc.Summary { return ipc.Summary{Outcome: ipc.Canceled, Rollback: "done"} }

// Obey obeys one order; it gives false when the work is to stop.
func (h *Helper) Obey(m ipc.Message) bool {
	switch m := m.(type) {
	case ipc.Cancel:
		h.State(ipc.ActivityCanceling)
		return false
	case ipc.Pause:
		h.Paused = true
		h.State(ipc.ActivityPaused)
	case ipc.Resume:
		h.Paused = false
		h.State(ipc.ActivityRunning)
	case ipc.Limit:
		h.Limit = m.Rate
		h.State(map[bool]ipc.Activity{false: ipc.ActivityRunning, true: ipc.ActivityPaused}[h.Paused])
	case ipc.Resync:
		h.Resync()
	}
	return true
}

// StartChild starts another fake helper in a session of its own, which inherits
// the lock, and waits until it says Ready.
func (h *Helper) StartChild(argv []string) {
	self, err := os.Executable()
	Check(err)
	cmd := exec.Command(self, argv...)
	cmd.Env = os.Environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = []*os.File{os.NewFile(ipc.LockFD, "lock")}
	out, err := cmd.StdoutPipe()
	Check(err)
	Check(cmd.Start())
	_, err = out.Read(make([]byte, 1)) // it is ready
	Check(err)
}

// Stay is what such a child does: it holds lock and frames FIFO and ignores
// whatever can be ignored.
func (h *Helper) Stay() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
	_, err := ipc.OpenFrames(h.Dir.Frames())
	Check(err)
	fmt.Println("ready")
	select {}
}
