package image

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/procfs"
)

// Not everybody who has a file open takes QEMU's locks: a virtual machine that
// waits for a migration, a tool that was asked not to lock, any other program. The
// kernel knows of all of them how many there are, and /proc of most who they are.

// lease asks the kernel whether f's file is open nowhere else (unix.F_WRLCK), or, of
// one that f only reads, is open nowhere for writing (unix.F_RDLCK). It gives
// unix.EAGAIN if it is, and another error where the kernel does not tell: fcntl(2)
// wants a regular file that is the caller's own, or the capability CAP_LEASE. The
// lease is given back at once; who opens the file meanwhile waits for that.
func lease(f *os.File, kind int) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var asked error
	err = conn.Control(func(fd uintptr) {
		if _, asked = unix.FcntlInt(fd, unix.F_SETLEASE, kind); asked == nil {
			_, asked = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
		}
	})
	return errors.Join(err, asked)
}

// openers are those beside this process who have f's file open. One that cannot be
// found, in another container or the kernel's NFS server, has no name.
func (k kernel) openers(f *os.File, kind int) ([]user, error) {
	refused := lease(f, kind)
	if refused == nil {
		return nil, nil
	}
	busy := errors.Is(refused, unix.EAGAIN)
	if s := sent.Load(); s != nil {
		a, err := s.ask(f, question{Kind: kind, Others: busy})
		return a.Users, err
	}
	return k.others(f, kind, busy)
}

// others are the openers where the kernel has refused a lease; busy says that it did
// because there are some.
func (k kernel) others(f *os.File, kind int, busy bool) ([]user, error) {
	id, err := idOf(f)
	if err != nil {
		return nil, err
	}
	mounts := k.mounts()
	own, others := k.openings(f, id, mounts)
	users := k.users(id)
	for _, o := range others {
		if !slices.ContainsFunc(own, o.shares) {
			// It may be about to see our locks, and to let go.
			users = append(users, user{Name: procfs.Process(o.pid), Writes: o.flags&unix.O_ACCMODE != 0, Leaving: true, Looks: procfs.Looks(o.pid), Program: true})
		}
	}
	if len(users) == 0 && len(own) < 2 && busy && !mounts.remote(id) && !servedByNFS(f) {
		users = append(users, user{Writes: kind == unix.F_RDLCK, Leaving: true, Program: true})
	}
	return users, nil
}

// servedByNFS reports whether a file is a server's of NFS, also where it is mounted at no
// path. There the kernel gives no lease, whoever has the file open or has not.
func servedByNFS(f *os.File) bool {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var fs unix.Statfs_t
	var bad error
	err = conn.Control(func(fd uintptr) { bad = unix.Fstatfs(int(fd), &fs) })
	return err == nil && bad == nil && fs.Type == unix.NFS_SUPER_MAGIC
}

// opening is a descriptor of a process.
type opening struct {
	pid, fd string
	flags   int // of open(2)
}

// openings are those of f's file, the asking process's own and all others; a scout has
// but what it was handed for a look. What /proc tells
// of a descriptor without a look at its file decides whose file is looked at.
func (k kernel) openings(f *os.File, id fileID, mounts mounts) (own, others []opening) {
	self := strconv.Itoa(os.Getpid())
	asker := self
	if k.asker != 0 {
		asker = strconv.Itoa(k.asker)
	}
	_, inode := descriptor(lines(filepath.Join(k.proc, "self/fdinfo", strconv.Itoa(int(f.Fd())))))
	for _, info := range glob(k.proc, "[0-9]*/fdinfo/*") {
		flags, ino := descriptor(lines(info))
		if ino != inode || flags&unix.O_PATH != 0 {
			continue
		}
		dir := filepath.Dir(filepath.Dir(info))
		file := filepath.Join(dir, "fd", filepath.Base(info))
		if path, err := os.Readlink(file); err != nil || mounts.silent(path, id) || !leadsTo(file, id) {
			continue
		}
		switch o := (opening{filepath.Base(dir), filepath.Base(info), flags}); o.pid {
		case asker:
			own = append(own, o)
		case self:
		default:
			others = append(others, o)
		}
	}
	return own, others
}

// shares reports whether two descriptors are of one opening, which a process has
// inherited or been handed (kcmp(2)).
func (o opening) shares(with opening) bool {
	const file = 0 // KCMP_FILE
	var n [4]uintptr
	for i, text := range []string{o.pid, with.pid, o.fd, with.fd} {
		v, err := strconv.Atoi(text)
		if err != nil {
			return false
		}
		n[i] = uintptr(v)
	}
	different, _, err := unix.Syscall6(unix.SYS_KCMP, n[0], n[1], file, n[2], n[3], 0)
	return err == 0 && different == 0
}

// descriptor gives the flags of open(2) and the inode that proc_pid_fdinfo(5) has of
// a descriptor. Before Linux 5.14 there is no inode.
func descriptor(info []string) (flags int, inode string) {
	for _, l := range info {
		switch key, value, _ := strings.Cut(l, ":"); key {
		case "flags":
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 8, 64) // the kernel wrote it
			flags = int(n)
		case "ino":
			inode = strings.TrimSpace(value)
		}
	}
	return flags, inode
}
