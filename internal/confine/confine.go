// Package confine takes from a process what it does not need: names it may open
// (Landlock), system calls (seccomp), capabilities and new privileges. What is
// taken never comes back, and whatever the process starts has no more.
//
// Sources: landlock(7), seccomp(2), capabilities(7), and
// Documentation/userspace-api/no_new_privs.rst of Linux.
package confine

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// Policy says what a process keeps of what it could do. Descriptors that are open
// already are not affected: they keep what they were opened for.
type Policy struct {
	Read  []*os.File // may be opened again to read; of a directory, all that is beneath it
	Write []*os.File // to write too; beneath a directory names may be made, changed and removed
	Names []*os.File // directories that may be read, and names in them made, changed and removed

	Places []*os.File // directories that may be listed

	// What follows is for Process; what a program that is started keeps follows from the files.

	ReadPaths    []string     // as Read; what is not there is passed over. With cgo /proc has to be one
	Run          []string     // programs that may be started, by Start
	Attributes   bool         // owner, permissions and attributes of what is open may be changed
	Connect      []uint16     // ports of TCP at which other hosts may be called; with any, names are asked for by UDP too
	Capabilities Capabilities // that it keeps, if it has them
	// Anywhere says that names are not taken: the process needs some that nobody knows
	// before, or looks for what others have open, and the kernel shows that to nobody who
	// may not open everything.
	Anywhere bool
}

// Words of a Level.
const (
	Full    = "full"    // all that is meant to be taken is
	Partial = "partial" // the kernel cannot take it all; Lacks says what is open
	None    = "none"    // neither names nor system calls are taken
)

// Level is how far a process is confined.
type Level struct {
	Landlock     int      // ABI of the kernel whose rights were taken; 0: none were
	Anywhere     bool     // names are not to be taken, as its Policy says
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
func Available() Level { return available(Policy{}) }

func available(p Policy) (l Level) {
	l.Anywhere = p.Anywhere
	if !p.Anywhere {
		l.Landlock = landlockABI()
		l.Lacks = append(l.Lacks, landlockLacks(l.Landlock)...)
	}
	l.Seccomp = filterable()
	switch {
	case auditArch == 0:
		l.Lacks = append(l.Lacks, "there is no list of system calls for "+runtime.GOARCH)
	case !l.Seccomp:
		l.Lacks = append(l.Lacks, "the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)")
	}
	return l
}

// landlockLacks says what that ABI leaves open.
func landlockLacks(abi int) []string {
	switch {
	case abi == 0:
		return []string{"the kernel has no Landlock (CONFIG_SECURITY_LANDLOCK, and landlock in lsm=): files can be opened by name"}
	case abi < truncates:
		return []string{fmt.Sprintf("Landlock %d of the kernel does not cover truncation, as of Linux 6.2 it does", abi)}
	}
	return nil
}

// AtLeast reports whether the level is that of the word, or more.
func (l Level) AtLeast(word string) bool {
	order := []string{None, Partial, Full}
	return slices.Index(order, l.Word()) >= slices.Index(order, word)
}

// String is the level in words, for logs and errors.
func (l Level) String() string {
	parts := []string{fmt.Sprintf("%s: landlock %d, seccomp %t", l.Word(), l.Landlock, l.Seccomp)}
	if len(l.Capabilities) > 0 {
		parts = append(parts, "keeps "+strings.Join(l.Capabilities, ", "))
	}
	return strings.Join(append(parts, l.Lacks...), "; ")
}
