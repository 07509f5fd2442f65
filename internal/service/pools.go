package service

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"storaged/internal/catalog"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/store"
)

// Pools lists all pools by name.
func (s *Service) Pools(context.Context) ([]record.Pool, error) {
	pools := []record.Pool{}
	err := s.store.View(func(tx *store.Tx) error {
		known, err := tx.Pools()
		for _, p := range known {
			pools = append(pools, catalog.PublicPool(p))
		}
		return err
	})
	return pools, err
}

// Pool gives one pool by name or uuid.
func (s *Service) Pool(_ context.Context, pool string) (record.Pool, error) {
	p, err := s.stored(pool)
	if err != nil {
		return record.Pool{}, err
	}
	return catalog.PublicPool(p), nil
}

func (s *Service) stored(pool string) (p *store.Pool, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		p, err = catalog.Pool(tx, pool)
		return err
	})
	return p, err
}

// storedOn gives the volume that an operation is on, as the catalog has it.
func (s *Service) storedOn(o operation.Operation) (v *store.Volume, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		v, err = catalog.Volume(tx, o.On().Pool, o.On().Name)
		return err
	})
	return v, err
}

// DefinePool records a pool; with build or start it also starts one job, and
// pool and job are recorded together. A request that is repeated under its key
// gives the same pool and the same job.
func (s *Service) DefinePool(ctx context.Context, sub contract.Submit, r contract.PoolDefine, build, start bool) (record.Pool, contract.Started, error) {
	r.Fill()
	if err := mayDefine(ctx, sub.Caller, start); err != nil {
		return record.Pool{}, contract.Started{}, err
	}
	p, st, err := s.definePool(ctx, sub, r, build, start)
	if r.ExistOK && record.CodeOf(err) == record.Exists {
		return s.existing(ctx, sub, r, start, err)
	}
	return p, st, err
}

// mayDefine refuses a caller that may not define pools, or start them where that follows.
func mayDefine(ctx context.Context, c record.Caller, start bool) error {
	if err := c.May(ctx, record.DefinePools); err != nil || !start {
		return err
	}
	return c.May(ctx, record.RunPools)
}

func (s *Service) definePool(ctx context.Context, sub contract.Submit, r contract.PoolDefine, build, start bool) (record.Pool, contract.Started, error) {
	if again, err := s.repeated(sub); again != nil || err != nil {
		return s.redefined(ctx, r.Name, deref(again), err)
	}
	if err := r.JobOptions.Check(); err != nil {
		return record.Pool{}, contract.Started{}, err
	}
	p, err := s.newPool(r)
	if err != nil {
		return record.Pool{}, contract.Started{}, err
	}
	if !build && !start {
		if r.Transient {
			return record.Pool{}, contract.Started{}, record.Errorf(record.Invalid, "a pool that is forgotten when it is not active any more is started when it is defined")
		}
		return s.defineOnly(ctx, sub, p)
	}
	if build {
		if err := unbuildable(p); err != nil {
			return record.Pool{}, contract.Started{}, err
		}
	}
	w := order{options: r.JobOptions}
	if w.operation, err = defining(p, build, start); err != nil {
		return record.Pool{}, contract.Started{}, err
	}
	if sub.DryRun {
		if err := s.definable(p); err != nil {
			return record.Pool{}, contract.Started{}, err
		}
		st, err := s.submit(ctx, sub, w)
		return p.Pool, st, err
	}
	w.also = func(tx *store.Tx) error { return s.define(tx, p) }
	st, err := s.submit(ctx, sub, w)
	return s.redefined(ctx, p.Name, st, err)
}

// define records a pool, if the secret of its source is there.
func (s *Service) define(tx *store.Tx, p *store.Pool) error {
	if err := s.KnownSecret(p.Source.Secret); err != nil {
		return err
	}
	return s.catalog.Define(tx, p)
}

// definable refuses a pool that could not be recorded.
func (s *Service) definable(p *store.Pool) error {
	if err := s.KnownSecret(p.Source.Secret); err != nil {
		return err
	}
	return s.store.View(func(tx *store.Tx) error { return catalog.Definable(tx, p) })
}

// defineOnly records a pool and starts nothing. The same request once more
// changes nothing.
func (s *Service) defineOnly(ctx context.Context, sub contract.Submit, p *store.Pool) (record.Pool, contract.Started, error) {
	if sub.DryRun {
		return p.Pool, contract.Started{}, s.definable(p)
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
	return s.redefined(ctx, p.Name, contract.Started{}, err)
}

// redefined gives the pool as it is recorded.
func (s *Service) redefined(ctx context.Context, name string, st contract.Started, err error) (record.Pool, contract.Started, error) {
	if err != nil {
		return record.Pool{}, contract.Started{}, err
	}
	p, err := s.Pool(ctx, name)
	return p, st, err
}

// unbuildable refuses to define a pool that is to be built and cannot be: it would stay
// defined, and of no use.
func unbuildable(p *store.Pool) error {
	can, err := catalog.Capabilities(p.Type)
	if err != nil {
		return err
	}
	if e := operation.Unbuildable(p.Pool, can); e != nil {
		return e
	}
	return nil
}

// defining is the one operation of a define: starting, with building before if
// asked or where that takes nothing away from a pool that is to stay; or only building.
func defining(p *store.Pool, build, start bool) (operation.Operation, error) {
	if !start {
		return &operation.PoolBuild{OnPool: operation.OnPool{Volume: catalog.OnPool(p)}, Rights: operation.Rights{Rights: p.Target.Rights}}, nil
	}
	can, err := catalog.Capabilities(p.Type)
	o := catalog.StartOf(p)
	if o.Build = build || can.MakesTarget && p.Persistent; o.Build {
		o.Rights.Rights = p.Target.Rights
	}
	return o, err
}

// newPool checks a definition and makes the pool of it.
func (s *Service) newPool(r contract.PoolDefine) (*store.Pool, error) {
	r.Fill()
	if err := record.CheckNameOf("pool", r.Name); err != nil {
		return nil, err
	}
	if _, err := uuid.Parse(r.Name); err == nil {
		return nil, record.Errorf(record.Invalid, "pool name %q could be taken for a uuid", r.Name)
	}
	if r.Transient && *r.Autostart {
		return nil, record.Errorf(record.Invalid, "pool %q is forgotten when it is not active any more: it is not started with the daemon", r.Name)
	}
	props, err := catalog.Capabilities(r.Type)
	if err != nil {
		return nil, err
	}
	if err := checkSource(r, props); err != nil {
		return nil, err
	}
	if r.Source.Format == "" && len(props.SourceFormats) > 0 {
		r.Source.Format = props.SourceFormats[0]
	}
	if r.Target.Path, err = catalog.TargetOf(r.Type, r.Source, r.Target.Path); err != nil {
		return nil, err
	}
	if err := s.notOurs(r.Target.Path); err != nil {
		return nil, err
	}
	id, err := poolUUID(r.UUID)
	if err != nil {
		return nil, err
	}
	return &store.Pool{Pool: record.Pool{
		Name: r.Name, UUID: id, Type: r.Type, State: record.PoolInactive, Reason: "defined", Since: time.Now().UTC(),
		Persistent: !r.Transient, Autostart: *r.Autostart, Target: r.Target, Source: r.Source, Generation: 1,
	}}, nil
}

// notOurs refuses the daemon's own directories as pools: whose files it would
// take for volumes.
func (s *Service) notOurs(target string) error {
	c := s.config
	own := target == c.StateDir || catalog.Inside(target, filepath.Join(c.StateDir, "jobs")) || catalog.Inside(target, filepath.Join(c.StateDir, "copies")) ||
		catalog.Inside(target, c.RuntimeDir)
	if target == "" || !own {
		return nil
	}
	return record.Errorf(record.Invalid, "%q is a directory of storaged's own, and no pool", target).WithHint("give another directory")
}

// parts are those of a definition that something needs, and may have beside.
type parts struct {
	who          string
	needs, takes []string
	given        map[string]bool // beside those of a source
}

// check refuses a source without what is needed, or with what is not taken.
func (p parts) check(s record.Source) error {
	given := map[string]bool{
		"source_hosts":     len(s.Hosts) > 0,
		"source_devices":   len(s.Devices) > 0,
		"source_name":      s.Name != "",
		"source_path":      s.Path != "",
		"source_format":    s.Format != "",
		"source_initiator": s.Initiator != "",
		"source_username":  s.Username != "",
		"source_secret":    s.Secret != "",
		"source_options":   len(s.Options) > 0,
	}
	maps.Copy(given, p.given)
	for _, need := range p.needs {
		if !given[need] {
			return record.Errorf(record.Invalid, "%s needs %s", p.who, spoken(need)).
				WithHint("give it with %s", record.Do("").With(need, "…"))
		}
		delete(given, need)
	}
	for field, set := range given {
		if set && !slices.Contains(p.takes, field) {
			return record.Errorf(record.Invalid, "%s does not take %s", p.who, spoken(field))
		}
	}
	return nil
}

// checkSource holds the definition against what the type needs.
func checkSource(r contract.PoolDefine, props record.Capabilities) error {
	if err := r.Source.Check(); err != nil {
		return err
	}
	p := parts{who: "a pool of type " + r.Type, needs: props.Needs, takes: props.Takes, given: map[string]bool{"target_path": r.Target.Path != ""}}
	if err := p.check(r.Source); err != nil {
		return err
	}
	if err := r.Target.CheckRights(); err != nil {
		return err
	}
	switch {
	case r.Target.Path == "" && r.Target != (record.Target{}):
		return record.Errorf(record.Invalid, "a pool without a directory has no owner, group, mode or label of one")
	case r.Target.Path != "":
		if err := record.CheckPath(r.Target.Path); err != nil {
			return record.Errorf(record.Invalid, "target path: %v", err)
		}
	}
	if f := r.Source.Format; f != "" && !slices.Contains(props.SourceFormats, f) {
		return record.Errorf(record.Unsupported, "a source of a pool of type %s is not in format %q, but %s", r.Type, f, record.List(props.SourceFormats, len(props.SourceFormats)))
	}
	return catalog.CheckSource(r.Type, r.Source)
}

// spoken makes words of the name of a part: of target_path "a target path".
func spoken(part string) string {
	words := strings.ReplaceAll(part, "_", " ")
	if strings.HasSuffix(words, "s") {
		return words
	}
	return "a " + words
}

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

// ReplacePool changes a pool's definition: now, or when it is not in use any more.
func (s *Service) ReplacePool(ctx context.Context, sub contract.Submit, pool string, r contract.PoolDefine) (record.Pool, error) {
	if err := sub.Caller.May(ctx, record.DefinePools); err != nil {
		return record.Pool{}, err
	}
	if r.Name == "" {
		r.Name = pool
	}
	next, err := s.newPool(r)
	if err != nil {
		return record.Pool{}, err
	}
	var out record.Pool
	err = s.store.Update(func(tx *store.Tx) error {
		p, err := s.matching(tx, sub, pool)
		if err == nil {
			err = s.KnownSecret(next.Source.Secret)
		}
		if err != nil {
			return err
		}
		if next.Name != p.Name || r.UUID != "" && next.UUID != p.UUID || next.Type != p.Type {
			return record.Errorf(record.Invalid, "name, uuid and type of pool %q cannot be changed", p.Name).
				WithHint("undefine it and define another; that touches no storage")
		}
		if p.State != record.PoolInactive {
			err = s.catalog.RedefineLater(tx, p, next)
			out = catalog.PublicPool(p)
			return err
		}
		if err := catalog.PoolUnused(tx, p.Name); err != nil {
			return err
		}
		err = s.catalog.Redefine(tx, p, next)
		out = next.Pool
		return err
	})
	return out, err
}

// matching gives a pool that is of the generation that the request is for.
func (s *Service) matching(tx *store.Tx, sub contract.Submit, pool string) (*store.Pool, error) {
	p, err := catalog.Pool(tx, pool)
	if err != nil {
		return nil, err
	}
	return p, catalog.Unchanged(sub.IfMatch, p.Generation, "pool "+p.Name)
}

// idlePool gives a pool that is inactive and that no live job is about.
func (s *Service) idlePool(tx *store.Tx, sub contract.Submit, pool string) (*store.Pool, error) {
	p, err := s.matching(tx, sub, pool)
	if err != nil {
		return nil, err
	}
	if err := operation.Inactive(p.Pool); err != nil {
		return nil, err
	}
	return p, catalog.PoolUnused(tx, p.Name)
}

// PatchPool changes properties.
func (s *Service) PatchPool(ctx context.Context, sub contract.Submit, pool string, r contract.PoolPatch) (record.Pool, error) {
	if err := sub.Caller.May(ctx, record.DefinePools); err != nil {
		return record.Pool{}, err
	}
	var out record.Pool
	err := s.store.Update(func(tx *store.Tx) error {
		p, err := s.matching(tx, sub, pool)
		if err != nil {
			return err
		}
		if r.Autostart != nil {
			if *r.Autostart && !p.Persistent {
				return record.Errorf(record.WrongState, "pool %q is forgotten when it is not active any more: it is not started with the daemon", p.Name)
			}
			p.Autostart = *r.Autostart
		}
		err = s.catalog.ChangePool(tx, p)
		out = catalog.PublicPool(p)
		return err
	})
	return out, err
}

// UndefinePool forgets a pool and its catalog; no storage is touched. It reports whether
// there was one.
func (s *Service) UndefinePool(ctx context.Context, sub contract.Submit, pool string, r contract.PoolUndefine) (changed bool, err error) {
	if err := sub.Caller.May(ctx, record.DefinePools); err != nil {
		return false, err
	}
	err = s.store.Update(func(tx *store.Tx) error {
		p, err := s.idlePool(tx, sub, pool)
		if err != nil {
			return err
		}
		return s.catalog.Undefine(tx, p)
	})
	if r.MissingOK && record.CodeOf(err) == record.NotFound {
		return false, nil
	}
	return err == nil, err
}
