package supervisor

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/supervisor/process"
)

// helperName is argv[0] of a helper, as a person would type it.
const helperName = "storage-helper"

// helper is a helper process and our lines to it. It belongs to the goroutine
// of its job; only its reader is another one.
type helper struct {
	dir    ipc.JobDir
	family process.Family
	proc   *process.Proc // nil: only what it started lives, or nothing

	in      *os.File // the frames FIFO's reading end
	hold    *os.File // a writing end, lest the FIFO end between two writers
	control *os.File // both ends, lest a write meet no reader
	log     *jobLog
	seq     uint64

	frames  chan ipc.Frame // closed by the reader after its last frame
	readErr error          // why the reader ended; valid once frames is closed
	quit    chan struct{}  // closed by close: nobody receives any more
	reader  sync.WaitGroup

	named  chan error // whether the state directory's name is durable, one value; nil: it was already
	naming sync.WaitGroup
}

// nameIn makes the name of the job's state directory durable while the helper
// starts, since the result in it decides how the job ended.
func (h *helper) nameIn(dir string) {
	h.named = make(chan error, 1)
	h.naming.Go(func() { h.named <- ipc.SyncDir(dir) })
}

// awaitName waits for that. It is called once.
func (h *helper) awaitName() error {
	if h.named == nil {
		return nil
	}
	return <-h.named
}

// read passes frames on until the FIFO ends or holds what is no frame.
func (h *helper) read(in *ipc.Reader) {
	defer close(h.frames)
	for {
		f, err := in.Next()
		if err != nil {
			h.readErr = err
			return
		}
		select {
		case h.frames <- f:
		case <-h.quit:
			h.readErr = os.ErrClosed
			return
		}
	}
}

// send writes one control frame. It never blocks.
func (h *helper) send(m ipc.Message) error {
	if h.control == nil {
		return os.ErrClosed
	}
	h.seq++
	return ipc.WriteFrame(h.control, ipc.Frame{Seq: h.seq, Body: m})
}

// hangUp lets a helper that has no write end of its own read end of file.
func (h *helper) hangUp() {
	if h.control != nil {
		h.control.Close() // a FIFO has nothing to lose
		h.control = nil
	}
}

// pid is the process's; 0 when there is none.
func (h *helper) pid() int {
	if h.proc == nil {
		return 0
	}
	return h.proc.PID()
}

// exited is closed when the process has ended; nil when there is none.
func (h *helper) exited() <-chan struct{} {
	if h.proc == nil {
		return nil
	}
	return h.proc.Exited()
}

// drain lets the reader come to the end of what was written. It is called when
// nobody holds the lock any more, so that we are the FIFO's only writer.
func (h *helper) drain(patience time.Duration) {
	if h.hold == nil {
		return
	}
	h.hold.Close()
	h.hold = nil
	// Only a process that has the FIFO open but not the lock can make this
	// wait; a FIFO that takes no deadline was closed already.
	_ = h.in.SetReadDeadline(time.Now().Add(patience))
}

// broken reports why the reader ended, if that is what is no frame.
func (h *helper) broken() error {
	var p *ipc.ProtocolError
	if errors.As(h.readErr, &p) {
		return p
	}
	if h.readErr != nil && !errors.Is(h.readErr, io.EOF) && !errors.Is(h.readErr, ipc.ErrTorn) &&
		!errors.Is(h.readErr, os.ErrClosed) && !errors.Is(h.readErr, os.ErrDeadlineExceeded) {
		return h.readErr
	}
	return nil
}

// close ends the lines to the helper and leaves its processes as they are.
func (h *helper) close() {
	close(h.quit)
	h.closeFiles()
	h.reader.Wait()
	h.naming.Wait()
	if h.proc != nil {
		h.proc.Release()
	}
}

func (h *helper) closeFiles() {
	for _, f := range []*os.File{h.in, h.hold, h.control} {
		if f != nil {
			f.Close() // FIFOs have nothing to lose
		}
	}
	h.log.close()
}
