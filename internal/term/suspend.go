package term

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// action is what the kernel does at a signal (struct sigaction of rt_sigaction(2), which
// has no more bytes anywhere); the zero is what it does by default.
type action [4]uint64

// suspend stops the program, as SIGTSTP does by default, until it is let go on; where
// nobody could do that it does nothing. Of a signal that was caught once Go keeps its
// handler, so that its default is asked for here.
func suspend() error {
	// To this thread: it is delivered before the call returns, and not while the
	// terminal is ours again.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var byDefault, before action
	err := setAction(unix.SIGTSTP, &byDefault, &before)
	if err == nil {
		err = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGTSTP)
		err = cmp.Or(err, setAction(unix.SIGTSTP, &before, nil))
	}
	if err != nil {
		return fmt.Errorf("cannot stop: %w", err)
	}
	return nil
}

// setAction sets the action at a signal, and gives that of before.
func setAction(sig unix.Signal, now, before *action) error {
	const setBytes = 8 // of a set of signals
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(now)), uintptr(unsafe.Pointer(before)), setBytes, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
