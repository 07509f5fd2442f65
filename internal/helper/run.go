// Package helper is the engine of a storage-helper: it runs one task, under the
// daemon as a job or by hand for a person. It knows no kind of task: those are in
// package task, one file each.
package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/backends/deputy"
	"storaged/internal/diskio"
	"storaged/internal/image"
	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/tool"
)

// Program is how the helper is called.
const Program = "storage-helper"

// Task is one piece of work, as the daemon or a person asked for it.
type Task struct {
	Name    string                          // of its command
	Doing   string                          // behind "cannot": `clone "/a" to "/b"`
	Undone  string                          // what a cancel leaves, for people
	Ask     string                          // what a destructive task asks before it begins; "" for others
	Done    string                          // `cloned "/a" to "/b"`
	Makes   string                          // the path of the volume it makes, "" if none
	Reads   string                          // the path that is read, for I/O errors
	Writes  string                          // the path that is written
	Room    string                          // the hint where there is no space to write, and that is in no pool
	Short   string                          // what to do after that where the space ran out in the middle
	Keeps   bool                            // an unfinished volume is kept
	Stdout  bool                            // the content goes to standard output, and so the result elsewhere
	Settles bool                            // it ends what another run began, and is not canceled itself
	Seeks   bool                            // it takes locks in the course of its work, of what it comes upon
	Pools   bool                            // it makes or unmakes a pool, by names that nobody knows before, and reads no volume
	Labels  bool                            // it gives attributes that only an administrator may give
	Resumes bool                            // it goes on where an earlier run of the job was interrupted
	ByHand  func(ctx context.Context) error // looks, for a person, after what the daemon knows of its catalog
	Idle    string                          // says that it found nothing to do

	Secrets map[string]string // by name, the file that each is in: a path, or fd:N

	Opens  []Opening                               // what it works with
	Images int                                     // how many children it starts at most that open images
	Work   func(ctx context.Context, r *Run) error // does it, with nothing but what is open

	Again func() (Task, error) // makes it anew, for who asks for it once more; nil: it is done once
}

// Run is a task at work, in whichever mode. Its work function plans, goes
// through the phases and fills the report's figures; its error says how it
// failed, a canceled context that it was stopped. Whatever it began has ended
// when it returns.
type Run struct {
	ID       string // the job's; drafts carry it
	Pacer    *diskio.Pacer
	meter    *meter
	control  *control
	throttle throttle
	guard    guard
	view     view
	Windows  windows
	Records  Records
	log      hclog.Logger
	Names    []string // what the daemon wants a task to look at that only looks
	Report   ipc.Report
	warned   sync.Mutex          // guards report.Warnings
	Keep     bool                // an unfinished volume gets its name all the same
	knows    []func(v *ipc.Item) // add to the description of the volume
	confine  func(t Task) error  // confined, but for tests
	least    string              // confinement without which it does not work; "": none is asked
	pools    []*Pool             // open to the end of the run
	secrets  map[string]*os.File // likewise
	scout    *image.Scout        // nil: the task needs none
	deputy   *deputy.Deputy      // likewise
	makes    string              // name of the volume that the task makes, "" if none

	lock    *os.File     // the job's, for children that move data; nil by hand
	private string       // a directory of the job that nobody else enters, and that ends with it; "" by hand
	links   []*tool.Link // to children that are yet to be started
	ahead   bool         // QEMU can allocate a file ahead, as far as is known

	command string   // of the task
	resumes bool     // an earlier helper had begun
	Earlier *earlier // its checkpoint; nil: the task begins at its start
	unsaved sync.Once
	Many    bool // what is made is one of many: its commit is not the task's
}

// view is who watches a run: the daemon at the other end of a FIFO, or a
// person. Its methods never block and are safe for concurrent use.
type view interface {
	plan(p ipc.Plan)
	phase(p ipc.Phase)
	progress(r reading)
	state(a ipc.Activity)
	confined(c ipc.Confined)
	warn(text string)
	checkpoint(c ipc.Checkpoint)
	// window tells of a window; it gives false where nobody visits, and nobody
	// answers.
	window(w ipc.Window) (visited bool)
}

// Records keep the identity of a volume that is about to get its name,
// and checkpoints.
type Records interface {
	Save(identity []byte) error
	// Load gives what was saved, nil if nothing was.
	Load() ([]byte, error)
	mark(m ipc.Mark) error
	// marked gives the newest checkpoint, nil if there is none.
	marked() (*ipc.Mark, error)
	// outlive reports whether they do the run: else nobody would look at them.
	outlive() bool
	// paths are what they open, and the daemon that comes back has the helper open.
	paths() []string
	// Add notes that a task over many objects is done with one.
	Add(it ipc.Item) error
	// Added gives what was noted.
	Added() ([]ipc.Item, error)
}

// newRun makes a run and the context that its control ends.
func newRun(id string, c Records, log hclog.Logger) (*Run, context.Context) {
	ctx, stop := context.WithCancelCause(context.Background())
	pacer := diskio.NewPacer()
	r := &Run{
		ID: id, Pacer: pacer, meter: &meter{pacer: pacer}, control: &control{stop: stop, asked: make(chan struct{})},
		Windows: windows{Called: make(chan struct{}, 1)}, Records: c, log: log,
	}
	r.confine = r.confined
	r.throttle.held = make(chan struct{}, 1)
	r.throttle.join(pacer)
	r.guard = guard{run: r, most: defaultFill, every: rationTime, changed: make(chan struct{}, 1)}
	return r, ctx
}

// do runs the task to its end and gives the report, complete in any case.
func (r *Run) do(ctx context.Context, t Task) *ipc.Report {
	r.Report.Rollback = string(record.RollbackNone)
	r.Windows.view = r.view
	r.Keep, r.command, r.resumes = t.Keeps, t.Name, t.Resumes
	r.takeUp(t)
	defer r.recallDeputy()
	err := r.guarded(ctx, t)
	if t.Settles && err != nil && !errors.Is(err, ErrUndone) {
		r.Report.Rollback = string(record.RollbackFailed)
	}
	r.Report.Pools, r.Report.MaxRSS = r.leavePools(), peakMemory()
	r.view.progress(r.meter.read())
	r.Report.Read, r.Report.Written, r.Report.Holes, r.Report.Phases = r.meter.finish()
	r.judge(err, t)
	return &r.Report
}

// leavePools asks what room the pools have that may have changed, when all that the
// task held in them is closed, and closes them too.
func (r *Run) leavePools() (out []ipc.Pool) {
	for _, p := range r.pools {
		known := slices.ContainsFunc(out, func(o ipc.Pool) bool { return o.Target == p.Target })
		if p.Changes && !known {
			figures, err := p.Space(context.Background())
			if err != nil {
				r.log.Info("the figures of a pool are not read again", "pool", p.Target, "error", err)
			} else {
				out = append(out, figures)
			}
		}
		if p.Opened != nil {
			p.Opened.Close() // nothing was written to it
		}
	}
	return out
}

// guarded is the one place where a panic of a task ends.
func (r *Run) guarded(ctx context.Context, t Task) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("task panicked", "panic", p, "stack", string(debug.Stack()))
			err = ipc.Errorf(record.Internal, "cannot %s: %v", t.Doing, p)
		}
	}()
	if ctx.Err() != nil {
		return context.Cause(ctx) // canceled before it began
	}
	return r.stages(ctx, t)
}

// ErrUndone says that the job had not come to its end and that nothing
// unfinished is left of it. The daemon gets it as the outcome canceled of the
// settling helper, which means that the job was undone.
var ErrUndone = errors.New("the job had not come to its end; nothing unfinished is left of it")

// ErrKept is ErrUndone where something unfinished was to be kept, and was.
var ErrKept error = keptError{}

type keptError struct{}

func (keptError) Error() string {
	return "the job had not come to its end; what there is of it was kept, as was asked for"
}

// Is ErrUndone too.
func (keptError) Is(target error) bool { return target == ErrUndone }

// judge turns the end of the work into outcome and error. A task that finished
// although it was told to stop has succeeded.
func (r *Run) judge(err error, t Task) {
	switch {
	case err == nil:
		r.Report.Outcome = ipc.Succeeded
	case errors.Is(err, ErrUndone):
		r.Report.Outcome = ipc.Canceled
		r.Report.Error = ipc.Errorf(record.CanceledCode, "%v", err)
	case errors.Is(err, context.Canceled) && !t.Settles:
		r.Report.Outcome = ipc.Canceled
		r.Report.Error = ipc.Errorf(record.CanceledCode, "%v", r.control.stopped())
	default:
		r.Report.Outcome = ipc.Failed
		r.Report.Error = Fault(err, t)
	}
}

// Plan tells the phases of the task.
func (r *Run) Plan(phases ...ipc.PlanPhase) {
	r.meter.setPlan(phases)
	r.guard.plan(phases)
	r.view.plan(ipc.Plan{Phases: phases})
}

// Next begins the phase of that index.
func (r *Run) Next(index int) {
	r.view.progress(r.meter.read()) // a short phase would have none else
	r.view.phase(r.meter.begin(index))
	if r.Earlier == nil { // else the first reading would count what an earlier helper did
		r.view.progress(r.meter.read())
	}
}

// toCommit begins the phase that commits, if the plan has one.
func (r *Run) toCommit() {
	if index := r.meter.find(committing); index >= 0 {
		r.Next(index)
	}
}

// Seal passes the point of no return, unless a cancel came first. A task over
// many has one for each, behind which it can be canceled again.
func (r *Run) Seal() error {
	if r.Many {
		return r.control.stopped()
	}
	if err := r.control.seal(); err != nil {
		return err
	}
	r.view.phase(r.meter.seal())
	r.view.state(ipc.ActivityFinalizing)
	return nil
}

// Warn keeps a warning with the report and tells it. It may be called by
// whatever the task has begun, checkpoints too.
func (r *Run) Warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.warned.Lock()
	r.Report.Warnings = append(r.Report.Warnings, text)
	r.warned.Unlock()
	r.view.warn(text)
}

// Rest returns when nothing moves any more; nothing does until end is called.
func (r *Run) Rest(ctx context.Context) (end func(), err error) { return r.throttle.rest(ctx) }

// Step does what cannot be interrupted: it waits for a pause to end, and a
// pause waits for it.
func (r *Run) Step(ctx context.Context, do func() error) error {
	if _, err := r.Pacer.Admit(ctx, 0); err != nil {
		return err
	}
	defer r.Pacer.Finished(diskio.Moved{})
	return do()
}

// Lock is the job's, which programs inherit that write; nil without a job.
func (r *Run) Lock() *os.File { return r.lock }

// RollingBack says that what was done is undone.
func (r *Run) RollingBack() { r.view.state(ipc.ActivityRollingBack) }
