package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/sparse"
)

// oneJob is a service with one job, which ends when it is ended.
type oneJob struct {
	mu    sync.Mutex
	job   record.Job
	ended chan struct{}
}

func newJob() *oneJob {
	return &oneJob{job: record.Job{ID: "j", Number: 1, State: record.Running}, ended: make(chan struct{})}
}

// end ends the job, unless it has ended.
func (o *oneJob) end(s record.State, e *record.Error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.job.State.Terminal() {
		o.job.State, o.job.Error = s, e
		close(o.ended)
	}
}

func (o *oneJob) Job(context.Context, string) (record.Job, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.job, nil
}

func (o *oneJob) WaitJob(ctx context.Context, job string, _ time.Duration) (record.Job, error) {
	select {
	case <-o.ended:
		return o.Job(ctx, job)
	case <-ctx.Done():
		return record.Job{}, ctx.Err()
	}
}

func (o *oneJob) CancelJob(ctx context.Context, _ record.Caller, job string, _ contract.JobCancel) (record.Job, error) {
	o.end(record.Canceled, nil)
	return o.Job(ctx, job)
}

func (o *oneJob) FailJob(_ context.Context, _ string, why *record.Error) error {
	o.end(record.Failed, why)
	return nil
}

// connection is one end of a connection in memory, which nobody closes.
type connection struct{ net.Conn }

func (connection) PeerClosed() bool { return false }

// unbroken is a connection that counts how often it is broken.
type unbroken struct {
	connection
	broken *atomic.Int64
}

func (c unbroken) SetWriteDeadline(at time.Time) error {
	if !at.IsZero() {
		c.broken.Add(1)
	}
	return c.connection.SetWriteDeadline(at)
}

// What a front end still has to send of a download is not broken by its end.
func TestWholeTransferIsNeverBroken(t *testing.T) {
	var broken atomic.Int64
	for range 100 {
		jobs := newJob()
		job := jobs.job
		in, out := pipe(t)
		client, _ := parties(t)
		client.Connection = unbroken{client.Connection.(connection), &broken}
		go func() { io.WriteString(out, "content"); out.Close(); jobs.end(record.Succeeded, nil) }()
		if err := Download(jobs, client, job, in).Send(new(sink)); err != nil {
			t.Fatal(err)
		}
	}
	if n := broken.Load(); n > 0 {
		t.Errorf("%d of 100 were", n)
	}
}

// parties are a transfer's client, and the client's own end of the connection.
func parties(t *testing.T) (Client, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return Client{Connection: connection{ours}, Gone: t.Context(), Stopping: t.Context()}, theirs
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func TestReceiveGivesTheHelperAllAndTheEnd(t *testing.T) {
	jobs := newJob()
	job := jobs.job
	in, out := pipe(t)
	client, theirs := parties(t)
	go func() { theirs.Write([]byte("content")); theirs.Close() }()
	got := make(chan string, 1)
	go func() {
		r := sparse.NewReader(in)
		_, _, err := r.Next()
		b, rerr := io.ReadAll(r)
		got <- string(b)
		if err = errors.Join(err, rerr); err == nil {
			if _, _, err = r.Next(); err == io.EOF { // the content is whole
				err = nil
			}
		}
		if err == nil {
			jobs.end(record.Succeeded, nil)
		}
		jobs.end(record.Failed, record.Errorf(record.IO, "%v", err))
	}()
	j, err := Upload(jobs, client, job, out).Receive(client.Connection.(connection), Content{Form: operation.RawForm})
	if b := <-got; err != nil || j.State != record.Succeeded || b != "content" {
		t.Errorf("the helper got %q; job %+v, %v", b, j, err)
	}
}

// A client that sends nothing is cut off, and its job fails.
func TestJobOfASilentClientFails(t *testing.T) {
	jobs := newJob()
	_, out := pipe(t)
	client, _ := parties(t)
	client.Silence = 10 * time.Millisecond
	j, err := Upload(jobs, client, jobs.job, out).Receive(client.Connection.(connection), Content{Form: operation.RawForm})
	if err == nil || j.State != record.Failed || j.Error.Code != record.Interrupted {
		t.Errorf("%+v, %v", j, err)
	}
}

// A job that somebody cancels does not wait for its client.
func TestClientOfACanceledJobIsCutOff(t *testing.T) {
	jobs := newJob()
	_, out := pipe(t)
	client, _ := parties(t)
	jobs.end(record.Canceled, nil)
	j, err := Upload(jobs, client, jobs.job, out).Receive(client.Connection.(connection), Content{Form: operation.RawForm})
	if err == nil || j.State != record.Canceled {
		t.Errorf("%+v, %v", j, err)
	}
}

// sink counts its begins.
type sink struct {
	begun int
	bytes.Buffer
}

func (s *sink) Begin() { s.begun++ }

func TestSendIsWholeOrAnError(t *testing.T) {
	for _, c := range []struct {
		content string
		end     record.State
		why     *record.Error
		code    record.Code
		begun   int
		sent    string
	}{
		{"content", record.Succeeded, nil, "", 1, "content"},
		{"", record.Succeeded, nil, "", 1, ""},
		{"content", record.Failed, record.Errorf(record.Mismatch, "another checksum"), record.Mismatch, 1, ""},
		{"", record.Canceled, nil, record.Interrupted, 0, ""},
	} {
		jobs := newJob()
		job := jobs.job
		in, out := pipe(t)
		client, _ := parties(t)
		var to sink
		go func() { io.WriteString(out, c.content); out.Close(); jobs.end(c.end, c.why) }()
		err := Download(jobs, client, job, in).Send(&to)
		if c.code == "" && err != nil || c.code != "" && record.CodeOf(err) != c.code || to.begun != c.begun || to.String() != c.sent {
			t.Errorf("%q of a job that %s: sent %q, begun %d times, %v", c.content, c.end, to.String(), to.begun, err)
		}
	}
}
