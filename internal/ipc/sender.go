package ipc

import (
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/crash"
)

// Sender is a helper's end of the frames FIFO. It never blocks, never fails
// and is safe for concurrent use: a daemon that does not read, or is not
// there, is no reason for a helper to stop; its truth lies in its files.
//
// State is not lost to a full FIFO: the newest frame of each type of keptOrder
// and the first MaxWarnings warnings are kept, and go out before anything else
// with the next Send that finds room; so a helper that waits must still BEAT.
// BEAT and LOG are dropped when there is no room, and an older state is dropped
// for a newer one.
type Sender struct {
	mu      sync.Mutex
	fifo    *os.File
	seq     uint64 // of the last frame written
	kept    map[Type]*keptFrame
	warns   []*keptFrame
	dropped int
}

// keptFrame is a frame as of the time it was sent first.
type keptFrame struct {
	monoNS int64
	body   Message
	due    bool // not written yet, or asked for again
}

// keptOrder lists the types whose last frame is kept, in the order in which
// they make sense to a reader that knows nothing. Warnings are sent in the
// place of TypeWarn.
var keptOrder = []Type{
	TypeHello, TypePlan, TypePhase, TypeCheckpoint, TypeState, TypeConfined, TypeWindow, TypeWarn, TypeProgress, TypeResult,
}

// NewSender sends to a FIFO opened by OpenFrames, which stays the caller's to
// close and is used for nothing else (os.File.Fd would make it block).
func NewSender(fifo *os.File) *Sender {
	return &Sender{fifo: fifo, kept: map[Type]*keptFrame{}}
}

// Send sends a message, keeps it, or drops it. The text of a LOG or WARN is
// made to fit. A message that no reader would accept (Validate) becomes a
// LOG instead.
func (s *Sender) Send(m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m = s.fitted(m)
	if err := Validate(m); err != nil {
		m = s.fitted(Log{Level: "error", Text: "internal error: " + err.Error()})
	}
	f := &keptFrame{monoNS: monotonic(), body: m, due: true}
	passing := !s.keep(f)
	flushed := s.flush()
	switch {
	case !passing:
	case flushed && s.write(f):
		crash.AtSent(uint8(m.Type()))
	default:
		s.dropped++
	}
}

// Resync sends again what is kept, for a daemon that does not know the past.
func (s *Sender) Resync() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.all() {
		f.due = true
	}
	s.flush()
}

// Dropped counts the messages that no reader will ever see.
func (s *Sender) Dropped() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// fitted makes texts fit, and repeats in every later frame what must not be
// missed when frames are dropped for newer ones.
func (s *Sender) fitted(m Message) Message {
	switch m := m.(type) {
	case Log:
		text, cut := cutText(m.Text, maxLogText)
		return Log{Level: m.Level, Text: text, Cut: cut || m.Cut}
	case Warn:
		text, cut := cutText(m.Text, maxText)
		return s.warnOrLog(Warn{Text: text, Cut: cut || m.Cut})
	case State:
		if old, ok := s.lastOf(TypeState).(State); ok && old.FromAfar {
			m.FromAfar, m.SenderPID = true, old.SenderPID
		}
		return m
	case Phase:
		old, ok := s.lastOf(TypePhase).(Phase)
		m.NoReturn = m.NoReturn || ok && old.NoReturn
		return m
	}
	return m
}

// warnOrLog turns warnings beyond those that are kept into log lines.
func (s *Sender) warnOrLog(w Warn) Message {
	switch n := len(s.warns); {
	case n < MaxWarnings-1:
		return w
	case n == MaxWarnings-1:
		return Warn{Text: "more warnings are in the job's log only"}
	}
	return Log{Level: "warn", Text: w.Text, Cut: w.Cut}
}

func (s *Sender) lastOf(t Type) Message {
	if f := s.kept[t]; f != nil {
		return f.body
	}
	return nil
}

// keep stores the frame if it is of a type that is kept.
func (s *Sender) keep(f *keptFrame) bool {
	t := f.body.Type()
	switch {
	case t == TypeWarn:
		s.warns = append(s.warns, f)
		return true
	case t == TypePhase:
		s.forgetProgressBefore(f.body.(Phase).Index)
	case !slices.Contains(keptOrder, t):
		return false
	}
	s.forget(t)
	s.kept[t] = f
	return true
}

// forgetProgressBefore keeps progress of one phase from being sent after the
// start of the next.
func (s *Sender) forgetProgressBefore(phase int) {
	if p, ok := s.lastOf(TypeProgress).(Progress); ok && p.Phase != phase {
		s.forget(TypeProgress)
	}
}

func (s *Sender) forget(t Type) {
	if old := s.kept[t]; old != nil && old.due {
		s.dropped++
	}
	delete(s.kept, t)
}

// all lists what is kept, in keptOrder.
func (s *Sender) all() []*keptFrame {
	var out []*keptFrame
	for _, t := range keptOrder {
		if t == TypeWarn {
			out = append(out, s.warns...)
		} else if f := s.kept[t]; f != nil {
			out = append(out, f)
		}
	}
	return out
}

// flush writes what is due until the FIFO is full, and reports whether all of
// it went out.
func (s *Sender) flush() bool {
	for _, f := range s.all() {
		if f.due && !s.write(f) {
			return false
		}
		f.due = false
		crash.AtSent(uint8(f.body.Type()))
	}
	return true
}

// write reports whether the frame was written. Why it was not makes no
// difference: the frame stays due.
func (s *Sender) write(f *keptFrame) bool {
	if WriteFrame(s.fifo, Frame{Seq: s.seq + 1, MonoNS: f.monoNS, Body: f.body}) != nil {
		return false
	}
	s.seq++
	return true
}

// Sent is when the frame was sent first, as its sender says, and never later
// than now.
func (f Frame) Sent() time.Time {
	return time.Now().Add(-time.Duration(max(0, monotonic()-f.MonoNS)))
}

// monotonic is CLOCK_MONOTONIC in nanoseconds, comparable between processes of
// one boot.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("internal error: no monotonic clock: " + err.Error())
	}
	return ts.Nano()
}
