package helper

import (
	"context"

	"storaged/internal/backends"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// Space gives the pool's figures as its file system has them.
func (p Pool) Space(ctx context.Context) (ipc.Pool, error) {
	info, err := p.Backend.Space(ctx, p.Pool)
	return p.Figures(info), err
}

// Figures is a pool as the daemon is told of it.
func (p Pool) Figures(info backends.PoolInfo) ipc.Pool {
	return ipc.Pool{
		Target: p.Target, Path: info.Path, Identity: string(info.ID), Disk: info.Disk,
		Capacity: info.Capacity, Allocation: info.Allocation, Available: info.Available,
	}
}

// Able gives a driver as one that can do what not all can.
func Able[T any](b backends.Backend, what string) (T, error) {
	able, ok := b.(T)
	if !ok {
		return able, Failed(record.Unsupported, "pools of type %q cannot %s", b.Properties().Type, what)
	}
	return able, nil
}

// Creator gives the driver as one that makes volumes.
func (p Location) Creator() (backends.Creator, error) {
	return Able[backends.Creator](p.Backend, "get new volumes")
}

// Taker gives the driver as one that lets volumes leave their names.
func (p Location) Taker() (backends.Taker, error) {
	return Able[backends.Taker](p.Backend, "lose volumes")
}

// Pool is a pool and its driver.
type Pool struct {
	backends.Pool
	Backend backends.Backend
}

// At is the volume of that name.
func (p Pool) At(name string) Location {
	return Location{Path: p.Backend.Locate(p.Pool, name).Path, Backend: p.Backend, Pool: p.Pool, Name: name}
}

// In is the pool of the volume.
func (p Location) In() Pool { return Pool{p.Pool, p.Backend} }
