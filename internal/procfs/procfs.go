// Package procfs reads what the kernel writes in /proc as people know it (proc(5)).
package procfs

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Process names a process. A command may call itself anything, so that its name is escaped.
func Process(pid string) string {
	comm, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return "pid " + pid
	}
	name := strconv.Quote(strings.TrimSpace(string(comm)))
	return fmt.Sprintf("pid %s (%s)", pid, name[1:len(name)-1])
}

// LookingTime is how long who only looks may have a device or a file open: udev looks at each
// device that somebody has written to, and a helper of ours at a volume that somebody asks
// for, and on a busy host both are slow to come to it, and to end.
const LookingTime = 30 * time.Second

// Looker is what a helper calls itself that only looks, for a daemon that asks.
const Looker = "storage-look"

// Looks reports whether a process is one of udev, one that it calls to look what a device
// carries, or a helper of ours that looks at volumes: who wants the device or the file waits
// for it longer, and no more. What calls itself so and is neither root's nor our user's is
// none.
func Looks(pid string) bool {
	comm, err := os.ReadFile("/proc/" + pid + "/comm")
	return err == nil && slices.Contains([]string{"(udev-worker)", "systemd-udevd", "multipath", Looker}, strings.TrimSpace(string(comm))) && trusted(pid)
}

// trusted reports whether a process is root's or our user's. That is its real user: anybody
// can start a set-user-ID program by another name, and /proc/PID is root's also where a
// process has forbidden others to look into it (proc(5)).
func trusted(pid string) bool {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return false // it has gone
	}
	_, uids, _ := strings.Cut(string(status), "\nUid:\t")
	uid, _, _ := strings.Cut(uids, "\t")
	return uid == "0" || uid == strconv.Itoa(os.Geteuid())
}

// CallLooker gives this process that name, for those who find a file open in it.
func CallLooker() {
	_ = os.WriteFile("/proc/self/comm", []byte(Looker), 0) // ENOENT: there is no /proc, where nobody looks for it either
}

// Unescape reads a path in a table of the kernel, with \ooo for what would divide fields.
func Unescape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		if s[0] == '\\' && len(s) >= 4 {
			if n, err := strconv.ParseUint(s[1:4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				s = s[4:]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return b.String()
}
