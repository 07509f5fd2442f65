// Package confinetest has what a program may try that was taken over by what it read:
// ways out of a confinement, each with what it needs around it.
package confinetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Scene is what is around a program that tries to get out.
type Scene struct {
	Outside string // a directory with the file canary, a FIFO, and a socket that listens
	Inside  string // one in which it may be allowed to make names, with a link to the canary
	Volume  string // a file that it has open to read, in Inside
	Victim  int    // another process of the same user
}

const canary = "what nobody else may read or change"

// NewScene makes a scene for the time of a test. When that ends it fails if anything
// outside was changed.
func NewScene(t *testing.T) Scene {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	base := t.TempDir()
	s := Scene{Outside: filepath.Join(base, "outside"), Inside: filepath.Join(base, "inside")}
	s.Volume = filepath.Join(s.Inside, "volume")
	must(os.Mkdir(s.Outside, 0o755))
	must(os.Mkdir(s.Inside, 0o755))
	must(os.WriteFile(s.canary(), []byte(canary), 0o600))
	must(os.WriteFile(s.Volume, []byte("volume"), 0o600))
	must(os.WriteFile(filepath.Join(s.Inside, "other"), []byte("other"), 0o600))
	must(os.Symlink(s.canary(), filepath.Join(s.Inside, "link")))
	for _, address := range []string{s.socket(), s.abstract()} {
		l, err := net.Listen("unix", address)
		must(err)
		t.Cleanup(func() { l.Close() })
	}
	victim := exec.Command("/bin/cat")
	hold, err := victim.StdinPipe()
	must(err)
	must(victim.Start())
	s.Victim = victim.Process.Pid
	var before unix.Stat_t
	must(unix.Stat(s.canary(), &before))
	t.Cleanup(func() {
		hold.Close()
		if err := victim.Wait(); err != nil {
			t.Errorf("the other process was harmed: %v", err)
		}
		s.unharmed(t, before)
	})
	return s
}

// unharmed fails if anything outside is not what it was.
func (s Scene) unharmed(t *testing.T, before unix.Stat_t) {
	t.Helper()
	var now unix.Stat_t
	if err := unix.Stat(s.canary(), &now); err != nil || now.Ino != before.Ino || now.Mode != before.Mode || now.Uid != before.Uid || now.Nlink != 1 {
		t.Errorf("the canary was changed: %v, %+v", err, now)
	}
	if b, err := os.ReadFile(s.canary()); err != nil || string(b) != canary {
		t.Errorf("the canary is %q (%v)", b, err)
	}
	entries, err := os.ReadDir(s.Outside)
	if err != nil || len(entries) != 2 {
		t.Errorf("outside there are %d names (%v)", len(entries), err)
	}
}

func (s Scene) canary() string   { return filepath.Join(s.Outside, "canary") }
func (s Scene) socket() string   { return filepath.Join(s.Outside, "socket") }
func (s Scene) abstract() string { return "@" + s.Outside }

// String hands a scene to another process.
func (s Scene) String() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("internal error: " + err.Error()) // strings and a number
	}
	return string(b)
}

// ParseScene reads it there.
func ParseScene(text string) (s Scene, err error) {
	return s, json.Unmarshal([]byte(text), &s)
}

// Attempt is what came of an escape.
type Attempt struct {
	Name      string
	Succeeded bool
	Said      string // the error
}

// Try tries all escapes, from the process that calls it, which has the volume open.
func Try(s Scene, volume *os.File) []Attempt { return try(escapes, s, volume) }

// TryReal tries those that succeed for root who is not confined, so that it is the
// confinement which keeps others from them.
func TryReal(s Scene, volume *os.File) []Attempt {
	return try(slices.DeleteFunc(slices.Clone(escapes), func(e escape) bool { return !e.real }), s, volume)
}

func try(escapes []escape, s Scene, volume *os.File) (all []Attempt) {
	for _, e := range escapes {
		err := e.try(s, volume)
		all = append(all, Attempt{Name: e.name, Succeeded: !denied(err), Said: fmt.Sprint(err)})
	}
	return all
}

// denied reports whether an error is that of a confinement, and not of a mistake in the try.
func denied(err error) bool {
	for _, refusal := range []error{unix.EPERM, unix.EACCES, unix.ENOSYS, unix.EXDEV, unix.ETXTBSY} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
