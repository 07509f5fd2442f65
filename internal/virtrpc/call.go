package virtrpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// waitStep bounds one wait for the end of a job, after which the next follows.
const waitStep = 10 * time.Minute

// errGone says that a client does not wait for its answer any more.
var errGone = errors.New("the client has left")

// call is one call on its way.
type call struct {
	*connection
	header    wire.Header
	procedure procedure
	caller    record.Caller
	stranger  bool
	args      []byte
	stream    *stream // nil without
	began     time.Time
	working   bool // has its place among those that are worked on
	large     bool // and among those with large arguments
	answered  bool
	job       int64 // that it has started
	err       error // it was refused with
}

// arrive takes the call's places, and then its arguments of n bytes.
func (c *call) arrive(n int) error {
	if !c.waitFor(c.calls) {
		return errGone
	}
	if n > plainArguments {
		if !c.waitFor(c.connection.large) {
			return errGone
		}
		c.large = true
	}
	var args bytes.Buffer // it grows as they come
	_, err := io.CopyN(&args, c.in, int64(n))
	c.args = args.Bytes()
	return err
}

// release gives the places back. What still comes of the stream is dropped.
func (c *call) release() {
	if c.stream != nil {
		if c.streams.remove(c.stream) {
			_ = c.send(ending(c.header), nil)
		}
	}
	if c.large {
		<-c.connection.large
	}
	<-c.calls
}

// run does what is called for and answers.
func (c *call) run() {
	defer c.release()
	if !c.procedure.atOnce && !c.resume() {
		return
	}
	defer c.rest()
	defer c.finish()
	v, err := c.procedure.do(c, xdr.NewDecoder(c.args))
	c.answer(v, err)
}

// resume waits until the call may be worked on. It reports false where the client has
// left.
func (c *call) resume() bool {
	select {
	case c.work <- struct{}{}:
		c.working = true
	case <-c.gone.Done():
	}
	return c.working
}

// rest lets others be worked on.
func (c *call) rest() {
	if c.working {
		<-c.work
		c.working = false
	}
}

// ctx is the context for a call of the service. A change that has begun is not
// disturbed by a client that leaves.
func (c *call) ctx() context.Context {
	if c.procedure.access >= owns {
		return context.WithoutCancel(c.gone)
	}
	return c.gone
}

// patient is a context for waiting: over when the client leaves or the server stops.
func (c *connection) patient() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(c.gone)
	end := context.AfterFunc(c.stopping, cancel)
	return ctx, func() { end(); cancel() }
}

// flags refuses those that the procedure does not know.
func (c *call) flags(given, known wire.Flags) error {
	if more := given &^ known; more != 0 {
		return badArgument("flags", "unsupported flags (0x%x) in function %s", uint32(more), driverFunction(c.procedure.name))
	}
	return nil
}

// await waits for the job that a call has started, if it needed one, and gives it when
// it has succeeded.
func (c *call) await(st contract.Started, err error) (record.Job, error) {
	if err != nil || st.Job == nil {
		return record.Job{}, err
	}
	c.startedJob(st.Job)
	ctx, done := c.patient()
	defer done()
	j, err := c.ended(ctx, *st.Job)
	switch {
	case err != nil:
		return j, err
	case !j.State.Terminal():
		return j, c.leftAlone(j)
	case j.State == record.Succeeded:
		return j, nil
	case j.Error != nil:
		return j, jobError(j)
	}
	return j, record.Errorf(record.CanceledCode, "job %d was canceled", j.Number)
}

// ended waits until a job has ended, or ctx, and gives the job as it is then. Meanwhile
// others are worked on.
func (c *call) ended(ctx context.Context, j record.Job) (record.Job, error) {
	c.rest()
	defer c.resume()
	for !j.State.Terminal() && ctx.Err() == nil {
		next, err := c.svc.WaitJob(ctx, j.ID, waitStep)
		switch {
		case ctx.Err() != nil && err != nil:
			return j, nil
		case err != nil:
			return j, err
		}
		j = next
	}
	return j, nil
}

// jobError is why a job has failed, which it names.
func jobError(j record.Job) error { return fmt.Errorf("%w (job %d)", j.Error, j.Number) }

// goesOn is what is said of a job that the daemon cannot be waited for any more with.
func goesOn(j record.Job) error {
	return record.Errorf(record.Draining, "storaged stops; job %d goes on without it", j.Number)
}

// leftAlone is what becomes of a job that nobody waits for any more.
func (c *call) leftAlone(j record.Job) error {
	if c.stopping.Err() != nil {
		return goesOn(j)
	}
	if c.Cancel {
		if _, err := c.svc.CancelJob(context.WithoutCancel(c.gone), c.caller, j.ID, contract.JobCancel{}); err != nil {
			c.Log.Debug("the job of a client that left is not canceled", "job", j.Number, "error", err)
		}
	}
	return errGone
}

// answer sends what came of the call. That the client is gone nobody can help.
func (c *call) answer(v xdr.Value, err error) {
	if c.answered {
		return
	}
	c.answered, c.err = true, err
	if err != nil {
		_ = c.fail(c.header, failureOf(err))
		return
	}
	_ = c.reply(c.header, v)
}

// finish makes an error of a panic, and writes the log.
func (c *call) finish() {
	if v := recover(); v != nil {
		c.Log.Error("call panicked", "procedure", c.procedure.name, "panic", v, "stack", string(debug.Stack()))
		c.answer(nil, record.Errorf(record.Internal, "in the daemon; its log has the details"))
	}
	if !c.Log.IsDebug() {
		return
	}
	o := c.caller.Owner
	args := []any{"procedure", c.procedure.name, "ms", time.Since(c.began).Milliseconds(), "uid", o.UID, "user", o.User, "pid", o.PID, "command", o.Command}
	if c.job != 0 {
		args = append(args, "job", c.job)
	}
	if c.err != nil {
		args = append(args, "code", record.CodeOf(c.err), "error", c.err.Error())
	}
	c.Log.Debug("call", args...)
}
