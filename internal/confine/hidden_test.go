package confine_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/confine"
	"storaged/internal/testenv"
)

// What is in a hidden directory is seen by who is put there, and by nobody else.
func TestHiddenDirectory(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "seen"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := confine.Hide(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	fd, err := unix.Openat(int(h.Directories[0].Fd()), "hidden", unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	lists := func(namespace *os.File) string {
		t.Helper()
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd := exec.Command("ls", dir)
		cmd.Stdout = out
		if err := confine.UnconfinedIn(namespace, cmd); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		b, err := os.ReadFile(out.Name())
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	if in, here := lists(h.Namespace), lists(nil); in != "hidden\n" || here != "seen\n" {
		t.Errorf("inside there is %q, and here %q", in, here)
	}
}
