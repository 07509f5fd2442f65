package supervisor

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/ipc"
	"storaged/internal/supervisor/helpertest"
)

// plot is the ground on which holders and visitors meet: a file that a holder locks
// for itself alone while its window is closed, and that visitors lock together.
// The kernel refuses what must not be, and lets go of the dead.
type plot struct{ file *os.File }

func openPlot(path string) plot {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	helpertest.Check(err)
	return plot{f}
}

// enter gives false when somebody is there who must not be.
func (p plot) enter(how int) bool {
	err := unix.Flock(int(p.file.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false
	}
	helpertest.Check(err)
	return true
}

func (p plot) leave() { helpertest.Check(unix.Flock(int(p.file.Fd()), unix.LOCK_UN)) }

// moment is how long a step of holders and visitors takes: it gives others time
// to do wrong.
const moment = 2 * time.Millisecond

func broken(who string) ipc.Summary {
	return ipc.Summary{Outcome: ipc.Failed, Error: &ipc.Error{Code: "internal", Message: who, Offset: -1}}
}

// walkPlan has a phase with a window for everybody.
func (f *fake) walkPlan(total int64) {
	f.Say(ipc.Plan{Phases: []ipc.PlanPhase{{Name: "walk", Unit: "bytes", Total: total, Weight: 1, Data: true, Bounded: true, Mask: "RMGWD"}}})
	f.Say(ipc.Phase{Index: 0})
}

// obey follows orders for a while, longer when paused, or, with an id, until
// the window of that id is closed.
func (f *fake) obey(d time.Duration, id int64) {
	over := time.NewTimer(d)
	defer over.Stop()
	for passed := false; !passed || f.Paused; {
		select {
		case m := <-f.Orders:
			if ack, ok := m.(ipc.WindowAck); ok && ack.ID == id && id != 0 {
				passed = true
			} else if !f.Obey(m) {
				f.Finish(helpertest.Undone(), 130)
			}
		case <-f.Signals: // CANCEL comes with it
		case <-over.C:
			passed = passed || id == 0
		}
	}
}

// walk visits objects with a window between each two, and ends as broken when
// it is not alone while the window is closed.
func (f *fake) walk() {
	f.Begin()
	ground := openPlot(f.Args[0])
	rounds, err := strconv.ParseInt(f.Args[1], 10, 64)
	helpertest.Check(err)
	f.walkPlan(rounds)
	for i := range rounds {
		if !ground.enter(unix.LOCK_EX) {
			f.Finish(broken(fmt.Sprintf("object %d is not the holder's alone", i)), 1)
		}
		f.obey(moment, 0)
		f.Say(ipc.Progress{Done: i + 1, Durable: i + 1, Total: rounds})
		ground.leave()
		f.Say(ipc.Window{ID: 2*i + 1, Open: true})
		if i%2 == 0 {
			f.obey(moment, 0) // else it opens for those who wait only
		}
		f.Say(ipc.Window{ID: 2*i + 2, Next: i + 2})
		f.obey(moment, 2*i+2)
	}
	f.Finish(helpertest.Success(), 0)
}

// visit ends as broken when a holder works meanwhile.
func (f *fake) visit() {
	f.Begin()
	ground := openPlot(f.Args[0])
	if !ground.enter(unix.LOCK_SH) {
		f.Finish(broken("a holder works beside its visitor"), 1)
	}
	if len(f.Args) > 1 {
		f.Say(ipc.Warn{Text: "inside"})
		<-f.gate(1)
	}
	f.obey(moment, 0)
	ground.leave()
	f.Finish(helpertest.Success(), 0)
}

// undoAlone settles a holder that died, and has to be alone.
func (f *fake) undoAlone() {
	f.Begin()
	ground := openPlot(f.Args[0])
	if !ground.enter(unix.LOCK_EX) {
		f.Finish(broken("visitors are there while a job is settled"), 1)
	}
	f.obey(moment, 0)
	ground.leave()
	f.Finish(helpertest.Undone(), 130)
}

// openWindow opens its window at once, closes it when its first gate is opened, then
// works until its second one is.
func (f *fake) openWindow() {
	f.Begin()
	ground := openPlot(f.Args[0])
	f.walkPlan(1000)
	f.Say(ipc.Window{ID: 1, Open: true})
	f.pass(f.gate(1))
	f.Say(ipc.Window{ID: 2, Next: 900})
	f.obey(moment, 2)
	if !ground.enter(unix.LOCK_EX) {
		f.Finish(broken("the window was acknowledged with somebody inside"), 1)
	}
	f.Say(ipc.Warn{Text: "alone"})
	f.pass(f.gate(2))
	f.Finish(helpertest.Success(), 0)
}

// pass obeys until the gate is open, and makes progress.
func (f *fake) pass(gate <-chan struct{}) {
	tick := time.NewTicker(moment)
	for done := int64(1); ; {
		select {
		case <-gate:
			return
		case m := <-f.Orders:
			if !f.Obey(m) {
				f.Finish(helpertest.Undone(), 130)
			}
		case <-f.Signals:
		case <-tick.C:
			f.Say(ipc.Progress{Done: done, Durable: done, Total: 1000, Work: done, WorkAll: 1000})
			done = min(done+1, 800)
		}
	}
}

// onCall opens its window whenever it is called, as long as the gate is shut.
// Reading, it shares the ground with other holders; growing visitors have it to
// themselves.
func (f *fake) onCall() {
	f.Begin()
	ground := openPlot(f.Args[0])
	f.Say(ipc.Plan{Phases: []ipc.PlanPhase{
		{Name: "read", Unit: "bytes", Total: 1000, Weight: 1, Data: true, Bounded: true, Mask: "G", OnCall: true},
	}})
	f.Say(ipc.Phase{Index: 0})
	gate := f.gate(1)
	for id := int64(1); ; id += 2 {
		if !ground.enter(unix.LOCK_SH) {
			f.Finish(broken("the window was acknowledged with somebody inside"), 1)
		}
		if !f.called(gate) {
			f.Finish(helpertest.Success(), 0)
		}
		ground.leave()
		f.Say(ipc.Window{ID: id, Open: true})
		f.Say(ipc.Window{ID: id + 1})
		f.obey(moment, id+1)
	}
}

// called obeys until the helper is called, or the gate is open.
func (f *fake) called(gate <-chan struct{}) bool {
	for {
		select {
		case <-gate:
			return false
		case m := <-f.Orders:
			if _, ok := m.(ipc.WindowCall); ok {
				return true
			}
			if !f.Obey(m) {
				f.Finish(helpertest.Undone(), 130)
			}
		case <-f.Signals: // CANCEL comes with it
		}
	}
}

// grow ends as broken when a holder reads meanwhile.
func (f *fake) grow() {
	f.Begin()
	ground := openPlot(f.Args[0])
	if !ground.enter(unix.LOCK_EX) {
		f.Finish(broken("a holder reads beside its visitor"), 1)
	}
	f.obey(moment, 0)
	ground.leave()
	f.Finish(helpertest.Success(), 0)
}
