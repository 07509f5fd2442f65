package tool

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound what a program uses (setrlimit(2)); 0 is no bound. The number of
// processes is not among them: the kernel does not count those of root.
type Limits struct {
	AddressSpace int64         // bytes
	FileSize     int64         // bytes of any file that it writes
	CPU          time.Duration // in full seconds
	Files        uint64        // descriptors
}

// set sets the limits of a process. That of the processor's time can be lifted
// again, as a program that serves has no bound of it.
func (l Limits) set(pid int) error {
	hard := func(resource int, most uint64) error {
		if most == 0 {
			return nil
		}
		return prlimit(pid, resource, unix.Rlimit{Cur: most, Max: most})
	}
	for _, err := range []error{
		prlimit(pid, unix.RLIMIT_CORE, unix.Rlimit{}), // its memory has contents and secrets
		hard(unix.RLIMIT_AS, uint64(l.AddressSpace)),
		hard(unix.RLIMIT_FSIZE, uint64(l.FileSize)),
		hard(unix.RLIMIT_NOFILE, l.Files),
	} {
		if err != nil {
			return err
		}
	}
	if l.CPU == 0 {
		return nil
	}
	return prlimit(pid, unix.RLIMIT_CPU, unix.Rlimit{Cur: uint64(l.CPU / time.Second), Max: unix.RLIM_INFINITY})
}

// liftCPU gives a process as much of the processor's time as it wants.
func liftCPU(pid int) error {
	return prlimit(pid, unix.RLIMIT_CPU, unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
}

// prlimit lowers a limit of a process: what is bounded more already stays so.
func prlimit(pid, resource int, want unix.Rlimit) error {
	var have unix.Rlimit
	err := unix.Prlimit(pid, resource, nil, &have)
	if err == nil {
		want.Max = min(want.Max, have.Max)
		want.Cur = min(want.Cur, want.Max)
		err = unix.Prlimit(pid, resource, &want, nil)
	}
	if err == unix.ESRCH { // it has ended, and who waits for it finds out
		return nil
	}
	if err != nil {
		return fmt.Errorf("prlimit %d: %w", resource, err)
	}
	return nil
}

// exhausted are words by which programs say that they get no more memory.
var exhausted = []string{"thread_create", "Cannot allocate memory", "failed to allocate", "Could not allocate", "out of memory"}

// reached names the limit that ended a program, "" if none did.
func (l Limits) reached(status syscall.WaitStatus, said string) string {
	signal := syscall.Signal(0)
	if status.Signaled() {
		signal = status.Signal()
	}
	switch {
	case signal == unix.SIGXCPU:
		return fmt.Sprintf("%v of processor time", l.CPU)
	case signal == unix.SIGXFSZ || l.FileSize > 0 && strings.Contains(said, "File too large"):
		return fmt.Sprintf("%d bytes in a file", l.FileSize)
	}
	return l.exhausted(said)
}

// exhausted names the limit of memory if what a program says is that it gets none.
func (l Limits) exhausted(said string) string {
	if l.AddressSpace == 0 || !slices.ContainsFunc(exhausted, func(words string) bool { return strings.Contains(said, words) }) {
		return ""
	}
	return fmt.Sprintf("%d bytes of address space", l.AddressSpace)
}
