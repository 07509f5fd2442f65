package catalog

import (
	"errors"

	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// AllKnown refuses the first of the items that is a volume of another file than the
// catalog has under its name.
func AllKnown(tx *store.Tx, o operation.Operation, items []ipc.Item) error {
	only, _ := TakesVolumes(o)
	at := o.On()
	for _, it := range items {
		if _, _, snapshot := record.ParseSnapshot(it.Name); snapshot && o.Effect() == operation.Empties {
			continue // it stays, with its volume
		}
		if ok, err := record.MatchName(only, it.Name); it.Ignored != "" || !ok || err != nil {
			continue // what is ignored makes a delete refuse anyhow
		}
		v, err := entry(tx, at.Pool, it.Name)
		switch {
		case errors.Is(err, store.ErrNotFound), err == nil && !sameVolume(at.Type, v.Identity, it.Identity):
			return another(record.Quoted(at.Pool, it.Name))
		case err != nil:
			return err
		}
	}
	return nil
}

// TakesVolumes reports whether an operation takes the volumes of a pool away, and which.
func TakesVolumes(o operation.Operation) (only string, ok bool) {
	switch o := o.(type) {
	case *operation.PoolDelete:
		return "", o.WithVolumes
	case *operation.Evacuate:
		return o.Only, true
	}
	return "", false
}

// OnExisting reports whether an operation is on a volume that was there before.
func OnExisting(o operation.Operation) bool { return o.On().Name != "" && !creates(o) }

// Original refuses work on what is not the object that the job was for.
func Original(tx *store.Tx, o operation.Operation, j *store.Job) error {
	if err := situatedAsBefore(tx, o); err != nil {
		return err
	}
	at := o.On()
	only, all := TakesVolumes(o)
	switch {
	case OnExisting(o):
		v, err := tx.Volume(at.Pool, at.Name)
		if err != nil {
			return IgnoreNotFound(err) // which the kind of job refuses
		}
		return older(v, j)
	case all && (o.Effect() == operation.Destroys || j.State.Terminal()): // of an evacuation at work, others may visit the pool
		vols, err := tx.Volumes(at.Pool)
		if err != nil {
			return err
		}
		for _, v := range vols {
			if ok, err := record.MatchName(only, v.Name); !ok || err != nil {
				continue
			}
			if err := older(v, j); err != nil {
				return err
			}
		}
	}
	return nil
}

// older refuses a volume that came to its name after the job was recorded.
func older(v *store.Volume, j *store.Job) error {
	if v.Arrived < j.Number && (v.CreatedBy == nil || *v.CreatedBy <= j.Number) {
		return nil
	}
	return another(record.Quoted(v.Pool, v.Name))
}

// another is the refusal of an object that the job was not for.
func another(volume string) error {
	return record.Errorf(record.Changed, "volume %s is not one that the job was for: it came to its name later", volume).
		WithHint("start the work anew instead of retrying it")
}

// situatedAsBefore refuses an operation whose pool is another by now, or lies
// elsewhere: what is at the path that the helper is given may be somebody else's.
func situatedAsBefore(tx *store.Tx, o operation.Operation) error {
	for _, at := range objectsOf(o) {
		p, err := Pool(tx, at.Pool)
		if err != nil {
			return err
		}
		dir := at.Path
		if at.Name != "" {
			dir = targetOf(at.Type, at.Path)
		}
		var refusal *record.Error
		switch {
		case at.UUID != "" && p.UUID != at.UUID:
			refusal = record.Errorf(record.Changed, "pool %q is not the one that the job was for: it was defined anew since", at.Pool)
		case p.Target.Path != dir:
			refusal = record.Errorf(record.Changed, "pool %q is at %q now, no longer at %q", at.Pool, p.Target.Path, dir)
		case !p.Source.SameStorage(at.PoolSource) && !at.PoolSource.SameStorage(record.Source{}):
			refusal = record.Errorf(record.Changed, "pool %q has another source now", at.Pool)
		default:
			continue
		}
		return refusal.WithHint("start the work anew instead of retrying it")
	}
	return nil
}

// objectsOf are what an operation is on and where it goes.
func objectsOf(o operation.Operation) []*operation.Volume {
	at := []*operation.Volume{o.On()}
	if to := operation.Destination(o); to != nil && to.Pool != "" {
		at = append(at, (*operation.Volume)(to))
	}
	return at
}

// poolsOf are the pools of those, as far as they are still known.
func poolsOf(tx *store.Tx, o operation.Operation) (pools []*store.Pool, err error) {
	for _, at := range objectsOf(o) {
		p, err := tx.Pool(at.Pool)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		pools = append(pools, p)
	}
	return pools, nil
}

// Locate tells an operation what its pools and its volume are, as they are known
// by their drivers.
func Locate(tx *store.Tx, o operation.Operation) error {
	for _, at := range objectsOf(o) {
		p, err := tx.Pool(at.Pool)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		at.PoolID, at.PoolSource = p.Identity, p.Source
		e := o.Effect()
		if e == operation.Starts || e == operation.Destroys || e == operation.Lists && p.State == record.PoolUnreachable {
			at.PoolID = Lasting(p.Type, p.Identity) // what is mounted anew may get another device
		}
	}
	v, err := entry(tx, o.On().Pool, o.On().Name)
	if err == nil && v.State != record.VolumeBuilding {
		o.On().ID = v.Identity
	}
	if s, ok := o.(interface{ SnapshotOf() *operation.OnSnapshot }); ok && err == nil {
		s.SnapshotOf().SnapshotID = identityOfSnapshot(v, s.SnapshotOf().Snapshot)
	}
	return IgnoreNotFound(err)
}

// otherTargets are the identities of the other pools in use, which a delete of a
// pool must not take for its own. What its driver cannot read is none of its storage.
func otherTargets(tx *store.Tx, on *operation.Volume) (ids []string, err error) {
	pools, err := tx.Pools()
	for _, p := range pools {
		if p.Name != on.Pool && InUse(p) && p.Identity != "" && isIdentity(on.Type, p.Identity) {
			ids = append(ids, p.Identity)
		}
	}
	return ids, err
}
