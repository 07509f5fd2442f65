package catalog

import (
	"errors"
	"slices"

	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

// Define records a new pool.
func (c *Catalog) Define(tx *store.Tx, p *store.Pool) error {
	if err := Definable(tx, p); err != nil {
		return err
	}
	p.Boot, p.State, p.Reason, p.Since, p.Generation = c.boot, record.PoolInactive, "defined", c.now(), 1
	return c.putPool(tx, "pool.defined", p)
}

// Redefine records another definition of an inactive pool. What is known of its
// volumes holds as long as it lies where it did.
func (c *Catalog) Redefine(tx *store.Tx, p, next *store.Pool) error {
	next.UUID, next.Generation, next.Since, next.Defined = p.UUID, p.Generation+1, p.Since, p.Defined
	next.Boot, next.State, next.Reason = c.boot, record.PoolInactive, "defined"
	if err := errors.Join(apart(tx, next, next.Target.Path), separate(tx, next)); err != nil {
		return err
	}
	if next.Target.Path != p.Target.Path || !next.Source.SameStorage(p.Source) {
		if err := tx.DeleteVolumes(p.Name); err != nil {
			return err
		}
		c.tellDevices(tx, next) // nobody has looked yet
	} else {
		next.Devices, next.Unfinished, next.Lost = p.Devices, p.Unfinished, p.Lost // what jobs left lies there still
		next.Identity, next.Real, next.Permissions, next.Built = p.Identity, p.Real, p.Permissions, p.Built
	}
	return c.putPool(tx, "pool.changed", next)
}

// RedefineLater records the definition that a pool in use is to have when it is not any
// more. One that was to be forgotten then stays.
func (c *Catalog) RedefineLater(tx *store.Tx, p, next *store.Pool) error {
	next.UUID = p.UUID
	if err := errors.Join(apart(tx, next, next.Target.Path), separate(tx, next)); err != nil {
		return err
	}
	p.Persistent, p.Autostart, p.Next = true, next.Autostart, nil
	if later := next.Definition(); !later.Is(p.Definition()) {
		p.Next = &later
	}
	return c.ChangePool(tx, p)
}

// useNext gives a pool that is not in use any more the definition that it was to have
// then. The caller records it.
func (c *Catalog) useNext(tx *store.Tx, p *store.Pool) error {
	if p.Next == nil || p.State != record.PoolInactive || p.Job != 0 {
		return nil
	}
	is := record.Definition{Target: p.Target, Source: p.Next.Source}
	same := p.Next.Target.Path == p.Target.Path && is.Is(p.Definition())
	p.Target, p.Source, p.Next = p.Next.Target, p.Next.Source, nil
	p.Generation++
	if same {
		return nil
	}
	p.Identity, p.Real, p.Permissions, p.Unfinished, p.Lost, p.Devices, p.Built = "", "", nil, nil, nil, nil, false
	forgetFigures(p)
	c.tellDevices(tx, p) // nobody has looked yet
	return tx.DeleteVolumes(p.Name)
}

// Undefine forgets a pool and its volumes.
func (c *Catalog) Undefine(tx *store.Tx, p *store.Pool) error {
	if err := errors.Join(tx.DeleteVolumes(p.Name), tx.DeletePool(p.Name)); err != nil {
		return err
	}
	c.tellDevices(tx, &store.Pool{Pool: record.Pool{Name: p.Name}})
	public := p.Pool
	c.publish(tx, record.Event{Type: "pool.undefined", Pool: &public})
	return nil
}

// ChangePool records other properties of a pool.
func (c *Catalog) ChangePool(tx *store.Tx, p *store.Pool) error {
	p.Generation++
	return c.putPool(tx, "pool.changed", p)
}

// ChangeVolume records other properties of a volume, whose content stays.
func (c *Catalog) ChangeVolume(tx *store.Tx, v *store.Volume) error {
	v.Generation++
	keepSum(v)
	return c.putVolume(tx, "volume.changed", v)
}

// Definable refuses a name, uuid, directory or source that is taken.
func Definable(tx *store.Tx, p *store.Pool) error {
	known, err := tx.Pools()
	if err != nil {
		return err
	}
	for _, k := range known {
		switch {
		case k.Name == p.Name:
			return record.Errorf(record.Exists, "pool %q exists already", p.Name).WithHint("%s", wayIn(k))
		case k.UUID == p.UUID:
			return record.Errorf(record.Exists, "uuid %s is that of pool %q", p.UUID, k.Name)
		}
	}
	return errors.Join(apart(tx, p, p.Target.Path), separate(tx, p))
}

// wayIn says what can be done with a pool that is there already.
func wayIn(p *store.Pool) record.Hint {
	if p.State == record.PoolInactive {
		if can, err := Capabilities(p.Type); err == nil && p.Identity == "" && !p.Built && len(can.Builds) > 0 {
			return record.Hintf("%s makes its storage, %s has it used as it is, %s forgets it", record.Do("pool.build", p.Name), record.Do("pool.start", p.Name), record.Do("pool.undefine", p.Name))
		}
		return record.Hintf("%s, or %s to define it anew", record.Do("pool.start", p.Name), record.Do("pool.undefine", p.Name))
	}
	return record.Hintf("%s", record.Do("pool.show", p.Name))
}

// PoolUnused refuses while live jobs, waiting ones too, are about the pool.
func PoolUnused(tx *store.Tx, pool string) error {
	live, err := tx.LiveJobs()
	if err != nil {
		return err
	}
	for _, j := range live {
		i := slices.IndexFunc(j.Objects, func(o record.Object) bool { return o.Pool == pool })
		if i < 0 {
			continue
		}
		since := j.Created
		if j.Started != nil {
			since = *j.Started
		}
		return supervisor.BusyError(pool, []record.Blocker{{
			For: "lock", Object: &record.Object{Pool: pool}, Since: since, ExpectedEnd: j.Estimate.End,
			Holder: &record.Holder{Number: j.Number, ID: j.ID, Kind: j.Kind, Mode: j.Objects[i].Mode, Owner: &j.Owner},
		}})
	}
	return nil
}
