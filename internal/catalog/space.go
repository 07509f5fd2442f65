package catalog

import (
	"errors"
	"maps"
	"slices"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Reserved is what live jobs had yet to take of a pool when its figures were
// read. What they have taken since is not known to be gone from what was
// available then, so it counts as reserved until the figures are read again.
func Reserved(p *store.Pool) int64 {
	n := p.Booked
	for _, taken := range p.Taken {
		n -= taken
	}
	return max(0, n)
}

// Free is what is reserved for nobody.
func Free(p *store.Pool) int64 { return p.Available - Reserved(p) }

// ErrTaken is that the room was reserved for another request meanwhile.
var ErrTaken = record.Errorf(record.NoSpace, "other jobs are taking the pool's room just now").WithHint("try again")

// Space is what a helper saw of a pool's room.
type Space struct {
	Info  *ipc.Pool
	Began time.Time       // before it looked
	Taken map[int64]int64 // what live jobs had taken by then
}

// ApplySpace books what was seen of a pool's room, unless the pool is another by now, or
// not in use any more, or has newer figures.
func (c *Catalog) ApplySpace(tx *store.Tx, asked *store.Pool, seen Space) error {
	p, err := tx.Pool(asked.Name)
	if err != nil {
		return IgnoreNotFound(err)
	}
	if !inUse(p, asked) || p.Observed != nil && c.since(*p.Observed, seen.Began) {
		return nil
	}
	if err := c.figures(tx, p, seen.Info, seen.Taken); err != nil {
		return err
	}
	return tx.PutPool(p)
}

// spent books what the file systems said in the end of a job of the pools that
// it has changed. Sums of its own would say something else: blocks may be
// shared, or cost more than they hold.
func (c *Catalog) spent(tx *store.Tx, o operation.Operation, r *ipc.Report) error {
	if r == nil {
		return nil
	}
	pools, err := poolsOf(tx, o)
	if err != nil {
		return err
	}
	for _, p := range pools {
		i := slices.IndexFunc(r.Pools, func(info ipc.Pool) bool { return info.Target == p.Target.Path })
		if i < 0 {
			continue
		}
		if err := errors.Join(c.figures(tx, p, &r.Pools[i], c.taken(p.Name)), tx.PutPool(p)); err != nil {
			return err
		}
	}
	return nil
}

// figures takes over what was read of a pool, with what live jobs had taken by
// then of what they reserve.
func (c *Catalog) figures(tx *store.Tx, p *store.Pool, info *ipc.Pool, taken map[int64]int64) error {
	now := c.now()
	p.Capacity, p.Allocation, p.Available, p.Observed, p.Taken = info.Capacity, info.Allocation, info.Available, &now, nil
	p.Permissions, p.FreeExtents, p.ThinPools = nil, nil, nil
	for i := 0; i+1 < len(info.Free); i += 2 {
		p.FreeExtents = append(p.FreeExtents, record.FreeExtent{Start: info.Free[i], End: info.Free[i+1]})
	}
	for _, t := range info.Thin {
		p.ThinPools = append(p.ThinPools, t.Record())
	}
	if info.Mode != "" {
		p.Permissions = &record.Permissions{Mode: info.Mode, Owner: uint32(info.Owner), Group: uint32(info.Group), Label: info.Label}
	}
	for number, n := range taken {
		j, err := tx.JobByNumber(number)
		switch {
		case errors.Is(err, store.ErrNotFound) || err == nil && j.State.Terminal():
			continue // its end is recorded, and its room given back
		case err != nil:
			return err
		case p.Taken == nil:
			p.Taken = map[int64]int64{}
		}
		p.Taken[number] = n
	}
	return nil
}

// forgetFigures makes a pool one that was never read.
func forgetFigures(p *store.Pool) {
	p.Capacity, p.Allocation, p.Available, p.Provisioned, p.Observed = 0, 0, 0, 0, nil
	p.Taken, p.FreeExtents, p.ThinPools = nil, nil, nil
}

// Reserve books the room that an operation needs, unless others were faster.
func Reserve(tx *store.Tx, o operation.Operation) error {
	reserve := o.Bound().Reserve
	if reserve == 0 {
		return nil
	}
	pool, _ := operation.ResultOf(o)
	p, err := Pool(tx, pool)
	if err != nil {
		return err
	}
	if Free(p) < reserve {
		return ErrTaken
	}
	p.Booked += reserve
	return tx.PutPool(p)
}

// release gives back what was reserved for the job of that number. What it has
// taken of it is in the pool's figures by then.
func release(tx *store.Tx, o operation.Operation, number int64) error {
	reserve := o.Bound().Reserve
	if reserve == 0 {
		return nil
	}
	pool, _ := operation.ResultOf(o)
	p, err := tx.Pool(pool)
	if err != nil {
		return IgnoreNotFound(err)
	}
	p.Booked = max(0, p.Booked-reserve)
	delete(p.Taken, number)
	return tx.PutPool(p)
}

// recount makes what is reserved that of the live jobs. They are so already,
// unless a job ended past the catalog or the database was put back.
func recount(tx *store.Tx) error {
	jobs, err := tx.LiveJobs()
	if err != nil {
		return err
	}
	reservedIn, live := map[string]int64{}, map[int64]bool{}
	for _, j := range jobs {
		live[j.Number] = true
		if o, err := OperationOf(j); err == nil {
			pool, _ := operation.ResultOf(o)
			reservedIn[pool] += o.Bound().Reserve
		}
	}
	pools, err := tx.Pools()
	if err != nil {
		return err
	}
	for _, p := range pools {
		booked, takers := p.Booked, len(p.Taken)
		p.Booked = reservedIn[p.Name]
		maps.DeleteFunc(p.Taken, func(number, _ int64) bool { return !live[number] })
		if p.Booked == booked && len(p.Taken) == takers {
			continue
		}
		if err := tx.PutPool(p); err != nil {
			return err
		}
	}
	return nil
}

// PublicPool is a pool as it is shown.
func PublicPool(p *store.Pool) record.Pool {
	out := p.Pool
	out.Reserved = Reserved(p)
	return out
}
