// Package helper is what a storage-helper does: it runs one task, under the daemon
// as a job or by hand for a person. The engine (run, job, hand, conductor, meter,
// checkpoint, window) knows no kind of task; a task is a file that is named like
// it, made of the fields of an operation. Only the command line is another
// package's: cmd/storage-helper.
package helper

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// program is how the helper is called.
const Program = "storage-helper"

// task is one piece of work, as the daemon or a person asked for it.
type Task struct {
	name    string                          // of its command
	doing   string                          // behind "cannot": `clone "/a" to "/b"`
	undone  string                          // what a cancel leaves, for people
	ask     string                          // what a destructive task asks before it begins; "" for others
	done    string                          // `cloned "/a" to "/b"`
	makes   string                          // the path of the volume it makes, "" if none
	reads   string                          // the path that is read, for I/O errors
	writes  string                          // the path that is written
	room    string                          // the hint where there is no space to write, and that is in no pool
	keeps   bool                            // an unfinished volume is kept
	stdout  bool                            // the content goes to standard output, and so the result elsewhere
	settles bool                            // it ends what another run began, and is not canceled itself
	resumes bool                            // it goes on where an earlier run of the job was interrupted
	changes []pool                          // whose figures are told in its end: it may have changed them
	spares  *place                          // a volume that is destroyed, unless an image needs it
	copies  *place                          // a volume that goes to makes, and may lack there what it needs
	byHand  func(ctx context.Context) error // finds out for a person what the daemon knows of its catalogue
	work    func(ctx context.Context, r *run) error
}

// run is a task at work, in whichever mode. Its work function plans, goes
// through the phases and fills the report's figures; its error says how it
// failed, a canceled context that it was stopped. Whatever it began has ended
// when it returns.
type run struct {
	id      string // the job's; drafts carry it
	pacer   *diskio.Pacer
	meter   *meter
	control *control
	view    view
	windows windows
	records commitRecords
	log     hclog.Logger
	report  ipc.Report
	warned  sync.Mutex // guards report.Warnings
	keep    bool       // an unfinished volume gets its name all the same

	command string   // of the task
	resumes bool     // an earlier helper had begun
	earlier *earlier // its checkpoint; nil: the task begins at its start
	unsaved sync.Once
	many    bool // what is made is one of many: its commit is not the task's
}

// view is who watches a run: the daemon at the other end of a FIFO, or a
// person. Its methods never block and are safe for concurrent use.
type view interface {
	plan(p ipc.Plan)
	phase(p ipc.Phase)
	progress(r reading)
	state(a ipc.Activity)
	warn(text string)
	checkpoint(c ipc.Checkpoint)
	// window tells of a window; it gives false where nobody visits, and nobody
	// answers.
	window(w ipc.Window) (visited bool)
}

// commitRecords keeps the identity of a volume that is about to get its name,
// and checkpoints.
type commitRecords interface {
	save(identity []byte) error
	// load gives what was saved, nil if nothing was.
	load() ([]byte, error)
	mark(m ipc.Mark) error
	// marked gives the newest checkpoint, nil if there is none.
	marked() (*ipc.Mark, error)
	// outlive reports whether they do the run: else nobody would look at them.
	outlive() bool
	// add notes that a task over many objects is done with one.
	add(it ipc.Item) error
	// added gives what was noted.
	added() ([]ipc.Item, error)
}

// newRun makes a run and the context that its control ends.
func newRun(id string, c commitRecords, log hclog.Logger) (*run, context.Context) {
	ctx, stop := context.WithCancelCause(context.Background())
	pacer := diskio.NewPacer()
	return &run{
		id: id, pacer: pacer, meter: &meter{pacer: pacer}, control: &control{stop: stop},
		windows: windows{called: make(chan struct{}, 1)}, records: c, log: log,
	}, ctx
}

// do runs the task to its end and gives the report, complete in any case.
func (r *run) do(ctx context.Context, t Task) *ipc.Report {
	r.report.Rollback = string(record.RollbackNone)
	r.windows.view = r.view
	r.keep, r.command, r.resumes = t.keeps, t.name, t.resumes
	r.takeUp(t)
	err := r.guarded(ctx, t)
	r.report.Pools, r.report.MaxRSS = r.figures(t.changes), peakMemory()
	r.view.progress(r.meter.read())
	r.report.Read, r.report.Written, r.report.Holes, r.report.Phases = r.meter.finish()
	r.judge(err, t)
	return &r.report
}

// figures asks what room the pools have when all that the task held is closed.
func (r *run) figures(pools []pool) []ipc.Pool {
	var out []ipc.Pool
	for _, p := range pools {
		known := slices.ContainsFunc(out, func(o ipc.Pool) bool { return o.Target == p.Target })
		if known {
			continue
		}
		figures, err := p.space(context.Background())
		if err != nil {
			r.log.Info("the figures of a pool are not read again", "pool", p.Target, "error", err)
			continue
		}
		out = append(out, figures)
	}
	return out
}

// guarded is the one place where a panic of a task ends.
func (r *run) guarded(ctx context.Context, t Task) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("task panicked", "panic", p, "stack", string(debug.Stack()))
			err = &ipc.Error{Code: string(record.Internal), Message: fmt.Sprintf("cannot %s: %v", t.doing, p), Offset: -1}
		}
	}()
	if ctx.Err() != nil {
		return context.Cause(ctx) // canceled before it began
	}
	return t.work(ctx, r)
}

// judge turns the end of the work into outcome and error. A task that finished
// although it was told to stop has succeeded.
func (r *run) judge(err error, t Task) {
	switch {
	case err == nil:
		r.report.Outcome = ipc.Succeeded
	case errors.Is(err, errUndone):
		r.report.Outcome = ipc.Canceled
		r.report.Error = &ipc.Error{Code: string(record.CanceledCode), Message: err.Error(), Offset: -1}
	case errors.Is(err, context.Canceled) && !t.settles:
		r.report.Outcome = ipc.Canceled
		r.report.Error = &ipc.Error{Code: string(record.CanceledCode), Message: r.control.why().Error(), Offset: -1}
	default:
		r.report.Outcome = ipc.Failed
		r.report.Error = fault(err, t)
	}
}

// plan tells the phases of the task.
func (r *run) plan(phases ...ipc.PlanPhase) {
	r.meter.setPlan(phases)
	r.view.plan(ipc.Plan{Phases: phases})
}

// next begins the phase of that index.
func (r *run) next(index int) {
	r.view.progress(r.meter.read()) // a short phase would have none else
	r.view.phase(r.meter.begin(index))
	if r.earlier == nil { // else the first reading would count what an earlier helper did
		r.view.progress(r.meter.read())
	}
}

// seal passes the point of no return, unless a cancel came first. A task over
// many has one for each, behind which it can be canceled again.
func (r *run) seal() error {
	if r.many {
		return r.control.stopped()
	}
	if err := r.control.seal(); err != nil {
		return err
	}
	r.view.phase(r.meter.seal())
	r.view.state(ipc.ActivityFinalizing)
	return nil
}

// warn keeps a warning with the report and tells it. It may be called by
// whatever the task has begun, checkpoints too.
func (r *run) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.warned.Lock()
	r.report.Warnings = append(r.report.Warnings, text)
	r.warned.Unlock()
	r.view.warn(text)
}

// step does what cannot be interrupted: it waits for a pause to end, and a
// pause waits for it.
func (r *run) step(ctx context.Context, do func() error) error {
	if _, err := r.pacer.Admit(ctx, 0); err != nil {
		return err
	}
	defer r.pacer.Finished(diskio.Moved{})
	return do()
}
