package nbd

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"storaged/internal/diskio"
	"storaged/internal/diskio/diskiotest"
	"storaged/internal/testenv"
)

// FuzzNegotiation lets a server say anything from the first byte on.
func FuzzNegotiation(f *testing.F) {
	f.Add(recorded(f, true))
	f.Add(recorded(f, false))
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			defer theirs.Close()
			heard := make(chan struct{})
			go func() {
				defer close(heard)
				_, _ = io.Copy(io.Discard, theirs)
			}()
			_, _ = theirs.Write(said)
			theirs.Close()
			<-heard
		}()
		c, err := Connect(t.Context(), []net.Conn{ours}, Export{Name: "x", Depths: true})
		if err == nil {
			if n, err := c.Size(); n < 0 || err != nil {
				t.Errorf("size %d, %v", n, err)
			}
			_ = c.Close()
		}
		<-ended
	})
}

// recorder keeps what the server says.
type recorder struct {
	net.Conn
	said bytes.Buffer
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.said.Write(p[:n])
	return n, err
}

// recorded is a negotiation with a server as it should be, or with QEMU's.
func recorded(f *testing.F, qemu bool) []byte {
	conn := func() net.Conn { return fake(f, nil) }
	if qemu {
		testenv.Tool(f, "qemu-storage-daemon")
		conn = func() net.Conn { return serve(f, 1, blockdev("top", image(f, f.TempDir(), "raw", "1M"), "raw")...)[0] }
	}
	r := &recorder{Conn: conn()}
	c, err := Connect(f.Context(), []net.Conn{r}, Export{Name: "x", Depths: true})
	diskiotest.Must(f, err)
	diskiotest.Must(f, c.Close())
	return r.said.Bytes()
}

// uses are what the fuzzed replies are given for. Each gives what of a buffer the
// server has written to, and its surroundings, that nobody may write to.
var uses = []func(t testing.TB, c *Client){
	func(t testing.TB, c *Client) { read(t, c, 1000, 512) },
	func(t testing.TB, c *Client) { read(t, c, mostBytes+500, 0) },
	func(t testing.TB, c *Client) {
		list := make([]diskio.Extent, 5)
		n, err := c.Extents(list, 512, testSize)
		inOrder(t, n, err, func(i int) (off, n int64) { return list[i].Off, list[i].Len })
	},
	func(t testing.TB, c *Client) {
		list := make([]Depth, 5)
		n, err := c.Depths(list, 512, testSize)
		inOrder(t, n, err, func(i int) (off, n int64) { return list[i].Off, list[i].Len })
	},
	func(t testing.TB, c *Client) {
		if n, err := c.WriteAt(make([]byte, 700), 512); n != 700 && err == nil {
			t.Errorf("%d bytes are written", n)
		}
	},
	func(_ testing.TB, c *Client) { _ = c.Zero(100, 200<<10, true) },
	func(_ testing.TB, c *Client) { _ = c.Discard(0, 4096) },
	func(_ testing.TB, c *Client) { _ = c.Flush() },
}

// careless is a test that may fail: the server lies.
type careless struct{ testing.TB }

func (careless) Error(...any)          {}
func (careless) Errorf(string, ...any) {}

// replied is what a server says to a use, as an input of FuzzReplies.
func replied(f *testing.F, use int, do func(s *server)) []byte {
	var s *server
	conn := fake(f, func(made *server) {
		s = made
		if do == nil {
			do = atRead(func(s *server, q question) { s.hole(q, chunkDone, q.off, q.n) }) // which is short
		}
		do(s)
		s.patience = 100 * time.Millisecond // some lies have no end
	})
	c, err := Connect(f.Context(), []net.Conn{conn}, Export{Name: "x", Granularity: 64 << 10, Depths: true})
	diskiotest.Must(f, err)
	uses[use](&careless{}, c)
	diskiotest.Must(f, c.Close())
	input := []byte{1, byte(use)}
	for _, b := range s.said() {
		n := min(len(b), math.MaxUint16)
		input = append(binary.BigEndian.AppendUint16(input, uint16(n)), b[:n]...)
	}
	return input
}

// unread is a byte that no reply of the fuzzed server has.
const unread = 0xa5

// read reads, with all of the buffer written to if it succeeds, and nothing around
// it in any case.
func read(t testing.TB, c *Client, n int, off int64) {
	const around = 64
	buf := bytes.Repeat([]byte{unread}, n+2*around)
	got, err := c.ReadAt(buf[around:around+n], off)
	if err == nil && (got != n || bytes.IndexByte(buf[around:around+n], unread) >= 0) {
		t.Errorf("%d bytes are read, or not all of the buffer is", got)
	}
	if bytes.Count(buf[:around], []byte{unread})+bytes.Count(buf[around+n:], []byte{unread}) != 2*around {
		t.Error("bytes around the buffer are written")
	}
}

func inOrder(t testing.TB, n int, err error, extent func(i int) (off, n int64)) {
	at := int64(512)
	for i := range n {
		off, n := extent(i)
		if off != at || n <= 0 || n > testSize-at {
			t.Errorf("extent %d has %d bytes at %d, not at %d", i, n, off, at)
		}
		at = off + n
	}
	if err == nil && n == 0 {
		t.Error("no extent, and no error")
	}
}

// FuzzReplies lets a server that negotiates as it should say anything then. The
// input is what calls are made, as many as the first byte says, one byte each; and
// then for each request the number of bytes, and the bytes, that it is answered by.
func FuzzReplies(f *testing.F) {
	for use := range uses {
		f.Add(replied(f, use, nil))
	}
	for _, h := range transmissions {
		for use := range uses {
			f.Add(replied(f, use, h.do))
		}
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) == 0 || len(input) <= int(input[0]) {
			return
		}
		calls := int(input[0])
		synctest.Test(t, func(t *testing.T) { fuzzReplies(t, input[1:1+calls], input[1+calls:]) })
	})
}

// fuzzReplies makes calls. Its time stands still until nothing else goes on.
func fuzzReplies(t *testing.T, calls, said []byte) {
	said = bytes.ReplaceAll(said, []byte{unread}, []byte{0})
	conn := fake(t, func(s *server) {
		s.patience = time.Second
		s.request = func(question) bool {
			if len(said) < 2 {
				s.Close()
				return true
			}
			n := min(int(binary.BigEndian.Uint16(said)), len(said)-2)
			s.put(said[2 : 2+n])
			said = said[2+n:]
			return true
		}
	})
	c, err := Connect(t.Context(), []net.Conn{conn}, Export{Name: "x", Granularity: 64 << 10, Depths: true})
	diskiotest.Must(t, err)
	defer c.Close()
	for _, call := range calls {
		uses[int(call)%len(uses)](t, c)
	}
}
