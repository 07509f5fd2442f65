package secret

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSecretsOutliveTheStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	s := open(t, dir)
	for _, value := range []string{"first", "second\x00\n"} {
		if err := s.Set("disks", []byte(value)); err != nil {
			t.Fatal(err)
		}
		again := open(t, dir)
		if is, err := again.Is("disks", []byte(value)); err != nil || !is || !again.Known("disks") {
			t.Errorf("%q: %v, %v", value, is, err)
		}
		if is, err := again.Is("disks", []byte("another")); err != nil || is {
			t.Errorf("another is taken for %q: %v", value, err)
		}
	}
	if err := s.Delete("disks"); err != nil {
		t.Fatal(err)
	}
	if s.Known("disks") || len(open(t, dir).All()) != 0 {
		t.Error("a deleted secret is there")
	}
	if err := s.Delete("disks"); err == nil {
		t.Error("it was deleted twice")
	}
}

func TestNobodyElseReadsSecrets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	old := unix.Umask(0)
	defer unix.Umask(old)
	if err := open(t, dir).Set("disks", []byte("value")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{dir: os.ModeDir | 0o700, filepath.Join(dir, "disks"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// What a daemon that died left half written is no secret, and in nobody's way.
func TestHalfASecretIsNone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, temporary), []byte("hal"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if len(s.All()) != 0 {
		t.Errorf("there are %v", s.All())
	}
	if err := s.Set("disks", []byte("whole")); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("files %v, %v", entries, err)
	}
	if err := CheckName(temporary); record.CodeOf(err) != record.Invalid {
		t.Errorf("a secret may be called %q: %v", temporary, err)
	}
}

func TestHandedSecretsCannotBeChanged(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "secrets"))
	want := bytes.Repeat([]byte("0123456789abcdef"), record.MaxSecret/16)
	if err := s.Set("disks", want); err != nil {
		t.Fatal(err)
	}
	f, err := s.Memory("disks")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("it was written to")
	}
	if err := f.Truncate(0); err == nil {
		t.Error("it was cut")
	}
	if got, err := Read(f); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if _, err := s.Memory("none"); record.CodeOf(err) != record.NotFound {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestReadRefusesWhatIsNoSecret(t *testing.T) {
	for _, size := range []int{0, record.MaxSecret + 1} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(strings.Repeat("x", size)), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := Read(f); record.CodeOf(err) != record.Invalid {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// A secret that is withdrawn is unknown until it is set, or found to be there still.
func TestWithdrawnSecretsAreUnknown(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "secrets"))
	if err := s.Set("disks", []byte("value")); err != nil {
		t.Fatal(err)
	}
	s.Withdraw("disks")
	if s.Known("disks") {
		t.Error("it is known")
	}
	if err := s.Set("disks", []byte("another")); err != nil || !s.Known("disks") {
		t.Errorf("set anew: %v", err)
	}
}

// What nothing could be opened by is not kept.
func TestSecretIsText(t *testing.T) {
	for value, good := range map[string]bool{"open sesame\n": true, "Schlüssel": true, "a\x00b": false, "\xff\xfe": false} {
		err := CheckValue("k", []byte(value))
		if (err == nil) != good || err != nil && record.CodeOf(err) != record.Unsupported {
			t.Errorf("%q: %v", value, err)
		}
	}
}
