package testenv

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Child is a process of a test that ends when its input does. It is for one goroutine.
type Child struct {
	Holder string // how it is named as the holder of a file
	// End ends its input and waits for its end, once; the test has failed unless it ends
	// with exit 0. The end of the test does that at the latest.
	End func()

	t   testing.TB
	in  io.WriteCloser
	out *bufio.Reader
}

// StartChild starts a command as one.
func StartChild(t testing.TB, cmd *exec.Cmd) *Child {
	t.Helper()
	in, out := start(t, cmd)
	end := sync.OnceFunc(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", cmd.Path, err)
		}
	})
	t.Cleanup(end)
	return &Child{Holder: holderOf(cmd), End: end, t: t, in: in, out: out}
}

// Tell writes to its input.
func (c *Child) Tell(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, text); err != nil {
		c.t.Fatal(err)
	}
}

// Line waits for the next line that it says.
func (c *Child) Line() string {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatalf("%s said %q: %v", c.Holder, line, err)
	}
	return line
}

// HoldOpen has a process open a file without any lock, as a redirection of the shell does,
// "<" or "<>", and keep it open.
func HoldOpen(t testing.TB, path, redirection string) *Child {
	t.Helper()
	c := StartChild(t, exec.Command("sh", "-c", `exec 3`+redirection+`"$1"; echo open; read end; exit 0`, "sh", path))
	c.Line()
	return c
}

// start starts a command with pipes for its input and output.
func start(t testing.TB, cmd *exec.Cmd) (in io.WriteCloser, out *bufio.Reader) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return in, bufio.NewReader(pipe)
}

// holderOf is how a holder is named: by the kernel's name of its program.
func holderOf(cmd *exec.Cmd) string {
	const most = 15
	name := filepath.Base(cmd.Path)
	return fmt.Sprintf("pid %d (%s)", cmd.Process.Pid, name[:min(len(name), most)])
}
