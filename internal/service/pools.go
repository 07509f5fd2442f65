package service

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"

	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

// Pools lists all pools by name.
func (s *Service) Pools(context.Context) ([]record.Pool, error) {
	pools := []record.Pool{}
	err := s.store.View(func(tx *store.Tx) error {
		known, err := tx.Pools()
		for _, p := range known {
			pools = append(pools, publicPool(p))
		}
		return err
	})
	return pools, err
}

// Pool gives one pool by name or uuid.
func (s *Service) Pool(_ context.Context, pool string) (record.Pool, error) {
	var p *store.Pool
	err := s.store.View(func(tx *store.Tx) (err error) {
		p, err = findPool(tx, pool)
		return err
	})
	if err != nil {
		return record.Pool{}, err
	}
	return publicPool(p), nil
}

// publicPool is a pool as it is shown.
func publicPool(p *store.Pool) record.Pool {
	out := p.Pool
	out.Reserved = reserved(p)
	return out
}

// DefinePool records a pool; with build or start it also starts one job, and
// pool and job are recorded together. A request that is repeated under its key
// gives the same pool and the same job.
func (s *Service) DefinePool(ctx context.Context, sub Submit, r PoolDefine, build, start bool) (record.Pool, Started, error) {
	if again, err := s.repeated(sub); again != nil || err != nil {
		return s.redefined(ctx, r.Name, deref(again), err)
	}
	if err := r.JobOptions.Check(); err != nil {
		return record.Pool{}, Started{}, err
	}
	p, err := s.newPool(r)
	if err != nil {
		return record.Pool{}, Started{}, err
	}
	if !build && !start {
		return s.defineOnly(ctx, sub, p)
	}
	w, err := defineWork(p, build, start)
	if err != nil {
		return record.Pool{}, Started{}, err
	}
	if sub.DryRun {
		if err := s.store.View(func(tx *store.Tx) error { return definable(tx, p) }); err != nil {
			return record.Pool{}, Started{}, err
		}
		st, err := s.submit(ctx, sub, w, r.JobOptions)
		return p.Pool, st, err
	}
	w.Also = func(tx *store.Tx) error { return s.define(tx, p) }
	st, err := s.submit(ctx, sub, w, r.JobOptions)
	return s.redefined(ctx, p.Name, st, err)
}

// defineOnly records a pool and starts nothing. The same request once more
// changes nothing.
func (s *Service) defineOnly(ctx context.Context, sub Submit, p *store.Pool) (record.Pool, Started, error) {
	if sub.DryRun {
		return p.Pool, Started{}, s.store.View(func(tx *store.Tx) error { return definable(tx, p) })
	}
	uid := sub.Caller.Owner.UID
	if sub.Key != "" {
		p.Defined = &store.Defining{UID: uid, Key: sub.Key, Digest: sub.Digest}
	}
	err := s.store.Update(func(tx *store.Tx) error {
		if job, pool, err := tx.Requested(uid, sub.Key, sub.Digest); err != nil || job != nil || pool != nil {
			return err
		}
		return s.define(tx, p)
	})
	return s.redefined(ctx, p.Name, Started{}, err)
}

// redefined gives the pool as it is recorded.
func (s *Service) redefined(ctx context.Context, name string, st Started, err error) (record.Pool, Started, error) {
	if err != nil {
		return record.Pool{}, Started{}, err
	}
	p, err := s.Pool(ctx, name)
	return p, st, err
}

// defineWork is the one job of a define: starting, with building before if
// asked or where that takes nothing away; or only building.
func defineWork(p *store.Pool, build, start bool) (work, error) {
	if !start {
		return poolWork(p, record.PoolBuild), nil
	}
	props, err := properties(p.Type)
	w := poolWork(p, record.PoolStart)
	w.Build = build || props.MakesTarget
	return w, err
}

// newPool checks a definition and makes the pool of it.
func (s *Service) newPool(r PoolDefine) (*store.Pool, error) {
	r.Fill()
	if err := checkName("pool", r.Name); err != nil {
		return nil, err
	}
	if _, err := uuid.Parse(r.Name); err == nil {
		return nil, record.Errorf(record.Invalid, "pool name %q could be taken for a uuid", r.Name)
	}
	props, err := properties(r.Type)
	if err != nil {
		return nil, err
	}
	if err := checkSource(r, props); err != nil {
		return nil, err
	}
	if err := s.notOurs(r.Target.Path); err != nil {
		return nil, err
	}
	id, err := poolUUID(r.UUID)
	if err != nil {
		return nil, err
	}
	return &store.Pool{Boot: s.keeper.boot, Pool: record.Pool{
		Name: r.Name, UUID: id, Type: r.Type, State: record.PoolInactive, Reason: "defined", Since: s.keeper.now(),
		Persistent: true, Autostart: *r.Autostart, Target: r.Target, Source: r.Source, Generation: 1,
	}}, nil
}

// notOurs refuses the daemon's own directories as pools: whose files it would
// take for volumes.
func (s *Service) notOurs(target string) error {
	c := s.config
	own := target == c.StateDir || inside(target, filepath.Join(c.StateDir, "jobs")) || inside(target, filepath.Join(c.StateDir, "copies")) ||
		inside(target, c.RuntimeDir)
	if target == "" || !own {
		return nil
	}
	return record.Errorf(record.Invalid, "%q is a directory of storaged's own, and no pool", target).WithHint("give another directory")
}

// checkSource holds the definition against what the type needs.
func checkSource(r PoolDefine, props record.Capabilities) error {
	given := map[string]bool{
		"target_path":      r.Target.Path != "",
		"source_hosts":     len(r.Source.Hosts) > 0,
		"source_devices":   len(r.Source.Devices) > 0,
		"source_name":      r.Source.Name != "",
		"source_path":      r.Source.Path != "",
		"source_format":    r.Source.Format != "",
		"source_initiator": r.Source.Initiator != "",
		"source_options":   len(r.Source.Options) > 0,
	}
	for _, need := range props.Needs {
		if !given[need] {
			return record.Errorf(record.Invalid, "a pool of type %s needs a %s", r.Type, spoken(need)).
				WithHint("give it with %s", record.Do("").With(need, "…"))
		}
		delete(given, need)
	}
	for field, set := range given {
		if set && !slices.Contains(props.Takes, field) {
			return record.Errorf(record.Invalid, "a pool of type %s has no %s", r.Type, spoken(field))
		}
	}
	if r.Target.Path == "" {
		return nil
	}
	if err := record.CheckPath(r.Target.Path); err != nil {
		return record.Errorf(record.Invalid, "target path: %v", err)
	}
	return nil
}

// spoken makes words of the name of a part: of target_path "target path".
func spoken(part string) string { return strings.ReplaceAll(part, "_", " ") }

func poolUUID(asked string) (string, error) {
	if asked == "" {
		return uuid.NewString(), nil
	}
	id, err := uuid.Parse(asked)
	if err != nil {
		return "", record.Errorf(record.Invalid, "pool uuid %.64q: %v", asked, err)
	}
	return id.String(), nil
}

func (s *Service) define(tx *store.Tx, p *store.Pool) error {
	if err := definable(tx, p); err != nil {
		return err
	}
	return s.keeper.putPool(tx, "pool.defined", p)
}

// definable refuses a name, uuid or directory that is taken.
func definable(tx *store.Tx, p *store.Pool) error {
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
	return apart(tx, p, p.Target.Path)
}

// wayIn says what can be done with a pool that is there already.
func wayIn(p *store.Pool) record.Hint {
	if p.State == record.PoolInactive {
		return record.Hintf("%s, or %s to define it anew", record.Do("pool.start", p.Name), record.Do("pool.undefine", p.Name))
	}
	return record.Hintf("%s", record.Do("pool.show", p.Name))
}

// ReplacePool changes an inactive pool's definition.
func (s *Service) ReplacePool(_ context.Context, sub Submit, pool string, r PoolDefine) (record.Pool, error) {
	if r.Name == "" {
		r.Name = pool
	}
	next, err := s.newPool(r)
	if err != nil {
		return record.Pool{}, err
	}
	err = s.store.Update(func(tx *store.Tx) error {
		p, err := s.idlePool(tx, sub, pool)
		if err != nil {
			return err
		}
		if next.Name != p.Name || r.UUID != "" && next.UUID != p.UUID || next.Type != p.Type {
			return record.Errorf(record.Invalid, "name, uuid and type of pool %q cannot be changed", p.Name).
				WithHint("undefine it and define another; that touches no storage")
		}
		next.UUID, next.Generation, next.Since, next.Defined = p.UUID, p.Generation+1, p.Since, p.Defined
		if err := apart(tx, next, next.Target.Path); err != nil {
			return err
		}
		if next.Target.Path != p.Target.Path {
			if err := tx.DeleteVolumes(p.Name); err != nil {
				return err
			}
			s.keeper.tellDevices(tx, next) // nobody has looked yet
		} else {
			next.Devices, next.Unfinished = p.Devices, p.Unfinished // what jobs left lies there still
			next.Identity, next.Real = p.Identity, p.Real
		}
		return s.keeper.putPool(tx, "pool.changed", next)
	})
	return next.Pool, err
}

// idlePool gives a pool that is inactive and that no live job is about.
func (s *Service) idlePool(tx *store.Tx, sub Submit, pool string) (*store.Pool, error) {
	p, err := findPool(tx, pool)
	if err != nil {
		return nil, err
	}
	if err := unchanged(sub, p.Generation, "pool "+p.Name); err != nil {
		return nil, err
	}
	if p.State != record.PoolInactive {
		return nil, record.Errorf(record.WrongState, "pool %q is %s", p.Name, p.State).
			WithHint("%s", record.Do("pool.stop", p.Name))
	}
	return p, poolUnused(tx, p.Name)
}

// poolUnused refuses while live jobs, waiting ones too, are about the pool.
func poolUnused(tx *store.Tx, pool string) error {
	live, err := tx.LiveJobs()
	if err != nil {
		return err
	}
	for _, j := range live {
		for _, o := range j.Objects {
			if o.Pool == pool {
				since := j.Created
				if j.Started != nil {
					since = *j.Started
				}
				return supervisor.BusyError(pool, []record.Blocker{{
					For: "lock", Object: &record.Object{Pool: pool}, Since: since, ExpectedEnd: j.Estimate.End,
					Holder: &record.Holder{Number: j.Number, ID: j.ID, Kind: j.Kind, Mode: o.Mode, Owner: &j.Owner},
				}})
			}
		}
	}
	return nil
}

// PatchPool changes properties.
func (s *Service) PatchPool(_ context.Context, sub Submit, pool string, r PoolPatch) (record.Pool, error) {
	var out record.Pool
	err := s.store.Update(func(tx *store.Tx) error {
		p, err := findPool(tx, pool)
		if err != nil {
			return err
		}
		if err := unchanged(sub, p.Generation, "pool "+p.Name); err != nil {
			return err
		}
		if r.Autostart != nil {
			p.Autostart = *r.Autostart
		}
		p.Generation++
		out = publicPool(p)
		return s.keeper.putPool(tx, "pool.changed", p)
	})
	return out, err
}

// UndefinePool forgets a pool and its catalogue; no storage is touched.
func (s *Service) UndefinePool(_ context.Context, sub Submit, pool string) error {
	return s.store.Update(func(tx *store.Tx) error {
		p, err := s.idlePool(tx, sub, pool)
		if err != nil {
			return err
		}
		if err := tx.DeleteVolumes(p.Name); err != nil {
			return err
		}
		if err := tx.DeletePool(p.Name); err != nil {
			return err
		}
		s.keeper.tellDevices(tx, &store.Pool{Pool: record.Pool{Name: p.Name}})
		public := p.Pool
		s.keeper.publish(tx, record.Event{Type: "pool.undefined", Pool: &public})
		return nil
	})
}

// poolWork is work on a whole pool.
func poolWork(p *store.Pool, k record.Kind) work {
	return work{Kind: k, Pool: p.Name, PoolUUID: p.UUID, Type: p.Type, Path: p.Target.Path}
}

// onPool starts work on a pool, after its state was asked.
func (s *Service) onPool(ctx context.Context, sub Submit, pool string, o JobOptions, change func(*store.Tx, *store.Pool) (work, error)) (Started, error) {
	return s.resolve(ctx, sub, o, func(tx *store.Tx) (work, error) {
		p, err := findPool(tx, pool)
		if err != nil {
			return work{}, err
		}
		if err := unchanged(sub, p.Generation, "pool "+p.Name); err != nil {
			return work{}, err
		}
		w, err := change(tx, p)
		if err != nil {
			return work{}, err
		}
		return w, startable(tx, p, w)
	})
}

// BuildPool makes the storage a pool stands on.
func (s *Service) BuildPool(ctx context.Context, sub Submit, pool string, r PoolBuild) (Started, error) {
	return s.onPool(ctx, sub, pool, r.JobOptions, func(_ *store.Tx, p *store.Pool) (work, error) {
		w := poolWork(p, record.PoolBuild)
		w.Overwrite = r.Overwrite
		return w, nil
	})
}

// StartPool makes its volumes reachable, and reads them.
func (s *Service) StartPool(ctx context.Context, sub Submit, pool string, o JobOptions) (Started, error) {
	return s.onPool(ctx, sub, pool, o, func(_ *store.Tx, p *store.Pool) (work, error) {
		return poolWork(p, record.PoolStart), nil
	})
}

// StopPool is the opposite of StartPool. With Force the jobs in the way are
// canceled; the stop waits for their ends.
func (s *Service) StopPool(ctx context.Context, sub Submit, pool string, r PoolStop) (Started, error) {
	st, err := s.onPool(ctx, sub, pool, r.JobOptions, func(_ *store.Tx, p *store.Pool) (work, error) {
		return poolWork(p, record.PoolStop), nil
	})
	if err != nil || !r.Force || st.Job == nil {
		return st, err
	}
	for _, j := range s.jobs.Live() {
		if j.Number < st.Job.Number && j.Cancelable && concerns(j, st.Job.Objects[0].Pool) {
			if _, err := s.jobs.Cancel(j.ID, sub.Caller.Owner, false); err != nil {
				s.log.Warn("cannot cancel job in the way of a forced stop", "job", j.Number, "error", err)
			}
		}
	}
	return st, nil
}

func concerns(j record.Job, pool string) bool {
	for _, o := range j.Objects {
		if o.Pool == pool {
			return true
		}
	}
	return false
}

// RefreshPool reads the pool again.
func (s *Service) RefreshPool(ctx context.Context, sub Submit, pool string, o JobOptions) (Started, error) {
	return s.onPool(ctx, sub, pool, o, func(_ *store.Tx, p *store.Pool) (work, error) {
		return poolWork(p, record.PoolRefresh), nil
	})
}

// VerifyPool reads every volume of the pool.
func (s *Service) VerifyPool(ctx context.Context, sub Submit, pool string, o JobOptions) (Started, error) {
	return s.onPool(ctx, sub, pool, o, func(tx *store.Tx, p *store.Pool) (work, error) {
		w := poolWork(p, record.PoolVerify)
		vols, err := tx.Volumes(p.Name)
		for _, v := range vols {
			w.Capacity = plus(w.Capacity, v.Capacity)
		}
		return w, err
	})
}

// DeletePool destroys the pool's storage. A pool that is known to hold volumes
// refuses unless they are to go too.
func (s *Service) DeletePool(ctx context.Context, sub Submit, pool string, r PoolDelete) (Started, error) {
	return s.onPool(ctx, sub, pool, r.JobOptions, func(tx *store.Tx, p *store.Pool) (work, error) {
		w := poolWork(p, record.PoolDelete)
		w.WithVolumes = r.WithVolumes
		if r.WithVolumes {
			return w, nil
		}
		vols, err := tx.Volumes(p.Name)
		if err != nil || len(vols) == 0 {
			return w, err
		}
		return w, inhabited(p, vols)
	})
}

// inhabited refuses to delete a pool that holds volumes, and says what else is
// in the way.
func inhabited(p *store.Pool, vols []*store.Volume) error {
	names := make([]string, len(vols))
	for i, v := range vols {
		names[i] = v.Name
	}
	holds := "holds " + plural(len(vols), "volume")
	hint := record.Hintf("%s deletes them too", record.Do("pool.delete", p.Name).With("with_volumes"))
	if p.State != record.PoolInactive {
		holds = fmt.Sprintf("is %s and %s", p.State, holds)
		hint = record.Hintf("%s; then %s", record.Do("pool.stop", p.Name), hint)
	}
	return record.Errorf(record.HasChildren, "pool %q %s: %s", p.Name, holds, list(names, 5)).WithHint("%s", hint)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
