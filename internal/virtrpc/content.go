package virtrpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/sparse"
	"storaged/internal/transfer"
	"storaged/internal/virtrpc/wire"
)

// contents are the procedures with a stream.
func contents() []procedure {
	return []procedure{
		{wire.StorageVolUpload, "virStorageVolUpload", writes, streaming(uploadVol)},
		{wire.StorageVolDownload, "virStorageVolDownload", writes, streaming(downloadVol)},
	}
}

// part reads offset and length of a content; a length of 0 is all of it.
func part(a wire.VolStreamArgs) (offset int64, length *int64, err error) {
	if a.Offset > math.MaxInt64 || a.Length > math.MaxInt64 {
		return 0, nil, wire.Failf(wire.FromStorage, wire.InvalidArg, "offset and length must be smaller than %d", int64(math.MaxInt64))
	}
	if a.Length > 0 {
		length = new(int64(a.Length))
	}
	return int64(a.Offset), length, nil
}

// transferClient is the call's client as a transfer knows it.
func (c *call) transferClient(gone context.Context) transfer.Client {
	return transfer.Client{Caller: c.caller, Connection: c.stream, Gone: gone, Stopping: c.stopping, Silence: c.Silence}
}

// begin answers the call: a stream follows.
func (c *call) begin() { c.answer(nil, nil) }

// end ends the stream. A failure that comes before it begins is that of the call.
func (c *call) end(err error) error {
	if !c.answered {
		return err
	}
	h := ending(c.header)
	if err == nil {
		_ = c.send(h, nil)
		return nil
	}
	c.err, c.stream.failed = err, true
	h.Status = wire.Error
	_ = c.send(h, encoded(failureOf(err)))
	return nil
}

func uploadVol(c *call, a wire.VolStreamArgs) error {
	if err := c.flags(a.Flags, wire.StreamSparse); err != nil {
		return err
	}
	v, err := c.vol(a.Vol)
	if err != nil {
		return err
	}
	r := &operation.UploadRequest{}
	if r.Offset, r.Length, err = part(a); err != nil {
		return err
	}
	r.Exact = r.Length != nil
	in, out, err := transfer.Pipe()
	if err != nil {
		return err
	}
	defer out.Close() // it is by then, unless nothing was copied
	holes := a.Flags&wire.StreamSparse != 0
	// The sparse form has an end: that of a pipe may be the daemon's death.
	r.Data = operation.Data{File: in, Form: operation.SparseForm, Dense: !holes}
	st, err := c.start(v.Pool, v.Name, r)
	in.Close() // the job has its own
	if err != nil || st.Job == nil {
		return c.volInUse(v, err)
	}
	c.startedJob(st.Job)
	c.stream.sparse.Store(holes)
	c.begin()
	c.rest()
	return c.end(c.received(transfer.Upload(c.svc, c.transferClient(c.gone), *st.Job, out), holes, r.Length))
}

// received takes the content of an upload, and says how it ended: well also where the
// client has broken it off, since that is what it asked for.
func (c *call) received(t *transfer.Transfer, holes bool, length *int64) error {
	j, longer, err := c.receive(t, holes, length)
	switch {
	case errors.Is(err, errAborted):
		return nil
	case longer && j.Code() == record.Invalid:
		return wire.SystemFailure(wire.FromStreams, unix.ENOSPC, "cannot write to stream: No space left on device: "+wordsOf(j.Error, jobError(j)))
	case j.State == record.Succeeded, c.stream.empty && j.Error != nil && j.Error.Code == record.Invalid:
		return nil // libvirt takes nothing for a content, which the job refuses so
	case j.Error != nil:
		return jobError(j)
	case !j.State.Terminal():
		return record.Errorf(record.Draining, "storaged stops; job %d ends without its stream", j.Number)
	}
	return record.Errorf(record.CanceledCode, "job %d was canceled", j.Number)
}

// receive takes it; longer says that more came than was announced.
func (c *call) receive(t *transfer.Transfer, holes bool, length *int64) (j record.Job, longer bool, err error) {
	if !holes {
		j, err = t.Receive(c.stream, transfer.Content{Form: operation.RawForm, Length: length, Exact: length != nil})
		return j, errors.Is(err, transfer.ErrLonger), err
	}
	r := newHoleReader(c.stream)
	j, err = t.Receive(r, transfer.Content{Form: operation.SparseForm})
	return j, length != nil && r.data > *length, err
}

// holeReader gives a stream with holes in the form of package sparse.
type holeReader struct {
	stream *stream
	buf    bytes.Buffer
	form   *sparse.Writer
	at     int64 // bytes that have come
	data   int64 // bytes up to the last of them that is no hole's
	end    error
}

func newHoleReader(s *stream) *holeReader {
	r := &holeReader{stream: s}
	r.form = sparse.NewWriter(&r.buf)
	return r
}

// Read reads it.
func (r *holeReader) Read(b []byte) (int, error) {
	for r.buf.Len() == 0 {
		if r.end != nil {
			return 0, r.end
		}
		r.end = r.fill()
	}
	return r.buf.Read(b)
}

// fill takes what comes next. Only a stream that is whole gets its end.
func (r *holeReader) fill() error {
	p, err := r.stream.next()
	switch {
	case errors.Is(err, io.EOF):
		return errors.Join(r.form.Close(), io.EOF)
	case err != nil:
		return err
	case p.hole > 0:
		err = r.form.Hole(p.hole) // it bounds the content
		r.at += p.hole
		return err
	}
	r.at += int64(len(p.data))
	r.data = r.at
	_, err = r.form.Write(p.data)
	return err
}

func downloadVol(c *call, a wire.VolStreamArgs) error {
	if err := c.flags(a.Flags, wire.StreamSparse); err != nil {
		return err
	}
	v, err := c.vol(a.Vol)
	if err != nil {
		return err
	}
	r := &operation.DownloadRequest{}
	if r.Offset, r.Length, err = part(a); err != nil {
		return err
	}
	in, out, err := transfer.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	holes := a.Flags&wire.StreamSparse != 0
	r.Data = operation.Data{File: out, Form: operation.RawForm}
	if holes {
		r.Data.Form = operation.SparseForm
	}
	st, err := c.start(v.Pool, v.Name, r)
	out.Close() // the job has its own
	if record.CodeOf(err) == record.RangeUnsat {
		return c.sent(nil) // nothing is there, which libvirt does not call an error
	}
	if err != nil || st.Job == nil {
		return c.volInUse(v, err)
	}
	c.startedJob(st.Job)
	c.rest()
	t := transfer.Download(c.svc, c.transferClient(c.stream.gone), *st.Job, in)
	if !holes {
		return c.sent(t.Send(dataSink{c}))
	}
	sink := newHoleSink(c)
	err = t.Send(sink)
	return c.sent(errors.Join(err, sink.end(err)))
}

// sent ends a download. An end is said by an empty packet.
func (c *call) sent(err error) error {
	switch {
	case c.stream.wasEnded():
		return nil // by the client, before it had all
	case err != nil:
		return c.end(err)
	}
	c.begin()
	if err := c.stream.send(wire.Stream, nil); err == nil {
		c.stream.whole = true
	}
	return nil
}

// dataSink sends a content as it is.
type dataSink struct{ *call }

// Begin begins the stream.
func (s dataSink) Begin() { s.begin() }

// Write sends.
func (s dataSink) Write(b []byte) (int, error) { return s.stream.Write(b) }

// holeSink sends a content that comes in the form of package sparse, with its holes.
type holeSink struct {
	call   *call
	from   *io.PipeReader
	to     *io.PipeWriter
	parser sync.WaitGroup
	err    error // of the parser
}

func newHoleSink(c *call) *holeSink {
	s := &holeSink{call: c}
	s.from, s.to = io.Pipe()
	s.parser.Go(func() {
		s.err = s.parse()
		_ = s.from.CloseWithError(s.err)
	})
	return s
}

// Begin begins the stream.
func (s *holeSink) Begin() { s.call.begin() }

// Write sends.
func (s *holeSink) Write(b []byte) (int, error) { return s.to.Write(b) }

// end waits until all is sent that has come, and gives what went wrong with that.
func (s *holeSink) end(err error) error {
	_ = s.to.CloseWithError(err) // nil: an end
	s.parser.Wait()
	if err != nil {
		return nil // which was the reason
	}
	return s.err
}

func (s *holeSink) parse() error {
	in, buf := sparse.NewReader(s.from), make([]byte, wire.StreamBytes)
	for {
		n, hole, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err == nil && hole:
			err = s.call.stream.hole(n)
		case err == nil:
			_, err = io.CopyBuffer(struct{ io.Writer }{s.call.stream}, struct{ io.Reader }{in}, buf)
		}
		if err != nil {
			return err
		}
	}
}
