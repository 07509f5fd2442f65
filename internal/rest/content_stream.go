package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/service"
	"storaged/internal/sparse"
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
)

// stream is a content on its way between a client and the helper of a job.
// While it is, one goroutine watches the job: when that ends or the server
// stops, the client's connection is broken, so that nobody waits for it. Of an
// upload another one watches the client.
type stream struct {
	c       *call
	job     record.Job
	ctx     context.Context // over when the stream ends
	watcher sync.WaitGroup
	stop    context.CancelFunc
	out     *os.File // to the helper, of an upload; nil: it is a download
}

// begin tells the client of the job before anything else, as an interim answer
// (RFC 8297), and begins to watch it.
func (c *call) begin(j record.Job, out *os.File) *stream {
	c.job = j.Number
	c.Header().Set("Location", "/v1/jobs/"+url.PathEscape(j.ID))
	c.Header().Set(jobHeader, strconv.FormatInt(j.Number, 10))
	c.ResponseWriter.WriteHeader(http.StatusEarlyHints)
	outer, stop := c.patient()
	ctx, cancel := context.WithCancel(outer)
	s := &stream{c: c, job: j, ctx: ctx, out: out}
	s.stop = func() { cancel(); stop() }
	s.watcher.Go(func() {
		if s.watch(ctx); ctx.Err() == nil || outer.Err() != nil {
			s.deadlines(time.Unix(1, 0))
		}
	})
	return s
}

// watch returns when the job did not succeed, or ctx is over.
func (s *stream) watch(ctx context.Context) {
	for ctx.Err() == nil {
		j, err := s.c.svc.WaitJob(ctx, s.job.ID, maxWait)
		switch {
		case err != nil || j.State.Terminal() && j.State != record.Succeeded:
			return
		case j.State == record.Succeeded:
			<-ctx.Done() // what has come of it may still be on its way
		}
	}
}

// deadlines breaks what is being read and written, or lets it go on.
func (s *stream) deadlines(t time.Time) {
	control := http.NewResponseController(s.c.ResponseWriter)
	_ = control.SetReadDeadline(t) // see deadline
	_ = control.SetWriteDeadline(t)
	if s.out != nil {
		_ = s.out.SetWriteDeadline(t) // it is closed at the end
	}
}

// end ends the watching. The connection can be used again.
func (s *stream) end() {
	s.stop()
	s.watcher.Wait()
	s.deadlines(time.Time{})
}

// settle waits for the end of the job. Of one whose stream has broken off it
// makes sure that it ends.
func (s *stream) settle(broken bool) record.Job {
	ctx := context.WithoutCancel(s.c.r.Context())
	if broken && s.c.stopping.Err() != nil {
		return s.job // its helper notices; what waits is told by the next daemon
	}
	if broken {
		j, err := s.c.svc.WaitJob(ctx, s.job.ID, breakGrace)
		if err == nil && j.State.Terminal() {
			return j
		}
		if j, err = s.c.svc.CancelJob(ctx, s.c.caller, s.job.ID, service.JobCancel{}); err == nil {
			return j
		}
		if j, err = s.c.svc.Job(ctx, s.job.ID); err == nil {
			return j // it ended just now
		}
		return s.job // the server is stopping
	}
	ctx, done := s.c.patient()
	defer done()
	for {
		j, err := s.c.svc.WaitJob(ctx, s.job.ID, maxWait)
		if err != nil || j.State.Terminal() || ctx.Err() != nil {
			return j
		}
	}
}

// contentPipe makes a pipe to or from a helper.
func contentPipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil {
		return nil, nil, fmt.Errorf("cannot make a pipe to a helper: %w", err)
	}
	raw, err := w.SyscallConn() // File.Fd would make its writes wait in the kernel, each with a thread
	if err == nil {
		// What a user may have is bounded; then it stays smaller.
		err = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeBytes) })
	}
	if err != nil {
		panic("internal error: api: a new pipe is closed: " + err.Error())
	}
	return r, w, nil
}

// putContent writes the body into a volume. The answer is the ended job, or
// why it failed.
func putContent(c *call) error {
	form, err := c.bodyForm()
	if err != nil {
		return err
	}
	r, err := c.uploadQueries()
	if err != nil {
		return err
	}
	if err := c.bodyPlace(form, &r); err != nil {
		return err
	}
	s, err := c.submit(form, c.r.Header.Get("Content-Range"), c.query())
	if err != nil {
		return err
	}
	in, out, err := contentPipe()
	if err != nil {
		return err
	}
	defer out.Close()                                                                         // it is by then, unless nothing was copied
	r.Data = service.Data{File: in, Form: service.SparseData, Dense: form == service.RawData} // which has an end: that of a pipe may be the daemon's death
	st, err := c.svc.UploadVolume(c.ctx(), s, c.pool(), c.volume(), r)
	in.Close() // the job has its own
	if err != nil || st.Job == nil || st.Known {
		return c.started(st, err)
	}
	return c.receive(c.begin(*st.Job, out), passage{form: form, length: r.Length, exact: c.r.Header.Get("Content-Range") != ""})
}

// passage is how a body is passed on to a helper.
type passage struct {
	form   string
	length *int64 // bytes of the content that are taken; nil: all
	exact  bool   // a body that is longer is wrong
}

// receive copies the body to the helper and answers with how the job ended.
func (c *call) receive(s *stream, way passage) error {
	out, body := s.out, &heardBody{Reader: c.r.Body}
	s.watcher.Go(func() { s.mind(body) })
	if c.silence > 0 {
		s.watcher.Go(func() { s.listen(s.ctx, body) })
	}
	err := way.copy(out, body)
	out.Close()                                                               // a stream that is not whole has no end
	enough := way.length != nil && (err == nil || errors.Is(err, unix.EPIPE)) // the helper has taken that
	j := s.settle(err != nil && !enough)
	if enough && j.State == record.Succeeded { // a client hears no answer while it sends
		_, err = io.Copy(io.Discard, body)
	}
	c.read = err == nil
	s.end()
	switch {
	case j.State == record.Succeeded:
		return c.answer(http.StatusOK, wholeJob(j))
	case errors.Is(err, errBodyLonger):
		return err
	case j.Error != nil:
		return j.Error
	case !j.State.Terminal():
		return c.answer(http.StatusAccepted, wholeJob(j))
	}
	return record.Errorf(record.CanceledCode, "job %d was canceled", j.Number)
}

// errBodyLonger says that a body does not end where it should.
var errBodyLonger = record.Errorf(record.Invalid, "the body is longer than its Content-Range says")

// copy gives the body to the helper. A raw one is put into the form with an
// end; of what it has more than is taken nothing is passed on.
func (p passage) copy(out io.Writer, body io.Reader) error {
	buf := make([]byte, pieceBytes)
	if p.form == service.SparseData {
		_, err := io.CopyBuffer(struct{ io.Writer }{out}, body, buf)
		return err
	}
	taken := body
	if p.length != nil {
		taken = io.LimitReader(body, *p.length)
	}
	w := sparse.NewWriter(out)
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{taken}, buf); err != nil {
		return err
	}
	if p.exact {
		if n, _ := io.ReadFull(body, buf[:1]); n > 0 {
			return errBodyLonger
		}
	}
	return w.Close()
}

// getContent answers with the content of a volume, or a range of it.
func getContent(c *call) error {
	if err := c.noIfMatch(); err != nil {
		return err
	}
	r, err := c.downloadQueries()
	if err != nil {
		return err
	}
	v, err := c.svc.Volume(c.ctx(), c.pool(), c.volume())
	if err != nil {
		return err
	}
	form := c.answerForm()
	asked := span{len: -1} // of other formats nobody here knows the file's length
	if v.Format == record.FormatRaw {
		c.Header().Set("Accept-Ranges", "bytes")
		c.Header().Set("ETag", etag(v.Generation))
		if asked, err = c.rangeOf(v.Capacity, etag(v.Generation)); err != nil {
			return err
		}
		r.Offset, r.Length = asked.off, &asked.len
	}
	s, err := c.submit(form, c.r.Header.Get("Range"), c.query())
	if err != nil {
		return err
	}
	in, out, err := contentPipe()
	if err != nil {
		return err
	}
	defer in.Close()
	r.Data = service.Data{File: out, Form: form}
	st, err := c.svc.DownloadVolume(c.ctx(), s, c.pool(), c.volume(), r)
	out.Close() // the job has its own
	if err != nil || st.Job == nil || st.Known {
		return c.started(st, err)
	}
	return c.send(c.begin(*st.Job, nil), in, func() int { return c.setSpan(asked, v.Capacity, form) })
}

// send copies what the helper gives to the client, the last piece only when the
// job has succeeded: what the client has is whole, or the connection breaks.
// header writes the header of the answer and gives its status.
func (c *call) send(s *stream, in *os.File, header func() int) error {
	defer s.end()
	gone := context.AfterFunc(c.r.Context(), func() { _ = in.SetReadDeadline(time.Unix(1, 0)) })
	defer gone()
	held, next := []byte(nil), [2][]byte{make([]byte, pieceBytes), make([]byte, pieceBytes)}
	var err error
	for i := 0; err == nil; i++ {
		var n int
		n, err = in.Read(next[i%2])
		if n == 0 {
			continue
		}
		if held == nil {
			c.unhurried(header())
		}
		if _, werr := c.ResponseWriter.Write(held); werr != nil {
			err = werr
		}
		c.bytes += int64(len(held))
		held = next[i%2][:n]
	}
	broken := !errors.Is(err, io.EOF)
	if broken {
		in.Close() // the helper finds that nobody reads
	}
	j := s.settle(broken)
	if broken && j.Error == nil {
		c.unsetSpan()
		return c.brokenOff(j)
	}
	return c.conclude(j, held, header)
}

// unhurried begins an answer whose reader may take its time.
func (c *call) unhurried(status int) {
	_ = http.NewResponseController(c.ResponseWriter).SetWriteDeadline(time.Time{}) // see deadline
	c.WriteHeader(status)
}

// conclude ends the answer by the end of the job.
func (c *call) conclude(j record.Job, held []byte, header func() int) error {
	switch {
	case j.State == record.Succeeded && c.status == 0:
		c.WriteHeader(header()) // an empty content
		return nil
	case j.State == record.Succeeded:
		_, err := c.ResponseWriter.Write(held)
		return err
	case j.Error != nil:
		c.unsetSpan()
		return j.Error
	}
	c.unsetSpan()
	return c.brokenOff(j)
}

// brokenOff says why a stream has ended before its content, of whose job there is
// no error: somebody has canceled it, the server stops, or the client was lost.
func (c *call) brokenOff(j record.Job) error {
	switch {
	case c.stopping.Err() != nil && !j.State.Terminal():
		return record.Errorf(record.Draining, "storaged stops; job %d ends without its stream", j.Number)
	case j.CanceledBy != nil && c.r.Context().Err() == nil:
		return record.Errorf(record.CanceledCode, "job %d was canceled", j.Number)
	}
	return record.Errorf(record.Interrupted, "the stream of job %d broke off", j.Number)
}

// unsetSpan takes back what a content's answer would have said.
func (c *call) unsetSpan() {
	for _, h := range []string{"Content-Range", "Accept-Ranges", "ETag"} {
		c.Header().Del(h)
	}
}
