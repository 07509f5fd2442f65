package ipc

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// soon bounds waits for what should come at once.
const soon = 10 * time.Second

func newFIFO(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := MakeFIFO(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func opened(t *testing.T, open func(string) (*os.File, error), path string) *os.File {
	t.Helper()
	f, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func joined(t *testing.T, path string) *Control {
	t.Helper()
	c, err := JoinControl(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// next waits for one frame of the control FIFO.
func next(t *testing.T, c *Control) (Message, error) {
	t.Helper()
	if err := c.in.SetReadDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	f, err := c.Next()
	return f.Body, err
}

// drained gives the frames that lie in the FIFO now.
func drained(t *testing.T, fifo *os.File) []Frame {
	t.Helper()
	frames, err := readAll(NewReader(available{fifo}, MaxFrame))
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

// available makes the end of what is there now an io.EOF.
type available struct{ fifo *os.File }

func (a available) Read(p []byte) (n int, err error) {
	raw, err := a.fifo.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), p) })
	if err == unix.EAGAIN {
		return 0, io.EOF
	}
	return max(n, 0), errors.Join(cerr, err)
}

func TestMakeFIFORefusesWhateverIsThere(t *testing.T) {
	path := newFIFO(t)
	if err := MakeFIFO(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second fifo: %v", err)
	}
	st, err := os.Lstat(path)
	if err != nil || st.Mode() != os.ModeNamedPipe|0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestOnlyARealFIFOIsOpened(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(newFIFO(t), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dir, filepath.Join(dir, "missing")} {
		if f, err := OpenFrames(path); err == nil {
			f.Close()
			t.Errorf("%s was opened", path)
		}
		if in, hold, err := ReadFrames(path); err == nil {
			in.Close()
			hold.Close()
			t.Errorf("%s was opened for reading", path)
		}
		if c, err := JoinControl(path); err == nil {
			c.Close()
			t.Errorf("%s was joined", path)
		}
	}
}

func TestReadsWaitInThePollerAndHaveDeadlines(t *testing.T) {
	f := opened(t, OpenFrames, newFIFO(t))
	if err := f.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatalf("no deadline on a fifo: %v", err)
	}
	in := NewReader(f, MaxFrame)
	if _, err := in.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("an empty fifo gave %v", err)
	}
	b := mustEncode(t, Warn{Text: "slow"}, MaxFrame)
	if _, err := f.Write(b[:9]); err != nil {
		t.Fatal(err)
	}
	f.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := in.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("half a frame gave %v", err)
	}
	if _, err := f.Write(b[9:]); err != nil {
		t.Fatal(err)
	}
	f.SetReadDeadline(time.Now().Add(soon))
	if got, err := in.Next(); err != nil || got.Body != (Warn{Text: "slow"}) {
		t.Errorf("after the deadline: %+v, %v", got, err)
	}
}

func TestReadingFramesEndsWhenNobodyHoldsThem(t *testing.T) {
	path := newFIFO(t)
	in, hold, err := ReadFrames(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	frames := NewReader(in, MaxFrame)
	in.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := frames.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no helper yet: %v", err)
	}
	in.SetReadDeadline(time.Now().Add(soon))
	helper := opened(t, OpenFrames, path)
	NewSender(helper).Send(Warn{Text: "last words"})
	helper.Close()
	hold.Close()
	if f, err := frames.Next(); err != nil || f.Body != (Warn{Text: "last words"}) {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := frames.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last frame: %v", err)
	}
}

func TestDaemonGoneBeforeGoIsEndOfFile(t *testing.T) {
	path := newFIFO(t)
	daemon := opened(t, OpenControl, path)
	helper := joined(t, path)
	ended := make(chan error)
	go func() {
		_, err := helper.Next()
		ended <- err
	}()
	daemon.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, io.EOF) {
			t.Errorf("helper saw %v", err)
		}
	case <-time.After(soon):
		t.Fatal("helper waits for a daemon that is gone")
	}
}

func TestDaemonGoneBeforeTheHelperCameIsEndOfFile(t *testing.T) {
	path := newFIFO(t)
	if _, err := next(t, joined(t, path)); !errors.Is(err, io.EOF) {
		t.Errorf("helper saw %v", err)
	}
}

func TestGoOfADaemonThatDiedAtOnceStillCounts(t *testing.T) {
	path := newFIFO(t)
	daemon := opened(t, OpenControl, path)
	helper := joined(t, path)
	if err := WriteFrame(daemon, Frame{Body: Go{Limit: 7}}); err != nil {
		t.Fatal(err)
	}
	daemon.Close()
	if m, err := next(t, helper); err != nil || !reflect.DeepEqual(m, Go{Limit: 7}) {
		t.Errorf("helper saw %+v, %v", m, err)
	}
}

func TestHelperThatKeepsOutlivesItsDaemon(t *testing.T) {
	path := newFIFO(t)
	daemon := opened(t, OpenControl, path)
	helper := joined(t, path)
	if err := helper.Keep(); err != nil {
		t.Fatal(err)
	}
	daemon.Close()
	helper.in.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := helper.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("helper saw %v", err)
	}
	if err := WriteFrame(opened(t, OpenControl, path), Frame{Body: Resync{}}); err != nil {
		t.Fatal(err)
	}
	if m, err := next(t, helper); err != nil || m != (Resync{}) {
		t.Errorf("from the next daemon: %+v, %v", m, err)
	}
}

// A daemon that comes back says GO again, at any time until the helper is gone.
func TestKeepOfAHelperThatIsLeaving(t *testing.T) {
	path := newFIFO(t)
	helper := joined(t, path)
	if err := helper.Keep(); err != nil {
		t.Fatal(err)
	}
	first := helper.writer.Load()
	var again sync.WaitGroup
	again.Go(func() {
		if err := helper.Keep(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(helper.Fence(), helper.Close()); err != nil {
		t.Error(err)
	}
	again.Wait()
	if helper.writer.Load() != first {
		t.Error("another descriptor was opened for the same fifo")
	}
}

func TestKeepNoticesAReplacedFIFO(t *testing.T) {
	path := newFIFO(t)
	helper := joined(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := helper.Keep(); err == nil {
		t.Error("kept a fifo that is gone")
	}
	if err := MakeFIFO(path); err != nil {
		t.Fatal(err)
	}
	opened(t, OpenControl, path)
	if err := helper.Keep(); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("kept another fifo: %v", err)
	}
}

func TestControlAcceptsOnlyWhatADaemonSays(t *testing.T) {
	path := newFIFO(t)
	daemon := opened(t, OpenControl, path)
	helper := joined(t, path)
	if err := WriteFrame(daemon, Frame{Body: Result{Outcome: Succeeded, Digest: testDigest}}); err != nil {
		t.Fatal(err)
	}
	var perr *ProtocolError
	if _, err := next(t, helper); !errors.As(err, &perr) {
		t.Errorf("RESULT on the control fifo: %v", err)
	}
}

func TestCloseEndsAWaitingNext(t *testing.T) {
	path := newFIFO(t)
	opened(t, OpenControl, path)
	helper := joined(t, path)
	ended := make(chan error)
	go func() {
		_, err := helper.Next()
		ended <- err
	}()
	if err := helper.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestAFullFIFOIsErrFullAndNothingIsWritten(t *testing.T) {
	fifo := opened(t, OpenFrames, newFIFO(t))
	sent := fill(t, fifo)
	got := drained(t, fifo)
	if len(got) != sent {
		t.Errorf("%d frames fit, %d came out", sent, len(got))
	}
}

// fill sends frames of two lengths until not even the shortest fits.
func fill(t *testing.T, fifo *os.File) (frames int) {
	t.Helper()
	for _, m := range []Message{Log{Level: "info", Text: strings.Repeat("x", maxLogText)}, filler} {
		for {
			err := WriteFrame(fifo, Frame{Body: m})
			if errors.Is(err, ErrFull) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			frames++
		}
	}
	return frames
}

// filler is as short as a frame can be, and nothing a helper sends.
var filler = Cancel{}

func TestWritersDoNotMixTheirFrames(t *testing.T) {
	const writers, each = 4, 400
	path := newFIFO(t)
	reader := opened(t, OpenFrames, path)
	reader.SetReadDeadline(time.Now().Add(2 * soon))
	var all sync.WaitGroup
	for w := range writers {
		fifo := opened(t, OpenFrames, path)
		all.Go(func() { writeAll(t, fifo, w, each) })
	}
	in := NewReader(reader, MaxFrame)
	next := map[string]uint64{}
	for range writers * each {
		f, err := in.Next()
		if err != nil {
			t.Fatal(err)
		}
		who := f.Body.(Log).Text[:1]
		if f.Seq != next[who] {
			t.Fatalf("writer %s: frame %d, want %d", who, f.Seq, next[who])
		}
		next[who]++
	}
	all.Wait()
}

// writeAll writes frames of every length, each as soon as there is room. The
// runtime waits for the room: this writer wants to be blocked.
func writeAll(t *testing.T, fifo *os.File, who, frames int) {
	for i := range frames {
		m := Log{Level: "info", Text: strings.Repeat(string(rune('a'+who)), 1+(i*37+who)%maxLogText)}
		b, err := Encode(Frame{Seq: uint64(i), Body: m}, MaxFrame)
		if err == nil {
			_, err = fifo.Write(b)
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}
