// Package fs is the pool type fs: a file system on a block device, mounted at the pool's
// target, whose regular files are the volumes.
package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/backends/filetree"
	"storaged/internal/backends/mount"
	"storaged/internal/blockdev"
	"storaged/internal/record"
	"storaged/internal/wipe"
)

// Backend is the driver. It keeps no state.
type Backend struct{ filetree.Tree }

var (
	_ backends.SourceChecker = Backend{}
	_ backends.Privileged    = Backend{}
	_ backends.Readier       = Backend{}
)

// New gives the driver.
func New() backends.Backend { return Backend{filetree.Tree{Belongs: belongs}} }

// Properties are what fs pools can do.
func (Backend) Properties() record.Capabilities {
	return record.Capabilities{
		Type:          "fs",
		PoolVerbs:     []string{"build", "start", "stop", "refresh", "verify", "evacuate", "delete"},
		VolVerbs:      filetree.Verbs(),
		Formats:       filetree.Formats(),
		Creations:     filetree.Creations(),
		Algorithms:    wipe.Algorithms(),
		Snapshots:     []string{"reflink", "overlay"},
		Contents:      record.ContentVerbs(),
		Sparse:        true,
		Needs:         []string{"target_path", "source_devices"},
		Takes:         []string{"source_format", "source_options"},
		SourceFormats: formats(),
		Builds:        builds(),
	}
}

// Privileged: it mounts, and starts programs that make file systems.
func (Backend) Privileged() {}

// CheckSource wants one device, and options of a mount.
func (Backend) CheckSource(s record.Source) error {
	if len(s.Devices) != 1 {
		return record.Errorf(record.Invalid, "a pool of type fs is on one device, not on %d", len(s.Devices))
	}
	if err := record.CheckPath(s.Devices[0]); err != nil {
		return record.Errorf(record.Invalid, "source device: %v", err)
	}
	return mount.CheckOptions(s.Options)
}

// belongs refuses the bare directory that is at the target while nothing is mounted, and
// what else may be.
func belongs(p backends.Pool, dir *os.File) error {
	m, root, err := blockdev.MountAt(dir)
	if err != nil {
		return fmt.Errorf("cannot look at pool directory %q: %w", p.Target, err)
	}
	if !root {
		return &backends.AbsentError{Err: fmt.Errorf("nothing is mounted at pool directory %q", p.Target)}
	}
	if len(p.Source.Devices) == 0 {
		return nil // started by hand, by the path of a volume alone
	}
	dev, err := deviceOf(p)
	if err != nil {
		return err
	}
	defer dev.Close()
	if m.Carrier() != dev.Number {
		return mount.Other(p.Target, m)
	}
	return nil
}

// deviceOf opens the device of a pool, which is none of another pool.
func deviceOf(p backends.Pool) (*blockdev.Node, error) {
	if len(p.Source.Devices) != 1 {
		return nil, record.Errorf(record.Invalid, "the pool at %q has no device", p.Target)
	}
	return device.Source(p, p.Source.Devices[0])
}

// Start mounts the file system, unless it is mounted at the target already.
func (b Backend) Start(ctx context.Context, p backends.Pool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := record.CheckPath(p.Target); err != nil {
		return err
	}
	if p.ID != "" {
		p.Spared = nil // its file system is known, and is its own as long as no other pool has it in use
	}
	dev, err := deviceOf(p)
	if err != nil {
		return err
	}
	defer dev.Close()
	return b.mounting(ctx, p, dev).Start(ctx)
}

// mounting is how the pool is mounted from its device.
func (b Backend) mounting(ctx context.Context, p backends.Pool, dev *blockdev.Node) mount.Pool {
	return mount.Pool{
		Pool: p, Tree: b.Tree,
		Ours:     func(m blockdev.Mount) bool { return m.Carrier() == dev.Number },
		Detached: func() (*os.File, error) { return detached(ctx, p, dev) },
	}
}

// Ready looks for the device, and what it carries.
func (b Backend) Ready(ctx context.Context, p backends.Pool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dev, err := deviceOf(p)
	if err != nil {
		return err
	}
	defer dev.Close()
	if _, _, err := b.mounting(ctx, p, dev).Mounted(); err != nil {
		return err
	}
	_, err = carried(ctx, p, dev)
	return err
}

// detached mounts the file system of a device nowhere.
func detached(ctx context.Context, p backends.Pool, dev *blockdev.Node) (*os.File, error) {
	if err := device.InUse(dev.Unused()); err != nil {
		return nil, err
	}
	kind, err := carried(ctx, p, dev)
	if err != nil {
		return nil, err
	}
	root, err := mount.Detached(kind, dev.Path, p.Source.Options)
	if errors.Is(err, unix.EACCES) { // so says the kernel that it cannot be mounted to write
		return nil, record.Errorf(record.Denied, "device %q can only be read (%v)", dev.Path, err).
			WithHint("make it writable, or define the pool with the mount option ro")
	}
	if errors.Is(err, unix.EBUSY) { // somebody has claimed it who only has it open, or is not seen
		return nil, device.InUse(dev.Used())
	}
	if err != nil {
		return nil, fmt.Errorf("cannot mount device %q: %w", dev.Path, err)
	}
	if err := dev.Same(); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// Stop unmounts the file system, as often as it is mounted there. Where somebody is in it,
// it stays.
func (b Backend) Stop(ctx context.Context, p backends.Pool) error {
	ours := func(m blockdev.Mount) bool { return carries(m, p) }
	return mount.Pool{Pool: p, Tree: b.Tree, Ours: ours}.Stop(ctx)
}

// carries reports whether a mount is that of the pool's device, which may be gone by now.
func carries(m blockdev.Mount, p backends.Pool) bool {
	if slices.Contains(p.Source.Devices, m.Source) {
		return true
	}
	p.Spared = nil
	dev, err := deviceOf(p)
	if err != nil {
		return false
	}
	defer dev.Close()
	return m.Carrier() == dev.Number
}

// Delete takes the file system from the device, if it holds nothing but volumes that are
// to go too, and removes the directory. Where the device carries something else, nothing
// is done.
func (b Backend) Delete(ctx context.Context, p backends.Pool, withVolumes bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dev, err := deviceOf(p)
	if errors.Is(err, backends.ErrNotFound) {
		return mount.Pool{Pool: p}.RemoveDirectory(ctx)
	}
	if err != nil {
		return err
	}
	defer dev.Close()
	m := b.mounting(ctx, p, dev)
	err = m.Clear(ctx, withVolumes)
	if err == nil {
		err = erase(ctx, dev)
	}
	if err != nil && !errors.Is(err, backends.ErrNotFound) { // it carries nothing
		return err
	}
	return m.RemoveDirectory(ctx)
}
