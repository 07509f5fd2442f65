package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Family is a helper and all that it started.
type Family struct {
	Mark   string // NAME=VALUE in the environment of each member
	Lock   string // path of the lock file that a member may have open
	Cgroup string // directory of the cgroup they are in; "" without one
}

// glances is how long a lock may be there of a process that has ended: who looks at
// its descriptors in /proc meanwhile has its files too, until the kernel has said what
// they are, which on a busy host takes some milliseconds.
const glances = 2 * time.Second

// TakeLock creates the lock file and takes its flock. Whoever inherits the
// file holds the lock with us; it is free when the last of them has closed it.
func TakeLock(path string) (f *os.File, err error) {
	tick := time.NewTicker(glances / 1000)
	defer tick.Stop()
	for end := time.Now().Add(glances); ; <-tick.C {
		f, err = lock(path, os.O_CREATE|os.O_RDWR)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return f, err
		}
	}
}

func lock(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %q: %w", path, err)
	}
	return f, nil
}

// Held reports whether a process of the family may still write: it has the
// lock, or is in the cgroup. Where the lock file is gone, it looks for the
// processes.
func (f Family) Held() (bool, error) {
	l, err := lock(f.Lock, os.O_RDWR)
	switch {
	case errors.Is(err, os.ErrNotExist):
		pids, err := f.Members()
		return len(pids) > 0, err
	case errors.Is(err, unix.EWOULDBLOCK):
		return true, nil
	case err != nil:
		return false, err
	}
	l.Close() // frees the lock again
	return len(f.grouped()) > 0, nil
}

// Members lists the living processes of the family: those of its cgroup, and
// those that carry its mark or have its lock open. A bare pid or process group
// is never taken for evidence, since both are used again.
func (f Family) Members() ([]int, error) {
	pids, err := allPIDs()
	if err != nil {
		return nil, fmt.Errorf("cannot look for processes: %w", err)
	}
	grouped := f.grouped()
	var out []int
	for _, pid := range pids {
		if grouped[pid] || f.marked(pid) {
			out = append(out, pid)
		}
	}
	return out, nil
}

// grouped gives the processes of the cgroup; none where there is no cgroup.
func (f Family) grouped() map[int]bool {
	in := map[int]bool{}
	if f.Cgroup == "" {
		return in
	}
	b, err := os.ReadFile(filepath.Join(f.Cgroup, "cgroup.procs"))
	if err != nil {
		return in // already removed: empty
	}
	for line := range strings.Lines(string(b)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
			in[pid] = true
		}
	}
	return in
}

// marked looks for evidence in /proc. A process that we may not look into is
// none of ours, and a zombie shows none, but for a thread that outlives it.
func (f Family) marked(pid int) bool {
	dir := dirOf(pid)
	env, err := os.ReadFile(filepath.Join(dir, "environ"))
	// So kernels, some in this way, some in that, speak of an ended first thread.
	if errors.Is(err, unix.ESRCH) || err == nil && len(env) == 0 {
		dir = threadOf(pid)
		env, err = os.ReadFile(filepath.Join(dir, "environ"))
	}
	if err != nil {
		return false
	}
	for _, v := range bytes.Split(env, []byte{0}) {
		if string(v) == f.Mark {
			return true
		}
	}
	// Who runs our own program is us, or a child that has not come to its exec
	// yet: until then it has copies of all that we have open, the locks of other
	// jobs among them, and is of none of their families.
	if own(dir) {
		return false
	}
	// The lock is inherited as one low descriptor; a program that moved it
	// elsewhere still has the link.
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
		to, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
		return err == nil && to == f.Lock
	})
}

// own reports whether a process runs the same program as we.
func own(dir string) bool {
	theirs, err := os.Stat(filepath.Join(dir, "exe"))
	ours, err2 := os.Stat("/proc/self/exe")
	return err == nil && err2 == nil && os.SameFile(theirs, ours)
}

// Signal sends a signal to every member through a pidfd, evidence checked
// again after the pidfd is held.
func (f Family) Signal(sig syscall.Signal) error {
	pids, err := f.Members()
	if err != nil {
		return err
	}
	var errs []error
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // ended meanwhile
		}
		if f.grouped()[pid] || f.marked(pid) {
			if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("cannot signal process %d: %w", pid, err))
			}
		}
		unix.Close(fd)
	}
	return errors.Join(errs...)
}

// Kill ends every member at once where there is a cgroup (cgroup.kill leaves
// no gap for a fork), and one by one where there is none or it is older than
// Linux 5.14. A member forked meanwhile is met by the next call.
func (f Family) Kill() error {
	if f.Cgroup != "" {
		// Members that left the cgroup are still met by Signal.
		_ = os.WriteFile(filepath.Join(f.Cgroup, "cgroup.kill"), []byte("1"), 0)
	}
	return f.Signal(syscall.SIGKILL)
}

// Waiting describes the members that wait in the kernel for a device or a server, or are
// stopped, for people: which, where, and for what as far as that place tells; "" for none.
func (f Family) Waiting() string {
	pids, err := f.Members()
	if err != nil {
		return ""
	}
	var out []string
	for _, pid := range pids {
		if at := waitOf(pid); at != "" {
			out = append(out, at)
		}
	}
	return strings.Join(out, ", ")
}

// Stuck describes the members that a kill did not end, for people: pid, state
// and where in the kernel each waits.
func (f Family) Stuck() string {
	pids, err := f.Members()
	if err != nil || len(pids) == 0 {
		return "a process that is out of sight holds the job's lock"
	}
	var out []string
	for _, pid := range pids {
		if s := describe(pid); s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}
