package helper

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"storaged/internal/ipc"
)

// patience bounds every wait of these tests for an event that must come. It
// is long because the machine may be busy, and is never waited out in a test
// that passes.
const patience = 30 * time.Second

// daemon is the other end of a helper's FIFOs.
type daemon struct {
	t       *testing.T
	dir     ipc.JobDir
	frames  *os.File
	control *os.File
	lock    *os.File
	cmd     *exec.Cmd
	seq     uint64

	mu     sync.Mutex
	seen   []ipc.Frame
	news   chan struct{} // closed and replaced at each frame
	reader sync.WaitGroup
	exited chan struct{}
	reads  bool
}

// newDaemon makes the directories, FIFOs and lock of a job.
func newDaemon(t *testing.T) *daemon {
	t.Helper()
	base := t.TempDir()
	d := &daemon{t: t, news: make(chan struct{}), exited: make(chan struct{}), reads: true}
	d.dir = ipc.JobDir{Job: "0199aaaa-0000-7000-8000-000000000001", Runtime: filepath.Join(base, "run"), State: filepath.Join(base, "state")}
	for _, dir := range []string{d.dir.Runtime, d.dir.State} {
		must(t, os.Mkdir(dir, 0o700))
	}
	must(t, ipc.MakeFIFO(d.dir.Frames()))
	must(t, ipc.MakeFIFO(d.dir.Control()))
	d.open()
	return d
}

// open opens the daemon's ends and takes the lock.
func (d *daemon) open() {
	d.t.Helper()
	var err error
	d.frames, err = ipc.OpenFrames(d.dir.Frames())
	must(d.t, err)
	d.control, err = ipc.OpenControl(d.dir.Control())
	must(d.t, err)
	d.lock, err = os.OpenFile(d.dir.Lock(), os.O_CREATE|os.O_RDWR, 0o600)
	must(d.t, err)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C { // who looks into /proc has the files of a process that has ended, for an instant
		err = syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
	}
	must(d.t, err)
}

// start starts the helper and reads its frames.
func (d *daemon) start(args ...string) {
	d.t.Helper()
	d.run(exec.Command(helper, args...))
}

// run is start for a command that ends up as the helper.
func (d *daemon) run(cmd *exec.Cmd) {
	d.t.Helper()
	log, err := os.OpenFile(d.dir.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(d.t, err)
	defer log.Close()
	d.cmd = cmd
	d.cmd.Env = append(os.Environ(), ipc.EnvJob+"="+d.dir.Job, ipc.EnvRuntime+"="+d.dir.Runtime, ipc.EnvState+"="+d.dir.State)
	d.cmd.Stderr = log
	d.cmd.ExtraFiles = []*os.File{d.lock}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	must(d.t, d.cmd.Start())
	d.lock.Close()
	if d.reads {
		d.read(ipc.NewReader(d.frames, ipc.MaxFrame))
	}
	go func() {
		d.cmd.Wait() // the state is looked at by exit
		close(d.exited)
	}()
	d.t.Cleanup(d.stop)
}

// read collects frames until the daemon closes its end.
func (d *daemon) read(in *ipc.Reader) {
	d.reader.Go(func() {
		for {
			f, err := in.Next()
			if err != nil {
				if !errors.Is(err, os.ErrClosed) {
					d.t.Errorf("frames: %v", err)
				}
				return
			}
			d.mu.Lock()
			d.seen = append(d.seen, f)
			close(d.news)
			d.news = make(chan struct{})
			d.mu.Unlock()
		}
	})
}

func (d *daemon) stop() {
	d.cmd.Process.Kill() // may have ended
	<-d.exited
	d.frames.Close()
	d.control.Close()
	d.reader.Wait()
	if d.t.Failed() {
		log, _ := os.ReadFile(d.dir.Log())
		d.t.Logf("log of the helper:\n%s", log)
	}
}

// say sends an order.
func (d *daemon) say(m ipc.Message) {
	d.t.Helper()
	d.seq++
	must(d.t, ipc.WriteFrame(d.control, ipc.Frame{Seq: d.seq, Body: m}))
}

// await gives the first frame of type M from the index on that is as wanted,
// and the index behind it.
func await[M ipc.Message](d *daemon, from int, what string, wanted func(M) bool) (M, int) {
	d.t.Helper()
	late := time.After(patience)
	for {
		d.mu.Lock()
		seen, news := d.seen, d.news
		d.mu.Unlock()
		for i := from; i < len(seen); i++ {
			if m, ok := seen[i].Body.(M); ok && wanted(m) {
				return m, i + 1
			}
		}
		select {
		case <-news:
		case <-late:
			d.t.Fatalf("no frame with %s; seen %v", what, bodies(seen))
		}
	}
}

func bodies(frames []ipc.Frame) []ipc.Message {
	var out []ipc.Message
	for _, f := range frames {
		out = append(out, f.Body)
	}
	return out
}

func any1[M ipc.Message](M) bool { return true }

// begin waits for HELLO and says GO.
func (d *daemon) begin(g ipc.Go) {
	d.t.Helper()
	hello, _ := await(d, 0, "hello", any1[ipc.Hello])
	if hello.PID != d.cmd.Process.Pid || hello.Job != d.dir.Job || hello.Proto != ipc.Proto {
		d.t.Fatalf("hello %+v", hello)
	}
	d.say(g)
}

// exit waits for the helper's end and gives its exit code.
func (d *daemon) exit() int {
	d.t.Helper()
	select {
	case <-d.exited:
	case <-time.After(patience):
		d.t.Fatal("the helper does not end")
	}
	return d.cmd.ProcessState.ExitCode()
}

// result waits for the end and gives the report, held against exit code and
// RESULT frame.
func (d *daemon) result(wantExit int) *ipc.Report {
	d.t.Helper()
	if code := d.exit(); code != wantExit {
		d.t.Errorf("exit code %d, want %d", code, wantExit)
	}
	report, digest, err := ipc.LoadReport(d.dir.Result())
	must(d.t, err)
	if d.reads {
		r, _ := await(d, 0, "result", any1[ipc.Result])
		if r.Digest != digest || r.Outcome != report.Outcome {
			d.t.Errorf("RESULT %+v, file has %s %s", r, report.Outcome, digest)
		}
	}
	return report
}

// of gives the bodies of one type among what was seen.
func of[M ipc.Message](d *daemon) []M {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []M
	for _, f := range d.seen {
		if m, ok := f.Body.(M); ok {
			out = append(out, m)
		}
	}
	return out
}

// names lists a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// onlyHas fails unless the directory has just these names.
func onlyHas(t *testing.T, dir string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("%s has %q, want %q", dir, got, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
