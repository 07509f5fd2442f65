// Package confine takes from a process what it does not need: names it may open
// (Landlock), system calls (seccomp), capabilities, new privileges and resources. What is
// taken never comes back, and whatever the process starts has no more.
//
// Sources: landlock(7), seccomp(2), capabilities(7), setrlimit(2), and
// Documentation/userspace-api/no_new_privs.rst of Linux.
package confine

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Policy says what a process keeps of what it could do. Descriptors that are open
// already are not affected: they keep what they were opened for.
type Policy struct {
	Read   []*os.File // may be opened again to read; of a directory, all that is beneath it
	Write  []*os.File // to write too; beneath a directory names may be made, changed and removed
	Limits Limits
}

// Limits are those of setrlimit(2); what is 0 stays as it is.
type Limits struct {
	Memory   uint64        // address space, bytes
	FileSize uint64        // of what it writes, bytes
	Files    uint64        // open at once
	CPU      time.Duration // of all threads together, in whole seconds
}

// Words of a Level.
const (
	Full    = "full"    // all that is meant to be taken is
	Partial = "partial" // the kernel cannot take it all; Lacks says what is open
	None    = "none"    // no names and no system calls were taken
)

// Level is how far a process is confined.
type Level struct {
	Landlock     int      // ABI of the kernel whose rights were taken; 0: none were
	Seccomp      bool     // system calls are filtered
	Capabilities []string // that it keeps
	Lacks        []string // what stays open, and why
}

// Word is the level in one word.
func (l Level) Word() string {
	switch {
	case l.Landlock == 0 && !l.Seccomp:
		return None
	case len(l.Lacks) > 0:
		return Partial
	}
	return Full
}

// Available is the level that this kernel has for a process that keeps no capability.
func Available() Level {
	l := Level{Landlock: landlockABI(), Seccomp: filterable()}
	switch {
	case l.Landlock == 0:
		l.Lacks = append(l.Lacks, "the kernel has no Landlock (CONFIG_SECURITY_LANDLOCK, and landlock in lsm=): files can be opened by name")
	case l.Landlock < truncates:
		l.Lacks = append(l.Lacks, fmt.Sprintf("Landlock %d of the kernel does not cover truncation, as of Linux 6.2 it does", l.Landlock))
	}
	switch {
	case auditArch == 0:
		l.Lacks = append(l.Lacks, "there is no list of system calls for "+runtime.GOARCH)
	case !l.Seccomp:
		l.Lacks = append(l.Lacks, "the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)")
	}
	return l
}

// String is the level in words, for logs and errors.
func (l Level) String() string {
	parts := []string{fmt.Sprintf("%s: landlock %d, seccomp %t", l.Word(), l.Landlock, l.Seccomp)}
	if len(l.Capabilities) > 0 {
		parts = append(parts, "keeps "+strings.Join(l.Capabilities, ", "))
	}
	return strings.Join(append(parts, l.Lacks...), "; ")
}

// resources are the limits with what setrlimit(2) calls them.
func (l Limits) resources() map[int]uint64 {
	all := map[int]uint64{
		unix.RLIMIT_AS: l.Memory, unix.RLIMIT_FSIZE: l.FileSize, unix.RLIMIT_NOFILE: l.Files,
		unix.RLIMIT_CPU: uint64((l.CPU + time.Second - 1) / time.Second),
	}
	for resource, limit := range all {
		if limit == 0 {
			delete(all, resource)
		}
	}
	all[unix.RLIMIT_CORE] = 0 // memory has contents and secrets
	return all
}

// limit sets the limits of a process, 0 is the one that calls.
func (l Limits) limit(pid int) error {
	for resource, limit := range l.resources() {
		if err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: limit, Max: limit}, nil); err != nil {
			return fmt.Errorf("set resource limit %d to %d: %w", resource, limit, err)
		}
	}
	return nil
}
