package confine

import (
	"crypto/rand"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Start starts the program of cmd with no more than the policy, and what every program
// needs that serves an image: itself, its loader and libraries, what it has open, and
// threads. It is killed when the calling process ends. The caller waits for it, as after
// cmd.Start; an error means that it does not run.
//
// The restrictions are those of one thread, which starts the program; so no other program
// is needed for that. The thread lives until the program has ended.
func Start(p Policy, cmd *exec.Cmd) (Level, error) {
	level := Available()
	keeps, err := needed(p)
	if err != nil {
		return level, fmt.Errorf("cannot confine %s: %w", cmd.Path, err)
	}
	level.Capabilities = keeps.names()
	learnPidfds()
	return level, startOn(cmd, func() error { return startHere(p, keeps, cmd) })
}

// Unconfined starts the program of cmd with all that this process may do, for what mounts,
// or makes and takes apart devices. It is killed when the calling process ends. The caller
// waits for it, as after cmd.Start; an error means that it does not run.
func Unconfined(cmd *exec.Cmd) error { return UnconfinedIn(nil, cmd) }

// UnconfinedIn is Unconfined in a mount namespace, nil is this process's own.
func UnconfinedIn(namespace *os.File, cmd *exec.Cmd) error {
	return startOn(cmd, func() error {
		if namespace != nil {
			if err := enter(namespace); err != nil {
				return err
			}
		}
		dying(cmd)
		return cmd.Start()
	})
}

// enter takes the calling thread, which ends soon, into a mount namespace.
func enter(namespace *os.File) error {
	err := unix.Unshare(unix.CLONE_FS)
	if err == nil {
		err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS)
	}
	if err != nil {
		return fmt.Errorf("cannot enter a mount namespace: %w", err)
	}
	return nil
}

// startOn has a thread start the program of cmd that lives until the program has ended.
func startOn(cmd *exec.Cmd, start func() error) error {
	started := make(chan error)
	go onThread(func() {
		starting.add(unix.Gettid())
		err := start()
		pid := 0
		if err == nil {
			pid = cmd.Process.Pid
		}
		started <- err
		if pid != 0 {
			await(pid)
		}
	})
	return <-started
}

// onThread does something on a thread that ends with it, for which it must be the whole of
// a goroutine. The first thread of a process Go never ends: on that one it is left to
// another.
func onThread(do func()) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	if unix.Gettid() != unix.Getpid() {
		do()
		return
	}
	moved := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(moved)
		do()
	}()
	<-moved
	runtime.UnlockOSThread()
}

// starting are the threads that have started programs. The kernel restricts all threads of
// a process only if none is restricted more, and so those have to be gone before.
var starting threads

type threads struct {
	mu  sync.Mutex
	ids []int
}

func (t *threads) add(id int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ids = append(t.ids, id)
}

// threadTime is how long a thread may take to end whose program has ended: the kernel has
// to run it once more.
const threadTime = 10 * time.Second

// awaitEnd returns when they are gone, or when they are not in a time that is far more
// than they need: then a program of theirs runs still.
func (t *threads) awaitEnd() {
	t.mu.Lock()
	defer t.mu.Unlock()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(threadTime); len(t.ids) > 0 && time.Now().Before(end); {
		t.ids = slices.DeleteFunc(t.ids, func(id int) bool {
			_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", id))
			return errors.Is(err, os.ErrNotExist)
		})
		if len(t.ids) > 0 {
			<-tick.C
		}
	}
}

// dying has the program killed when this thread ends.
func dying(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

// learnPidfds has package os find out what pidfds can do, which it does once: without a
// filter, under which it would find that they can do nothing, and reach no child.
func learnPidfds() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Release()
	}
}

// startHere restricts the calling thread and has it start the program.
func startHere(p Policy, keeps Capabilities, cmd *exec.Cmd) error {
	secret, err := forkSecret()
	if err != nil {
		return err
	}
	dying(cmd)
	cmd.SysProcAttr.Cloneflags = uintptr(secret)
	if err := restrictThread(p, keeps, cmd.Path, secret); err != nil {
		return fmt.Errorf("cannot confine %s: %w", cmd.Path, err)
	}
	return cmd.Start()
}

// await returns when the child has ended, and leaves its status to whoever waits for it.
func await(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// forkSecret makes what the filter takes for the sign that it is we who start a process.
// The kernel passes over the upper half of the flags of clone(2); the filter does not.
func forkSecret() (uint64, error) {
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return 0, err
	}
	return uint64(binary.NativeEndian.Uint32(random[:])|1) << 32, nil
}

// restrictThread takes from the calling thread all but what the program needs.
func restrictThread(p Policy, keeps Capabilities, program string, secret uint64) error {
	if err := keeps.keep(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	if abi := landlockABI(); abi > 0 {
		if err := enclose(abi, p, program); err != nil {
			return err
		}
	}
	if !filterable() {
		return nil
	}
	prog, err := assemble(childCalls(secret), unknown)
	if err != nil {
		return err
	}
	return install(prog, 0)
}

// enclose restricts what the calling thread may open by name.
func enclose(abi int, p Policy, program string) error {
	s, err := newRuleset(abi, false)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.allowPolicy(p); err != nil {
		return err
	}
	if err := s.allowProgram(program); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(s.fd), 0, 0); errno != 0 {
		return fmt.Errorf("enforce Landlock ruleset: %w", errno)
	}
	return nil
}

// libraries and what a program reads before its main, and QEMU's after it: how many
// processors and nodes there are, and whether there are huge pages, of which glibc takes
// none where it is not told.
var libraries = []string{
	"/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/sys/devices/system/cpu/possible", "/sys/devices/system/cpu/online", "/dev/urandom",
	"/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
}

// allowProgram permits to execute a program.
func (s *ruleset) allowProgram(path string) error {
	loader, err := loaderOf(path)
	if err != nil {
		return fmt.Errorf("find the loader of %s: %w", path, err)
	}
	for _, executed := range []string{path, loader} {
		if executed == "" {
			continue
		}
		if err := s.allowPath(executed, runFile); err != nil {
			return err
		}
	}
	for _, read := range libraries {
		if err := s.allowPath(read, readOf(read)); err != nil {
			return err
		}
	}
	return s.allowPath("/dev/null", readFile|unix.LANDLOCK_ACCESS_FS_WRITE_FILE)
}

// readOf is what reading that path needs.
func readOf(path string) uint64 {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return readTree
	}
	return readFile
}

// loaderOf is what the kernel starts in place of a program that is linked dynamically.
func loaderOf(program string) (string, error) {
	f, err := elf.Open(program)
	if err != nil {
		return "", err
	}
	defer f.Close() // it was read only
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			name := make([]byte, min(p.Filesz, unix.PathMax))
			_, err := p.ReadAt(name, 0)
			return strings.TrimRight(string(name), "\x00"), err
		}
	}
	return "", nil
}
