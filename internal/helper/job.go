package helper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/crash"
	"storaged/internal/ipc"
	"storaged/internal/procfs"
	"storaged/internal/record"
)

// beatInterval tells the daemon that a helper without progress is alive.
const beatInterval = 2 * time.Second

// jobMode is a run under the daemon.
type jobMode struct {
	conductor
	dir     ipc.JobDir
	lock    *os.File
	sender  *ipc.Sender
	control *ipc.Control
	orders  chan ipc.Message // from the reading goroutine, which closes it when none can come any more
	quit    chan struct{}    // closed to end the reading goroutine
	reading sync.WaitGroup

	stay bool // the daemon may ask for the task again

	mu       sync.Mutex
	activity ipc.Activity
	sent     ipc.Progress // last
	sign     time.Time    // of the last frame that shows life
}

var _ mode = (*jobMode)(nil)

// RunJob runs a task as the job of dir; version is the program's. Its error is
// the job's.
func RunJob(dir ipc.JobDir, version string, t Task) error {
	log := newJobLog(os.Stderr)
	j, err := joinJob(dir, version, log)
	if err != nil {
		return fmt.Errorf("cannot run job %s: %w", dir.Job, err)
	}
	defer j.leave()
	ctx := j.newRun(log)
	if err := j.awaitGo(ctx); err != nil {
		return err
	}
	if j.stay {
		procfs.CallLooker()
	}
	crash.At(crash.Resumed)
	for {
		report := j.conduct(ctx, t)
		crash.At(crash.Done)
		stays := j.stay && t.Again != nil && report.Outcome == ipc.Succeeded && j.run.reopens()
		if err := j.conclude(report, stays); err != nil || !stays {
			return err
		}
		again, asked := j.askedAgain()
		if !asked {
			return nil
		}
		if t, err = t.Again(); err != nil {
			return err
		}
		ctx = j.newRun(log)
		j.run.Names = again.Names
		j.run.confine = func(Task) error { return nil } // it is, and stays so
	}
}

// newRun makes the run of the task that is watched from now on.
func (j *jobMode) newRun(log hclog.Logger) context.Context {
	r, ctx := newRun(j.dir.Job, jobRecords{j.dir, j, ipc.NewItemFile(j.dir.Items())}, log)
	r.view, r.lock, r.private, j.run = j, j.lock, j.dir.Runtime, r
	return ctx
}

// askedAgain waits until the daemon asks for the task once more. It gives false when it
// does not, or when a signal asks to stop.
func (j *jobMode) askedAgain() (again ipc.Again, asked bool) {
	for {
		select {
		case m, ok := <-j.orders:
			if again, asked = m.(ipc.Again); asked || !ok {
				return again, asked
			}
		case s := <-j.signals:
			if s == syscall.SIGTERM || s == syscall.SIGINT {
				return again, false
			}
		}
	}
}

// joinJob opens the job's files and says hello.
func joinJob(dir ipc.JobDir, version string, log hclog.InterceptLogger) (*jobMode, error) {
	if err := holdLock(dir); err != nil {
		return nil, err
	}
	frames, err := ipc.OpenFrames(dir.Frames())
	if err != nil {
		return nil, err
	}
	control, err := ipc.JoinControl(dir.Control())
	if err != nil {
		return nil, err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2)
	j := &jobMode{
		dir: dir, lock: os.NewFile(ipc.LockFD, "lock"), sender: ipc.NewSender(frames), control: control,
		orders: make(chan ipc.Message), quit: make(chan struct{}),
	}
	j.mode, j.signals, j.frames, j.obey = j, signals, j.orders, j.follow
	log.RegisterSink(frameSink{j.sender})
	j.sender.Send(ipc.Hello{Proto: ipc.Proto, ProtoMin: ipc.ProtoMin, PID: os.Getpid(), Job: dir.Job, Version: version})
	j.reading.Go(func() { j.read(log) })
	return j, nil
}

// leave ends what joinJob began, except for the FIFO and the lock, which end
// with the process.
func (j *jobMode) leave() {
	close(j.quit)
	j.control.Close() // ends the read that waits
	j.reading.Wait()
}

// holdLock makes sure that the inherited descriptor is the job's lock and
// keeps it from what we start: only tools that move data are given it.
func holdLock(dir ipc.JobDir) error {
	var have, want syscall.Stat_t
	if err := syscall.Fstat(ipc.LockFD, &have); err != nil {
		return fmt.Errorf("no lock on descriptor %d: %w", ipc.LockFD, err)
	}
	if err := syscall.Stat(dir.Lock(), &want); err != nil {
		return fmt.Errorf("lock %s: %w", dir.Lock(), err)
	}
	if have.Dev != want.Dev || have.Ino != want.Ino {
		return fmt.Errorf("descriptor %d is not the lock %s", ipc.LockFD, dir.Lock())
	}
	syscall.CloseOnExec(ipc.LockFD)
	return nil
}

// read hands on what the daemon orders. With GO it takes a write end of the
// FIFO, from when on the daemon may die without our noticing, unless we may stay: then
// its death is our end.
func (j *jobMode) read(log hclog.Logger) {
	defer close(j.orders)
	for {
		f, err := j.control.Next()
		if g, ok := f.Body.(ipc.Go); ok && err == nil && !g.Stay {
			err = j.control.Keep()
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				log.Warn("no more orders are read from the daemon; signals still work", "error", err)
			}
			return
		}
		select {
		case j.orders <- f.Body:
		case <-j.quit:
			return
		}
	}
}

// awaitGo waits until the task may begin. A cancel that comes first lets it
// begin too, canceled.
func (j *jobMode) awaitGo(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case m, ok := <-j.orders:
			if !ok {
				return j.untouched()
			}
			if g, ok := m.(ipc.Go); ok {
				j.start(ctx, g)
				return nil
			}
			j.follow(ctx, m)
		case s := <-j.signals:
			if s == syscall.SIGTERM || s == syscall.SIGINT {
				j.stop(ctx, s)
			}
		}
	}
	return nil
}

// untouched ends a run that GO did not reach. The daemon may have recorded that
// it would, and is told otherwise.
func (j *jobMode) untouched() error {
	err := record.Errorf(record.Interrupted, "the daemon went away before it said go; nothing was touched")
	_, serr := ipc.SaveReport(j.dir.Result(), &ipc.Report{Summary: ipc.Summary{
		Outcome: ipc.Failed, Untouched: true, Error: ipc.Errorf(err.Code, "%s", err.Message),
	}})
	return errors.Join(err, serr)
}

// start applies what came with GO.
func (j *jobMode) start(ctx context.Context, g ipc.Go) {
	j.run.least, j.stay, j.run.Names = g.Confinement, g.Stay, g.Names
	j.run.guard.most = cmp.Or(g.Fill, defaultFill)
	j.run.throttle.setLimit(g.Limit)
	if g.Paused {
		j.run.throttle.pause(ctx) // it is told when the task is conducted
		return
	}
	j.state(ipc.ActivityRunning)
}

// follow does what a frame orders.
func (j *jobMode) follow(ctx context.Context, order ipc.Message) {
	switch m := order.(type) {
	case ipc.Cancel:
		j.cancel()
	case ipc.Pause:
		j.pause(ctx, true)
	case ipc.Resume:
		j.pause(ctx, false)
	case ipc.Limit:
		j.run.throttle.setLimit(m.Rate)
		j.state("")
	case ipc.WindowAck:
		j.run.Windows.ack(m.ID)
	case ipc.WindowCall:
		j.run.Windows.call()
	case ipc.Resync:
		j.sender.Resync()
	case nil: // closed: there are no more orders
		j.frames = nil
	}
}

// cancel follows a CANCEL frame.
func (j *jobMode) cancel() {
	now, _ := j.run.control.cancel(cancelCause{})
	j.canceled(now)
}

// stop follows SIGTERM and SIGINT. The daemon sends CANCEL before its signal: it
// is there by now, or the signal came from somewhere else.
func (j *jobMode) stop(ctx context.Context, s os.Signal) (leave bool) {
	j.obeyAll(ctx)
	now, first := j.run.control.cancel(cancelCause{signal: s})
	if now == canceled && first { // nobody but the signal's sender has asked for it
		j.tell(ipc.State{Activity: ipc.ActivityCanceling, FromAfar: true})
	} else {
		j.canceled(now)
	}
	return false
}

// canceled tells what came of a cancel.
func (j *jobMode) canceled(now stage) {
	if now == sealed {
		j.state(ipc.ActivityFinalizing)
		return
	}
	j.state(ipc.ActivityCanceling)
}

// obeyAll follows every order that has been given by now.
func (j *jobMode) obeyAll(ctx context.Context) {
	fenced := false
	for j.frames != nil {
		if !fenced {
			err := j.control.Fence()
			if fenced = err == nil; !fenced && !errors.Is(err, ipc.ErrFull) {
				return // no orders come any more
			}
		}
		m := <-j.frames
		if _, ok := m.(ipc.Fence); ok {
			return
		}
		j.follow(ctx, m)
	}
}

// conclude saves the report and announces it, and whether we stay. Success is nothing but
// a report that is durable.
func (j *jobMode) conclude(report *ipc.Report, stays bool) error {
	var digest string
	err := j.persist("result", func() (err error) {
		digest, err = ipc.SaveReport(j.dir.Result(), report)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot report the end of job %s: %w", j.dir.Job, err)
	}
	crash.At(crash.Saved)
	j.sender.Send(ipc.Result{Outcome: report.Outcome, Digest: digest, Stays: stays})
	return failureOf(report)
}

// persistInterval is how often a file of the job is saved again while the state
// directory is full: seconds do not matter to work that took hours.
const persistInterval = time.Second

// persist saves a file of the job. While there is no room for it, or the file
// system is read-only, it goes on trying, and says so once: what was done to
// the storage is not lost because of the state directory.
func (j *jobMode) persist(what string, save func() error) error {
	err := save()
	if !mendable(err) {
		return err
	}
	j.show(ipc.Warn{Text: fmt.Sprintf("the %s of the job cannot be saved yet: %v", what, err)})
	again := time.NewTicker(persistInterval)
	defer again.Stop()
	for ; mendable(err); err = save() {
		<-again.C
		j.show(ipc.Beat{})
	}
	return err
}

// mendable reports whether somebody can end the trouble while we wait.
func mendable(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

func (j *jobMode) plan(p ipc.Plan)   { j.show(p) }
func (j *jobMode) phase(p ipc.Phase) { j.show(p) }
func (j *jobMode) warn(text string)  { j.show(ipc.Warn{Text: text}) }

func (j *jobMode) confined(c ipc.Confined) { j.show(c) }

func (j *jobMode) checkpoint(c ipc.Checkpoint) { j.show(c) }

func (j *jobMode) window(w ipc.Window) bool {
	j.show(w)
	return true
}

// state tells the activity and the limit in force; "" is the activity as
// before. What began when the task was stopped does not run or pause again.
func (j *jobMode) state(a ipc.Activity) { j.tell(ipc.State{Activity: a}) }

func (j *jobMode) tell(s ipc.State) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if rank[s.Activity] >= rank[j.activity] {
		j.activity = s.Activity
	}
	if s.Activity = j.activity; s.Activity == ipc.ActivityPaused {
		s.Waits = j.run.guard.waiting()
	}
	s.Limit, _, _ = j.run.throttle.now()
	j.sign = time.Now()
	j.sender.Send(s)
}

// rank orders activities: no way leads back to a lower one.
var rank = map[ipc.Activity]int{
	"": 0, ipc.ActivityRunning: 1, ipc.ActivityPaused: 1,
	ipc.ActivityCanceling: 2, ipc.ActivityFinalizing: 3, ipc.ActivityRollingBack: 4,
}

// tick tells progress, or at least life.
func (j *jobMode) tick(r reading) {
	j.progress(r)
	j.mu.Lock()
	quiet := time.Since(j.sign) >= beatInterval
	j.mu.Unlock()
	if quiet {
		j.show(ipc.Beat{})
	}
}

func (j *jobMode) report(r reading) { j.show(r.Progress) }

// progress tells the progress unless it is known already.
func (j *jobMode) progress(r reading) {
	if !r.Begun {
		return
	}
	j.mu.Lock()
	known := r.Progress == j.sent
	j.sent = r.Progress
	j.mu.Unlock()
	if !known {
		j.show(r.Progress)
	}
}

func (j *jobMode) show(m ipc.Message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sign = time.Now()
	j.sender.Send(m)
}

// jobRecords are the files of a job.
type jobRecords struct {
	dir   ipc.JobDir
	mode  *jobMode
	items *ipc.ItemFile
}

func (j jobRecords) Save(identity []byte) error {
	defer crash.At(crash.Recorded)
	return j.mode.persist("commit record", func() error { return ipc.SaveDurable(j.dir.Commit(), identity) })
}

func (j jobRecords) mark(m ipc.Mark) error { return ipc.SaveMark(j.dir.Checkpoint(), m) }
func (j jobRecords) outlive() bool         { return true }
func (j jobRecords) paths() []string       { return []string{j.dir.State, j.dir.Control()} }

func (j jobRecords) marked() (*ipc.Mark, error) {
	m, err := ipc.LoadMark(j.dir.Checkpoint())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return m, err
}

// maxCommit is more than any driver's identity of a volume, in bytes.
const maxCommit = 64 << 10

func (j jobRecords) Add(it ipc.Item) error {
	return j.mode.persist("list of what is done", func() error { return j.items.Add(it) })
}

func (j jobRecords) Added() ([]ipc.Item, error) { return ipc.ReadItems(j.dir.Items()) }

func (j jobRecords) Load() ([]byte, error) {
	f, err := os.Open(j.dir.Commit())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the commit record: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCommit))
	if err != nil {
		return nil, fmt.Errorf("cannot read the commit record: %w", err)
	}
	return b, nil
}
