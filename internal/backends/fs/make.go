package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/backends/filetree"
	"storaged/internal/backends/mount"
	"storaged/internal/blockdev"
	"storaged/internal/diskio"
	"storaged/internal/record"
	"storaged/internal/tool"
)

// auto is the format of a source of which nobody says more: that of the file system which
// the device carries.
const auto = "auto"

// format is one that a file system can have.
type format struct {
	name  string
	kind  string // of file system, as the kernel calls it; "" as the format
	made  tool.Program
	quiet []string // options with which it is made, whatever is on the device
}

// known are those that libvirt knows, and more. Those without a program can only be
// mounted.
var known = []format{
	{name: "ext2", made: tool.MkfsExt2, quiet: []string{"-q", "-F"}},
	{name: "ext3", made: tool.MkfsExt3, quiet: []string{"-q", "-F"}},
	{name: "ext4", made: tool.MkfsExt4, quiet: []string{"-q", "-F"}},
	{name: "xfs", made: tool.MkfsXFS, quiet: []string{"-q", "-f"}},
	{name: "btrfs", made: tool.MkfsBtrfs, quiet: []string{"-q", "-f"}},
	{name: "vfat", made: tool.MkfsVFAT, quiet: []string{"-I"}},
	{name: "f2fs"}, {name: "exfat"}, {name: "ntfs", kind: "ntfs3"}, {name: "iso9660"}, {name: "udf"}, {name: "ufs"},
	{name: "gfs"}, {name: "gfs2"}, {name: "hfs+", kind: "hfsplus"}, {name: "ocfs2"}, {name: "vmfs"},
}

// formats are those that a source may be said to have.
func formats() []string {
	all := []string{auto}
	for _, f := range known {
		all = append(all, f.name)
	}
	return all
}

// builds are those that a device can be given.
func builds() (all []record.Building) {
	for _, f := range known {
		if f.made.Name != "" {
			all = append(all, record.Building{Format: f.name, Unavailable: tool.Lacking(tool.Wipefs, f.made)})
		}
	}
	return all
}

func formatOf(name string) (f format, ok bool) {
	i := slices.IndexFunc(known, func(f format) bool { return f.name == name || f.kind == name })
	if i < 0 {
		return f, false
	}
	return known[i], true
}

// mounts is the kind of file system as the kernel calls it.
func (f format) mounts() string {
	if f.kind != "" {
		return f.kind
	}
	return f.name
}

// carried is the kind of the file system that a device carries, which is of the pool's
// format. What else it carries is no reason to write to it.
func carried(ctx context.Context, p backends.Pool, dev *blockdev.Node) (string, error) {
	want := p.Source.Format
	types, err := device.Types(ctx, dev.File)
	if _, lacks := errors.AsType[*tool.MissingError](err); lacks && want != "" && want != auto {
		f, _ := formatOf(want)
		return f.mounts(), nil // the kernel looks too
	}
	if err != nil {
		return "", fmt.Errorf("cannot tell what device %q carries: %w", dev.Path, err)
	}
	switch {
	case len(types) == 0:
		return "", device.Lacking(p, fmt.Errorf("device %q carries no file system", dev.Path))
	case len(types) > 1:
		return "", record.Errorf(record.WrongState, "device %q carries %s: which of that counts nobody can tell", dev.Path, device.Named(types)).
			WithHint("erase what is not meant: wipefs --all --types TYPE %s", dev.Path)
	}
	f, ok := formatOf(types[0])
	if !ok || want != "" && want != auto && !f.is(want) {
		return "", record.Errorf(record.WrongState, "device %q carries %s, and no file system in format %q", dev.Path, types[0], want)
	}
	return f.mounts(), nil
}

// is reports whether one format is the other, or may have become it: the older of the
// three are in what the kernel mounts as ext4.
func (f format) is(name string) bool {
	family := []string{"ext2", "ext3", "ext4"}
	return f.name == name || slices.Contains(family, f.name) && slices.Contains(family, name)
}

// Build makes the directory, and on the device the file system. A device that carries
// anything stays as it is unless overwrite is set, and one that somebody uses in any case.
func (b Backend) Build(ctx context.Context, p backends.Pool, overwrite bool) error {
	if err := errors.Join(ctx.Err(), record.CheckPath(p.Target)); err != nil {
		return err
	}
	f, ok := formatOf(p.Source.Format)
	if !ok || f.made.Name == "" {
		return record.Errorf(record.Invalid, "no file system is made in format %q: say in which, one of %s", p.Source.Format, record.List(buildable(), len(known))).
			WithHint("a pool gets its format when it is defined")
	}
	dev, err := deviceOf(p)
	if err != nil {
		return err
	}
	defer dev.Close()
	if err := (filetree.Tree{}).Build(ctx, p, false); err != nil {
		return err
	}
	m, mounted, err := mount.At(p.Target)
	if err == nil && mounted && m.Carrier() == dev.Number && !overwrite {
		err = &backends.OccupiedError{Object: dev.Path, Carries: m.Kind + ", mounted at " + p.Target}
	}
	if err != nil {
		return err
	}
	return f.fill(ctx, p, dev, overwrite)
}

func buildable() (names []string) {
	for _, b := range builds() {
		names = append(names, b.Format)
	}
	return names
}

// fill makes the file system on a device that nobody uses.
func (f format) fill(ctx context.Context, p backends.Pool, dev *blockdev.Node, overwrite bool) error {
	claimed, err := device.Vacate(ctx, dev, overwrite)
	if err != nil {
		return err
	}
	defer claimed.Close()
	if err := f.make(ctx, p, claimed); err != nil {
		return fmt.Errorf("cannot make a file system of %s on device %q: %w", f.name, dev.Path, err)
	}
	if err := f.carriedBy(ctx, claimed); err != nil {
		return err
	}
	return f.own(p, claimed)
}

// own gives the root of a new file system the rights that are asked for.
func (f format) own(p backends.Pool, dev *blockdev.Node) error {
	if p.Rights == (diskio.Rights{}) {
		return nil
	}
	root, err := mount.Detached(f.mounts(), dev.Path, nil)
	if err != nil {
		return fmt.Errorf("cannot mount device %q: %w", dev.Path, err)
	}
	defer root.Close() // it is unmounted by that
	dir, err := os.Open(fmt.Sprintf("/proc/self/fd/%d/.", root.Fd()))
	if err == nil {
		defer dir.Close()
		err = errors.Join(p.Rights.GiveFile(dir), dir.Sync())
	}
	if err != nil {
		return fmt.Errorf("cannot give the file system of device %q its rights: %w", dev.Path, err)
	}
	return nil
}

// makeTime is how long making a file system may take: most of it is to discard what the
// device had, which takes minutes on the largest.
const makeTime = 2 * time.Hour

// make runs the program.
func (f format) make(ctx context.Context, p backends.Pool, dev *blockdev.Node) error {
	ctx, cancel := context.WithTimeoutCause(ctx, makeTime, fmt.Errorf("it has not ended within %v", makeTime))
	defer cancel()
	_, err := tool.Command{Program: f.made, Options: f.quiet, Operands: []string{dev.Path}, Lock: p.JobLock, Output: maxSaid}.Administer(ctx)
	return err
}

// maxSaid bounds what a program that makes a file system may say, bytes.
const maxSaid = 1 << 20

// carriedBy fails unless the device that was claimed carries the file system now.
func (f format) carriedBy(ctx context.Context, dev *blockdev.Node) error {
	types, err := device.Types(ctx, dev.File)
	if err == nil && !slices.Equal(types, []string{f.name}) {
		err = fmt.Errorf("it carries %q", types)
	}
	if err != nil {
		return fmt.Errorf("the file system of %s is not on device %q: %w", f.name, dev.Path, err)
	}
	return nil
}

// erase takes the file system from the device of a pool, which is not mounted any more.
func erase(ctx context.Context, dev *blockdev.Node) error {
	claimed, err := blockdev.Claim(dev.Path)
	if err != nil {
		return device.InUse(err)
	}
	defer claimed.Close()
	return device.Erase(ctx, dev, claimed)
}
