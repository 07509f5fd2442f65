package tool

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// done is the answer to a command that says nothing.
const done = "{\"return\":{}}\n"

// roles are what this test binary plays under other names: programs get no
// environment by which they could be told.
var roles = map[string]func(){
	"said":  func() { fmt.Println("out"); fmt.Fprint(os.Stderr, "one\ntwo\x1b[31m\n"); os.Exit(3) },
	"plain": func() { fmt.Println(os.Args[1:], os.Environ()); fmt.Fprint(os.Stderr, "ready"); pause() },
	"floods": func() {
		b := make([]byte, 1<<16)
		for {
			os.Stdout.Write(b)
		}
	},
	"gated":   gated,
	"waits":   func() { select {} },
	"deaf":    func() { signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP); fmt.Println("up"); pause() },
	"parent":  parent,
	"mute":    pause,
	"noise":   func() { say("{\"QMP\":{}}\n", strings.Repeat("x", 2*maxMessage)); pause() },
	"garbage": func() { say("{\"QMP\":{}}\n", "}{\n"); pause() },
	"deep":    func() { say("{\"QMP\":{}}\n", strings.Repeat("[", maxMessage/2)+"\n"); pause() },
	"endless": func() {
		say("{\"QMP\":{}}\n")
		for {
			say("{\"event\":\"E\"}\n")
		}
	},
	"dies": func() {
		say("{\"QMP\":{}}\n{\"return\":{}}\n")
		read(2)
		fmt.Fprintln(os.Stderr, "bad luck")
		os.Exit(1)
	},
	"mistyped": func() { say("{\"QMP\":{}}\n{\"return\":{}}\n{\"return\":{}}\n{\"return\":{\"a\":[]}}\n"); pause() },
	"late": func() { // the last event comes before an answer that is older
		say("{\"QMP\":{}}\n", done, done)
		read(3)
		say("{\"event\":\"JOB_STATUS_CHANGE\"}\n", "{\"return\":[{\"id\":\"j\",\"status\":\"running\"}]}\n")
		read(1)
		say("{\"return\":[{\"id\":\"j\",\"status\":\"concluded\"}]}\n", done, done)
		read(3)
		say("{\"event\":\"BLOCK_EXPORT_DELETED\"}\n", "{\"return\":[{\"id\":\"e\"}]}\n")
		read(1)
		say("{\"return\":[]}\n")
		pause()
	},
	"refuses": func() { say("{\"QMP\":{}}\n{\"return\":{}}\n{\"error\":{\"desc\":\"no\\u001b[1m\"}}\n"); pause() },
}

func TestMain(m *testing.M) {
	if role, ok := roles[filepath.Base(os.Args[0])]; ok {
		role()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// play makes a program of a role.
func play(t *testing.T, role string) Program {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	link := filepath.Join(t.TempDir(), role)
	must(t, os.Symlink(self, link))
	up, err := filepath.Rel("/usr/local/sbin", link)
	must(t, err)
	return Program{Name: up}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// gated reads the objects that its arguments name, and says what they are, by what it is
// bounded then, and all that others see of it.
func gated() {
	for _, arg := range os.Args {
		if _, file, ok := strings.Cut(arg, ",file="); ok {
			b, err := os.ReadFile(file)
			fmt.Printf("%q %v\n", b, err)
		}
	}
	for _, resource := range []int{unix.RLIMIT_CORE, unix.RLIMIT_FSIZE, unix.RLIMIT_NOFILE} {
		var has unix.Rlimit
		err := unix.Getrlimit(resource, &has)
		fmt.Println(has.Cur, has.Max, err)
	}
	fmt.Println(os.Args[1:], os.Environ())
}

// peer is the descriptor that the command line names as the monitor's.
var peer = sync.OnceValue(func() *os.File {
	_, fd, _ := strings.Cut(strings.Join(os.Args, " "), "id=monitor,fd=")
	fd, _, _ = strings.Cut(fd, " ")
	n, _ := strconv.Atoi(fd)
	return os.NewFile(uintptr(n), "monitor")
})

func say(texts ...string) {
	for _, text := range texts {
		if _, err := io.WriteString(peer(), text); err != nil {
			os.Exit(0)
		}
	}
}

// asked is what comes in at it.
var asked = sync.OnceValue(func() *bufio.Reader { return bufio.NewReader(peer()) })

func read(lines int) {
	for range lines {
		asked().ReadString('\n')
	}
}

// parent starts a child as a helper does, says its pid, and waits to be killed.
func parent() {
	self, _ := os.Executable()
	link := filepath.Join(os.Args[1], "deaf")
	if err := os.Symlink(self, link); err != nil {
		panic(err)
	}
	up, _ := filepath.Rel("/usr/local/sbin", link)
	ch, err := Command{Program: Program{Name: up}}.start(nil)
	if err != nil {
		panic(err)
	}
	if !ch.until("up") {
		panic(ch.err)
	}
	fmt.Println(ch.cmd.Process.Pid)
	pause()
}

// pidfd watches a process that is not our child.
func pidfd(t *testing.T, pid int) *os.File {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	must(t, err)
	f := os.NewFile(uintptr(fd), "pidfd")
	t.Cleanup(func() { f.Close() })
	return f
}

// over waits until a watched process has ended.
func over(t *testing.T, f *os.File) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 10_000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			t.Fatalf("the process lives on: %v", err)
		}
		return
	}
}

// pause waits for a signal that ends the process: a select without cases is a
// deadlock to the runtime where nothing else runs, and who is confined has no pause(2).
func pause() {
	for {
		unix.Poll(nil, -1)
	}
}

// until waits for what a program says, and reports whether it has said that before it ended.
func (ch *Child) until(text string) bool {
	for !strings.Contains(ch.said.String(), text) {
		select {
		case <-ch.ended:
			return strings.Contains(ch.said.String(), text)
		default:
			runtime.Gosched()
		}
	}
	return true
}
