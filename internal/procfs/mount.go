package procfs

import (
	"bufio"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
)

// OwnMounts is the table of the mounts that this process sees.
const OwnMounts = "/proc/self/mountinfo"

// Mount is what the kernel says of one (proc_pid_mountinfo(5)), without asking any file
// system.
type Mount struct {
	ID      uint64
	Device  string // of the file system, as major:minor; of some it is no device's
	Root    string // what of the file system is mounted
	Point   string // where
	Kind    string // of the file system
	Source  string // what is mounted
	Options string // of the file system
}

// Mounts are those of a table, later ones above earlier ones; none where it cannot be
// read. Lines that are none are left out.
func Mounts(table string) iter.Seq[Mount] {
	return func(yield func(Mount) bool) {
		f, err := os.Open(table)
		if err != nil {
			return
		}
		defer f.Close() // opened for reading
		for in := bufio.NewScanner(f); in.Scan(); {
			if m, ok := mountOf(in.Text()); ok && !yield(m) {
				return
			}
		}
	}
}

func mountOf(line string) (m Mount, ok bool) {
	mounted, super, ok := strings.Cut(line, " - ")
	at, of := strings.Fields(mounted), strings.Fields(super)
	if !ok || len(at) < 5 || len(of) < 2 {
		return m, false
	}
	id, err := strconv.ParseUint(at[0], 10, 64)
	m = Mount{ID: id, Device: at[2], Root: Unescape(at[3]), Point: Unescape(at[4]), Kind: of[0], Source: Unescape(of[1])}
	if len(of) > 2 {
		m.Options = of[2]
	}
	return m, err == nil
}

// answered begins the types of file systems that another program or host answers for.
var answered = []string{"fuse", "nfs", "cifs", "smb", "ceph", "9p", "afs", "virtiofs", "lustre", "orangefs", "coda"}

// Answered reports whether another program or host answers for the file system: who asks
// for anything there may wait for ever.
func (m Mount) Answered() bool {
	return slices.ContainsFunc(answered, func(kind string) bool { return strings.HasPrefix(m.Kind, kind) })
}
