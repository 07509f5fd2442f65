package tool

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// maxMessage is more than any answer to what we ask, bytes.
const maxMessage = 256 << 10

// monitor speaks QMP (QEMU docs/interop/qmp-spec), one command at a time. The
// other end has parsed an image, and anything may come from it.
type monitor struct {
	conn   net.Conn
	in     *bufio.Reader
	events int // that were read
}

func newMonitor(conn net.Conn) *monitor {
	return &monitor{conn: conn, in: bufio.NewReaderSize(conn, maxMessage)}
}

// message is what the other end says.
type message struct {
	QMP    json.RawMessage `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Event  string          `json:"event"`
	Error  *CommandError   `json:"error"`
}

// CommandError is the refusal of a command.
type CommandError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
	Limit string `json:"-"` // of what it refused it for want of, "" if of none
}

func (e *CommandError) Error() string {
	if e.Limit == "" {
		return escape(e.Desc)
	}
	return fmt.Sprintf("%s: its limit is %s", escape(e.Desc), e.Limit)
}

// within does what speaks with the other end, until ctx ends. Behind an end of ctx
// nothing can be said any more.
func (m *monitor) within(ctx context.Context, do func() error) error {
	stop := context.AfterFunc(ctx, func() { m.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err := do()
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// next reads a message.
func (m *monitor) next() (message, error) {
	line, err := m.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = fmt.Errorf("it says more than %d bytes at once", maxMessage)
	}
	if err != nil {
		return message{}, err
	}
	var msg message
	if err := json.Unmarshal(line, &msg); err != nil {
		return message{}, fmt.Errorf("what it says is no QMP: %w", err)
	}
	if msg.Event != "" {
		m.events++
	}
	return msg, nil
}

// greet reads the greeting.
func (m *monitor) greet(ctx context.Context) error {
	return m.within(ctx, func() error {
		msg, err := m.next()
		if err == nil && msg.QMP == nil {
			err = errors.New("it does not greet as QMP does")
		}
		return err
	})
}

// execute runs a command; result, if not nil, gets what it returns. Events that come
// before the answer are counted only.
func (m *monitor) execute(ctx context.Context, command string, arguments, result any) error {
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		panic("internal error: " + err.Error()) // plain values
	}
	return m.within(ctx, func() error {
		if _, err := m.conn.Write(append(b, '\n')); err != nil {
			return err
		}
		for {
			msg, err := m.next()
			switch {
			case err != nil:
				return err
			case msg.Error != nil:
				return msg.Error
			case msg.Return == nil:
				continue
			case result == nil:
				return nil
			}
			return json.Unmarshal(msg.Return, result)
		}
	})
}

// await waits until done says so. It is asked at once and after each event, also one
// that came while it asked: an answer may be older than an event before it, which may
// be the last.
func (m *monitor) await(ctx context.Context, done func() (bool, error)) error {
	for {
		before := m.events
		if ok, err := done(); ok || err != nil {
			return err
		}
		err := m.within(ctx, func() (err error) {
			for err == nil && m.events == before {
				_, err = m.next()
			}
			return err
		})
		if err != nil {
			return err
		}
	}
}
