package rest

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/transfer"
)

// announce tells the client of the job before anything else, as an interim answer
// (RFC 8297).
func (c *call) announce(j record.Job) {
	c.job = j.Number
	c.Header().Set("Location", "/v1/jobs/"+url.PathEscape(j.ID))
	c.Header().Set(wire.JobHeader, strconv.FormatInt(j.Number, 10))
	c.ResponseWriter.WriteHeader(http.StatusEarlyHints)
}

// transferClient is the request's client as a transfer knows it.
func (c *call) transferClient() transfer.Client {
	return transfer.Client{
		Caller: c.caller, Connection: contentConnection{http.NewResponseController(c.ResponseWriter), c},
		Gone: c.r.Context(), Stopping: c.stopping, Silence: c.silence,
	}
}

// contentConnection has the deadlines of a request, not of its connection: the
// server knows of those.
type contentConnection struct {
	*http.ResponseController
	call *call
}

func (c contentConnection) PeerClosed() bool { return c.call.connection().PeerClosed() }

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
	in, out, err := transfer.Pipe()
	if err != nil {
		return err
	}
	defer out.Close() // it is by then, unless nothing was copied
	// The sparse form has an end: that of a pipe may be the daemon's death.
	r.Data = operation.Data{File: in, Form: operation.SparseForm, Dense: form == operation.RawForm}
	st, err := c.svc.Start(c.ctx(), s, c.pool(), c.volume(), &r)
	in.Close() // the job has its own
	if err != nil || st.Job == nil || st.Known {
		return c.started(st, err)
	}
	c.announce(*st.Job)
	t := transfer.Upload(c.svc, c.transferClient(), *st.Job, out)
	return c.received(t.Receive(c.r.Body, transfer.Content{Form: form, Length: r.Length, Exact: r.Exact}))
}

// received answers with how the job of an upload ended.
func (c *call) received(j record.Job, err error) error {
	c.read = err == nil
	switch {
	case j.State == record.Succeeded:
		return c.answer(http.StatusOK, j)
	case j.Error != nil:
		return j.Error
	case !j.State.Terminal():
		return c.answer(http.StatusAccepted, j)
	}
	return record.Errorf(record.CanceledCode, "job %d was canceled", j.Number)
}

// getContent answers with the content of a volume, or a range of it.
func getContent(c *call) error {
	if err := c.noIfMatch("a job has"); err != nil {
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
	asked := allOfImage
	if v.Format == record.FormatRaw || r.As == record.AsRaw {
		c.Header().Set("Accept-Ranges", "bytes")
		c.Header().Set("ETag", wire.ETag(v.Generation))
		if asked, err = c.rangeOf(v.Capacity, wire.ETag(v.Generation)); err != nil {
			return err
		}
		r.Offset, r.Length = asked.off, &asked.len
	}
	s, err := c.submit(form, c.r.Header.Get("Range"), c.query())
	if err != nil {
		return err
	}
	in, out, err := transfer.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	r.Data = operation.Data{File: out, Form: form}
	st, err := c.svc.Start(c.ctx(), s, c.pool(), c.volume(), &r)
	out.Close() // the job has its own
	if err != nil || st.Job == nil || st.Known {
		return c.started(st, err)
	}
	c.announce(*st.Job)
	t := transfer.Download(c.svc, c.transferClient(), *st.Job, in)
	err = t.Send(contentAnswer{c, func() int { return c.setSpan(asked, v.Capacity, form) }})
	if err != nil {
		c.unsetSpan()
	}
	return err
}

// contentAnswer is an answer that is a content. Its reader may take its time.
type contentAnswer struct {
	*call
	header func() (status int) // writes the content's header
}

// Begin begins the answer.
func (a contentAnswer) Begin() {
	_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(time.Time{}) // see deadline
	a.WriteHeader(a.header())
}

// Write writes without the deadline that other answers have.
func (a contentAnswer) Write(b []byte) (int, error) {
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

// unsetSpan takes back what a content's answer would have said.
func (c *call) unsetSpan() {
	for _, h := range []string{"Content-Range", "Accept-Ranges", "ETag"} {
		c.Header().Del(h)
	}
}
