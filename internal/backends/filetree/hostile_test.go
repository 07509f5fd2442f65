package filetree

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// newPool is a built pool.
func newPool(t *testing.T) backends.Pool {
	t.Helper()
	p := backends.Pool{Type: "dir", Target: filepath.Join(t.TempDir(), "pool")}
	if err := (Tree{}).Build(t.Context(), p, false); err != nil {
		t.Fatal(err)
	}
	return p
}

func put(t *testing.T, p backends.Pool, name string) string {
	t.Helper()
	path := filepath.Join(p.Target, name)
	if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// find refreshes and gives what is told of one name.
func find(t *testing.T, p backends.Pool, name string) (found backends.VolumeInfo) {
	t.Helper()
	_, err := (Tree{}).Refresh(t.Context(), p, func(v backends.VolumeInfo) error {
		if v.Name == name {
			found = v
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func bind(t *testing.T, from, to string) {
	t.Helper()
	testenv.Root(t)
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(to, 0); err != nil {
			t.Error(err)
		}
	})
}

func TestMountOnAVolumesNameIsNoVolume(t *testing.T) {
	p := newPool(t)
	canary := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, []byte("canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	bind(t, canary, put(t, p, "a"))
	for _, a := range []backends.Access{backends.ReadShared, backends.WriteExclusive} {
		_, err := (Tree{}).Open(t.Context(), p, "a", a)
		if !errors.Is(err, backends.ErrUnsafe) || !strings.Contains(err.Error(), "mount point") {
			t.Errorf("open: %v", err)
		}
	}
	if found := find(t, p, "a"); !strings.Contains(found.Ignored, "mount point") {
		t.Errorf("found %+v", found)
	}
	if err := (Tree{}).Delete(t.Context(), p, true); !errors.Is(err, backends.ErrNotEmpty) {
		t.Errorf("delete: %v", err)
	}
}

// openBeneath has to refuse on its own what appears after the first look.
func TestOpenRefusesWhatTheFirstLookDidNotSee(t *testing.T) {
	p := newPool(t)
	outside := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(p.Target, "link")); err != nil {
		t.Fatal(err)
	}
	d, err := openPool(p)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{"link", "..", "../pool", "/etc/passwd", "/proc/self/exe"} {
		if f, err := d.openBeneath(name, os.O_RDONLY, 0); err == nil {
			t.Errorf("%s was opened as %s", name, f.Name())
		}
	}
}

func TestDeleteOfAMountPointRemovesNothing(t *testing.T) {
	p := newPool(t)
	put(t, p, "a")
	bind(t, p.Target, p.Target)
	err := (Tree{}).Delete(t.Context(), p, true)
	if refusal, ok := errors.AsType[*record.Error](err); !ok || !strings.Contains(err.Error(), "mount point") || !strings.Contains(refusal.Hint.String(), "undefine") {
		t.Errorf("delete: %v", err)
	}
	if _, err := os.Stat(filepath.Join(p.Target, "a")); err != nil {
		t.Error(err)
	}
}

// A link on the way to a directory hides whose it is.
func TestDeleteOfAnotherPoolsDirectoryRemovesNothing(t *testing.T) {
	p := newPool(t)
	path := put(t, p, "a")
	info, err := (Tree{}).Refresh(t.Context(), p, func(backends.VolumeInfo) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Dir(p.Target), link); err != nil {
		t.Fatal(err)
	}
	q := backends.Pool{Type: "dir", Target: filepath.Join(link, "pool"), Others: []backends.Identity{info.ID}}
	var busy *backends.BusyError
	if err := (Tree{}).Delete(t.Context(), q, true); !errors.As(err, &busy) {
		t.Errorf("delete: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// Whoever has a lease makes others wait in open(2) for 45 s.
func TestLeaseOfAnotherDoesNotBlock(t *testing.T) {
	p := newPool(t)
	f, err := os.Open(put(t, p, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		t.Fatal(err)
	}
	var busy *backends.BusyError
	if _, err := (Tree{}).Open(t.Context(), p, "a", backends.WriteExclusive); !errors.As(err, &busy) {
		t.Errorf("open: %v", err)
	}
}

// asNobody runs do without root's rights on files. They belong to the thread,
// which ends with do.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	testenv.Root(t)
	const nobody = 65534
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock
		unix.RawSyscall(unix.SYS_SETFSUID, nobody, 0, 0)
		do()
	}()
	<-done
}

// poolForNobody is a pool on a path that everybody may walk.
func poolForNobody(t *testing.T) backends.Pool {
	t.Helper()
	p := newPool(t)
	for dir := p.Target; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestVolumeThatMayNotBeReadIsAVolumeOfUnknownFormat(t *testing.T) {
	p := poolForNobody(t)
	put(t, p, "a")
	asNobody(t, func() {
		if found := find(t, p, "a"); found.Ignored != "" || found.Format != "" || found.Size != 1 || found.Capacity != 1 {
			t.Errorf("found %+v", found)
		}
		if _, err := (Tree{}).Open(t.Context(), p, "a", backends.ReadShared); !errors.Is(err, os.ErrPermission) {
			t.Errorf("open: %v", err)
		}
	})
}

func TestStartNeedsTheRightToWrite(t *testing.T) {
	p := poolForNobody(t)
	asNobody(t, func() {
		if err := (Tree{}).Start(t.Context(), p); !errors.Is(err, os.ErrPermission) {
			t.Errorf("start: %v", err)
		}
		_, err := (Tree{}).Create(t.Context(), p, backends.NewVolume{Name: "a", Job: "job"})
		if !errors.Is(err, os.ErrPermission) {
			t.Errorf("create: %v", err)
		}
	})
	if err := (Tree{}).Start(t.Context(), p); err != nil {
		t.Errorf("start as root: %v", err)
	}
}

func TestReadOnlyFileSystemCanBeStartedAndRead(t *testing.T) {
	p := newPool(t)
	put(t, p, "a")
	bind(t, p.Target, p.Target)
	if err := unix.Mount("", p.Target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := (Tree{}).Start(t.Context(), p); err != nil {
		t.Errorf("start: %v", err)
	}
	if found := find(t, p, "a"); found.Format != "raw" {
		t.Errorf("found %+v", found)
	}
	v, err := (Tree{}).Open(t.Context(), p, "a", backends.ReadShared)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if _, err := (Tree{}).Create(t.Context(), p, backends.NewVolume{Name: "b", Job: "job"}); !errors.Is(err, unix.EROFS) {
		t.Errorf("create: %v", err)
	}
}

func TestVolumeInUseByQEMUIsBusyAndNamesIt(t *testing.T) {
	p := newPool(t)
	holder := testenv.QEMU(t, "-f", "raw", put(t, p, "a"))
	_, read := (Tree{}).Open(t.Context(), p, "a", backends.ReadShared)
	_, write := (Tree{}).Open(t.Context(), p, "a", backends.WriteExclusive)
	_, take := (Tree{}).Take(t.Context(), p, "a")
	for what, err := range map[string]error{
		"read": read, "write": write, "take": take, "delete": (Tree{}).Delete(t.Context(), p, true),
	} {
		var busy *backends.BusyError
		if !errors.As(err, &busy) || busy.Holder != holder || busy.Object != filepath.Join(p.Target, "a") {
			t.Errorf("%s: %v, want %s", what, err, holder)
		}
	}
}

func TestQEMUCannotOpenWhatWeHaveOpenForWriting(t *testing.T) {
	p := newPool(t)
	path := put(t, p, "a")
	v, err := (Tree{}).Open(t.Context(), p, "a", backends.WriteExclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, args := range [][]string{{"-f", "raw", "-c", "length", path}, {"-r", "-f", "raw", "-c", "length", path}} {
		out, err := exec.Command(testenv.Tool(t, "qemu-io"), args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "lock") {
			t.Errorf("qemu-io %q: %v\n%s", args, err, out)
		}
	}
}
