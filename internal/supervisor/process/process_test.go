package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"storaged/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Names of environment variables of this binary as a helper, whose first thread
// is that of init.
const (
	outlived = "TEST_OUTLIVED" // the first thread ends, others go on
	writes   = "TEST_WRITES"   // another thread makes this file
	forks    = "TEST_FORKS"    // a child is to be started in this directory, with the lock that is descriptor 3
)

func init() {
	path := os.Getenv(writes)
	switch {
	case path != "":
		go os.Create(path) // for ever, on a frozen file system
		select {}
	case os.Getenv(forks) != "":
		// With Sys only the child looks at Dir.
		p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Dir: os.Getenv(forks), Sys: &syscall.SysProcAttr{}})
		if p != nil {
			p.Wait()
		}
		if !errors.Is(err, unix.ENOTCONN) { // else its waiting has an end
			os.Exit(3)
		}
		os.Exit(0)
	case os.Getenv(outlived) != "":
		go syscall.Pause() // the thread of a system call is no other goroutine's
		unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
	}
}

const patience = 2 * time.Minute

// sh starts a shell script as a helper would be started.
func sh(t *testing.T, script string, c Cgroups) (*Proc, Family) {
	t.Helper()
	dir := t.TempDir()
	f := Family{Mark: "TEST_JOB=" + filepath.Base(dir) + t.Name(), Lock: filepath.Join(dir, "lock")}
	lock, err := TakeLock(f.Lock)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	path, group, err := c.Make(strings.ReplaceAll(t.Name(), "/", "-"))
	if err != nil {
		t.Fatal(err)
	}
	if group != nil {
		defer group.Close()
		f.Cgroup = path
	}
	p, err := Start(Spec{Path: "/bin/sh", Argv: []string{"sh", "-c", script}, Env: []string{f.Mark, "PATH=" + os.Getenv("PATH")}, Log: log, Lock: lock, Cgroup: group})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Kill()
		<-p.Exited()
		p.Release()
		killUntilFree(t, f)
		if err := RemoveCgroup(f.Cgroup); err != nil {
			t.Error(err)
		}
		c.Close()
	})
	return p, f
}

// killUntilFree kills again what was forked or hidden by an exec meanwhile, as
// the supervisor does.
func killUntilFree(t *testing.T, f Family) {
	t.Helper()
	freed(t, f, func() { f.Kill() })
}

func untilFree(t *testing.T, f Family) {
	t.Helper()
	freed(t, f, func() {})
}

func freed(t *testing.T, f Family, meanwhile func()) {
	t.Helper()
	deadline := time.After(patience)
	for tick := time.NewTicker(time.Millisecond); ; { // a lock has no event for being let go
		if held, err := f.Held(); err != nil || !held {
			if err != nil {
				t.Error(err)
			}
			return
		}
		select {
		case <-tick.C:
			meanwhile()
		case <-deadline:
			t.Fatalf("lock stays held by %s", f.Stuck())
		}
	}
}

func exited(t *testing.T, p *Proc) Exit {
	t.Helper()
	select {
	case <-p.Exited():
		return p.Exit()
	case <-time.After(patience):
		t.Fatal("process does not end")
		return Exit{}
	}
}

// groupings runs a test with a cgroup, where the host lets us, and without.
func groupings(t *testing.T, test func(t *testing.T, c Cgroups)) {
	t.Run("without cgroup", func(t *testing.T) { test(t, Cgroups{}) })
	t.Run("in a cgroup", func(t *testing.T) {
		c := FindCgroups()
		if c.dir == "" {
			t.Log("this host has no cgroup v2 that we may change: run without")
		}
		test(t, c)
	})
}

func TestExitStatusAndCost(t *testing.T) {
	p, _ := sh(t, "exit 7", Cgroups{})
	if e := exited(t, p); !e.Known || e.Code != 7 || e.Signal != 0 || !e.Measured {
		t.Errorf("exit is %+v", e)
	}
	p, _ = sh(t, "kill -9 $$", Cgroups{})
	if e := exited(t, p); !e.Known || e.Signal != syscall.SIGKILL || e.Code != -1 {
		t.Errorf("exit is %+v", e)
	}
}

func TestDescriptorsOfTheChild(t *testing.T) {
	secret, err := os.CreateTemp(t.TempDir(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	// The child itself looks, when its loader has closed what it had open.
	list := filepath.Join(t.TempDir(), "list")
	p, f := sh(t, "readlink /proc/$$/fd/* >"+list+"; exit 0", Cgroups{})
	exited(t, p)
	b, err := os.ReadFile(list)
	if err != nil || !strings.Contains(string(b), f.Lock) {
		t.Fatalf("it has open:\n%s(%v)", b, err)
	}
	for _, to := range strings.Fields(string(b)) {
		if to != "/dev/null" && to != f.Lock && to != list && !strings.HasSuffix(to, "/log") {
			t.Errorf("it has %s open", to)
		}
	}
}

func TestChildOfAFavouredProcessIsNotFavoured(t *testing.T) {
	testenv.Root(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -5); err != nil {
		t.Fatal(err)
	}
	p, _ := sh(t, "sleep 60", Cgroups{})
	if got, err := unix.Getpriority(unix.PRIO_PROCESS, p.PID()); got != 20 || err != nil { // 20 less the nice value
		t.Errorf("its nice value is %d (%v)", 20-got, err)
	}
}

func TestWhoYieldsGoesBehindOthers(t *testing.T) {
	p, _ := sh(t, "sleep 60", Cgroups{})
	p.Yield()
	if got, err := unix.Getpriority(unix.PRIO_PROCESS, p.PID()); got != 20-yields || err != nil {
		t.Errorf("its nice value is %d (%v)", 20-got, err)
	}
	b, err := os.ReadFile(filepath.Join(dirOf(p.PID()), "autogroup"))
	testenv.Need(t, "a kernel that shares processors between sessions", err == nil)
	if !strings.HasSuffix(strings.TrimSpace(string(b)), "nice "+strconv.Itoa(yields)) {
		t.Errorf("its session is %s", b)
	}
}

func TestGrandchildKeepsTheLock(t *testing.T) {
	groupings(t, func(t *testing.T, c Cgroups) {
		p, f := sh(t, "setsid sleep 60 & exit 0", c)
		if e := exited(t, p); e.Code != 0 {
			t.Errorf("exit is %+v", e)
		}
		if held, err := f.Held(); !held || err != nil {
			t.Fatalf("held %v, %v, with a grandchild alive", held, err)
		}
		if s := f.Stuck(); !strings.Contains(s, "process ") {
			t.Errorf("stuck is %q", s)
		}
		if err := f.Kill(); err != nil {
			t.Error(err)
		}
		untilFree(t, f)
	})
}

// itself starts this binary as a helper with a variable in its environment.
func itself(t *testing.T, name, value string, c Cgroups) (*Proc, Family) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return sh(t, name+"='"+value+"' exec '"+binary+"'", c)
}

// untilStuck waits for a description of what is stuck that has all of the parts.
func untilStuck(t *testing.T, f Family, parts ...string) {
	t.Helper()
	deadline := time.After(patience)
	for tick := time.NewTicker(time.Millisecond); ; { // a state has no event
		s := f.Stuck()
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(s, part) }) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("stuck is %q, without all of %q", s, parts)
		}
	}
}

func untilZombie(t *testing.T, p *Proc) {
	t.Helper()
	deadline := time.After(patience)
	for tick := time.NewTicker(time.Millisecond); ; { // a thread's end has no event
		if st, err := readStat(p.PID()); err != nil || st.state == 'Z' {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the first thread does not end")
		}
	}
}

func TestThreadThatOutlivesTheFirstIsNamed(t *testing.T) {
	groupings(t, func(t *testing.T, c Cgroups) {
		p, f := itself(t, outlived, "yes", c)
		untilZombie(t, p)
		untilStuck(t, f, "process "+strconv.Itoa(p.PID())+", thread ", "in state S")
		if held, err := f.Held(); !held || err != nil {
			t.Errorf("held %v, %v, with a thread alive", held, err)
		}
	})
}

func TestThreadInTheKernelIsNamed(t *testing.T) {
	dir := testenv.Mount(t, "ext4")
	groupings(t, func(t *testing.T, c Cgroups) {
		thaw := testenv.Freeze(t, dir)
		p, f := itself(t, writes, filepath.Join(dir, "file"), c)
		t.Cleanup(thaw) // before sh waits for the end
		untilStuck(t, f, "in state D")
		if err := f.Kill(); err != nil {
			t.Fatal(err)
		}
		untilZombie(t, p)
		untilStuck(t, f, "process "+strconv.Itoa(p.PID())+", thread ", "in state D (")
	})
}

func TestMemberThatHidesItsMarkIsFoundByTheLock(t *testing.T) {
	p, f := sh(t, "env -i /bin/sleep 60 & exit 0", Cgroups{})
	exited(t, p)
	if pids, err := f.Members(); err != nil || len(pids) != 1 {
		t.Fatalf("members %v, %v", pids, err)
	}
	if err := f.Kill(); err != nil {
		t.Error(err)
	}
	untilFree(t, f)
}

func TestStrangersAreNoMembers(t *testing.T) {
	stranger := exec.Command("sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stranger.Process.Kill(); stranger.Wait() }()
	p, f := sh(t, "sleep 60", Cgroups{})
	pids, err := f.Members()
	if err != nil || len(pids) == 0 {
		t.Fatalf("members %v, %v", pids, err)
	}
	for _, pid := range pids {
		if pid == stranger.Process.Pid || pid == os.Getpid() {
			t.Errorf("%d is no member", pid)
		}
	}
	if err := f.Kill(); err != nil {
		t.Error(err)
	}
	exited(t, p)
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger was killed: %v", err)
	}
}

// A lock is waited for that is there for an instant after the death of who had it.
func TestLockIsWaitedForThatNobodyHasForLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	had, err := TakeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	gone := time.AfterFunc(20*time.Millisecond, func() { had.Close() })
	defer gone.Stop()
	now, err := TakeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer now.Close()
	if _, err := TakeLock(path); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("a lock that somebody has: %v", err)
	}
}

// Between its fork and its exec a child has copies of all that we have open,
// which makes it no member of the families whose locks we hold. Another process
// of our program starts it here: who waits in a fork cannot collect garbage.
func TestChildOnItsWayToItsExecIsNoMember(t *testing.T) {
	silent := testenv.Silent(t)
	f := Family{Mark: "TEST_JOB=" + t.Name(), Lock: filepath.Join(t.TempDir(), "lock")}
	lock, err := TakeLock(f.Lock)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	starter := exec.Command("/proc/self/exe")
	starter.Env, starter.ExtraFiles = append(os.Environ(), forks+"="+silent), []*os.File{lock}
	if err := starter.Start(); err != nil {
		t.Fatal(err)
	}
	untilForked(t, starter.Process.Pid)
	if pids, err := f.Members(); err != nil || len(pids) > 0 {
		t.Errorf("members are %v, %v", pids, err)
	}
	if err := f.Kill(); err != nil {
		t.Error(err)
	}
	unix.Unmount(silent, unix.MNT_FORCE) // which ends its waiting, though it is busy
	if err := starter.Wait(); err != nil {
		t.Errorf("who started the child ended with %v", err)
	}
}

// untilForked waits until a process has a child.
func untilForked(t *testing.T, pid int) {
	t.Helper()
	late := time.After(patience)
	for look := time.NewTicker(time.Millisecond); ; {
		lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		if err != nil || len(lists) == 0 {
			t.Fatalf("the kernel lists no children (%v)", err)
		}
		for _, list := range lists {
			if b, err := os.ReadFile(list); err == nil && len(b) > 0 {
				return
			}
		}
		select {
		case <-look.C:
		case <-late:
			t.Fatal("no child comes")
		}
	}
}

func TestKilledCgroupTakesNobody(t *testing.T) {
	c := FindCgroups()
	if c.dir == "" {
		c = Cgroups{} // Make gives nothing, and the rest holds all the same
	}
	p, f := sh(t, "sleep 60", c)
	if err := f.Kill(); err != nil {
		t.Fatal(err)
	}
	exited(t, p)
	next, _ := sh(t, "exit 0", c) // the same name again
	if e := exited(t, next); e.Signal != 0 || e.Code != 0 {
		t.Errorf("the next helper's exit is %+v", e)
	}
}

func TestAdoptTakesOnlyTheVeryProcess(t *testing.T) {
	p, _ := sh(t, "sleep 60", Cgroups{})
	if _, err := Adopt(p.PID(), p.Ticks()+1); !errors.Is(err, ErrGone) {
		t.Errorf("another process under the pid: %v", err)
	}
	if _, err := Adopt(0, 1); !errors.Is(err, ErrGone) {
		t.Errorf("no pid: %v", err)
	}
	again, err := Adopt(p.PID(), p.Ticks())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Release()
	if err := again.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if e := exited(t, p); e.Signal != syscall.SIGTERM {
		t.Errorf("exit is %+v", e)
	}
	exited(t, again)
	if _, err := Adopt(p.PID(), p.Ticks()); !errors.Is(err, ErrGone) {
		t.Errorf("a reaped process: %v", err)
	}
	if err := again.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("signal to a dead process: %v", err)
	}
}

func TestZombieTellsItsExitAndIsNotAlive(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "exit 42")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args[2] = "read x; exit 42"
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() // its status is what the test is about
	ticks, err := Ticks(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	var e Exit
	ok := false
	for tick := time.NewTicker(time.Millisecond); !ok; <-tick.C { // nothing may reap it before we look
		e, ok = Zombie(cmd.Process.Pid, ticks)
	}
	if !e.Known || e.Code != 42 {
		t.Errorf("exit is %+v", e)
	}
	if _, err := Adopt(cmd.Process.Pid, ticks); !errors.Is(err, ErrGone) {
		t.Errorf("a zombie was adopted: %v", err)
	}
}

func TestReleaseLeavesTheProcess(t *testing.T) {
	p, f := sh(t, "sleep 60", Cgroups{})
	again, err := Adopt(p.PID(), p.Ticks())
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
	if held, err := f.Held(); !held || err != nil {
		t.Errorf("held %v, %v", held, err)
	}
	select {
	case <-again.Exited():
		t.Error("a released process is said to have ended")
	default:
	}
}

func TestNoBinaryIsAnError(t *testing.T) {
	if _, err := Start(Spec{Path: "/nonexistent", Argv: []string{"x"}, Log: os.Stderr, Lock: os.Stderr}); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("error is %v", err)
	}
}

// A process that waits for a server is said to, and for what; one that waits for nobody is
// not.
func TestWhoWaitsIsNamed(t *testing.T) {
	silent := testenv.Silent(t)
	p, f := sh(t, "exec stat '"+silent+"/x'", Cgroups{})
	deadline := time.After(patience)
	for tick := time.NewTicker(time.Millisecond); ; { // a wait has no event
		w := f.Waiting()
		if strings.Contains(w, fmt.Sprintf("process %d waits for the program behind a file system of FUSE", p.PID())) {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waiting is %q", w)
		}
	}
	if err := f.Kill(); err != nil {
		t.Error(err)
	}
	untilFree(t, f)
	_, idle := sh(t, "exec sleep 60", Cgroups{})
	if w := idle.Waiting(); w != "" {
		t.Errorf("of one that sleeps: %q", w)
	}
}

func TestStoppedProcessIsNamed(t *testing.T) {
	groupings(t, func(t *testing.T, c Cgroups) {
		p, f := sh(t, "kill -STOP $$", c)
		deadline, tick := time.After(patience), time.NewTicker(time.Millisecond) // a state has no event
		defer tick.Stop()
		for want := fmt.Sprintf("process %d is stopped", p.PID()); !strings.Contains(f.Waiting(), want); {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("it waits for %q, not %q", f.Waiting(), want)
			}
		}
		if err := f.Kill(); err != nil {
			t.Error(err)
		}
		exited(t, p)
		untilFree(t, f)
	})
}
