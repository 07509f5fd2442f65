package helper

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"storaged/internal/ipc"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/term"
)

// manualMode is a run that a person started.
type manualMode struct {
	conductor
	task    Task
	display *term.Display
	stopped bool // a signal has asked to stop

	mu    sync.Mutex
	waits string // why nothing moves
}

var _ mode = (*manualMode)(nil)

// ManualOptions are what a person may say beside the task.
type ManualOptions struct {
	Limit int64 // bytes per second, 0 is none
	JSON  bool
	Yes   bool
}

// RunManually runs a task for a person. Its error is the task's.
func RunManually(t Task, o ManualOptions) error {
	if t.ByHand != nil {
		if err := t.ByHand(context.Background()); err != nil {
			return err
		}
	}
	if err := consent(t, o); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("cannot make a name for what is unfinished: %w", err)
	}
	h := &manualMode{task: t, display: term.NewDisplay(term.NewOutput(os.Stderr))}
	r, ctx := newRun(id.String(), noRecords{}, newManualLog(os.Stderr))
	r.view, h.run, h.mode, h.signals = h, r, h, notify()
	r.throttle.setLimit(o.Limit)
	h.display.Start(h.figures(reading{}))
	begun := time.Now()
	report := h.conduct(ctx, t)
	h.display.End("")
	if report == nil {
		return h.abandoned()
	}
	return conclude(t, report, time.Since(begun), o)
}

// notify listens to what a person, or whoever runs us, may send. A hangup stops
// us like Ctrl-C, unless nohup(1) said that it shall not.
func notify() <-chan os.Signal {
	c := make(chan os.Signal, 16)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(c, syscall.SIGHUP)
	}
	return c
}

// consent asks before something is destroyed. Without a terminal the flag has
// to say it.
func consent(t Task, o ManualOptions) error {
	switch {
	case t.Ask == "" || o.Yes:
		return nil
	case !term.IsTerminal(os.Stdin) || !term.IsTerminal(os.Stderr):
		return record.Errorf(record.Invalid, "%s; nothing was done", t.Ask).WithHint("--yes says that this is meant")
	}
	yes, err := term.Confirm(os.Stdin, os.Stderr, term.Escape(t.Ask)+". Go on?")
	if err != nil {
		return err
	}
	if !yes {
		return record.Errorf(record.CanceledCode, "not confirmed; nothing was done")
	}
	return nil
}

func (h *manualMode) plan(ipc.Plan)             {}
func (h *manualMode) phase(ipc.Phase)           {}
func (h *manualMode) warn(text string)          { h.note("warning: " + text) }
func (h *manualMode) window(ipc.Window) bool    { return false }
func (h *manualMode) checkpoint(ipc.Checkpoint) {}
func (h *manualMode) confined(c ipc.Confined) {
	h.run.log.Debug("confined", "level", c.Level, "landlock", c.Landlock, "capabilities", c.Capabilities)
}
func (h *manualMode) note(text string)   { h.display.Note(Program + ": " + text) }
func (h *manualMode) progress(r reading) { h.display.Update(h.figures(r)) }
func (h *manualMode) tick(r reading)     { h.progress(r) }

func (h *manualMode) report(r reading) {
	h.progress(r)
	h.display.Report()
}

// waiting are the words for an activity in which nothing moves.
var waiting = map[ipc.Activity]string{
	ipc.ActivityPaused:      "paused",
	ipc.ActivityRollingBack: "undoing",
}

func (h *manualMode) state(a ipc.Activity) {
	h.mu.Lock()
	h.waits = waiting[a]
	h.mu.Unlock()
	switch a {
	case ipc.ActivityPaused:
		if why := h.run.guard.waiting(); why != "" {
			h.note("paused: " + why)
			return
		}
		h.note("paused; SIGUSR2 once more resumes")
	case ipc.ActivityRunning:
		h.note("resumed")
	}
}

// stop cancels at the first signal and leaves at the second.
func (h *manualMode) stop(_ context.Context, s os.Signal) (leave bool) {
	if h.stopped {
		return true
	}
	h.stopped = true
	if now, _ := h.run.control.cancel(cancelCause{signal: s}); now == sealed {
		h.note("too late to cancel: the work is done and is just being completed")
	} else {
		h.note("canceling: " + h.task.Undone)
	}
	return false
}

// abandoned is the error of a person who did not wait for the undoing.
func (h *manualMode) abandoned() error {
	e := record.Errorf(record.CanceledCode, "left in the middle of canceling")
	if h.task.Makes == "" {
		return e
	}
	return e.WithHint("%s settle --target %s --job %s removes what may be left", Program, h.task.Makes, h.run.ID)
}

// figures are the bar's.
func (h *manualMode) figures(r reading) term.Figures {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := term.Figures{Title: h.task.Doing, Waits: h.waits}
	if !r.Begun {
		return f
	}
	f.Phase, f.Percent = r.Plan[r.Phase.Index].Name, &r.Percent
	if r.Plan[r.Phase.Index].Unit != "bytes" {
		return f
	}
	f.Amount = quantity.FormatBytes(r.Progress.Durable)
	if r.Progress.Total > 0 {
		f.Amount += " of " + quantity.FormatBytes(r.Progress.Total)
	}
	if r.Rate >= 1 && h.waits == "" {
		f.Rate = quantity.FormatRate(int64(r.Rate))
		f.Left = remaining(r)
	}
	return f
}

func remaining(r reading) string {
	rest := r.Progress.WorkAll - r.Progress.Work
	if rest <= 0 {
		return ""
	}
	return quantity.FormatDuration(quantity.Seconds(float64(rest)/r.Rate)) + " left"
}

// noRecords is for a run whose end nobody has to find out later.
type noRecords struct{}

func (noRecords) Save([]byte) error     { return nil }
func (noRecords) Load() ([]byte, error) { return nil, nil }

func (noRecords) mark(ipc.Mark) error        { return nil }
func (noRecords) marked() (*ipc.Mark, error) { return nil, nil }
func (noRecords) outlive() bool              { return false }
func (noRecords) paths() []string            { return nil }
func (noRecords) Add(ipc.Item) error         { return nil }
func (noRecords) Added() ([]ipc.Item, error) { return nil, nil }

// conclude tells the result and gives the error.
func conclude(t Task, report *ipc.Report, took time.Duration, o ManualOptions) error {
	err := failureOf(report)
	out := os.Stdout
	if t.Stdout {
		out = os.Stderr
	}
	if o.JSON {
		return cmp.Or(err, printJSON(out, report))
	}
	if err := printItems(report); err != nil {
		return err
	}
	if report.Outcome == ipc.Canceled {
		return canceledManually(t, report)
	}
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, term.Escape(summary(t, report, took))); err != nil {
		return fmt.Errorf("cannot tell the result: %w", err)
	}
	return nil
}

// printItems tells what is known of many alone, one a line: the checksums of volumes, or
// sources.
func printItems(report *ipc.Report) error {
	for _, it := range report.Items {
		line := it.Checksum + "  " + it.Path
		switch {
		case it.Source != nil:
			b, err := json.Marshal(it.Source.Record())
			if err != nil {
				panic("internal error: " + err.Error()) // texts
			}
			line = string(b)
		case it.Checksum == "":
			continue
		}
		if _, err := fmt.Println(term.Escape(line)); err != nil {
			return fmt.Errorf("cannot tell the result: %w", err)
		}
	}
	return nil
}

// canceledManually says what a cancel has left.
func canceledManually(t Task, report *ipc.Report) error {
	if record.Rollback(report.Rollback) == record.RollbackFailed {
		return record.Errorf(record.CanceledCode, "%s; not all could be undone", report.Error.Message)
	}
	if t.Keeps && record.Rollback(report.Rollback) != record.RollbackKept {
		return record.Errorf(record.CanceledCode, "%s; nothing was written of %q that could be kept", report.Error.Message, t.Makes)
	}
	return record.Errorf(record.CanceledCode, "%s; %s", report.Error.Message, t.Undone)
}

// ending is what -o json prints: the part of a job's record that a
// task by hand has.
type ending struct {
	State    record.State    `json:"state"`
	Rollback record.Rollback `json:"rollback"`
	Warnings []string        `json:"warnings"`
	Error    *record.Error   `json:"error"`
	Result   *record.Result  `json:"result"`
	Stats    *record.Stats   `json:"stats"`
}

func printJSON(to io.Writer, report *ipc.Report) error {
	out := ending{
		State: record.State(report.Outcome), Rollback: record.Rollback(report.Rollback),
		Warnings: append([]string{}, report.Warnings...), Result: resultOf(report), Stats: statsOf(report),
	}
	if e := report.Error; e != nil {
		out.Error = e.Record()
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic("internal error: " + err.Error()) // plain values
	}
	if _, err := fmt.Fprintf(to, "%s\n", b); err != nil {
		return fmt.Errorf("cannot tell the result: %w", err)
	}
	return nil
}
