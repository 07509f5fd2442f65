package service

import (
	"context"
	"maps"

	"storaged/internal/catalog"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/store"
)

// Limits are the scheduler's.
func (s *Service) Limits(context.Context) (record.Limits, error) { return s.jobs.Limits(), nil }

// PatchLimits changes limits. They hold when they are durable, in the order in
// which they became so.
func (s *Service) PatchLimits(_ context.Context, r contract.LimitsPatch) (record.Limits, error) {
	rate, err := contract.Rate("rate", r.Rate)
	if err != nil {
		return record.Limits{}, err
	}
	var now record.Limits
	err = s.store.Update(func(tx *store.Tx) error {
		set, err := tx.Limits()
		if err != nil {
			return err
		}
		if err := patchable(tx, r); err != nil {
			return err
		}
		patchLimits(set, r)
		if r.Rate != nil {
			none := int64(0)
			set.Rate = rate
			if rate == nil {
				set.Rate = &none
			}
		}
		now = s.settings.Load().Limits.with(set)
		tx.OnCommit(func() { s.jobs.SetLimits(now) })
		return tx.PutLimits(set)
	})
	return now, err
}

// Drain brings the daemon to rest, or takes that back.
func (s *Service) Drain(_ context.Context, c record.Caller, on bool) (record.Drain, error) {
	d := s.jobs.Drain(on, c.Owner)
	s.log.Info("drain", "on", d.On, "by", c.Owner.User, "running", len(d.Running))
	return d, nil
}

// patchable refuses a limit on a pool that is not there. Taking one away is
// always right.
func patchable(tx *store.Tx, r contract.LimitsPatch) error {
	for pool, n := range r.PoolRates {
		if _, err := findPoolByName(tx, pool); n != nil && err != nil {
			return err
		}
	}
	for pool, n := range r.PoolRunning {
		if _, err := findPoolByName(tx, pool); n != nil && err != nil {
			return err
		}
	}
	return nil
}

// findPoolByName is catalog.Pool without uuids: limits are kept by name.
func findPoolByName(tx *store.Tx, name string) (*store.Pool, error) {
	p, err := catalog.Pool(tx, name)
	if err == nil && p.Name != name {
		return nil, record.Errorf(record.Invalid, "limits are set by the name of a pool, which is %q", p.Name)
	}
	return p, err
}

func patchLimits(set *store.Limits, r contract.LimitsPatch) {
	for to, n := range map[**int]*int{
		&set.Running: r.Running, &set.RunningPool: r.RunningPool,
		&set.RunningDevice: r.RunningDevice, &set.Queued: r.Queued,
	} {
		if n != nil {
			*to = n
		}
	}
	patchMap(&set.PoolRates, r.PoolRates)
	patchMap(&set.PoolRunning, r.PoolRunning)
	patchMap(&set.DeviceRates, r.DeviceRates)
	patchMap(&set.DeviceRunning, r.DeviceRunning)
}

// patchMap merges: a nil value takes a key away.
func patchMap[T any](has *map[string]T, patch map[string]*T) {
	if *has == nil {
		*has = map[string]T{}
	}
	for k, v := range patch {
		if v == nil {
			delete(*has, k)
		} else {
			(*has)[k] = *v
		}
	}
}

// with gives the limits in force: what was set at run time before what the
// config file says.
func (l LimitsConfig) with(set *store.Limits) record.Limits {
	out := record.Limits{
		Running: l.Running, RunningPool: l.RunningPool, RunningDevice: l.RunningDevice, Queued: l.Queued,
		PoolRates: copied(set.PoolRates), PoolRunning: copied(set.PoolRunning),
		DeviceRates: copied(set.DeviceRates), DeviceRunning: copied(set.DeviceRunning),
	}
	for to, n := range map[*int]*int{
		&out.Running: set.Running, &out.RunningPool: set.RunningPool,
		&out.RunningDevice: set.RunningDevice, &out.Queued: set.Queued,
	} {
		if n != nil {
			*to = *n
		}
	}
	if set.Rate != nil && *set.Rate > 0 {
		out.Rate = set.Rate
	}
	return out
}

func copied[T any](m map[string]T) map[string]T {
	if m == nil {
		return map[string]T{}
	}
	return maps.Clone(m)
}
