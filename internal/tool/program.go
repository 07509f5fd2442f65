// Package tool runs external programs: by their absolute paths from a fixed list
// of directories, without a shell, with an environment and descriptors reduced to
// a list, bounds on what they say and how long they take, and never longer than
// this process lives.
//
// What a program says is hostile: some parse what a virtual machine has written.
// It is escaped and cut before it comes into an error.
package tool

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Program is an external program and the packages that it comes in.
type Program struct {
	Name   string
	Debian string
	Fedora string
	// Objects says that it takes --object, and makes what that says before it looks at
	// what is behind.
	Objects bool
}

// Programs of QEMU.
var (
	QEMUImg       = Program{Name: "qemu-img", Debian: "qemu-utils", Fedora: "qemu-img", Objects: true}
	StorageDaemon = Program{Name: "qemu-storage-daemon", Debian: "qemu-system-common", Fedora: "qemu-img", Objects: true}
)

// Programs that make file systems, and one that finds what a device carries.
var (
	MkfsExt2  = Program{Name: "mkfs.ext2", Debian: "e2fsprogs", Fedora: "e2fsprogs"}
	MkfsExt3  = Program{Name: "mkfs.ext3", Debian: "e2fsprogs", Fedora: "e2fsprogs"}
	MkfsExt4  = Program{Name: "mkfs.ext4", Debian: "e2fsprogs", Fedora: "e2fsprogs"}
	MkfsXFS   = Program{Name: "mkfs.xfs", Debian: "xfsprogs", Fedora: "xfsprogs"}
	MkfsBtrfs = Program{Name: "mkfs.btrfs", Debian: "btrfs-progs", Fedora: "btrfs-progs"}
	MkfsVFAT  = Program{Name: "mkfs.vfat", Debian: "dosfstools", Fedora: "dosfstools"}
	Wipefs    = Program{Name: "wipefs", Debian: "util-linux", Fedora: "util-linux-core"}
)

// Programs of NFS: one that asks a server what it exports, and one that has locks of NFS 3
// watched.
var (
	Showmount  = Program{Name: "showmount", Debian: "nfs-common", Fedora: "nfs-utils"}
	StartStatd = Program{Name: "start-statd", Debian: "nfs-common", Fedora: "nfs-utils"}
)

// ISCSIAdm logs in to iSCSI targets.
var ISCSIAdm = Program{Name: "iscsiadm", Debian: "open-iscsi", Fedora: "iscsi-initiator-utils"}

// LVM is that of logical volumes.
var LVM = Program{Name: "lvm", Debian: "lvm2", Fedora: "lvm2"}

// path is where programs are searched, in this order, and what they get as PATH:
// that of who started us may be anybody's.
const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// foundFor is how long it counts where a program was found, or that it was not. What a
// pool can do depends on that, and is asked for with every request; who installs a program
// does not see that it takes a moment.
const foundFor = time.Second

// found are the programs that were looked for, by name.
var found finds

type finds struct {
	mu  sync.Mutex
	all map[string]find
}

type find struct {
	path string
	err  error
	at   time.Time
}

// of gives where a program is as look says now, or has said within foundFor.
func (f *finds) of(name string, now time.Time, look func() (string, error)) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known, ok := f.all[name]
	if age := now.Sub(known.at); ok && age >= 0 && age < foundFor {
		return known.path, known.err
	}
	if f.all == nil {
		f.all = map[string]find{}
	}
	path, err := look()
	f.all[name] = find{path, err, now}
	return path, err
}

// Find gives the absolute path of a program, or a *MissingError, as it was within the
// last second. It may be called concurrently.
func (p Program) Find() (string, error) { return found.of(p.Name, time.Now(), p.look) }

func (p Program) look() (string, error) {
	for _, dir := range filepath.SplitList(path) {
		at := filepath.Join(dir, p.Name)
		var st unix.Stat_t
		if unix.Stat(at, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && unix.Access(at, unix.X_OK) == nil {
			return at, nil
		}
	}
	return "", &MissingError{p}
}

// Lacking says of the first of the programs that is not installed that it is not, and how
// to get it; "" if all are.
func Lacking(programs ...Program) string {
	for _, p := range programs {
		_, err := p.Find()
		if lacks, ok := errors.AsType[*MissingError](err); ok {
			return lacks.Error() + "; " + lacks.Hint()
		}
	}
	return ""
}

// MissingError says that a program is not installed.
type MissingError struct{ Program Program }

func (e *MissingError) Error() string {
	return fmt.Sprintf("the program %s is not installed", e.Program.Name)
}

// Hint says how to get it.
func (e *MissingError) Hint() string {
	return fmt.Sprintf("install it: on Debian and Ubuntu the package %s has it, on Fedora and its like %s", e.Program.Debian, e.Program.Fedora)
}
