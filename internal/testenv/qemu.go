package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// QEMU lets qemu-io open an image, with its own arguments, and keep it open
// until the end of the test. It gives the process as a holder is named.
func QEMU(t testing.TB, args ...string) (holder string) {
	t.Helper()
	c := StartChild(t, exec.Command(Tool(t, "qemu-io"), args...))
	c.Tell("length\n")
	c.Line() // it answers when it has the image
	return c.Holder
}

// Machine starts a virtual machine that does not run, with arguments of QEMU's own,
// and keeps it until the test ends or calls stop. It gives the process as a holder is
// named, or what QEMU said if it did not start.
func Machine(t testing.TB, args ...string) (holder string, stop func(), err error) {
	t.Helper()
	argv := []string{"-M", "q35", "-accel", "tcg", "-m", "16", "-S", "-display", "none", "-nodefaults", "-chardev", "stdio,id=m", "-mon", "chardev=m,mode=control"}
	cmd := exec.Command(Tool(t, "qemu-system-x86_64"), append(argv, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	in, lines := start(t, cmd)
	// Its greeting comes before it opens anything, the answer when all is open.
	_, err = io.WriteString(in, `{"execute":"qmp_capabilities"}`)
	for range 2 {
		if err == nil {
			_, err = lines.ReadString('\n')
		}
	}
	stop = ended(t, cmd)
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("qemu-system-x86_64: %s", &said)
	}
	return holderOf(cmd), stop, nil
}

// Stopped starts a program and stops it when it has a file open and locked. It gives the process as a holder is named and what ends it, or what the
// program said if it ended by itself.
func Stopped(t testing.TB, path string, argv ...string) (holder string, stop func(), err error) {
	t.Helper()
	cmd := exec.Command(Tool(t, argv[0]), argv[1:]...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	// QEMU takes its locks and gives them up at once where it sees others: only what it has
	// kept for some looks does it have.
	const kept = 8
	for seen := 0; ; {
		select {
		case err := <-gone:
			return "", nil, fmt.Errorf("%s: %v: %s", argv[0], err, &said)
		case <-look.C:
		}
		_ = cmd.Process.Signal(syscall.SIGSTOP) // one that has ended is met above
		_ = unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		if seen++; !locks(cmd.Process.Pid, path) {
			seen = 0
		}
		if seen == kept {
			stop = sync.OnceFunc(func() { cmd.Process.Kill(); <-gone })
			t.Cleanup(stop)
			return holderOf(cmd), stop, nil
		}
		_ = cmd.Process.Signal(syscall.SIGCONT)
	}
}

// locks reports whether a process has a file open and locked.
func locks(pid int, path string) bool {
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		panic("internal error: " + err.Error()) // the pattern is constant
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != path {
			continue
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, filepath.Base(link)))
		if err == nil && strings.Contains(string(info), "lock:") {
			return true
		}
	}
	return false
}

// ended gives what ends a process that is not asked how it went, once.
func ended(t testing.TB, cmd *exec.Cmd) (stop func()) {
	stop = sync.OnceFunc(func() {
		cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
	})
	t.Cleanup(stop)
	return stop
}

// LUKS makes an encrypted image of 1 MiB that a secret opens, in no time: QEMU would
// measure its processor for seconds.
func LUKS(t testing.TB, path, secret string) {
	t.Helper()
	const header, capacity = 2 << 20, 1 << 20
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(f.Truncate(header+capacity), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(Tool(t, "cryptsetup"), "luksFormat", "-q", "--type", "luks1", "--pbkdf-force-iterations", "1000", "--key-file", "-", path)
	cmd.Stdin = strings.NewReader(secret)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cryptsetup: %v: %s", err, out)
	}
}
