// Package ipc is what crosses the boundary between daemon and helper: frames
// over two FIFOs, and the files of a job's directories. PROTOCOL.md is the
// written form. Either side treats the other as hostile: every length is
// checked before anything is allocated for it.
package ipc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/vmihailenco/msgpack/v5"
)

const (
	// Proto is the protocol version spoken here, ProtoMin the oldest understood.
	Proto    = 1
	ProtoMin = 1

	// MaxFrame bounds a frame in a FIFO, header included. It is PIPE_BUF, so
	// that a non-blocking write is all or nothing (pipe(7)).
	MaxFrame = 4096
	// MaxRecord bounds a record in a file: a path of PATH_MAX fits with its text.
	MaxRecord = 64 << 10

	headerLen = 8
)

// magic begins every frame. The first byte is no UTF-8, so that text does not
// look like a frame.
var magic = [4]byte{0xa5, 'S', 'G', 'F'}

// Frame is one decoded frame.
type Frame struct {
	Seq    uint64
	MonoNS int64 // sender's CLOCK_MONOTONIC
	Body   Message
}

// ErrTorn reports an input that ends in the middle of a frame.
var ErrTorn = errors.New("input ends in the middle of a frame")

// ProtocolError is an input that is no frame of this protocol. The peer is
// broken or hostile; nothing more is to be read from it.
type ProtocolError struct{ Reason string }

func (e *ProtocolError) Error() string { return "protocol error: " + e.Reason }

func protocolErrorf(format string, args ...any) error {
	return &ProtocolError{fmt.Sprintf(format, args...)}
}

// Encode gives the bytes of a frame of at most limit bytes (MaxFrame or
// MaxRecord). A message that does not fit is an error: callers cut texts first.
func Encode(f Frame, limit int) ([]byte, error) {
	var buf bytes.Buffer
	buf.Write(magic[:])
	buf.Write([]byte{0, 0, 0, 0})
	enc := msgpack.NewEncoder(&buf)
	enc.UseCompactInts(true)
	if err := encodeBody(enc, f); err != nil {
		return nil, fmt.Errorf("cannot encode frame of type %d: %w", f.Body.Type(), err)
	}
	b := buf.Bytes()
	if len(b) > limit {
		return nil, fmt.Errorf("cannot encode frame of type %d: %d bytes, at most %d fit", f.Body.Type(), len(b), limit)
	}
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-headerLen))
	return b, nil
}

func encodeBody(enc *msgpack.Encoder, f Frame) error {
	return errors.Join(
		enc.EncodeArrayLen(4),
		enc.EncodeUint(uint64(f.Body.Type())),
		enc.EncodeUint(f.Seq),
		enc.EncodeInt(f.MonoNS),
		enc.Encode(f.Body),
	)
}

// Reader reads frames from a stream. It is not safe for concurrent use.
type Reader struct {
	src     io.Reader
	buf     []byte
	limit   int
	synced  bool // false: bytes before the first valid frame are skipped
	Unknown int  // frames of types this version does not know
}

// NewReader reads frames of at most limit bytes and takes any other byte for
// an error.
func NewReader(src io.Reader, limit int) *Reader {
	return &Reader{src: src, limit: limit, synced: true}
}

// NewAdoptingReader is NewReader for a stream entered in the middle: it skips
// to the first valid frame.
func NewAdoptingReader(src io.Reader, limit int) *Reader {
	return &Reader{src: src, limit: limit}
}

// Next gives the next frame of a known type. At a clean end it gives io.EOF,
// in the middle of a frame ErrTorn; a *ProtocolError is final.
func (r *Reader) Next() (Frame, error) {
	for {
		payload, err := r.payload()
		if err != nil {
			return Frame{}, err
		}
		f, err := decode(payload)
		switch {
		case errors.Is(err, errUnknownType):
			r.Unknown++
		case err != nil && !r.synced:
			r.drop(1)
			continue
		case err != nil:
			return Frame{}, err
		}
		r.synced = true
		r.drop(headerLen + len(payload))
		if err == nil {
			return f, nil
		}
	}
}

// payload gives the bytes of the frame at the front of the buffer, which stay
// there.
func (r *Reader) payload() ([]byte, error) {
	for {
		if err := r.fill(headerLen); err != nil {
			return nil, err
		}
		n := int64(binary.BigEndian.Uint32(r.buf[4:]))
		good := bytes.Equal(r.buf[:4], magic[:]) && n <= int64(r.limit-headerLen)
		if good {
			err := r.fill(headerLen + int(n))
			if err != nil {
				return nil, err
			}
			return r.buf[headerLen : headerLen+int(n)], nil
		}
		if r.synced {
			return nil, protocolErrorf("no frame begins with % x", r.buf[:headerLen])
		}
		r.drop(1)
	}
}

// fill reads until the buffer has n bytes.
func (r *Reader) fill(n int) error {
	for len(r.buf) < n {
		chunk := make([]byte, max(n-len(r.buf), MaxFrame))
		got, err := r.src.Read(chunk)
		r.buf = append(r.buf, chunk[:got]...)
		if len(r.buf) >= n {
			return nil
		}
		switch {
		case err == io.EOF && len(r.buf) == 0:
			return io.EOF
		case err == io.EOF:
			return ErrTorn
		case err != nil:
			return err
		}
	}
	return nil
}

func (r *Reader) drop(n int) { r.buf = append(r.buf[:0], r.buf[n:]...) }

var errUnknownType = errors.New("unknown frame type")

// decode checks the payload's structure before msgpack sees it: the library
// trusts declared lengths (vmihailenco/msgpack#376, #401).
func decode(payload []byte) (Frame, error) {
	if err := checkBounds(payload); err != nil {
		return Frame{}, err
	}
	dec := msgpack.NewDecoder(bytes.NewReader(payload))
	n, err := dec.DecodeArrayLen()
	if err != nil || n < 4 {
		return Frame{}, protocolErrorf("a frame is an array of 4, not %d (%v)", n, err)
	}
	t, err1 := dec.DecodeInt64()
	seq, err2 := dec.DecodeInt64()
	mono, err3 := dec.DecodeInt64()
	if err := errors.Join(err1, err2, err3); err != nil {
		return Frame{}, protocolErrorf("frame head: %v", err)
	}
	if t < 0 || t > 255 || seq < 0 || mono < 0 {
		return Frame{}, protocolErrorf("frame head out of range: type %d seq %d time %d", t, seq, mono)
	}
	body, err := decodeBody(dec, Type(t))
	if err != nil {
		return Frame{}, err
	}
	return Frame{Seq: uint64(seq), MonoNS: mono, Body: body}, nil
}

// decodeBody is the one list of what can be received.
func decodeBody(dec *msgpack.Decoder, t Type) (Message, error) {
	switch t {
	case TypeHello:
		return into[Hello](dec)
	case TypePlan:
		return into[Plan](dec)
	case TypePhase:
		return into[Phase](dec)
	case TypeProgress:
		return into[Progress](dec)
	case TypeBeat:
		return into[Beat](dec)
	case TypeCheckpoint:
		return into[Checkpoint](dec)
	case TypeState:
		return into[State](dec)
	case TypeWindow:
		return into[Window](dec)
	case TypeLog:
		return into[Log](dec)
	case TypeWarn:
		return into[Warn](dec)
	case TypeResult:
		return into[Result](dec)
	case TypeGo:
		return into[Go](dec)
	case TypeCancel:
		return into[Cancel](dec)
	case TypePause:
		return into[Pause](dec)
	case TypeResume:
		return into[Resume](dec)
	case TypeLimit:
		return into[Limit](dec)
	case TypeWindowAck:
		return into[WindowAck](dec)
	case TypeResync:
		return into[Resync](dec)
	case TypeOutcome:
		return into[Summary](dec)
	case TypeItem:
		return into[Item](dec)
	case TypeEnd:
		return into[End](dec)
	}
	return nil, errUnknownType
}

func into[M Message](dec *msgpack.Decoder) (Message, error) {
	var m M
	if err := dec.Decode(&m); err != nil {
		return nil, protocolErrorf("body of type %d: %v", m.Type(), err)
	}
	if v, ok := any(&m).(interface{ check() error }); ok {
		if err := v.check(); err != nil {
			return nil, err
		}
	}
	return m, nil
}
