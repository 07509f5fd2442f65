package supervisor

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/ipc"
)

// plot is the ground on which hosts and visitors meet: a file that a host locks
// for itself alone while its window is closed, and that visitors lock together.
// The kernel refuses what must not be, and lets go of the dead.
type plot struct{ file *os.File }

func openPlot(path string) plot {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	check(err)
	return plot{f}
}

// enter gives false when somebody is there who must not be.
func (p plot) enter(how int) bool {
	err := unix.Flock(int(p.file.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false
	}
	check(err)
	return true
}

func (p plot) leave() { check(unix.Flock(int(p.file.Fd()), unix.LOCK_UN)) }

// moment is how long a step of hosts and visitors takes: it gives others time
// to do wrong.
const moment = 2 * time.Millisecond

func broken(who string) ipc.Summary {
	return ipc.Summary{Outcome: ipc.Failed, Error: &ipc.Error{Code: "internal", Message: who, Offset: -1}}
}

// walkPlan has a phase with a window for everybody.
func (f *fake) walkPlan(total int64) {
	f.say(ipc.Plan{Phases: []ipc.PlanPhase{{Name: "walk", Unit: "bytes", Total: total, Weight: 1, Data: true, Bounded: true, Mask: "RMGWD"}}})
	f.say(ipc.Phase{Index: 0})
}

// obey follows orders for a while, longer when paused, or, with an id, until
// the window of that id is closed.
func (f *fake) obey(d time.Duration, id int64) {
	over := time.NewTimer(d)
	defer over.Stop()
	for passed := false; !passed || f.paused; {
		select {
		case m := <-f.orders:
			if ack, ok := m.(ipc.WindowAck); ok && ack.ID == id && id != 0 {
				passed = true
			} else if !f.follow(m) {
				f.finish(undone(), 130)
			}
		case <-f.signals: // CANCEL comes with it
		case <-over.C:
			passed = passed || id == 0
		}
	}
}

// walk visits objects with a window between each two, and ends as broken when
// it is not alone while the window is closed.
func (f *fake) walk() {
	f.begin()
	ground := openPlot(f.args[0])
	rounds, err := strconv.ParseInt(f.args[1], 10, 64)
	check(err)
	f.walkPlan(rounds)
	for i := range rounds {
		if !ground.enter(unix.LOCK_EX) {
			f.finish(broken(fmt.Sprintf("object %d is not the host's alone", i)), 1)
		}
		f.obey(moment, 0)
		f.say(ipc.Progress{Done: i + 1, Durable: i + 1, Total: rounds})
		ground.leave()
		f.say(ipc.Window{ID: 2*i + 1, Open: true})
		if i%2 == 0 {
			f.obey(moment, 0) // else it opens for those who wait only
		}
		f.say(ipc.Window{ID: 2*i + 2, Next: i + 2})
		f.obey(moment, 2*i+2)
	}
	f.finish(success(), 0)
}

// visit ends as broken when a host works meanwhile.
func (f *fake) visit() {
	f.begin()
	ground := openPlot(f.args[0])
	if !ground.enter(unix.LOCK_SH) {
		f.finish(broken("a host works beside its visitor"), 1)
	}
	if len(f.args) > 1 {
		f.say(ipc.Warn{Text: "inside"})
		<-f.gate(1)
	}
	f.obey(moment, 0)
	ground.leave()
	f.finish(success(), 0)
}

// undoAlone settles a host that died, and has to be alone.
func (f *fake) undoAlone() {
	f.begin()
	ground := openPlot(f.args[0])
	if !ground.enter(unix.LOCK_EX) {
		f.finish(broken("visitors are there while a job is settled"), 1)
	}
	f.obey(moment, 0)
	ground.leave()
	f.finish(undone(), 130)
}

// host opens its window at once, closes it when its first gate is opened, then
// works until its second one is.
func (f *fake) host() {
	f.begin()
	ground := openPlot(f.args[0])
	f.walkPlan(1000)
	f.say(ipc.Window{ID: 1, Open: true})
	f.pass(f.gate(1))
	f.say(ipc.Window{ID: 2, Next: 900})
	f.obey(moment, 2)
	if !ground.enter(unix.LOCK_EX) {
		f.finish(broken("the window was acknowledged with somebody inside"), 1)
	}
	f.say(ipc.Warn{Text: "alone"})
	f.pass(f.gate(2))
	f.finish(success(), 0)
}

// pass obeys until the gate is open, and makes progress.
func (f *fake) pass(gate <-chan struct{}) {
	tick := time.NewTicker(moment)
	for done := int64(1); ; {
		select {
		case <-gate:
			return
		case m := <-f.orders:
			if !f.follow(m) {
				f.finish(undone(), 130)
			}
		case <-f.signals:
		case <-tick.C:
			f.say(ipc.Progress{Done: done, Durable: done, Total: 1000, Work: done, WorkAll: 1000})
			done = min(done+1, 800)
		}
	}
}

// onCall opens its window whenever it is called, as long as the gate is shut.
// Reading, it shares the ground with other hosts; growing visitors have it to
// themselves.
func (f *fake) onCall() {
	f.begin()
	ground := openPlot(f.args[0])
	f.say(ipc.Plan{Phases: []ipc.PlanPhase{
		{Name: "read", Unit: "bytes", Total: 1000, Weight: 1, Data: true, Bounded: true, Mask: "G", OnCall: true},
	}})
	f.say(ipc.Phase{Index: 0})
	gate := f.gate(1)
	for id := int64(1); ; id += 2 {
		if !ground.enter(unix.LOCK_SH) {
			f.finish(broken("the window was acknowledged with somebody inside"), 1)
		}
		if !f.called(gate) {
			f.finish(success(), 0)
		}
		ground.leave()
		f.say(ipc.Window{ID: id, Open: true})
		f.say(ipc.Window{ID: id + 1})
		f.obey(moment, id+1)
	}
}

// called obeys until the helper is called, or the gate is open.
func (f *fake) called(gate <-chan struct{}) bool {
	for {
		select {
		case <-gate:
			return false
		case m := <-f.orders:
			if _, ok := m.(ipc.WindowCall); ok {
				return true
			}
			if !f.follow(m) {
				f.finish(undone(), 130)
			}
		case <-f.signals: // CANCEL comes with it
		}
	}
}

// grow ends as broken when a host reads meanwhile.
func (f *fake) grow() {
	f.begin()
	ground := openPlot(f.args[0])
	if !ground.enter(unix.LOCK_EX) {
		f.finish(broken("a host reads beside its visitor"), 1)
	}
	f.obey(moment, 0)
	ground.leave()
	f.finish(success(), 0)
}
