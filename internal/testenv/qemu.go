package testenv

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"testing"
)

// QEMU lets qemu-io open an image, with its own arguments, and keep it open
// until the end of the test. It gives the process as a holder is named.
func QEMU(t testing.TB, args ...string) (holder string) {
	t.Helper()
	cmd := exec.Command(Tool(t, "qemu-io"), args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // end of input ends it
		if err := cmd.Wait(); err != nil {
			t.Errorf("qemu-io: %v", err)
		}
	})
	if _, err := io.WriteString(in, "length\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it answers when it has the image
		t.Fatalf("qemu-io said %q: %v", line, err)
	}
	return fmt.Sprintf("pid %d (qemu-io)", cmd.Process.Pid)
}
