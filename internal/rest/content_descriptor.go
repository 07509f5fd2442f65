package rest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"storaged/internal/operation"
	"storaged/internal/peer"
	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
	"storaged/internal/transfer"
)

// descriptorTimeout bounds each step of the descriptor's way. The client is on this host and has
// it open already.
const descriptorTimeout = 10 * time.Second

// postContent starts an upload from, or a download to, a file that the client
// has open. The connection is upgraded: behind the 101 the client sends one
// byte with the descriptor (SCM_RIGHTS, unix(7)), and gets the answer that any
// other call would give, and the end of the connection. The descriptor is handed
// on to the helper, and nothing is done with it here.
func postContent(c *call) error {
	r, data, s, err := c.descriptorRequest()
	if err != nil {
		return err
	}
	data.Form = operation.FileForm
	if s.DryRun {
		return c.started(c.svc.Start(c.ctx(), s, c.pool(), c.volume(), r))
	}
	if !strings.EqualFold(c.r.Header.Get("Upgrade"), wire.DescriptorProtocol) {
		return record.Errorf(record.Invalid, "a descriptor comes by Upgrade: %s", wire.DescriptorProtocol)
	}
	conn, err := c.upgrade()
	if err != nil {
		return err
	}
	defer conn.Close()
	late := &lateAnswer{header: http.Header{}, status: http.StatusOK}
	c.ResponseWriter, c.status = late, 0
	data.File, err = transfer.ReceiveFile(conn.UnixConn)
	if err == nil {
		err = c.started(c.svc.Start(c.ctx(), s, c.pool(), c.volume(), r))
		data.File.Close() // the job has its own
	}
	c.fail(err)
	_ = conn.SetWriteDeadline(time.Now().Add(descriptorTimeout))
	_ = late.write(conn) // a client that has gone asks again with its key
	return nil
}

// descriptorRequest reads the request; data is the part of it that is to come.
func (c *call) descriptorRequest() (r operation.Request, data *operation.Data, s contract.Submit, err error) {
	if fd, err := c.flag01("fd"); err != nil || !fd {
		return nil, nil, s, cmp.Or(err, error(record.Errorf(record.Invalid, "a POST to a content hands over a descriptor: fd=1")))
	}
	if s, err = c.submit(c.query()); err != nil {
		return nil, nil, s, err
	}
	offset, length, err := c.part()
	if err != nil {
		return nil, nil, s, err
	}
	switch d := c.r.URL.Query().Get("direction"); d {
	case "", "upload":
		r, err := c.uploadQueries()
		r.Offset, r.Length = offset, length
		return &r, &r.Data, s, err
	case "download":
		r, err := c.downloadQueries()
		r.Offset, r.Length = offset, length
		return &r, &r.Data, s, err
	default:
		return nil, nil, s, record.Errorf(record.Invalid, "direction is upload or download, not %s", record.Short(d))
	}
}

// flag01 reads a query key that is 1 or 0.
func (c *call) flag01(key string) (bool, error) {
	switch v := c.r.URL.Query().Get(key); v {
	case "1":
		return true, nil
	case "", "0":
		return false, nil
	default:
		return false, record.Errorf(record.Invalid, "query key %q is 1, not %s", key, record.Short(v))
	}
}

// upgrade takes the connection over and says so.
func (c *call) upgrade() (*peer.Conn, error) {
	conn, buf, err := http.NewResponseController(c.ResponseWriter).Hijack()
	if err != nil {
		return nil, record.Errorf(record.Invalid, "this connection cannot be upgraded: %v", err)
	}
	g, ok := conn.(*peer.Conn)
	if !ok {
		panic(fmt.Sprintf("internal error: rest: a connection is a %T", conn))
	}
	_ = g.SetDeadline(time.Now().Add(descriptorTimeout))
	_, err = fmt.Fprintf(g, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", wire.DescriptorProtocol)
	if err == nil && buf.Reader.Buffered() > 0 {
		err = errors.New("it sent something before it was asked to")
	}
	c.status = http.StatusSwitchingProtocols
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("cannot upgrade the connection of a client: %w", err)
	}
	return g, nil
}

// lateAnswer is an answer on a connection that was taken over.
type lateAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *lateAnswer) Header() http.Header         { return a.header }
func (a *lateAnswer) WriteHeader(status int)      { a.status = status }
func (a *lateAnswer) Write(b []byte) (int, error) { return a.body.Write(b) }

func (a *lateAnswer) write(to io.Writer) error {
	r := http.Response{
		StatusCode: a.status, ProtoMajor: 1, ProtoMinor: 1, Header: a.header, Close: true,
		ContentLength: int64(a.body.Len()), Body: io.NopCloser(&a.body),
	}
	return r.Write(to)
}
