package image

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/procfs"
	"storaged/internal/testenv"
)

// Who has the file open and takes no locks is seen all the same.
func TestWhoTakesNoLocksIsSeenAndNamed(t *testing.T) {
	foreign := access{"foreign", os.O_RDONLY, LockForeign}
	for _, c := range []struct {
		mode   string
		access access
		in     bool
	}{
		{"<", exclusive, false},
		{"<", shared, true},
		{"<", grow, true},
		{"<", foreign, true},
		{"<>", exclusive, false},
		{"<>", shared, false},
		{"<>", grow, false},
		{"<>", foreign, true},
	} {
		t.Run(c.access.name+" beside "+c.mode, func(t *testing.T) {
			t.Parallel()
			path := newImage(t)
			other := testenv.HoldOpen(t, path, c.mode)
			f, err := c.access.try(t, path)
			if c.in {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, err, other.Holder)
			ownsNothing(t, f)
			time.AfterFunc(10*time.Millisecond, other.End) // a passer-by
			if err := c.access.lock(f); err != nil {
				t.Errorf("when the other lets go: %v", err)
			}
		})
	}
}

// Who only looks, udev and helpers of ours, is known by its name, and is given the time that
// it takes.
func TestLookersAreWaitedFor(t *testing.T) {
	for _, c := range []struct {
		comm string
		most time.Duration
	}{{"(udev-worker)", procfs.LookingTime}, {"systemd-udevd", procfs.LookingTime}, {procfs.Looker, procfs.LookingTime}, {"udevadm", passerBy}} {
		path := newImage(t)
		testenv.StartChild(t, exec.Command("sh", "-c", `echo "$2" >/proc/$$/comm; exec 3<"$1"; echo open; read end; exit 0`, "sh", path, c.comm)).Line()
		users, err := here.openers(openFile(t, path, os.O_RDWR), unix.F_WRLCK)
		if err != nil || len(users) != 1 || users[0].patience() != c.most {
			t.Errorf("%s: %+v, %v", c.comm, users, err)
		}
	}
}

// Anybody may call himself one who only looks.
func TestStrangersAreNoLookers(t *testing.T) {
	testenv.Root(t)
	path := newImage(t)
	given, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `echo "$1" >/proc/$$/comm; echo open; read end; exit 0`, "sh", procfs.Looker)
	cmd.Dir, cmd.ExtraFiles = "/", []*os.File{given}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	testenv.StartChild(t, cmd).Line()
	given.Close() // now it is the other's alone
	users, err := here.openers(openFile(t, path, os.O_RDWR), unix.F_WRLCK)
	if err != nil || len(users) != 1 || !strings.Contains(users[0].Name, procfs.Looker) || users[0].patience() != passerBy {
		t.Errorf("%+v, %v", users, err)
	}
}

// The openings of the process itself, and those that are no opening, keep nobody away.
func TestOwnOpeningsAreNobodyElses(t *testing.T) {
	path := newImage(t)
	openFile(t, path, os.O_RDWR)
	openFile(t, path, os.O_RDONLY)
	openFile(t, path, unix.O_PATH)
	for _, a := range []access{shared, grow, exclusive} {
		f, err := a.try(t, path)
		if err != nil {
			t.Errorf("%s: %v", a.name, err)
		}
		f.Close()
	}
}

// What a process was handed is open in the one that handed it over too: that is no
// other opening.
func TestHandedOpeningsAreOwn(t *testing.T) {
	path := newImage(t)
	given := openFile(t, path, os.O_RDWR)
	cmd := exec.Command("cat")
	cmd.ExtraFiles = []*os.File{given}
	child := testenv.StartChild(t, cmd)
	mine, err := exclusive.try(t, path)
	if err != nil {
		t.Error(err)
	}
	mine.Close()
	given.Close() // now it is the other's alone
	_, err = exclusive.try(t, path)
	refused(t, err, child.Holder)
}

// Somebody of whom only the kernel knows keeps writers away, without a name.
func TestWhoCannotBeNamedIsSeen(t *testing.T) {
	t.Parallel()
	path := newImage(t)
	testenv.HoldOpen(t, path, "<>")
	k := here
	k.proc = t.TempDir() // as in a container of our own
	for _, c := range []struct{ flags, kind int }{{os.O_RDWR, unix.F_WRLCK}, {os.O_RDONLY, unix.F_RDLCK}} {
		users, err := k.openers(openFile(t, path, c.flags), c.kind)
		if err != nil || len(users) != 1 || users[0].Name != "" || users[0].Writes != (c.kind == unix.F_RDLCK) {
			t.Errorf("opened with %#x: %+v, %v", c.flags, users, err)
		}
	}
	if users, err := k.openers(openFile(t, newImage(t), os.O_RDWR), unix.F_WRLCK); err != nil || len(users) > 0 {
		t.Errorf("nobody: %+v, %v", users, err)
	}
}

// A file system that another host answers for may know of openings that are none.
func TestRemoteFilesAreOpenToWhoCannotBeNamed(t *testing.T) {
	m := mounts{{Device: "0:50", Kind: "nfs4"}, {Device: "8:1", Kind: "ext4"}}
	for id, want := range map[fileID]bool{{unix.Mkdev(0, 50), 1}: true, {unix.Mkdev(8, 1), 1}: false, {unix.Mkdev(8, 2), 1}: false} {
		if got := m.remote(id); got != want {
			t.Errorf("%s: %v", id.device(), got)
		}
	}
}
