package helper

import (
	"context"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// Space gives the pool's figures as its file system has them.
func (p *Pool) Space(ctx context.Context) (ipc.Pool, error) {
	info, err := p.Backend.Space(ctx, p.Pool)
	return p.Figures(info), err
}

// Figures is a pool as the daemon is told of it.
func (p *Pool) Figures(info backends.PoolInfo) ipc.Pool {
	figures := ipc.Pool{
		Target: p.Target, Path: info.Path, Identity: string(info.ID), Disk: info.Disk,
		Capacity: info.Capacity, Allocation: info.Allocation, Available: info.Available,
	}
	for _, x := range info.Free {
		figures.Free = append(figures.Free, x.Start, x.End)
	}
	for _, t := range info.ThinPools {
		figures.Thin = append(figures.Thin, ipc.Thin{
			Name: t.Name, Capacity: t.Capacity, Allocation: t.Allocation,
			MetaCapacity: t.MetadataCapacity, MetaAllocation: t.MetadataAllocation,
		})
	}
	if r := info.Permissions; r != nil {
		figures.Mode, figures.Owner, figures.Group, figures.Label = r.Mode, int64(r.Owner), int64(r.Group), r.Label
	}
	return figures
}

// Able gives a driver as one that can do what not all can.
func Able[T any](b backends.Backend, what string) (T, error) {
	able, ok := b.(T)
	if !ok {
		return able, ipc.Errorf(record.Unsupported, "pools of type %q cannot %s", b.Properties().Type, what)
	}
	return able, nil
}

// Pool is a pool and its driver.
type Pool struct {
	unlocked // it is closed when the run has ended
	backends.Pool
	Backend backends.Backend
	Changes bool // by the task, so that its figures are told in the end
}

// Open opens the pool's target, for as long as the run lasts.
func (p *Pool) Open(ctx context.Context, r *Run) error {
	if slices.Contains(r.pools, p) {
		return nil
	}
	r.pools = append(r.pools, p)
	driver, ok := p.Backend.(backends.Opener)
	if !ok {
		return nil
	}
	return r.Step(ctx, func() error {
		opened, err := driver.OpenPool(ctx, p.Pool)
		if err == nil {
			p.Pool = opened
		}
		return err
	})
}

// InPlace refuses to go on with a pool whose target is another by now, or away: what
// is done beneath the one that was opened would be where nobody looks for it.
func (p *Pool) InPlace(ctx context.Context) error {
	if p.Opened == nil {
		return nil // it is looked for by its driver each time
	}
	is, err := p.Backend.Space(ctx, p.Pool)
	if err != nil {
		return err
	}
	found := p.Pool
	found.Opened, found.ID = nil, is.ID
	_, err = p.Backend.Space(ctx, found)
	return err
}

// onOverlay reports whether the volumes of a pool that is open lie on an overlay.
func (p *Pool) onOverlay() bool {
	return slices.ContainsFunc(p.directory(), func(dir *os.File) bool {
		kind, err := diskio.FileSystemOf(dir)
		return err == nil && kind == unix.OVERLAYFS_SUPER_MAGIC
	})
}

// At is the volume of that name.
func (p *Pool) At(name string) Location {
	return Location{Path: p.Backend.Locate(p.Pool, name).Path, Pool: p, Name: name}
}

// Location is a volume as the command line names it.
type Location struct {
	Path string
	Pool *Pool
	Name string
	ID   backends.Identity // which the volume must be
}

// Creator gives the driver as one that makes volumes.
func (at Location) Creator() (backends.Creator, error) {
	return Able[backends.Creator](at.Pool.Backend, "get new volumes")
}

// Taker gives the driver as one that lets volumes leave their names.
func (at Location) Taker() (backends.Taker, error) {
	return Able[backends.Taker](at.Pool.Backend, "lose volumes")
}
