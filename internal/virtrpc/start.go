package virtrpc

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc/wire"
)

// quickWait is how long a call waits for quick jobs of others, where libvirt waits for a
// mutex: none of them takes as long, unless its storage hangs.
const quickWait = 30 * time.Second

// quick are the kinds of jobs that libvirt's daemon has under such a mutex.
var quick = []record.Kind{record.PoolStart, record.PoolStop, record.PoolRefresh, record.PoolDelete, record.VolumeDelete}

// submit says who asks for a job. It is refused where others are in the way, as libvirt
// does it.
func (c *call) submit() contract.Submit {
	return contract.Submit{Caller: c.caller, LockWait: new(time.Duration)}
}

// start starts a job. It waits for those in the way only where all of them are quick.
func (c *call) start(pool, volume string, r operation.Request) (contract.Started, error) {
	if c, ok := r.(interface{ Check() error }); ok {
		if err := c.Check(); err != nil {
			return contract.Started{}, err
		}
	}
	s := c.submit()
	st, err := c.svc.Start(c.ctx(), s, pool, volume, r)
	var e *record.Error
	if !errors.As(err, &e) || e.Code != record.Busy || len(e.Holders) == 0 || slices.ContainsFunc(e.Holders, slow) {
		return st, err
	}
	s.LockWait = new(quickWait)
	return c.svc.Start(c.ctx(), s, pool, volume, r)
}

func slow(b record.Blocker) bool {
	return b.Holder == nil || b.Holder.External != "" || !slices.Contains(quick, b.Holder.Kind)
}

// do starts a job and waits until it has succeeded.
func (c *call) do(pool, volume string, r operation.Request) (record.Job, error) {
	return c.await(c.start(pool, volume, r))
}

// poolInUse says of a pool that jobs are in the way of what was asked, in the words by
// which clients know it.
func poolInUse(p record.Pool, err error) error {
	switch {
	case !byJobs(err):
		return err
	case p.State == record.PoolStarting || p.State == record.PoolBuilding:
		return wire.Failf(wire.FromStorage, wire.OperationInvalid, "storage pool '%s' is starting up", p.Name)
	}
	return wire.Failf(wire.FromStorage, wire.InternalError, "pool '%s' has asynchronous jobs running.", p.Name)
}

// byJobs reports whether only jobs are in the way: anything else is to be named.
func byJobs(err error) bool {
	var e *record.Error
	return errors.As(err, &e) && e.Code == record.Busy && len(e.Holders) > 0 &&
		!slices.ContainsFunc(e.Holders, func(b record.Blocker) bool { return b.Holder != nil && b.Holder.External != "" })
}

// volInUse says so of a volume, also of one whose content is half changed by a job that is
// still at it.
func (c *call) volInUse(v record.Volume, err error) error {
	switch code := record.CodeOf(err); {
	case code != record.Busy && (code != record.WrongState || !c.changes(v)):
		return err
	case v.State == record.VolumeBuilding:
		return wire.Failf(wire.FromStorage, wire.OperationInvalid, "volume '%s' is still being allocated.", v.Name)
	}
	return wire.Failf(wire.FromStorage, wire.OperationInvalid, "volume '%s' is still in use.", v.Name)
}

// changes reports whether the job that has left a volume incomplete still runs.
func (c *call) changes(v record.Volume) bool {
	if v.State != record.VolumeIncomplete || v.Job == nil {
		return false
	}
	j, err := c.svc.Job(c.ctx(), strconv.FormatInt(*v.Job, 10))
	return err == nil && !j.State.Terminal()
}
