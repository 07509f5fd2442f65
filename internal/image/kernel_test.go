package image

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/testenv"
)

// accesses are who may share a file with a loop device that writes or reads.
var accesses = []struct {
	access
	besideReader bool
}{{shared, true}, {sharing, true}, {grow, true}, {exclusive, false}}

// attached fails unless each access to a file is refused, or not, as it should
// be beside a user that only reads or one that writes.
func attached(t *testing.T, path, holder string, reads bool) {
	t.Helper()
	for _, a := range accesses {
		f, err := a.try(t, path)
		if reads && a.besideReader {
			if err != nil {
				t.Errorf("%s: %v", a.name, err)
			}
		} else {
			refused(t, err, holder)
			ownsNothing(t, f)
		}
		f.Close()
	}
}

func TestLoopDevicesAreSeenOnEveryFileSystem(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(testenv.Mount(t, kind), "disk.raw")
			if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			device, detach := testenv.Attach(t, path)
			attached(t, path, "loop device "+device, false)
			detach()
			device, detach = testenv.Attach(t, path, "--read-only")
			attached(t, path, "loop device "+device, true)
			detach()
			if f, err := exclusive.try(t, path); err != nil {
				t.Errorf("after the device let go: %v", err)
			} else {
				f.Close()
			}
		})
	}
}

// What a loop device stands on is no question of names.
func TestLoopDevicesAreKnownByTheirFile(t *testing.T) {
	path := newImage(t)
	other := path + ".other"
	device, _ := testenv.Attach(t, path)
	if err := os.Rename(path, other); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	attached(t, other, "loop device "+device, false)
	if _, err := exclusive.try(t, path); err != nil {
		t.Errorf("another file that has the name: %v", err)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other+" (deleted)", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := exclusive.try(t, other+" (deleted)"); err != nil {
		t.Errorf("a file with the name that the kernel gives the deleted one: %v", err)
	}
}

func TestLoopDeviceBehindABindMountOrAnotherNamespaceIsSeen(t *testing.T) {
	path := newImage(t)
	alias := filepath.Join(t.TempDir(), "alias")
	if err := os.WriteFile(alias, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Loop(t)
	script := fmt.Sprintf("mount --bind %[1]s %[2]s && losetup --find --show %[2]s", path, alias)
	out, err := testenv.Mounting(t.Context(), t, script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	device := strings.TrimSpace(string(out))
	defer func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}()
	attached(t, path, "loop device "+device, false)
}

func TestWhatUsesALoopDeviceIsNamed(t *testing.T) {
	path := newImage(t)
	if err := os.Truncate(path, 64<<20); err != nil {
		t.Fatal(err)
	}
	testenv.Formatted(t, path, "ext4")
	t.Run("mounted", func(t *testing.T) {
		device, _ := testenv.Attach(t, path)
		dir, _ := testenv.MountedFrom(t, device)
		attached(t, path, fmt.Sprintf("loop device %s, mounted at %q", device, dir), false)
	})
	t.Run("mounted read-only", func(t *testing.T) {
		device, _ := testenv.Attach(t, path, "--read-only")
		dir, _ := testenv.MountedFrom(t, device)
		attached(t, path, fmt.Sprintf("loop device %s, mounted at %q", device, dir), true)
	})
	t.Run("a partition mounted", func(t *testing.T) {
		disk := newImage(t)
		if err := os.Truncate(disk, 80<<20); err != nil {
			t.Fatal(err)
		}
		device, _ := testenv.Attach(t, disk)
		table := exec.Command(testenv.Tool(t, "sfdisk"), "--quiet", device)
		table.Stdin = strings.NewReader("2048,\n")
		if out, err := table.CombinedOutput(); err != nil {
			t.Fatalf("sfdisk: %v\n%s", err, out)
		}
		if out, err := exec.Command(testenv.Tool(t, "partx"), "--update", device).CombinedOutput(); err != nil {
			t.Fatalf("partx: %v\n%s", err, out)
		}
		defer func() {
			if out, err := exec.Command("partx", "--delete", device).CombinedOutput(); err != nil {
				t.Errorf("partx: %v\n%s", err, out)
			}
		}()
		testenv.Formatted(t, device+"p1", "ext4")
		dir := t.TempDir()
		if out, err := exec.Command("mount", device+"p1", dir).CombinedOutput(); err != nil {
			t.Fatalf("mount: %v\n%s", err, out)
		}
		defer testenv.Unmount(t, dir)
		attached(t, disk, fmt.Sprintf("loop device %s, /dev/%sp1 mounted at %q", device, filepath.Base(device), dir), false)
	})
}

// umount(8) gives the device back a little later; who wipes the file then is
// not refused for that.
func TestLoopDeviceThatLetsGoIsWaitedFor(t *testing.T) {
	path := newImage(t)
	device, detach := testenv.Attach(t, path)
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	detach() // as soon as it is closed
	time.AfterFunc(10*time.Millisecond, func() { f.Close() })
	if _, err := exclusive.try(t, path); err != nil {
		t.Error(err)
	}
}

func TestSwapFilesAreInUse(t *testing.T) {
	testenv.Root(t)
	path := filepath.Join(testenv.Mount(t, "ext4"), "swap file")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{{"mkswap", path}, {"swapon", path}} {
		if out, err := exec.Command(testenv.Tool(t, argv[0]), argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, out)
		}
	}
	defer func() {
		if out, err := exec.Command(testenv.Tool(t, "swapoff"), path).CombinedOutput(); err != nil {
			t.Errorf("swapoff: %v\n%s", err, out)
		}
	}()
	for _, a := range []access{shared, exclusive, grow} {
		f, err := os.OpenFile(path, a.flags, 0)
		if err != nil {
			continue // the kernel refuses that itself
		}
		refused(t, a.lock(f), "the kernel as swap space")
		f.Close() // so that the file system can be unmounted
	}
}

// The kernel's targets are seen by the paths that they were told, as configfs
// has them.
func TestExportedFilesAreInUse(t *testing.T) {
	path := newImage(t)
	f := openFile(t, path, os.O_RDONLY)
	id, err := idOf(f)
	if err != nil {
		t.Fatal(err)
	}
	for at, name := range map[string]string{
		"target/core/fileio_0/disk/udev_path":                     "a SCSI target",
		"nvmet/subsystems/nqn.test/namespaces/1/device_path":      "an NVMe target",
		"usb_gadget/g1/functions/mass_storage.usb0/lun.0/file":    "a USB gadget",
		"usb_gadget/g1/functions/mass_storage.usb0/lun.0/unknown": "",
	} {
		k := kernel{sys: t.TempDir()}
		file := filepath.Join(k.sys, "kernel/config", at)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(path+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, u := range k.users(id) {
			got = append(got, u.Name)
		}
		if ok := len(got) == 1 && strings.HasPrefix(got[0], name); ok != (name != "") {
			t.Errorf("%s: %q", at, got)
		}
		if err := os.WriteFile(file, []byte("/nowhere\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if users := k.users(id); len(users) > 0 {
			t.Errorf("%s of another file: %+v", at, users)
		}
	}
}

// A loop device whose file lies with a server that is dead is not asked, for
// that asks the server.
func TestDeadServersAreNotAsked(t *testing.T) {
	k := kernel{proc: t.TempDir()}
	if err := os.Mkdir(filepath.Join(k.proc, "self"), 0o700); err != nil {
		t.Fatal(err)
	}
	table := `22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:50 / /srv/dead rw,relatime shared:5 - nfs4 server:/ rw
31 22 0:51 / /srv/a\040b rw - fuse.sshfs host: rw
32 30 8:2 / /srv/dead/local rw - ext4 /dev/sda2 rw
33 22 0:52 / /srv/btrfs rw - btrfs /dev/sdb rw
not a line
`
	if err := os.WriteFile(filepath.Join(k.proc, "self/mountinfo"), []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	m := k.mounts()
	if len(m) != 5 {
		t.Fatalf("mounts %+v", m)
	}
	ours := fileID{unix.Mkdev(8, 1), 1}
	for path, want := range map[string]bool{
		"/srv/dead/x": true, "/srv/dead": true, "/srv/a b/x": true,
		"/srv/deadly/x": false, "/srv/dead/local/x": false, "/srv/btrfs/x": false, "/x": false,
	} {
		if got := m.silent(path, ours); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	if m.silent("/srv/dead/x", fileID{unix.Mkdev(0, 50), 1}) {
		t.Error("the file is there itself")
	}
}

func TestNobodyIsFoundWithoutAKernel(t *testing.T) {
	if got := (kernel{sys: "/nowhere", proc: "/nowhere"}).users(fileID{}); len(got) > 0 {
		t.Errorf("users without a kernel: %v", got)
	}
}

// Without access to the devices the name of the file has to do.
func TestLoopDevicesWithoutAccessAreKnownByName(t *testing.T) {
	path := newImage(t)
	device, _ := testenv.Attach(t, path, "--read-only")
	k := here
	k.dev = t.TempDir()
	id, err := idOf(openFile(t, path, os.O_RDONLY))
	if err != nil {
		t.Fatal(err)
	}
	users := k.users(id)
	if !slices.ContainsFunc(users, func(u user) bool { return u.Name == "loop device "+device && !u.Writes }) {
		t.Errorf("users %s", strconv.Quote(fmt.Sprintf("%+v", users)))
	}
}
