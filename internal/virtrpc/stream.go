package virtrpc

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

const (
	// pieceBytes is the most that is taken of a packet at once: the packets of all
	// clients in C fit.
	pieceBytes = 256 << 10

	// piecesAhead is how many pieces of a stream are read before they are wanted. With
	// the one that is read and the one that is used they are all that is held of it.
	piecesAhead = 4

	// maxEnded is how many streams of a connection that have ended are remembered, so
	// that the client's word for it is answered. Some clients never give theirs.
	maxEnded = 64
)

var (
	// errAborted says that the client has broken off its stream.
	errAborted = errors.New("the client has broken off the stream")
	// errBroken says that a stream was ended from this side.
	errBroken = errors.New("the stream was broken off")
	// errNoHole breaks the connection of a client that sends a hole where none was
	// agreed on: what it means by that is not known.
	errNoHole = errors.New("a hole comes in a stream without holes")
)

// piece is what comes of a stream: data, a hole, or its end.
type piece struct {
	data []byte
	hole int64
	end  error // io.EOF: it is whole; errAborted: it is not
}

// stream is the content that follows a call, or that it is answered with. One goroutine
// reads it or writes it; others may break it.
type stream struct {
	call   *call
	sends  bool        // it goes to the client, of which nothing but its end comes
	sparse atomic.Bool // holes may come
	whole  bool        // the client has all of it, and may say so
	failed bool        // the client has been sent why, and says no more
	pieces chan piece

	gone  context.Context // over when the client has left, or has ended a stream that goes to it
	leave context.CancelFunc
	said  bool // it has; under the lock of streams

	over chan struct{} // closed when nobody reads or writes any more

	mu     sync.Mutex
	broken chan struct{} // closed by a deadline in the past
	rest   []byte        // of the piece that is being read, its reader's alone
	taken  []byte        // that piece, likewise
	empty  bool          // the client has ended it, and nothing had come; likewise
	came   bool          // something has come; likewise
	end    error         // that it has come to; likewise
}

func newStream(c *call) *stream {
	s := &stream{call: c, pieces: make(chan piece, piecesAhead), over: make(chan struct{}), broken: make(chan struct{})}
	s.sends = c.procedure.number == wire.StorageVolDownload
	s.gone, s.leave = context.WithCancel(c.connection.gone)
	return s
}

// streams are those of a connection by the serials of their calls.
type streams struct {
	mu    sync.Mutex
	open  map[uint32]*stream
	ended []uint32 // oldest first: theirs the client may still end
}

// add reports whether the serial was free.
func (s *streams) add(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	serial := st.call.header.Serial
	if s.open[serial] != nil {
		return false
	}
	if s.open == nil {
		s.open = map[uint32]*stream{}
	}
	s.ended = slices.DeleteFunc(s.ended, func(n uint32) bool { return n == serial })
	s.open[serial] = st
	return true
}

// remove ends a stream on this side. What still comes of it is dropped, but the client's
// word that it has ended is answered: now, where last is true.
func (s *streams) remove(st *stream) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	serial := st.call.header.Serial
	delete(s.open, serial)
	close(st.over)
	st.leave()
	if st.whole && !st.said {
		if s.ended = append(s.ended, serial); len(s.ended) > maxEnded {
			s.ended = s.ended[1:]
		}
	}
	return st.said && !st.failed
}

// find gives the stream a packet is of that is to be handed on, and whether it is the last
// word about one that has ended.
func (s *streams) find(h wire.Header) (st *stream, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st = s.open[h.Serial]
	switch {
	case st != nil && st.call.header.Procedure != h.Procedure:
		return nil, false
	case st != nil && st.sends:
		if h.Status != wire.Continue {
			st.said = true
			st.leave()
		}
		return nil, false
	case st != nil:
		return st, false
	}
	i := slices.Index(s.ended, h.Serial)
	if i < 0 || h.Status == wire.Continue {
		return nil, false
	}
	s.ended = slices.Delete(s.ended, i, i+1)
	return nil, true
}

// breakAll breaks all of them: nothing comes any more.
func (s *streams) breakAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.open {
		st.breakOff()
	}
}

// streamed takes a packet of a stream, whose payload of n bytes has not been read.
func (c *connection) streamed(h wire.Header, n int) error {
	st, last := c.streams.find(h)
	switch {
	case last:
		if err := c.discard(n); err != nil {
			return err
		}
		return c.send(ending(h), nil)
	case st == nil:
		return c.discard(n)
	case h.Type == wire.StreamHole:
		return c.hole(st, h, n)
	case h.Status == wire.Continue:
		return c.data(st, n)
	}
	if err := c.discard(n); err != nil {
		return err
	}
	end := io.EOF
	if h.Status == wire.Error {
		end = errAborted
	}
	c.hand(st, piece{end: end})
	return nil
}

// ending is the header by which a stream is said to have ended well.
func ending(h wire.Header) wire.Header {
	h.Type, h.Status = wire.Stream, wire.OK
	return h
}

// data takes data of a stream, a piece after the other.
func (c *connection) data(st *stream, n int) error {
	for n > 0 {
		b := takeBuffer()[:min(n, pieceBytes)]
		if _, err := io.ReadFull(c.in, b); err != nil {
			return err
		}
		n -= len(b)
		if !c.hand(st, piece{data: b}) {
			return c.discard(n)
		}
	}
	return nil
}

func (c *connection) hole(st *stream, h wire.Header, n int) error {
	var hole wire.Hole
	const size = 12 // of its encoding
	if n != size || h.Status != wire.Continue || !st.sparse.Load() {
		return errNoHole
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(c.in, b); err != nil {
		return err
	}
	if err := xdr.Decode(b, &hole); err != nil || hole.Length < 0 {
		return errNoHole
	}
	c.hand(st, piece{hole: hole.Length})
	return nil
}

// hand gives a piece to who reads the stream, and waits for room. It reports false
// where nobody reads it any more.
func (c *connection) hand(st *stream, p piece) bool {
	select {
	case st.pieces <- p:
		return true
	default:
	}
	c.blocked.Store(true)
	defer c.blocked.Store(false)
	select {
	case st.pieces <- p:
		return true
	case <-st.over:
	case <-c.gone.Done():
	}
	return false
}

// next gives what comes next of a stream. Its data are the caller's until the call after.
// Behind an end there is that end again.
func (s *stream) next() (piece, error) {
	if s.end != nil {
		return piece{}, s.end
	}
	if s.taken != nil {
		giveBuffer(s.taken)
		s.taken = nil
	}
	s.mu.Lock()
	broken := s.broken
	s.mu.Unlock()
	select {
	case p := <-s.pieces:
		s.taken = p.data
		s.end = p.end
		s.empty = p.end != nil && !s.came
		s.came = s.came || p.end == nil
		return p, p.end
	case <-broken:
		return piece{}, errBroken
	}
}

// Read reads data; of a stream with holes next is for that.
func (s *stream) Read(b []byte) (int, error) {
	for len(s.rest) == 0 {
		p, err := s.next()
		if err != nil {
			return 0, err
		}
		s.rest = p.data
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Write sends data. A client may take its time over them, unless the stream is broken.
func (s *stream) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n := min(len(b)-done, wire.StreamBytes)
		if err := s.send(wire.Stream, b[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// hole sends a hole.
func (s *stream) hole(n int64) error {
	b, err := xdr.Encode(&wire.Hole{Length: n})
	if err != nil {
		return err
	}
	return s.send(wire.StreamHole, b)
}

// send sends a packet of the stream, whose end an empty one says.
func (s *stream) send(t wire.Type, payload []byte) error {
	if s.isBroken() {
		return errBroken
	}
	h := s.call.header
	h.Type, h.Status = t, wire.Continue
	return s.call.write(h, payload, time.Time{})
}

// wasEnded reports whether the client has ended a stream that goes to it.
func (s *stream) wasEnded() bool {
	all := &s.call.streams
	all.mu.Lock()
	defer all.mu.Unlock()
	return s.said
}

func (s *stream) isBroken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.broken:
		return true
	default:
		return false
	}
}

// breakOff ends what is being read and written. A packet that is on its way cannot be
// stopped without the connection; the client has a time for it then.
func (s *stream) breakOff() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.broken:
	default:
		close(s.broken)
		s.call.hurry()
	}
}

// SetReadDeadline breaks the stream where it is in the past. Without one it goes on.
func (s *stream) SetReadDeadline(at time.Time) error {
	if !at.IsZero() {
		s.breakOff()
	} else if s.isBroken() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.broken = make(chan struct{})
	}
	return nil
}

// SetWriteDeadline does the same.
func (s *stream) SetWriteDeadline(at time.Time) error { return s.SetReadDeadline(at) }

// PeerClosed reports whether the client has closed its connection.
func (s *stream) PeerClosed() bool { return s.call.conn.PeerClosed() }

// buffers are those of pieces.
var buffers = sync.Pool{New: func() any { return new([pieceBytes]byte) }}

func takeBuffer() []byte { return buffers.Get().(*[pieceBytes]byte)[:] }

func giveBuffer(b []byte) { buffers.Put((*[pieceBytes]byte)(b[:pieceBytes])) }
