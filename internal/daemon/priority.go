package daemon

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// ahead is the nice value of the daemon. It does little, and what it does is to
// answer, to cancel and to start, while its helpers keep the processors busy.
// They get 0 (process.Start).
const ahead = -10

// goAhead puts the daemon before its helpers on a busy processor, unless whoever
// started it gave it a nice value of its own. Without the right to that, as in
// session mode, it stays with them.
func goAhead() {
	const neutral = 20 // what getpriority(2) gives for nice 0
	if now, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || now != neutral {
		return
	}
	tasks, _ := filepath.Glob("/proc/self/task/*") // fails for a bad pattern only
	for _, t := range tasks {
		tid, _ := strconv.Atoi(filepath.Base(t)) // the kernel names them by numbers
		// Linux has a nice value for each thread; new ones get their maker's.
		_ = unix.Setpriority(unix.PRIO_PROCESS, tid, ahead) // EACCES: not permitted; ESRCH: the thread is gone
	}
	// Outside the cgroups of a service manager the sessions of a host share its
	// processors, sched(7): every helper has one, and so must the daemon.
	if sid, err := unix.Getsid(0); err == nil && sid == os.Getpid() {
		_ = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(ahead)), 0) // ENOENT: this kernel has none
	}
}
