package fs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(testenv.Tool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// sum is of all that a device holds.
func sum(t *testing.T, device string) string {
	t.Helper()
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// A device that carries anything is left as it is, byte for byte, and what it carries is
// named; with overwrite it carries the file system and nothing else.
func TestBuildFindsWhatADeviceCarries(t *testing.T) {
	testenv.Loop(t)
	carry := map[string]func(device string){
		"ext2": func(d string) { command(t, "mkfs.ext2", "-q", "-F", d) },
		"vfat": func(d string) { command(t, "mkfs.vfat", "-I", d) },
		"gpt":  func(d string) { partition(t, d, "label: gpt\n,10M\n"); command(t, "partx", "--add", d) },
		"dos":  func(d string) { partition(t, d, "label: dos\n,10M\n"); command(t, "partx", "--add", d) },
		"swap": func(d string) { command(t, "mkswap", d) },
		// As pvcreate, mdadm and cryptsetup write them.
		"LVM2_member":       func(d string) { put(t, d, 512, lvmLabel()) },
		"linux_raid_member": func(d string) { put(t, d, 4096, raidBlock()) },
		"crypto_LUKS":       func(d string) { encrypt(t, d) },
	}
	for what, carry := range carry {
		t.Run(what, func(t *testing.T) {
			_, p := poolOn("ext4")(t)
			device := p.Source.Devices[0]
			carry(device)
			before := sum(t, device)
			err := (Backend{}).Build(t.Context(), p, false)
			if !errors.Is(err, backends.ErrExists) || !strings.Contains(err.Error(), what) {
				t.Errorf("build: %v", err)
			}
			if sum(t, device) != before {
				t.Error("the device was changed")
			}
			if err := (Backend{}).Build(t.Context(), p, true); err != nil {
				t.Errorf("build with overwrite: %v", err)
			}
			if out := command(t, "wipefs", "--noheadings", "--output", "TYPE", device); strings.TrimSpace(out) != "ext4" {
				t.Errorf("it carries %q", out)
			}
			if out := command(t, "blkid", "-p", "-s", "TYPE", "-o", "value", device); strings.TrimSpace(out) != "ext4" {
				t.Errorf("blkid finds %q", out)
			}
			if parts, _ := filepath.Glob(device + "p*"); len(parts) > 0 {
				t.Errorf("the kernel still has %q", parts)
			}
		})
	}
}

func partition(t *testing.T, device, script string) {
	t.Helper()
	c := exec.Command(testenv.Tool(t, "sfdisk"), "--quiet", "--no-reread", device)
	c.Stdin = strings.NewReader(script)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
}

func encrypt(t *testing.T, device string) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "cryptsetup", "luksFormat", "--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", device, key)
}

func put(t *testing.T, device string, at int64, content []byte) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(content, at)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Who uses a device is named, and nothing is written to it.
func TestDeviceInUseIsRefused(t *testing.T) {
	testenv.Loop(t)
	for what, use := range map[string]func(t *testing.T, device string) (holder string){
		"a mount": func(t *testing.T, device string) string {
			return mounted(t, device)
		},
		"a mounted partition": func(t *testing.T, device string) string {
			partition(t, device, "label: dos\n2048,40960\n")
			command(t, "partx", "--add", device)
			t.Cleanup(func() { command(t, "partx", "--delete", device) })
			return mounted(t, device+"p1")
		},
		"a program that has it open": func(t *testing.T, device string) string {
			return testenv.HoldOpen(t, device, "<").Holder
		},
		"a virtual machine": func(t *testing.T, device string) string {
			return testenv.QEMU(t, "-f", "raw", device)
		},
	} {
		t.Run(what, func(t *testing.T) {
			_, p := poolOn("ext4")(t)
			device := p.Source.Devices[0]
			holder := use(t, device)
			before := sum(t, device)
			err := (Backend{}).Build(t.Context(), p, true)
			busy, ok := errors.AsType[*backends.BusyError](err)
			if !ok || !strings.Contains(busy.Holder, holder) {
				t.Errorf("build: %v, which does not name %q", err, holder)
			}
			if sum(t, device) != before {
				t.Error("the device was changed")
			}
		})
	}
}

// mounted makes a file system on a device and mounts it, until the end of the test, to read
// it: what is written there is not the kernel's then.
func mounted(t *testing.T, device string) (dir string) {
	t.Helper()
	command(t, "mkfs.ext4", "-q", "-F", device)
	dir = t.TempDir()
	command(t, "mount", "-o", "ro", device, dir)
	t.Cleanup(func() { testenv.Unmount(t, dir) })
	return dir
}

// A device of another pool is left alone by whatever name it is called.
func TestDeviceOfAnotherPoolIsRefused(t *testing.T) {
	_, p := poolOn("ext4")(t)
	link := filepath.Join(t.TempDir(), "by-another-name")
	if err := os.Symlink(p.Source.Devices[0], link); err != nil {
		t.Fatal(err)
	}
	p.Spared = []string{link}
	for what, err := range map[string]error{
		"build": (Backend{}).Build(t.Context(), p, true), "start": New().Start(t.Context(), p), "delete": (Backend{}).Delete(t.Context(), p, true),
	} {
		if _, busy := errors.AsType[*backends.BusyError](err); !busy || !strings.Contains(err.Error(), "another pool") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A pool that was started before is not kept from its file system by another one that is
// only defined on its device.
func TestKnownPoolStartsBesideAnotherDefinedOnItsDevice(t *testing.T) {
	b, p := poolOn("ext4")(t)
	started(t, p)
	info, err := b.Space(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	p.ID, p.Spared = b.Lasting(info.ID), p.Source.Devices
	if err := errors.Join(b.Stop(t.Context(), p), b.Start(t.Context(), p), b.Stop(t.Context(), p)); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	command(t, "mount", p.Source.Devices[0], other)
	defer testenv.Unmount(t, other)
	if _, busy := errors.AsType[*backends.BusyError](b.Start(t.Context(), p)); !busy {
		t.Error("it is started where the other one has mounted it")
	}
}

// A device that can only be read is said to be one, and is mounted so.
func TestDeviceThatCanOnlyBeRead(t *testing.T) {
	b, p := poolOn("ext4")(t)
	started(t, p)
	if err := b.Stop(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	command(t, "blockdev", "--setro", p.Source.Devices[0])
	defer command(t, "blockdev", "--setrw", p.Source.Devices[0]) // it stays so for the next file of a loop device
	if err := b.Start(t.Context(), p); record.CodeOf(err) != record.Denied || !strings.Contains(err.Error(), "can only be read") {
		t.Errorf("it is started to write: %v", err)
	}
	p.Source.Options = map[string]string{"ro": ""}
	if err := errors.Join(b.Start(t.Context(), p), b.Stop(t.Context(), p)); err != nil {
		t.Error(err)
	}
}

// A pool that is mounted twice at its target is stopped when nothing of it is left there.
func TestStopUnmountsAllThatIsOfThePool(t *testing.T) {
	b, p := poolOn("ext4")(t)
	started(t, p)
	command(t, "mount", "--bind", p.Target, p.Target)
	if err := b.Stop(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if m, mounted, err := mountAt(p.Target); err != nil || mounted {
		t.Errorf("%+v is mounted still, %v", m, err)
	}
}

// What is mounted at the target is taken for the pool's only if it is its device.
func TestMountsThatAreThereAlready(t *testing.T) {
	_, p := poolOn("ext4")(t)
	started(t, p)
	m, _, err := mountAt(p.Target)
	if err != nil || !strings.HasPrefix(m.Source, "/dev/loop") {
		t.Fatalf("%+v, %v", m, err)
	}
	if err := New().Stop(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", p.Source.Devices[0], p.Target) // as /etc/fstab would
	if err := New().Start(t.Context(), p); err != nil {
		t.Errorf("a mount of its own: %v", err)
	}
	if err := New().Stop(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", "-t", "tmpfs", "storaged-test", p.Target)
	defer testenv.Unmount(t, p.Target)
	_, look := New().Look(t.Context(), p, "a")
	_, create := (Backend{New().(Backend).Tree}).Create(t.Context(), p, backends.NewVolume{Name: "a", Job: "job"})
	for what, err := range map[string]error{
		"start": New().Start(t.Context(), p), "stop": New().Stop(t.Context(), p), "delete": (Backend{}).Delete(t.Context(), p, true), "look": look, "create": create,
	} {
		if _, busy := errors.AsType[*backends.BusyError](err); !busy || !strings.Contains(err.Error(), "storaged-test (tmpfs)") {
			t.Errorf("%s at a mount of another: %v", what, err)
		}
	}
}

// Without its mount the target is a directory that nothing is made in.
func TestNothingIsMadeBelowAnAbsentMount(t *testing.T) {
	b, p := poolOn("ext4")(t)
	started(t, p)
	if err := b.Stop(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	_, err := b.(backends.Creator).Create(t.Context(), p, backends.NewVolume{Name: "a", Job: "job", Size: 1, Format: record.FormatRaw})
	if !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("create: %v", err)
	}
	if entries, err := os.ReadDir(p.Target); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

// Nobody gets rights by what lies in a pool, unless that is asked for.
func TestMountOptions(t *testing.T) {
	b, p := poolOn("ext4")(t)
	for options, want := range map[string]string{"": "rw,nosuid,nodev,noexec,relatime", "exec,dev,noatime": "rw,nosuid,noatime", "ro,defaults,nofail": "ro,nosuid,nodev,noexec,relatime"} {
		p.Source.Options = map[string]string{}
		for _, o := range strings.Split(options, ",") {
			if o != "" {
				p.Source.Options[o] = ""
			}
		}
		started(t, p)
		line := mountinfo(t, p.Target)
		if got := strings.Fields(line)[5]; got != want {
			t.Errorf("with %q it is mounted %s, want %s", options, got, want)
		}
		if err := b.Stop(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	p.Source.Options = map[string]string{"data": "journal", "no_such_option": "1"}
	if err := b.Start(t.Context(), p); err == nil || !strings.Contains(err.Error(), "no_such_option") {
		t.Errorf("an unknown option: %v", err)
	}
	for _, bad := range []map[string]string{{"bind": ""}, {"remount": ""}, {"source": "/dev/sda"}, {"nodev": "x"}, {"a,b": ""}} {
		if err := (Backend{}).CheckSource(record.Source{Devices: []string{"/dev/x"}, Options: bad}); record.CodeOf(err) != record.Invalid {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func mountinfo(t *testing.T, point string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[4] == point {
			return line
		}
	}
	t.Fatalf("nothing is mounted at %s", point)
	return ""
}

// Who is in the mount keeps it, and is named.
func TestStopNamesWhoIsInTheMount(t *testing.T) {
	b, p := poolOn("ext4")(t)
	started(t, p)
	file := filepath.Join(p.Target, "a")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	holder := testenv.HoldOpen(t, file, "<").Holder
	err := b.Stop(t.Context(), p)
	busy, ok := errors.AsType[*backends.BusyError](err)
	if !ok || !strings.Contains(busy.Holder, holder) || busy.Object != p.Target {
		t.Errorf("stop: %v, and %s has a file open", err, holder)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// Another file system than the known one is not mounted, not even for a moment.
func TestAnotherFileSystemIsNotMounted(t *testing.T) {
	b, p := poolOn("ext4")(t)
	started(t, p)
	info, err := b.Space(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ext4", "-q", "-F", p.Source.Devices[0])
	p.ID = b.Lasting(info.ID)
	if err := b.Start(t.Context(), p); !errors.Is(err, backends.ErrReplaced) {
		t.Errorf("start: %v", err)
	}
	if _, mounted, err := mountAt(p.Target); mounted || err != nil {
		t.Errorf("something is mounted: %v", err)
	}
}

// What the pool holds beside volumes keeps it from being deleted, also when it is not
// mounted.
func TestDeleteLooksIntoWhatIsNotMounted(t *testing.T) {
	b, p := poolOn("ext4")(t)
	started(t, p)
	if err := os.Mkdir(filepath.Join(p.Target, "directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	d := b.(backends.Deleter)
	for _, with := range []bool{false, true} {
		if err := d.Delete(t.Context(), p, with); !errors.Is(err, backends.ErrNotEmpty) {
			t.Errorf("delete: %v", err)
		}
	}
	started(t, p)
	if err := errors.Join(os.Remove(filepath.Join(p.Target, "directory")), b.Stop(t.Context(), p), d.Delete(t.Context(), p, false)); err != nil {
		t.Fatal(err)
	}
	if out := command(t, "wipefs", "--noheadings", p.Source.Devices[0]); out != "" {
		t.Errorf("the device carries %q", out)
	}
	if _, err := os.Stat(p.Target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the target: %v", err)
	}
}

// A pool of which nobody says the format is mounted as what it carries.
func TestFormatIsFound(t *testing.T) {
	for _, kind := range []string{"ext2", "ext4", "xfs", "btrfs"} {
		b, p := poolOn(kind)(t)
		started(t, p)
		if err := b.Stop(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		p.Source.Format = "auto"
		started2 := b.Start(t.Context(), p)
		if m, _, _ := mountAt(p.Target); started2 != nil || m.Kind != kind {
			t.Errorf("%s is mounted as %s: %v", kind, m.Kind, started2)
		}
		p.Source.Format = "iso9660"
		if err := errors.Join(b.Stop(t.Context(), p)); err != nil {
			t.Fatal(err)
		}
		if err := b.Start(t.Context(), p); record.CodeOf(err) != record.WrongState {
			t.Errorf("%s for iso9660: %v", kind, err)
		}
	}
}

func mountAt(target string) (blockdev.Mount, bool, error) {
	dir, err := os.Open(target)
	if err != nil {
		return blockdev.Mount{}, false, err
	}
	defer dir.Close()
	return blockdev.MountAt(dir)
}

// lvmLabel is the label of a physical volume (LVM2 lib/label): what libblkid knows it by is
// its sum.
func lvmLabel() []byte {
	b := make([]byte, 512)
	copy(b, "LABELONE")
	b[8] = 1
	b[20] = 32
	copy(b[24:], "LVM2 001")
	copy(b[32:], "abcdefghijklmnopqrstuvwxyz012345")
	crc := uint32(0xf597a6cf)
	for _, x := range b[20:] {
		crc ^= uint32(x)
		for range 8 {
			crc = crc>>1 ^ 0xedb88320&-(crc&1)
		}
	}
	b[16], b[17], b[18], b[19] = byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24)
	return b
}

// raidBlock is the superblock, version 1.2, of a member of an array (linux/raid/md_p.h).
func raidBlock() []byte {
	b := make([]byte, 256)
	put32 := func(at int, v uint32) {
		b[at], b[at+1], b[at+2], b[at+3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	}
	put32(0, 0xa92b4efc)
	put32(4, 1)
	copy(b[16:], bytes.Repeat([]byte{7}, 16))
	put32(144, 8) // its own place, in sectors
	sum := uint64(0)
	for i := 0; i < 256; i += 4 {
		sum += uint64(b[i]) | uint64(b[i+1])<<8 | uint64(b[i+2])<<16 | uint64(b[i+3])<<24
	}
	put32(216, uint32(sum)+uint32(sum>>32))
	return b
}

// What the capabilities say can be built can be, and then carries what they say.
func TestBuildsAreWhatTheyAreSaidToBe(t *testing.T) {
	for _, f := range New().Properties().Builds {
		if f.Unavailable != "" {
			t.Errorf("%s: %s", f.Format, f.Unavailable)
			continue
		}
		b, p := poolOn(f.Format)(t)
		if err := b.(backends.Builder).Build(t.Context(), p, false); err != nil {
			t.Errorf("%s: %v", f.Format, err)
		}
		if out := command(t, "blkid", "-p", "-s", "TYPE", "-o", "value", p.Source.Devices[0]); strings.TrimSpace(out) != f.Format {
			t.Errorf("%s: it carries %q", f.Format, out)
		}
	}
	_, p := poolOn("auto")(t)
	if err := (Backend{}).Build(t.Context(), p, false); record.CodeOf(err) != record.Invalid {
		t.Errorf("auto: %v", err)
	}
}

// The root of a new file system gets the rights that are asked for.
func TestRightsAreThoseOfTheFileSystem(t *testing.T) {
	b, p := poolOn("ext4")(t)
	p.Rights.Mode = new(uint32(0o750))
	started(t, p)
	info, err := os.Stat(p.Target)
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := b.Stop(t.Context(), p); err != nil {
		t.Error(err)
	}
}

// A pool is ready for a start when its device is there, and carries a file system.
func TestReadyIsWhoseDeviceIsThere(t *testing.T) {
	b, p := poolOn("ext4")(t)
	if err := b.(backends.Readier).Ready(t.Context(), p); !errors.Is(err, backends.ErrNotFound) || !strings.HasSuffix(err.Error(), "carries no file system") {
		t.Errorf("a device that carries nothing: %v", err)
	}
	started(t, p)
	for range 2 {
		if err := errors.Join(b.(backends.Readier).Ready(t.Context(), p), b.Stop(t.Context(), p)); err != nil {
			t.Error(err)
		}
	}
	if _, mounted, err := mountAt(p.Target); mounted || err != nil {
		t.Errorf("something is mounted: %v", err)
	}
	p.Source.Devices = []string{"/dev/no-such-device"}
	if err := b.(backends.Readier).Ready(t.Context(), p); !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("no device: %v", err)
	}
}
