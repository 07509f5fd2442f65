// Package transfer brings contents from clients to the helpers of jobs and back,
// whatever the front end. The daemon holds a pipe's room of a content and no more.
// It knows no protocol: a front end gives it a Client, and words how a transfer
// ended for its own users.
package transfer

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

const (
	// pipeBytes is asked for as the room of a pipe to a helper. More makes
	// nothing faster.
	pipeBytes = 1 << 20
	// pieceBytes is what is copied at once between a client and a pipe. With the
	// pipe it is all that the daemon holds of a content.
	pieceBytes = 256 << 10
	// breakGrace is how long a job may take to notice by itself that its stream
	// has broken off. One that waits, for a lock or because it is paused, does
	// not, and is canceled then.
	breakGrace = 5 * time.Second
	// waitStep bounds one wait for the end of a job, after which the next follows.
	waitStep = 10 * time.Minute
)

// Jobs is what a transfer asks of the service.
type Jobs interface {
	Job(ctx context.Context, job string) (record.Job, error)
	WaitJob(ctx context.Context, job string, timeout time.Duration) (record.Job, error)
	CancelJob(ctx context.Context, c record.Caller, job string, r contract.JobCancel) (record.Job, error)
	FailJob(ctx context.Context, job string, why *record.Error) error
}

// Connection is what a client's content comes or goes through.
type Connection interface {
	// A deadline in the past breaks what is being read or written, and none (the
	// zero time) lets it go on.
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	// PeerClosed reports whether the client has closed it. It takes nothing of what
	// has come.
	PeerClosed() bool
}

// Client is who a content comes from or goes to.
type Client struct {
	Caller     record.Caller
	Connection Connection
	Gone       context.Context // over when the client has left
	Stopping   context.Context // over when the front end stops
	Silence    time.Duration   // how long an upload's client may send nothing while its job is at work; 0: for ever
}

// patient is a context for waiting: over when the client leaves or the front end
// stops.
func (c Client) patient() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(c.Gone)
	end := context.AfterFunc(c.Stopping, cancel)
	return ctx, func() { end(); cancel() }
}

// Transfer is a content on its way between a client and the helper of a job.
// While it is, one goroutine watches the job: when that ends or the front end
// stops, the client's connection is broken, so that nobody waits for it. Of an
// upload others watch the client.
type Transfer struct {
	jobs    Jobs
	client  Client
	job     record.Job
	ctx     context.Context // over when the transfer ends
	watcher sync.WaitGroup
	stop    func()   // ends the watching, and returns when it has ended
	pipe    *os.File // our end of it
	upload  bool
}

// Upload begins to watch a job that reads a content from a pipe, of which out is
// our end. It ends with Receive.
func Upload(jobs Jobs, client Client, j record.Job, out *os.File) *Transfer {
	return begin(&Transfer{jobs: jobs, client: client, job: j, pipe: out, upload: true})
}

// Download begins to watch a job that writes a content into a pipe, of which in
// is our end. It ends with Send.
func Download(jobs Jobs, client Client, j record.Job, in *os.File) *Transfer {
	return begin(&Transfer{jobs: jobs, client: client, job: j, pipe: in})
}

func begin(t *Transfer) *Transfer {
	outer, release := t.client.patient()
	ctx, cancel := context.WithCancel(outer)
	t.ctx = ctx
	t.stop = func() {
		cancel()
		t.watcher.Wait() // outer ends before them only where the client leaves or the front end stops
		release()
	}
	t.watcher.Go(func() {
		if t.watch(); ctx.Err() == nil || outer.Err() != nil {
			t.deadlines(time.Unix(1, 0))
		}
	})
	return t
}

// watch returns when the job did not succeed, or the transfer ends.
func (t *Transfer) watch() {
	for t.ctx.Err() == nil {
		j, err := t.jobs.WaitJob(t.ctx, t.job.ID, waitStep)
		switch {
		case err != nil || j.State.Terminal() && j.State != record.Succeeded:
			return
		case j.State == record.Succeeded:
			<-t.ctx.Done() // what has come of it may still be on its way
		}
	}
}

// deadlines breaks what is being read and written, or lets it go on. One that
// cannot be set is that of a connection that is broken already.
func (t *Transfer) deadlines(at time.Time) {
	_ = t.client.Connection.SetReadDeadline(at)
	_ = t.client.Connection.SetWriteDeadline(at)
	if t.upload {
		_ = t.pipe.SetWriteDeadline(at) // it is closed at the end
	}
}

// end ends the watching. The connection can be used again.
func (t *Transfer) end() {
	t.stop()
	t.deadlines(time.Time{})
}

// settle waits for the end of the job. Of one whose stream has broken off it
// makes sure that it ends.
func (t *Transfer) settle(broken bool) record.Job {
	switch {
	case broken && t.client.Stopping.Err() != nil:
		return t.job // its helper notices; what waits is told by the next daemon
	case broken:
		return t.settleBroken(context.WithoutCancel(t.client.Gone))
	}
	ctx, done := t.client.patient()
	defer done()
	for {
		j, err := t.jobs.WaitJob(ctx, t.job.ID, waitStep)
		if err != nil || j.State.Terminal() || ctx.Err() != nil {
			return j
		}
	}
}

func (t *Transfer) settleBroken(ctx context.Context) record.Job {
	j, err := t.jobs.WaitJob(ctx, t.job.ID, breakGrace)
	if err == nil && j.State.Terminal() {
		return j
	}
	if j, err = t.jobs.CancelJob(ctx, t.client.Caller, t.job.ID, contract.JobCancel{}); err == nil {
		return j
	}
	if j, err = t.jobs.Job(ctx, t.job.ID); err == nil {
		return j // it ended just now
	}
	return t.job // the front end is stopping
}

// Pipe makes a pipe to or from a helper.
func Pipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil {
		return nil, nil, fmt.Errorf("cannot make a pipe to a helper: %w", err)
	}
	raw, err := w.SyscallConn() // File.Fd would make its writes wait in the kernel, each with a thread
	if err == nil {
		// What a user may have is bounded; then it stays smaller.
		err = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeBytes) })
	}
	if err != nil {
		panic("internal error: transfer: a new pipe is closed: " + err.Error())
	}
	return r, w, nil
}
