package helper

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// helper is the real binary, built once.
var helper string

func TestMain(m *testing.M) {
	if Deputizes(os.Args, marker) {
		return
	}
	for variable, act := range map[string]func(dir string) error{makesBesideOthers: makeBesideOthers, marksBesideAPool: markBeside} {
		dir := os.Getenv(variable)
		if dir == "" {
			continue
		}
		if err := act(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "storage-helper")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	helper = filepath.Join(dir, Program)
	args := []string{"build", "-o", helper}
	if raceEnabled {
		args = append(args, "-race")
		os.Setenv("GORACE", "atexit_sleep_ms=0") // else each helper sleeps a second at its exit
	}
	if out, err := exec.Command("go", append(args, "storaged/cmd/storage-helper")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build the helper: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// noise writes a file of random bytes and gives them.
func noise(t testing.TB, path string, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size)})
	r.Read(b)
	must(t, os.WriteFile(path, b, 0o600))
	return b
}

// sameContent fails unless the file holds these bytes.
func sameContent(t testing.TB, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s has other content (%d bytes, want %d)", path, len(got), len(want))
	}
}
