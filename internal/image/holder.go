package image

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/procfs"
)

// mark is a byte locked for an instant to learn how the kernel names a file;
// nobody else uses it.
var mark = span{1 << 62, 1}

// holder names the process that holds lock l on f's file, "" if it cannot be
// found (another user's, or on another host).
//
// The kernel gives no process with locks of open file descriptions. But
// /proc/PID/fdinfo lists the locks of each descriptor, and reading it does no
// I/O on any file system, so that a dead server elsewhere cannot block us.
func holder(f *os.File, l unix.Flock_t) string {
	if l.Pid > 0 {
		return procfs.Process(strconv.Itoa(int(l.Pid)))
	}
	if s := sent.Load(); s != nil {
		a, _ := s.ask(f, question{Lock: &l}) // without an answer it has no name
		return a.Holder
	}
	file, ok := kernelName(f)
	if !ok {
		return ""
	}
	want := fdLock{file, kindOf(l), strconv.FormatInt(l.Start, 10), endOf(l)}
	infos, err := filepath.Glob("/proc/[0-9]*/fdinfo/*")
	if err != nil {
		panic("internal error: " + err.Error()) // the pattern is constant
	}
	for _, path := range infos {
		if holds(path, func(have fdLock) bool { return have == want }) {
			return procfs.Process(strings.Split(path, "/")[2])
		}
	}
	return ""
}

// fdLock is a lock as a line of fdinfo shows it (proc_pid_fdinfo(5)).
type fdLock struct {
	file  string // major:minor:inode of the file system, which is not st_dev on btrfs
	kind  string // READ or WRITE
	start string
	end   string // inclusive, or EOF
}

func kindOf(l unix.Flock_t) string {
	if l.Type == unix.F_RDLCK {
		return "READ"
	}
	return "WRITE"
}

func endOf(l unix.Flock_t) string {
	if l.Len == 0 {
		return "EOF"
	}
	return strconv.FormatInt(l.Start+l.Len-1, 10)
}

// kernelName is how fdinfo names f's file.
func kernelName(f *os.File) (name string, ok bool) {
	l := mark.lock(unix.F_RDLCK)
	if fcntl(f, unix.F_OFD_SETLK, &l) != nil {
		return "", false
	}
	defer release(f)
	at := strconv.FormatInt(mark.start, 10)
	ok = holds(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()), func(have fdLock) bool {
		name = have.file
		return have.start == at
	})
	return name, ok
}

// holds reports whether a lock in the fdinfo file satisfies is. A file that
// has gone or is not ours to read has none.
func holds(path string, is func(fdLock) bool) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if l, ok := parseLock(in.Text()); ok && is(l) {
			return true
		}
	}
	return false
}

// parseLock reads a line such as
//
//	lock:	1: OFDLCK  ADVISORY  READ -1 08:01:131090 100 101
func parseLock(line string) (fdLock, bool) {
	f := strings.Fields(line)
	if len(f) != 9 || f[0] != "lock:" {
		return fdLock{}, false
	}
	return fdLock{file: f[6], kind: f[4], start: f[7], end: f[8]}, true
}
