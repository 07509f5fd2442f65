package main_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
	"storaged/internal/testenv/powercut"
)

// patience bounds every wait of these tests: far more than anything here takes
// on a slow machine, far less than the test run's own limit.
var patience = testenv.Patience(3 * time.Minute)

// bin holds the three programs, built once by TestMain where they are not built already.
var bin string

func TestMain(m *testing.M) {
	if code, served := powercut.Main(); served {
		os.Exit(code)
	}
	flag.Parse()
	besideEachOther()
	os.Exit(buildAndRun(m))
}

// besideEachOther has more tests run at a time than there are processors, unless a
// number is asked for: half of the time they wait for what is limited or is to happen.
func besideEachOther() {
	const each = 2 // for a processor
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", fmt.Sprint(each*runtime.GOMAXPROCS(0))) // it is a number
	}
}

func buildAndRun(m *testing.M) int {
	if bin = testenv.Programs(); bin != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "storaged-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // another user runs them too
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bin = dir
	args := []string{"build", "-o", dir + "/"}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "storaged/cmd/...")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// host is a private daemon and its directories.
type host struct {
	t       *testing.T
	dir     string
	pool    string // directory of the pool "pool"
	sock    string
	daemon  *exec.Cmd
	client  *client.Client
	bin     string       // directory of the programs
	config  string       // file of settings; "": none
	env     []string     // of the daemon, beside ours
	stderr  *os.File     // of the daemon; nil: the log file
	boot    string       // file with the id of the boot that it is to see; "": the real one
	manager notifySocket // of the service manager
}

// newHost starts a daemon with one started pool, and checks at the end of the
// test that nothing of it is left.
func newHost(t *testing.T) *host {
	t.Helper()
	return newHostIn(t, t.TempDir())
}

// newHostIn is newHost in a directory that the test has prepared.
func newHostIn(t *testing.T, dir string) *host {
	t.Helper()
	h := unbegunIn(t, dir)
	h.begin()
	return h
}

// unbegun is a host whose daemon a test starts, with begin.
func unbegun(t *testing.T) *host { return unbegunIn(t, t.TempDir()) }

func unbegunIn(t *testing.T, dir string) *host {
	return &host{t: t, dir: dir, bin: bin, pool: filepath.Join(dir, "pool"), sock: filepath.Join(dir, "s")}
}

func (h *host) begin() {
	h.t.Helper()
	h.client = checkedClient(h.t, h.sock)
	h.start()
	h.t.Cleanup(h.check)
	h.define("pool", h.pool)
}

func (h *host) command() *exec.Cmd {
	config := h.config
	if config == "" {
		config = "/dev/null"
	}
	cmd := exec.Command(filepath.Join(h.bin, "storaged"), "--config", config, "--socket", h.sock,
		"--state-dir", filepath.Join(h.dir, "state"), "--runtime-dir", filepath.Join(h.dir, "run"), "--log-level", "debug")
	if h.boot != "" {
		cmd = inBoot(h.t, cmd, h.boot)
	}
	cmd.Env = append(append(os.Environ(), "NOTIFY_SOCKET="+h.notify()), h.env...)
	return cmd
}

// inBoot is the command in a mount namespace of its own, where the host's boot
// has the id in a file. It needs root.
func inBoot(t testing.TB, cmd *exec.Cmd, id string) *exec.Cmd {
	const script = `mount --bind -- "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"`
	return testenv.Mounting(context.Background(), t, script, append([]string{id}, cmd.Args...)...)
}

func (h *host) notify() string { return filepath.Join(h.dir, "notify") }

// start starts the daemon and returns when it says that it is ready.
func (h *host) start() {
	h.t.Helper()
	h.manager = listenNotify(h.t, h.notify())
	h.daemon = h.command()
	h.daemon.Stdout, h.daemon.Stderr = h.logFile(), h.logFile()
	if h.stderr != nil {
		h.daemon.Stderr = h.stderr
	}
	h.must(h.daemon.Start())
	h.manager.await(h.t, "READY=1")
}

func (h *host) logFile() *os.File {
	f := must(os.OpenFile(filepath.Join(h.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600))(h.t)
	h.t.Cleanup(func() { f.Close() })
	return f
}

// stop ends the daemon as the service manager does.
func (h *host) stop() {
	h.t.Helper()
	h.must(h.daemon.Process.Signal(syscall.SIGTERM))
	if err := h.daemon.Wait(); err != nil {
		h.t.Errorf("daemon: %v\n%s", err, h.log())
	}
}

// kill ends it as nobody should.
func (h *host) kill() {
	h.t.Helper()
	h.must(h.daemon.Process.Kill())
	_ = h.daemon.Wait() // says that it was killed
}

func (h *host) log() string {
	b, _ := os.ReadFile(filepath.Join(h.dir, "log"))
	return string(b)
}

// check is run after every test: all jobs have ended, and neither process nor
// temporary file nor runtime directory of a job is left.
func (h *host) check() {
	ctx := h.ctx()
	jobs, err := h.client.Jobs(ctx, contract.JobFilter{States: []string{"live"}}, contract.Page{})
	if err != nil {
		h.t.Errorf("cannot list jobs: %v\n%s", err, h.log())
		h.daemon.Process.Kill()
		return
	}
	for _, j := range jobs.Items {
		if j.Owner.Via == "daemon" { // a refresh after a restore, say, which no test began
			if end, err := h.client.WaitJob(ctx, j.ID, patience); err != nil || !end.State.Terminal() {
				h.t.Errorf("job %d of the daemon's own does not end: %s (%v)", j.Number, end.State, err)
			}
			continue
		}
		h.t.Errorf("job %d is left %s", j.Number, j.State)
		_, _ = h.client.CancelJob(ctx, j.ID, contract.JobCancel{Now: true})
		_, _ = h.client.WaitJob(ctx, j.ID, patience)
	}
	h.stop()
	for _, pid := range h.processes() {
		h.t.Errorf("process %d is left: %s", pid, commandOf(pid))
	}
	for _, pattern := range []string{filepath.Join(h.dir, "run/jobs/*"), h.pool + "*/.*.storaged"} {
		left, _ := filepath.Glob(pattern)
		if len(left) > 0 {
			h.t.Errorf("left behind: %v", left)
		}
	}
	if strings.Contains(h.log(), "DATA RACE") {
		h.t.Errorf("data race:\n%s", h.log())
	}
	if h.t.Failed() {
		h.t.Logf("daemon's log:\n%s", h.log())
	}
}

// processes are those of our jobs, told by their environment.
func (h *host) processes() []int {
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		env, err := os.ReadFile(filepath.Join(d, "environ"))
		if err == nil && strings.Contains(string(env), "STORAGED_JOB_STATE="+h.dir) {
			var pid int
			fmt.Sscanf(filepath.Base(d), "%d", &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

func commandOf(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.ReplaceAll(string(b), "\x00", " ")
}

func (h *host) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	h.t.Cleanup(cancel)
	return ctx
}

// succeed waits for a job that must succeed.
func (h *host) succeed(st started, err error) record.Job {
	h.t.Helper()
	j := h.end(st, err)
	if j.State != record.Succeeded {
		h.t.Fatalf("job %d (%s) is %s\n%s", j.Number, j.Kind, outcome(j), h.log())
	}
	return j
}

// end waits for a job.
func (h *host) end(st started, err error) record.Job {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("not started: %v\n%s", err, h.log())
	}
	j, err := h.client.WaitJob(h.ctx(), st.Job.ID, patience)
	if err != nil || !j.State.Terminal() {
		h.t.Fatalf("job %d does not end: %s %v\n%s", st.Job.Number, j.State, err, h.log())
	}
	return j
}

// sparse makes a sparse volume.
func (h *host) sparse(name string, capacity int64) record.Job {
	h.t.Helper()
	return h.succeed(h.create(name, capacity, allocation(0)))
}

// random fills a volume with data that nobody can guess.
func (h *host) random(name string, size int64) string {
	h.t.Helper()
	h.sparse(name, size)
	src := must(os.Open("/dev/urandom"))(h.t)
	defer src.Close()
	dst := must(os.OpenFile(h.path(name), os.O_WRONLY, 0))(h.t)
	defer dst.Close()
	if _, err := io.CopyN(dst, src, size); err != nil {
		h.t.Fatal(err)
	}
	return h.hash(name)
}

func (h *host) path(name string) string { return filepath.Join(h.pool, name) }

func (h *host) hash(name string) string {
	h.t.Helper()
	return hashOf(h.t, h.path(name))
}

func hashOf(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// absent fails when the pool has anything by the name, or any temporary.
func (h *host) absent(name string) {
	h.t.Helper()
	entries := must(os.ReadDir(h.pool))(h.t)
	for _, e := range entries {
		if e.Name() == name || strings.HasSuffix(e.Name(), ".storaged") {
			h.t.Errorf("%q is in the pool", e.Name())
		}
	}
	h.unknown(name)
}
