package device

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/testenv"
)

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(testenv.Tool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// refused fails unless all that destroys what a device holds is refused, and says for whom.
func refused(t *testing.T, n Node, holder string) {
	t.Helper()
	seen, err := blockdev.OpenNode(n.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Close()
	var made, written error
	var both sync.WaitGroup // who has it open is waited for
	both.Go(func() {
		var dev *blockdev.Node
		if dev, made = Vacate(t.Context(), seen, true); made == nil {
			dev.Close()
		}
	})
	both.Go(func() {
		var f *os.File
		if f, written = n.Open(t.Context(), backends.WriteExclusive); written == nil {
			f.Close()
		}
	})
	both.Wait()
	for what, err := range map[string]error{"to make something of it": made, "to write to it": written} {
		if busy, ok := errors.AsType[*backends.BusyError](err); !ok || !strings.Contains(busy.Holder, holder) {
			t.Errorf("%s: %v, which does not name %q", what, err, holder)
		}
	}
}

// nodeOf is a device by its path.
func nodeOf(t *testing.T, path string) Node {
	t.Helper()
	dev, err := blockdev.OpenNode(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	return Node{Path: path, Number: dev.Number}
}

// mounted mounts what a device has, to read it.
func mounted(t *testing.T, path string) string {
	dir := t.TempDir()
	command(t, "mount", "-o", "ro", path, dir)
	t.Cleanup(func() { testenv.Unmount(t, dir) })
	return dir
}

// partitioned gives the disk of a device one partition, with a file system.
func partitioned(t *testing.T, n Node) (part string) {
	divide(t, n, "dos")
	testenv.Formatted(t, n.Path+"p1", "ext4")
	return n.Path + "p1"
}

func looped(t *testing.T, path string, options ...string) Node {
	loop, _ := testenv.Attach(t, path, options...)
	return nodeOf(t, loop)
}

// Whoever uses a device, by whatever name, or what it is made of, is named.
func TestNobodyLosesADeviceInUse(t *testing.T) {
	file := func(n Node) string { return command(t, "losetup", "--noheadings", "--output", "BACK-FILE", n.Path) }
	for what, use := range map[string]func(t *testing.T, n Node) (asked Node, holder string){
		"mounted": func(t *testing.T, n Node) (Node, string) {
			testenv.Formatted(t, n.Path, "ext4")
			return n, mounted(t, n.Path)
		},
		"disk of a mounted partition": func(t *testing.T, n Node) (Node, string) {
			return n, mounted(t, partitioned(t, n))
		},
		"mounted partition": func(t *testing.T, n Node) (Node, string) {
			part := partitioned(t, n)
			return nodeOf(t, part), mounted(t, part)
		},
		"mounted by another loop device": func(t *testing.T, n Node) (Node, string) {
			testenv.Formatted(t, n.Path, "ext4")
			return n, mounted(t, looped(t, file(n)).Path)
		},
		"another loop device over a part, in use": func(t *testing.T, n Node) (Node, string) {
			second := looped(t, file(n), "--offset", "1048576")
			return n, testenv.HoldOpen(t, second.Path, "<").Holder
		},
		"a loop device over it": func(t *testing.T, n Node) (Node, string) {
			return n, "loop device " + looped(t, n.Path).Path
		},
		"a loop device over its partition": func(t *testing.T, n Node) (Node, string) {
			return n, "loop device " + looped(t, partitioned(t, n)).Path
		},
		"loop device over what is mounted": func(t *testing.T, n Node) (Node, string) {
			part := partitioned(t, n)
			return looped(t, n.Path), mounted(t, part)
		},
		"open": func(t *testing.T, n Node) (Node, string) {
			return n, testenv.HoldOpen(t, n.Path, "<").Holder
		},
		"open by a virtual machine": func(t *testing.T, n Node) (Node, string) {
			return n, testenv.QEMU(t, "-f", "raw", n.Path)
		},
		"claimed": func(t *testing.T, n Node) (Node, string) {
			f, err := os.OpenFile(n.Path, os.O_RDONLY|unix.O_EXCL, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return n, "" // by this process, which is not looked for
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel() // some are waited for
			asked, holder := use(t, attached(t, ""))
			refused(t, asked, holder)
		})
	}
}

// What is beside a device on the same disk, or in the same file, does not keep it.
func TestNeighboursOfADeviceAreNotItsUsers(t *testing.T) {
	n := attached(t, "")
	file := command(t, "losetup", "--noheadings", "--output", "BACK-FILE", n.Path)
	first, second := looped(t, file, "--sizelimit", "16777216"), looped(t, file, "--offset", "16777216")
	testenv.Formatted(t, second.Path, "ext4")
	mounted(t, second.Path)
	f, err := first.Open(t.Context(), backends.WriteExclusive)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// What stands on a disk by device-mapper, RAID or LVM, and what memory is written to, is
// named: none of it can be had without a kernel of its own.
func TestWhatStandsOnADiskKeepsIt(t *testing.T) {
	disk := testenv.Disk(t, 1)
	mapped := func(t *testing.T, name, uuid, table string) string {
		command(t, "dmsetup", "create", name, "--uuid", uuid, "--table", table)
		t.Cleanup(func() { command(t, "dmsetup", "remove", "--retry", name) })
		return filepath.Join("/dev/mapper", name)
	}
	const sectors = "131072 "
	for what, use := range map[string]func(t *testing.T) (holder string){
		"swap": func(t *testing.T) string {
			command(t, "mkswap", disk)
			command(t, "swapon", disk)
			t.Cleanup(func() { command(t, "swapoff", disk) })
			return "swap space"
		},
		"linear": func(t *testing.T) string {
			return "the device " + mapped(t, "straight", "TEST-1", "0 "+sectors+"linear "+disk+" 0")
		},
		"multipath": func(t *testing.T) string {
			command(t, "modprobe", "-a", "dm-multipath", "dm-round-robin")
			return "the multipath device " + mapped(t, "mpatha", "mpath-36001405", "0 "+sectors+"multipath 0 0 1 1 round-robin 0 1 1 "+disk+" 1000")
		},
		"LVM": func(t *testing.T) string {
			command(t, "pvcreate", "-ffy", disk)
			command(t, "vgcreate", "held", disk)
			command(t, "lvcreate", "-y", "-L", "16M", "-n", "lv", "held")
			t.Cleanup(func() { command(t, "vgremove", "-ff", "-y", "held"); command(t, "pvremove", "-ffy", disk) })
			return "the logical volume /dev/mapper/held-lv"
		},
		"RAID": func(t *testing.T) string {
			command(t, "modprobe", "raid1")
			command(t, "mdadm", "--create", "/dev/md7", "--run", "--level", "1", "--raid-devices", "2", disk, "missing")
			t.Cleanup(func() { command(t, "mdadm", "--stop", "/dev/md7"); command(t, "wipefs", "--all", disk) })
			return "the RAID array /dev/md7"
		},
	} {
		t.Run(what, func(t *testing.T) {
			holder := use(t)
			refused(t, nodeOf(t, disk), holder)
		})
	}
}
