// Package ptytest gives tests a real terminal.
package ptytest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long Expect waits for text before it fails the test.
const patience = 20 * time.Second

// Terminal is a pseudo terminal: the program under test has Slave, the test
// sees what it shows and types.
type Terminal struct {
	Slave *os.File

	t      testing.TB
	master *os.File
	name   string
	done   chan struct{} // closed by read at its end
	hang   chan struct{} // closed by Hang, which read obeys
	hung   chan struct{} // closed by read then
	closed chan struct{} // closed by close

	mu    sync.Mutex
	seen  bytes.Buffer
	from  int           // Expect looks from here on
	grown chan struct{} // closed and replaced whenever seen grows
}

// Open makes a terminal of the given width. It is closed at the end of the
// test.
func Open(t testing.TB, columns int) *Terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	control(t, master, func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		}
		return err
	})
	name := fmt.Sprintf("/dev/pts/%d", number)
	slave, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	check(t, err)
	term := &Terminal{
		Slave: slave, t: t, master: master, name: name, done: make(chan struct{}), grown: make(chan struct{}),
		hang: make(chan struct{}), hung: make(chan struct{}), closed: make(chan struct{}),
	}
	term.Resize(columns)
	go term.read()
	t.Cleanup(term.close)
	return term
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// control calls f with the descriptor of file, which stays non-blocking, so
// that Close ends a Read.
func control(t testing.TB, file *os.File, f func(fd int) error) {
	t.Helper()
	conn, err := file.SyscallConn()
	check(t, err)
	var inner error
	check(t, conn.Control(func(fd uintptr) { inner = f(int(fd)) }))
	check(t, inner)
}

// All gives everything that was shown. The program has ended, and nothing else has
// the terminal open: what Shown gives then may not be all yet.
func (p *Terminal) All() string {
	_ = p.Slave.Close()
	<-p.done // the kernel gives an error when all was read
	return p.Shown()
}

// HangUp takes the terminal away, as when its window is closed.
func (p *Terminal) HangUp() {
	_ = p.master.Close()
	<-p.done
}

func (p *Terminal) close() {
	close(p.closed)
	_ = p.Slave.Close()
	_ = p.master.Close()
	<-p.done
}

// read collects what the terminal shows until it is closed.
func (p *Terminal) read() {
	defer close(p.done)
	for buf := make([]byte, 4096); ; {
		n, err := p.master.Read(buf)
		p.mu.Lock()
		p.seen.Write(buf[:n])
		close(p.grown)
		p.grown = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
		select {
		case <-p.hang:
			close(p.hung)
			<-p.closed
			return
		default:
		}
	}
}

// Hang has the terminal take no byte any more, as one whose window hangs: nobody reads
// what it is sent, and it has no room for more.
func (p *Terminal) Hang() {
	p.t.Helper()
	close(p.hang)
	fd, err := unix.Open(p.name, unix.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	check(p.t, err)
	defer unix.Close(fd)
	full := func() bool { // also when the kernel has moved on what there is
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 100)
		return n == 0 && err == nil
	}
	for hung := false; ; {
		_, err := unix.Write(fd, make([]byte, 512))
		switch {
		case err == unix.EAGAIN && !hung:
			<-p.hung // what it has just read is filled up again
			hung = true
		case err == unix.EAGAIN && full():
			return
		case err != unix.EINTR && err != unix.EAGAIN:
			check(p.t, err)
		}
	}
}

// HeldUp reports whether a process is in a write, as it is as long as its terminal takes
// nothing.
func HeldUp(t testing.TB, pid int) bool {
	t.Helper()
	calls, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	check(t, err)
	return slices.ContainsFunc(calls, func(path string) bool {
		call, err := os.ReadFile(path) // a thread may have ended
		return err == nil && strings.HasPrefix(string(call), fmt.Sprintf("%d 0x", unix.SYS_WRITE))
	})
}

// Stop has the terminal take no byte until Go, as Ctrl-S does.
func (p *Terminal) Stop() { p.flow(unix.TCOOFF) }

// Go has the terminal go on, as Ctrl-Q does.
func (p *Terminal) Go() { p.flow(unix.TCOON) }

func (p *Terminal) flow(action int) {
	p.t.Helper()
	check(p.t, unix.IoctlSetInt(int(p.Slave.Fd()), unix.TCXONC, action))
}

// Expect waits until the terminal has shown text after what earlier calls
// expected.
func (p *Terminal) Expect(text string) {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		p.mu.Lock()
		rest, grown := p.seen.String()[p.from:], p.grown
		i := strings.Index(rest, text)
		if i >= 0 {
			p.from += i + len(text)
		}
		p.mu.Unlock()
		if i >= 0 {
			return
		}
		select {
		case <-grown:
		case <-timeout:
			p.t.Fatalf("the terminal does not show %q but %q", text, rest)
		}
	}
}

// Type sends keys.
func (p *Terminal) Type(keys string) {
	p.t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// Shown is everything shown so far.
func (p *Terminal) Shown() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}

// Resize changes the width; programs in the foreground get SIGWINCH.
func (p *Terminal) Resize(columns int) { p.ResizeTo(columns, 24) }

// ResizeTo changes width and height.
func (p *Terminal) ResizeTo(columns, lines int) {
	p.t.Helper()
	control(p.t, p.master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(lines), Col: uint16(columns)})
	})
}
