package virtrpc

import (
	"context"

	"github.com/google/uuid"

	"storaged/internal/record"
	"storaged/internal/virtrpc/wire"
)

// pool gives the pool that a client names: by its uuid, so that one that was defined anew
// under the name of another is not taken for it.
func (c *call) pool(p wire.Pool) (record.Pool, error) {
	id := uuid.UUID(p.UUID).String()
	found, err := c.svc.Pool(c.ctx(), id)
	if record.CodeOf(err) == record.NotFound {
		if p.Name == "" {
			return found, wire.Failf(wire.FromStorage, wire.NoStoragePool, "no storage pool with matching uuid '%s'", id)
		}
		return found, wire.Failf(wire.FromStorage, wire.NoStoragePool, "no storage pool with matching uuid '%s' (%s)", id, p.Name)
	}
	return found, err
}

// poolNamed gives the pool of a name.
func (c *call) poolNamed(name string) (record.Pool, error) {
	found, err := c.svc.Pool(c.ctx(), name)
	if record.CodeOf(err) == record.NotFound || err == nil && found.Name != name {
		return found, wire.Failf(wire.FromStorage, wire.NoStoragePool, "no storage pool with matching name '%s'", name)
	}
	return found, err
}

// activePool is pool, of one that is in use.
func (c *call) activePool(p wire.Pool) (record.Pool, error) {
	found, err := c.pool(p)
	if err == nil {
		err = mustBeActive(found)
	}
	return found, err
}

func mustBeActive(p record.Pool) error {
	if active(p) {
		return nil
	}
	return wire.Failf(wire.FromStorage, wire.OperationInvalid, "storage pool '%s' is not active", p.Name)
}

// active reports whether clients are shown a pool as in use.
func active(p record.Pool) bool { return p.State.InUse() }

// vol gives the volume that a client names.
func (c *call) vol(v wire.Vol) (record.Volume, error) { return c.volBy(v, c.svc.Volume) }

// volNow is vol, of the volume as it is now: others may have written to it.
func (c *call) volNow(v wire.Vol) (record.Volume, error) {
	return c.volBy(v, c.resting(c.svc.VolumeNow))
}

// volSizes is volNow where no more than the sizes are asked for.
func (c *call) volSizes(v wire.Vol) (record.Volume, error) {
	return c.volBy(v, c.resting(c.svc.VolumeSizes))
}

// resting has other calls of the client worked on while a helper looks at the volume.
func (c *call) resting(find finding) finding {
	return func(ctx context.Context, pool, volume string) (record.Volume, error) {
		c.rest()
		defer c.resume()
		return find(ctx, pool, volume)
	}
}

// finding is how the service finds a volume.
type finding func(ctx context.Context, pool, volume string) (record.Volume, error)

func (c *call) volBy(v wire.Vol, find finding) (record.Volume, error) {
	p, err := c.poolNamed(v.Pool)
	if err != nil {
		return record.Volume{}, err
	}
	return c.volumeBy(p, v.Name, find)
}

// volumeOf gives a volume of a pool that must be in use.
func (c *call) volumeOf(p record.Pool, name string) (record.Volume, error) {
	return c.volumeBy(p, name, c.svc.Volume)
}

func (c *call) volumeBy(p record.Pool, name string, find finding) (record.Volume, error) {
	if err := mustBeActive(p); err != nil {
		return record.Volume{}, err
	}
	found, err := find(c.ctx(), p.Name, name)
	if record.CodeOf(err) == record.NotFound {
		return found, wire.Failf(wire.FromStorage, wire.NoStorageVol, "no storage vol with matching name '%s'", name)
	}
	return found, err
}

// wirePool names a pool to clients.
func wirePool(p record.Pool) wire.Pool {
	return wire.Pool{Name: p.Name, UUID: wireUUID("pool", p.UUID)}
}

// wireUUID is a uuid of ours, which calls it by what it is of.
func wireUUID(of, text string) wire.UUID {
	id, err := uuid.Parse(text)
	if err != nil {
		panic("internal error: virtrpc: a " + of + " has the uuid " + text)
	}
	return wire.UUID(id)
}

// wireVol names a volume to clients.
func wireVol(v record.Volume) wire.Vol { return wire.Vol{Pool: v.Pool, Name: v.Name, Key: v.Key} }
