package diskio

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// sysfs and mountinfo are where the kernel tells of devices and mounts.
const (
	sysfs     = "/sys"
	mountinfo = "/proc/self/mountinfo"
)

// DeviceOf gives the block device that f is, or lies on, as major:minor; "" if
// it has none (tmpfs, network).
func DeviceOf(f *os.File) (string, error) {
	var st unix.Statx_t
	err := statx(f, &st)
	switch {
	case err != nil:
		return "", err
	case st.Mode&unix.S_IFMT == unix.S_IFBLK:
		return number(st.Rdev_major, st.Rdev_minor), nil
	case st.Dev_major != 0:
		return number(st.Dev_major, st.Dev_minor), nil
	}
	// btrfs has numbers of its own; the mount tells which device is below it.
	var dev unix.Stat_t
	source := mountOf(st.Mnt_id).source
	if !strings.HasPrefix(source, "/dev/") || unix.Stat(source, &dev) != nil || dev.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", nil
	}
	return number(unix.Major(dev.Rdev), unix.Minor(dev.Rdev)), nil
}

func number(major, minor uint32) string { return fmt.Sprintf("%d:%d", major, minor) }

func statx(f *os.File, st *unix.Statx_t) error {
	return ioError("stat", nowhere, retry(func() error {
		return unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, st)
	}))
}

// mount is what the kernel tells of one (proc_pid_mountinfo(5)).
type mount struct {
	source  string // what is mounted
	options string // of the file system
}

// mountOf finds a mount by its number, and gives nothing where it cannot.
func mountOf(id uint64) (m mount) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return m
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		mounted, super, ok := strings.Cut(in.Text(), " - ")
		words := strings.Fields(super)
		if ok && len(words) >= 3 && strings.HasPrefix(mounted, fmt.Sprintf("%d ", id)) {
			return mount{source: words[1], options: words[2]}
		}
	}
	return m
}

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// maxStack bounds how deep devices lie upon each other.
const maxStack = 16

// stack is a block device with what lies below it, as sysfs has them.
type stack struct {
	name   string // of the device itself, below /dev
	limits []Limit
}

// lookBelow goes down from dev, a major:minor. What sysfs does not tell is not
// known and not noted.
func lookBelow(sysfs, dev string) (s stack) {
	if dev == "" {
		return s
	}
	path, err := filepath.EvalSymlinks(filepath.Join(sysfs, "dev/block", dev))
	if err != nil {
		return s
	}
	s.name = "/dev/" + filepath.Base(path)
	if mapped := attribute(path, "dm/name"); mapped != "" {
		s.name = "/dev/mapper/" + mapped
	}
	s.note(path, 0)
	return s
}

// note adds the limits of the device at path and of those below it.
func (s *stack) note(path string, depth int) {
	if attribute(path, "partition") != "" {
		path = filepath.Dir(path)
	}
	s.noteMapped(path)
	if file := attribute(path, "loop/backing_file"); file != "" {
		s.add(Limit{Text: fmt.Sprintf("the device is a file, %q, whose own file system decides what is overwritten", file)})
		return
	}
	below, _ := filepath.Glob(filepath.Join(path, "slaves/*")) // fails for a bad pattern only
	for _, b := range below {
		if real, err := filepath.EvalSymlinks(b); err == nil && depth < maxStack {
			s.note(real, depth+1)
		}
	}
	if len(below) == 0 && attribute(path, "queue/rotational") == "0" {
		s.add(Limit{Text: "the disk says that it is no magnetic one; flash keeps spare blocks that no overwrite reaches"})
	}
}

// noteMapped adds what the name and uuid of a device tell. LVM ends the uuids
// of the hidden parts of its volumes with what they are (lvm2, lib/activate).
func (s *stack) noteMapped(path string) {
	name, uuid := filepath.Base(path), attribute(path, "dm/uuid")
	switch {
	case strings.HasPrefix(name, "zd"):
		s.add(Limit{Text: overwriteNotes[zfsMagic], Certain: true})
	case strings.HasPrefix(uuid, "VDO-") || strings.HasPrefix(uuid, "LVM-") && strings.HasSuffix(uuid, "-vpool"):
		s.add(Limit{Text: "VDO writes changed blocks elsewhere; the old ones keep their data until they are used again", Certain: true})
	case strings.HasPrefix(uuid, "LVM-") && strings.HasSuffix(uuid, "-tpool"):
		s.add(Limit{Text: "the device is thin; blocks that it gave back or shares with a snapshot keep the old data"})
	case strings.HasPrefix(uuid, "LVM-") && (strings.HasSuffix(uuid, "-cow") || strings.HasSuffix(uuid, "-real")):
		s.add(Limit{Text: "the device has a snapshot, which keeps the old data of every block that is overwritten", Certain: true})
	}
}

// add adds a limit once.
func (s *stack) add(l Limit) {
	if !slices.Contains(s.limits, l) {
		s.limits = append(s.limits, l)
	}
}

// attribute reads one of the device at path, "" if it has none.
func attribute(path, name string) string {
	b, _ := os.ReadFile(filepath.Join(path, name))
	return strings.TrimSpace(string(b))
}
