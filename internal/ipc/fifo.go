package ipc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ErrFull reports a FIFO without room for the frame. Nothing of it was
// written.
var ErrFull = errors.New("the peer does not read: pipe is full")

// MakeFIFO makes a FIFO that only its owner can open. Whatever is there
// already, it refuses (os.ErrExist).
func MakeFIFO(path string) error {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return fmt.Errorf("cannot make fifo %s: %w", path, err)
	}
	return nil
}

// OpenFrames opens the frames FIFO on the helper's side. The descriptor is both
// a read and a write end, so that the helper never sees the daemon go away
// (EPIPE); it need not know.
func OpenFrames(path string) (*os.File, error) { return openFIFO(path, os.O_RDWR) }

// ReadFrames opens the frames FIFO on the daemon's side. As long as hold is
// open, reading never ends, whether or not a helper is there; once hold is
// closed it ends behind the last frame when no process of the job has the FIFO
// open any more. Read deadlines work. The caller closes both.
func ReadFrames(path string) (in, hold *os.File, err error) {
	if in, err = openFIFO(path, os.O_RDONLY); err != nil {
		return nil, nil, err
	}
	if hold, err = openFIFO(path, os.O_WRONLY); err == nil {
		err = requireSame(in, hold)
	}
	if err != nil {
		in.Close()
		return nil, nil, err
	}
	return in, hold, nil
}

// OpenControl opens the control FIFO on the daemon's side. The descriptor is
// both a read and a write end: as long as it is open, a helper before GO
// waits.
func OpenControl(path string) (*os.File, error) { return openFIFO(path, os.O_RDWR) }

// openFIFO opens without waiting for a peer and leaves the descriptor to the
// runtime's poller, so that reads wait without a thread and can be given a
// deadline. What is no FIFO is refused.
func openFIFO(path string, access int) (*os.File, error) {
	f, err := os.OpenFile(path, access|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open fifo: %w", err)
	}
	st, err := f.Stat()
	if err == nil && st.Mode().Type() != os.ModeNamedPipe {
		err = fmt.Errorf("%s is no fifo", path)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot open fifo: %w", err)
	}
	return f, nil
}

// WriteFrame writes a frame to a non-blocking FIFO, all of it or nothing: it
// never waits, and a full FIFO is ErrFull. A frame without a time gets that of now. Several writers do not mix their
// bytes (pipe(7), PIPE_BUF).
func WriteFrame(fifo *os.File, f Frame) error {
	if f.MonoNS == 0 {
		f.MonoNS = monotonic()
	}
	b, err := Encode(f, MaxFrame)
	if err != nil {
		return err
	}
	raw, err := fifo.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot write frame: %w", err)
	}
	// Control and not Write: the poller would wait for room.
	var werr error
	if err := raw.Control(func(fd uintptr) { werr = writeOnce(int(fd), b) }); err != nil {
		return fmt.Errorf("cannot write frame: %w", err)
	}
	return werr
}

func writeOnce(fd int, b []byte) error {
	for {
		n, err := unix.Write(fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return ErrFull
		case err != nil:
			return fmt.Errorf("cannot write frame: %w", err)
		case n != len(b):
			return fmt.Errorf("cannot write frame: %d of %d bytes written, this is no pipe", n, len(b))
		}
		return nil
	}
}

// Control is a helper's end of the control FIFO.
type Control struct {
	path   string
	in     *os.File
	writer atomic.Pointer[os.File] // after Keep
	frames *Reader
}

// JoinControl opens the control FIFO on the helper's side, for reading only:
// when the daemon goes away before GO, Next gives io.EOF and the helper has
// nothing to do.
func JoinControl(path string) (*Control, error) {
	in, err := openFIFO(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return &Control{path: path, in: in, frames: NewReader(in, MaxFrame)}, nil
}

// Next waits for the next frame from the daemon. A frame that is not for
// helpers is a *ProtocolError. After Close it gives os.ErrClosed.
func (c *Control) Next() (Frame, error) {
	f, err := c.frames.Next()
	if err != nil {
		return Frame{}, err
	}
	if !f.Body.Type().down() {
		return Frame{}, protocolErrorf("%s on the control fifo", f.Body.Type())
	}
	return f, nil
}

// Keep takes a write end too: from then on Next never gives io.EOF, and the
// helper outlives its daemon. A helper calls it after GO and before it touches
// anything; where it fails, it must end. A daemon that comes back says GO again,
// and what is kept stays so. It may be called while others call Fence and Close.
func (c *Control) Keep() error {
	if c.writer.Load() != nil {
		return nil
	}
	w, err := openFIFO(c.path, os.O_WRONLY)
	if err == nil {
		err = requireSame(c.in, w)
	}
	if err != nil {
		return fmt.Errorf("cannot keep control fifo: %w", err)
	}
	c.writer.Store(w)
	return nil
}

// Fence sends the helper itself a FENCE: it comes out of Next behind every frame
// that the daemon has sent by now. ErrFull says that there is no room for it
// before some of those are read.
func (c *Control) Fence() error {
	w := c.writer.Load()
	if w == nil { // before GO
		var err error
		if w, err = openFIFO(c.path, os.O_WRONLY); err != nil {
			return fmt.Errorf("cannot write to control fifo: %w", err)
		}
		defer w.Close() // a frame is written at once or not at all
	}
	return WriteFrame(w, Frame{Body: Fence{}})
}

// Close ends a Next that waits.
func (c *Control) Close() error {
	err := c.in.Close()
	if w := c.writer.Load(); w != nil {
		err = errors.Join(err, w.Close())
	}
	return err
}

// requireSame closes the second of two ends unless they are of one FIFO.
func requireSame(first, second *os.File) error {
	a, err := first.Stat()
	if err == nil {
		var b os.FileInfo
		if b, err = second.Stat(); err == nil && !os.SameFile(a, b) {
			err = fmt.Errorf("%s was replaced", first.Name())
		}
	}
	if err != nil {
		second.Close()
	}
	return err
}

var _ io.Closer = (*Control)(nil)
