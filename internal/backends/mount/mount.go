// Package mount is what pool types share whose pools are file systems that are mounted
// at their targets.
//
// A file system is first mounted nowhere, by fsopen(2) and fsmount(2), so that it can be
// looked at before anybody else sees it, and only then attached to the target, by
// move_mount(2). All of it is in the mount namespace of this process: whoever is to see
// it must be in the same one, or in one that gets its mounts. It stays when this process
// and the daemon have ended.
package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/record"
)

// attributes are options of the mount itself, whatever the file system is, and what each
// sets and clears (mount_setattr(2)).
var attributes = map[string]struct{ set, clear int }{
	"nodev": {unix.MOUNT_ATTR_NODEV, 0}, "dev": {0, unix.MOUNT_ATTR_NODEV},
	"nosuid": {unix.MOUNT_ATTR_NOSUID, 0}, "suid": {0, unix.MOUNT_ATTR_NOSUID},
	"noexec": {unix.MOUNT_ATTR_NOEXEC, 0}, "exec": {0, unix.MOUNT_ATTR_NOEXEC},
	"noatime": {unix.MOUNT_ATTR_NOATIME, 0}, "relatime": {0, unix.MOUNT_ATTR__ATIME}, "strictatime": {unix.MOUNT_ATTR_STRICTATIME, 0},
	"nodiratime": {unix.MOUNT_ATTR_NODIRATIME, 0}, "diratime": {0, unix.MOUNT_ATTR_NODIRATIME},
	"nosymfollow": {unix.MOUNT_ATTR_NOSYMFOLLOW, 0}, "rw": {0, unix.MOUNT_ATTR_RDONLY},
}

// safe are the attributes where nobody asks for others: nobody gets rights by what a
// volume is named.
const safe = unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC

// refused are words that mean another kind of mount, or what the pool says elsewhere.
var refused = []string{"bind", "rbind", "move", "remount", "loop", "source", "shared", "rshared", "private", "rprivate", "slave", "rslave", "unbindable", "user", "users", "owner", "group"}

// skipped are words of fstab(5) that say when to mount, or nothing, and that the kernel does
// not know.
var skipped = []string{"defaults", "auto", "noauto", "nofail", "_netdev"}

// CheckOptions says what is wrong with options of a mount. Whether the file system has
// them nobody knows before.
func CheckOptions(options map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(options)) {
		value := options[name]
		_, attribute := attributes[name]
		switch {
		case slices.Contains(refused, name) || strings.HasPrefix(strings.ToLower(name), "x-") || strings.ContainsAny(name, ", =\"\\"):
			return record.Errorf(record.Invalid, "%.80q is no option for the mount of a pool", name)
		case (attribute || slices.Contains(skipped, name)) && value != "":
			return record.Errorf(record.Invalid, "option %s of the mount has no value", name)
		}
	}
	return nil
}

// Detached mounts a file system of a kind nowhere, and gives its root. It is gone when
// that is closed, unless it was attached.
func Detached(kind, source string, options map[string]string) (root *os.File, err error) {
	fd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("the kernel has no file system %s: %w", kind, backends.ErrUnsupported)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot mount a file system of %s: %w", kind, err)
	}
	c := fsContext{fd}
	defer unix.Close(fd)
	attrs, err := c.configure(source, options)
	if err != nil {
		return nil, err
	}
	at, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return nil, c.failed("mount", err)
	}
	return os.NewFile(uintptr(at), source), nil
}

// fsContext is a file system about to be mounted (fsopen(2)).
type fsContext struct{ fd int }

// configure gives it all parameters, makes it, and tells the attributes of its mount.
func (c fsContext) configure(source string, options map[string]string) (attrs int, err error) {
	if err := unix.FsconfigSetString(c.fd, "source", source); err != nil {
		return 0, c.failed("take "+source, err)
	}
	attrs = safe
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if slices.Contains(skipped, name) {
			continue
		}
		if a, ok := attributes[name]; ok {
			attrs = attrs&^a.clear | a.set
			continue
		}
		if name == "ro" {
			attrs |= unix.MOUNT_ATTR_RDONLY
		}
		if err := c.set(name, options[name]); err != nil {
			return 0, c.failed("take option "+name, err)
		}
	}
	if err := unix.FsconfigCreate(c.fd); err != nil {
		return 0, c.failed("mount", err)
	}
	return attrs, nil
}

func (c fsContext) set(name, value string) error {
	if value == "" {
		return unix.FsconfigSetFlag(c.fd, name)
	}
	return unix.FsconfigSetString(c.fd, name, value)
}

// maxMessages bounds what the kernel says of one mount.
const maxMessages = 8

// failed adds to an error what the kernel says beside (fsopen(2): messages are read from
// the context).
func (c fsContext) failed(what string, err error) error {
	var said []string
	buf := make([]byte, 1024)
	for range maxMessages {
		n, end := unix.Read(c.fd, buf)
		if end != nil || n <= 0 {
			break
		}
		_, text, _ := strings.Cut(string(buf[:n]), " ") // behind its kind: e, w or i
		said = append(said, record.Escape(strings.TrimSpace(text)))
	}
	if len(said) == 0 {
		return fmt.Errorf("the kernel does not %s: %w", what, err)
	}
	return fmt.Errorf("the kernel does not %s: %w (%s)", what, err, strings.Join(said, "; "))
}

// attach makes a file system that is mounted nowhere appear at a directory.
func attach(root, dir *os.File) error {
	err := unix.MoveMount(int(root.Fd()), "", int(dir.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("cannot mount at %q: %w", dir.Name(), err)
	}
	return nil
}

// directory opens the directory of a pool's target, to mount something there. Links on the
// way are followed: they are the administrator's.
func directory(target string) (*os.File, error) {
	dir, err := os.OpenFile(target, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("pool directory %q: %w", target, backends.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open pool directory: %w", err)
	}
	return dir, nil
}

// At is what is mounted at a pool's target, on top of what may be below; ok is false where
// nothing is, or there is no directory. The kernel's table says it: the file system itself
// is asked nothing, since a server that is away would not answer. Links on the way are
// followed: they are the administrator's.
func At(target string) (m blockdev.Mount, ok bool, err error) {
	parent, err := filepath.EvalSymlinks(filepath.Dir(target))
	if err == nil {
		if m, ok = on(filepath.Join(parent, filepath.Base(target))); ok {
			return m, true, nil
		}
		var real string
		if real, err = filepath.EvalSymlinks(target); err == nil { // nothing is mounted on it, so that it is no server's
			m, ok = on(real)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, false, fmt.Errorf("cannot look at pool directory %q: %w", target, err)
	}
	return m, ok, nil
}

// on is what is mounted on a path without links, on top.
func on(path string) (top blockdev.Mount, ok bool) {
	for _, m := range blockdev.Mounts() {
		if m.Point == path {
			top, ok = m, true
		}
	}
	return top, ok
}

// Other is the refusal of a target at which something else is mounted.
func Other(target string, m blockdev.Mount) error {
	return &backends.BusyError{
		Object: target, Holder: fmt.Sprintf("another mount: %s (%s) is there", record.Escape(m.Source), m.Kind), Release: "umount " + target,
	}
}

// Detach unmounts what is mounted at a pool's target. Where somebody is in it, the error
// is a *backends.BusyError that names who.
func Detach(target string, m blockdev.Mount) error {
	err := unix.Unmount(m.Point, unix.UMOUNT_NOFOLLOW)
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EBUSY) {
		holder, release := blockdev.Named(blockdev.Inside(m))
		return &backends.BusyError{Object: target, Holder: holder, Release: release}
	}
	return fmt.Errorf("cannot unmount %q: %w", target, err)
}
