package testenv

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestMissingThingsFailWhereSkipsAreForbidden(t *testing.T) {
	for _, c := range []struct{ noSkip, mayLack, want string }{
		{"", "", "skip"}, {"1", "", "fail"}, {"1", "unicorn,a", "fail"}, {"1", "root,a unicorn", "skip"}, {"", "root", "skip"},
	} {
		t.Setenv(NoSkip, c.noSkip)
		t.Setenv(MayLack, c.mayLack)
		p := &probe{TB: t}
		Need(p, "something that exists", true)
		if p.said != "" {
			t.Errorf("what was there led to %q", p.said)
		}
		Need(p, "a unicorn", false)
		if p.said != c.want {
			t.Errorf("%s=%q, %s=%q: %q", NoSkip, c.noSkip, MayLack, c.mayLack, p.said)
		}
	}
}

func TestDeepTestsRunInTheVirtualMachine(t *testing.T) {
	t.Setenv(NoSkip, "1") // what is skipped here has a result from there
	for group, want := range map[string]string{"": "skip", "devices": ""} {
		t.Setenv(vmGroup, group)
		p := &probe{TB: t}
		VM(p)
		if p.said != want || (Patience(time.Second) > time.Second) != InVM() {
			t.Errorf("in group %q: %q, a second is %v", group, p.said, Patience(time.Second))
		}
	}
}

// probe records what a test is told.
type probe struct {
	testing.TB
	said string
}

func (p *probe) Helper()               {}
func (p *probe) Skipf(string, ...any)  { p.said = "skip" }
func (p *probe) Fatalf(string, ...any) { p.said = "fail" }

func TestMountedFileSystemIsUsableAndGoesAgain(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(kind, func(t *testing.T) {
			dir := ""
			t.Run("mounted", func(t *testing.T) {
				dir = Mount(t, kind)
				if err := os.WriteFile(filepath.Join(dir, "x"), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
				if device(t, dir) == device(t, filepath.Dir(dir)) {
					t.Errorf("%s is on the device of the directory above", dir)
				}
			})
			if _, err := os.Stat(dir); dir != "" && !os.IsNotExist(err) {
				t.Errorf("%s is still there: %v", dir, err)
			}
		})
	}
}

func device(t *testing.T, path string) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Dev
}

func TestFailingFileSystemTakesBytesAndFailsAtFsync(t *testing.T) {
	f, err := os.Create(filepath.Join(Failing(t), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // it is lost anyway
	if _, err := f.Write(make([]byte, 2*thinBytes)); err != nil {
		t.Fatalf("the write failed already: %v", err)
	}
	if err := f.Sync(); err == nil {
		t.Error("fsync went well")
	}
}

// What has mounts of its own does not hold what others unmount, so that tests beside each
// other have their devices alone.
func TestMountsOfOthersAreNotHeld(t *testing.T) {
	Loop(t)
	out, err := exec.Command(Tool(t, "findmnt"), "-fno", "PROPAGATION", "/").Output()
	if err != nil {
		t.Fatal(err)
	}
	Need(t, "mounts that are shared (scripts/test)", string(out) == "shared\n")
	file := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 16<<20)); err != nil {
		t.Fatal(err)
	}
	Formatted(t, file, "ext4")
	device, _ := Attach(t, file)
	_, unmount := MountedFrom(t, device)
	other := Mounting(t.Context(), t, "echo && exec cat")
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	begun, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := begun.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	unmount() // and the device is nobody's
	in.Close()
	if err := other.Wait(); err != nil {
		t.Error(err)
	}
}
