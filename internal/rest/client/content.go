package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
	"storaged/internal/sparse"
)

func contentAsk(method, pool, volume string) *ask {
	return newAsk(method, "pools", pool, "volumes", volume, "content")
}

func askToDownload(method, pool, volume string, r operation.DownloadRequest) *ask {
	a := contentAsk(method, pool, volume)
	setAll(a.query, "checksum", r.Checksum)
	setAll(a.query, "as", r.As)
	a.options(r.JobOptions)
	return a
}

func askToUpload(method, pool, volume string, r operation.UploadRequest) *ask {
	a := contentAsk(method, pool, volume)
	setAll(a.query, "checksum", r.Checksum)
	setAll(a.query, "as_format", r.AsFormat)
	setAll(a.query, "as", r.As)
	setAll(a.query, "continues", r.Continues)
	setAll(a.query, "beginning", r.Beginning)
	setAll(a.query, "unpack", r.Unpack)
	setAll(a.query, "from_format", r.FromFormat)
	setAll(a.query, "from_secret", r.FromSecret)
	a.set("detect_zeros", r.DetectZeros)
	a.options(r.JobOptions)
	if r.Create != nil {
		a.create(r.Create)
	}
	return a
}

// create asks for the volume that the content goes to.
func (a *ask) create(n *operation.CreateRequest) {
	a.set("create", true)
	a.set("exist_ok", n.ExistOK)
	setAll(a.query, "format", n.Format)
	setAll(a.query, "secret", n.Secret)
	setAll(a.query, "mode", n.Mode)
	setAll(a.query, "selinux_label", n.Label)
	a.id("owner", n.Owner)
	a.id("group", n.Group)
	for key, value := range n.Options {
		a.query.Add("option", key+"="+value)
	}
	if n.Capacity > 0 {
		setBytes(a, "capacity", &n.Capacity)
	}
	switch {
	case n.Allocation == nil:
	case n.Allocation.Full:
		a.query.Set("allocation", "full")
	default:
		setBytes(a, "allocation", &n.Allocation.Bytes)
	}
}

// id says which user or group, if any.
func (a *ask) id(key string, id *uint32) {
	if id != nil {
		a.query.Set(key, strconv.FormatUint(uint64(*id), 10))
	}
}

// part says which part of the volume it is about; a length of nil is up to the end.
func (a *ask) part(offset int64, length *int64) *ask {
	setBytes(a, "offset", &offset)
	setBytes(a, "length", length)
	return a
}

func setBytes(a *ask, key string, n *int64) {
	if n != nil {
		a.query.Set(key, strconv.FormatInt(*n, 10))
	}
}

// lend makes a request on a connection of its own, and hands over f when the
// daemon is ready for it. The daemon is not Far.
func (c *Client) lend(ctx context.Context, a *ask, s contract.Submit, f *os.File) (st contract.Started, err error) {
	a.query.Set("fd", "1")
	a.header.Set("Connection", "Upgrade")
	a.header.Set("Upgrade", wire.DescriptorProtocol)
	conn, err := c.Connect(ctx)
	if err != nil {
		return st, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	resp, err := sendFile(ctx, conn.(*net.UnixConn), a.under(s), f)
	if err != nil {
		return st, c.unreachable(ctx, err)
	}
	err = c.read(ctx, resp, &begun{&st, s.DryRun})
	return st, err
}

// sendFile writes the request and gives the answer to it, or, behind the 101
// and the descriptor, the one that counts.
func sendFile(ctx context.Context, conn *net.UnixConn, a *ask, f *os.File) (*http.Response, error) {
	req, err := a.request(ctx)
	if err != nil {
		return nil, err
	}
	req.Host = "storaged"
	unsent := req.Write(conn) // who refuses it may answer and hang up before
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if err != nil && unsent != nil {
		err = unsent
	}
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	if _, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(int(f.Fd())), nil); err != nil {
		return nil, err
	}
	return http.ReadResponse(in, nil)
}

// Transfer is a stream between the client and a job.
type Transfer struct {
	Job       record.Job          // as it began
	Unchanged *contract.Unchanged // there is none, nor a transfer

	body io.ReadCloser // of a download
	done chan struct{} // of an upload: closed when the rest is set
	err  error
}

// Upload streams a content from body into a volume, and gives the Transfer when
// the daemon has told of its job, or its refusal, before any of the body is
// read. sparse says that the body is in the form of package sparse. When ctx
// ends the stream breaks off, and so does the job. The end of an upload is told
// by Wait.
func (c *Client) Upload(ctx context.Context, s contract.Submit, up StreamUpload) (*Transfer, error) {
	a := askToUpload(http.MethodPut, up.Pool, up.Volume, up.UploadRequest).part(up.Offset, up.Length)
	t := &Transfer{done: make(chan struct{})}
	number := make(chan string, 1) // of the job
	var once sync.Once
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == http.StatusEarlyHints {
			once.Do(func() { number <- h.Get(wire.JobHeader) })
		}
		return nil
	}}
	req, err := a.under(s).request(httptrace.WithClientTrace(ctx, trace))
	if err != nil {
		return nil, err
	}
	up.setBody(req)
	var unchanged *contract.Unchanged
	go func() {
		defer close(t.done)
		unchanged, t.err = c.put(ctx, req)
	}()
	select {
	case job := <-number:
		t.Job, err = c.Job(ctx, job)
		return t, err
	case <-t.done:
		if t.Unchanged = unchanged; t.err == nil && unchanged != nil {
			return t, nil
		}
		if t.err == nil {
			t.err = record.Errorf(record.Internal, "the daemon at %q took an upload and named no job", c.name)
		}
		return nil, t.err
	}
}

// StreamUpload is an upload of a stream.
type StreamUpload struct {
	Pool, Volume string
	operation.UploadRequest
	Body   io.Reader
	Sparse bool
}

// setBody makes the stream the body of a request, which is sent only when the
// daemon asks for it.
func (up *StreamUpload) setBody(r *http.Request) {
	r.Body = io.NopCloser(up.Body)
	r.ContentLength = -1
	r.Header.Set("Content-Type", wire.RawType)
	r.Header.Set("Expect", "100-continue")
	if up.Sparse {
		r.Header.Set("Content-Type", sparse.MediaType)
	}
}

// put sends the stream. The answer is the ended job, or that none is needed.
func (c *Client) put(ctx context.Context, r *http.Request) (*contract.Unchanged, error) {
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	var st contract.Started
	err = c.read(ctx, resp, &begun{&st, false})
	return st.Unchanged, err
}

// Wait gives how an upload ended. Its job tells more.
func (t *Transfer) Wait() error {
	<-t.done
	return t.err
}

// Download streams the content of a volume. Its bytes are whole when CopyTo has
// given no error.
func (c *Client) Download(ctx context.Context, s contract.Submit, down StreamDownload) (*Transfer, error) {
	a := askToDownload(http.MethodGet, down.Pool, down.Volume, down.DownloadRequest).under(s)
	if down.Sparse {
		a.header.Set("Accept", sparse.MediaType)
	}
	if r := down.byteRange(); r != "" {
		a.header.Set("Range", r)
	}
	resp, err := c.open(ctx, a)
	if err != nil {
		return nil, err
	}
	t := &Transfer{body: resp.Body}
	if err = down.answered(resp); err == nil {
		t.Job, err = c.Job(ctx, resp.Header.Get(wire.JobHeader))
	}
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return t, nil
}

// StreamDownload is a download to a stream.
type StreamDownload struct {
	Pool, Volume string
	operation.DownloadRequest
	Sparse bool
}

// byteRange is the range that is asked for, "" if it is all.
func (d *StreamDownload) byteRange() string {
	switch {
	case d.Length != nil:
		last := d.Offset + min(*d.Length, math.MaxInt64-d.Offset) - 1
		return fmt.Sprintf("bytes=%d-%d", d.Offset, last)
	case d.Offset > 0:
		return fmt.Sprintf("bytes=%d-", d.Offset)
	}
	return ""
}

// answered refuses an answer that has not what was asked for: to HTTP a range
// that is shorter, or the whole, is an answer too.
func (d *StreamDownload) answered(resp *http.Response) error {
	if d.byteRange() == "" {
		return nil
	}
	if resp.StatusCode != http.StatusPartialContent {
		return record.Errorf(record.Unsupported, "only volumes of format raw are downloaded to a stream in part").
			WithHint("download it to a file")
	}
	var first, last, size int64
	if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); err != nil {
		return record.Errorf(record.Internal, "cannot read which part the daemon sends: %v", err)
	}
	if d.Length != nil && last-first+1 != *d.Length {
		return record.Errorf(record.RangeUnsat, "volume \"%s/%s\" has %d bytes, and ends before what is to be read", d.Pool, d.Volume, size)
	}
	return nil
}

// CopyTo writes the content and ends the transfer.
func (t *Transfer) CopyTo(w io.Writer) error {
	return t.To(func(r io.Reader) error {
		_, err := io.Copy(w, r)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return record.Errorf(record.Interrupted, "the content broke off; the job tells why")
		}
		return err
	})
}

// To has the content read, and ends the transfer.
func (t *Transfer) To(read func(io.Reader) error) error {
	defer t.body.Close()
	return read(t.body)
}
