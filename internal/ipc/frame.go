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
	"math"

	"github.com/vmihailenco/msgpack/v5"
)

const (
	// Proto is the protocol version spoken here, ProtoMin the oldest understood.
	Proto    = 1
	ProtoMin = 1

	// MaxFrame bounds a frame in a FIFO, header included. It is PIPE_BUF, so
	// that a non-blocking write is all or nothing (pipe(7)).
	MaxFrame = 4096
	// MaxRecord bounds a record in a file: the longest summary fits, a volume
	// with three paths of PATH_MAX, an error and its warnings included.
	MaxRecord = 128 << 10

	headerLen = 8
)

// magic begins every frame. 0xff occurs nowhere in UTF-8, and every text in a
// frame is UTF-8: whoever chooses a text (a file name, a tool's complaint)
// cannot plant a frame in it for a reader that enters the stream in the middle.
var magic = [4]byte{0xff, 'S', 'G', 'F'}

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
// MaxRecord). A message that its reader would refuse, or that does not fit, is
// an error.
func Encode(f Frame, limit int) ([]byte, error) {
	if err := f.Body.check(); err != nil {
		return nil, fmt.Errorf("cannot encode %s frame: %w", f.Body.Type(), err)
	}
	var buf bytes.Buffer
	buf.Write(magic[:])
	buf.Write([]byte{0, 0, 0, 0})
	enc := msgpack.NewEncoder(&buf)
	enc.UseCompactInts(true)
	if err := encodeBody(enc, f); err != nil {
		return nil, fmt.Errorf("cannot encode %s frame: %w", f.Body.Type(), err)
	}
	b := buf.Bytes()
	if len(b) > limit {
		return nil, fmt.Errorf("cannot encode %s frame: it has %d bytes, at most %d fit", f.Body.Type(), len(b), limit)
	}
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-headerLen))
	return b, nil
}

// Validate reports why a message can never be sent in a frame: a value out of
// its bounds, or more than MaxFrame bytes.
func Validate(m Message) error {
	_, err := Encode(Frame{Seq: math.MaxInt64, MonoNS: math.MaxInt64, Body: m}, MaxFrame)
	return err
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

// Reader reads frames from a stream. It is not safe for concurrent use. It
// holds at most one buffer of its limit.
type Reader struct {
	src     io.Reader
	buf     []byte // backing store
	have    []byte // the unread part of buf
	synced  bool   // false: bytes before the first valid frame are skipped
	Unknown int    // frames of types this version does not know
}

// NewReader reads frames of at most limit bytes and takes any other byte for
// an error.
func NewReader(src io.Reader, limit int) *Reader {
	return &Reader{src: src, buf: make([]byte, limit), synced: true}
}

// NewAdoptingReader is NewReader for a stream entered in the middle: it skips
// to the first valid frame.
func NewAdoptingReader(src io.Reader, limit int) *Reader {
	return &Reader{src: src, buf: make([]byte, limit)}
}

// Next gives the next frame of a known type. At a clean end it gives io.EOF,
// in the middle of a frame ErrTorn; a *ProtocolError is final. Any other error
// is the source's: after a deadline (os.ErrDeadlineExceeded) Next may be called
// again and loses nothing.
func (r *Reader) Next() (Frame, error) {
	for {
		payload, err := r.payload()
		if err != nil {
			return Frame{}, err
		}
		f, err := decode(payload)
		known := !errors.Is(err, errUnknownType)
		if err != nil && known && !r.synced {
			r.have = r.have[1:]
			continue
		}
		if err != nil && known {
			return Frame{}, err
		}
		r.synced = true
		r.have = r.have[headerLen+len(payload):]
		if known {
			return f, nil
		}
		r.Unknown++
	}
}

// payload gives the bytes of the frame at the front, which stay there.
func (r *Reader) payload() ([]byte, error) {
	for {
		if err := r.fill(headerLen); err != nil {
			return nil, err
		}
		n := headerLen + int64(binary.BigEndian.Uint32(r.have[4:]))
		if bytes.HasPrefix(r.have, magic[:]) && n <= int64(len(r.buf)) {
			err := r.fill(int(n))
			if err == nil {
				return r.have[headerLen:n], nil
			}
			if r.synced || !errors.Is(err, ErrTorn) {
				return nil, err
			}
		}
		if r.synced {
			return nil, protocolErrorf("no frame begins with % x", r.have[:headerLen])
		}
		r.have = r.have[1:]
	}
}

// fill reads until n bytes are there; n is at most the buffer's length.
func (r *Reader) fill(n int) error {
	if len(r.have) >= n {
		return nil
	}
	r.have = r.buf[:copy(r.buf, r.have)]
	for len(r.have) < n {
		got, err := r.src.Read(r.buf[len(r.have):])
		r.have = r.buf[:len(r.have)+got]
		switch {
		case len(r.have) >= n:
			return nil
		case err == io.EOF && len(r.have) == 0:
			return io.EOF
		case err == io.EOF:
			return ErrTorn
		case err != nil:
			return err
		}
	}
	return nil
}

var errUnknownType = errors.New("unknown frame type")

// decode checks the payload's structure before msgpack sees it: the library
// trusts declared lengths (vmihailenco/msgpack#376, #401). With errUnknownType
// it gives a frame without a body.
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
	kind, ok := kinds[Type(t)]
	if !ok {
		return Frame{Seq: uint64(seq), MonoNS: mono}, errUnknownType
	}
	body, err := kind.decode(dec)
	if err != nil {
		return Frame{}, err
	}
	return Frame{Seq: uint64(seq), MonoNS: mono, Body: body}, nil
}

// kinds is the one list of what can be received, with the names PROTOCOL.md
// uses.
var kinds = map[Type]struct {
	name   string
	decode func(*msgpack.Decoder) (Message, error)
}{
	TypeHello:      {"HELLO", into[Hello]},
	TypePlan:       {"PLAN", into[Plan]},
	TypePhase:      {"PHASE", into[Phase]},
	TypeProgress:   {"PROGRESS", into[Progress]},
	TypeBeat:       {"BEAT", into[Beat]},
	TypeCheckpoint: {"CHECKPOINT", into[Checkpoint]},
	TypeState:      {"STATE", into[State]},
	TypeWindow:     {"WINDOW", into[Window]},
	TypeLog:        {"LOG", into[Log]},
	TypeWarn:       {"WARN", into[Warn]},
	TypeResult:     {"RESULT", into[Result]},
	TypeConfined:   {"CONFINED", into[Confined]},
	TypeGo:         {"GO", into[Go]},
	TypeCancel:     {"CANCEL", into[Cancel]},
	TypePause:      {"PAUSE", into[Pause]},
	TypeResume:     {"RESUME", into[Resume]},
	TypeLimit:      {"LIMIT", into[Limit]},
	TypeWindowAck:  {"WINDOW_ACK", into[WindowAck]},
	TypeResync:     {"RESYNC", into[Resync]},
	TypeWindowCall: {"WINDOW_CALL", into[WindowCall]},
	TypeFence:      {"FENCE", into[Fence]},
	TypeAgain:      {"AGAIN", into[Again]},
	TypeOutcome:    {"OUTCOME", into[Summary]},
	TypeItem:       {"ITEM", into[Item]},
	TypeEnd:        {"END", into[End]},
	TypeMark:       {"MARK", into[Mark]},
}

// down reports whether frames of the type go from daemon to helper.
func (t Type) down() bool { return t > 64 && t < 128 }

// String is the name in PROTOCOL.md, for messages.
func (t Type) String() string {
	if k, ok := kinds[t]; ok {
		return k.name
	}
	return fmt.Sprintf("type %d", uint8(t))
}

func into[M Message](dec *msgpack.Decoder) (Message, error) {
	var m M
	if err := dec.Decode(&m); err != nil {
		return nil, protocolErrorf("body of %s: %v", m.Type(), err)
	}
	if err := m.check(); err != nil {
		return nil, protocolErrorf("body of %s: %v", m.Type(), err)
	}
	return m, nil
}
