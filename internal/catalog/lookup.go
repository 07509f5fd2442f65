package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// ActivePool gives a pool whose volumes can be worked on.
func ActivePool(tx *store.Tx, name string) (*store.Pool, error) {
	p, err := Pool(tx, name)
	if err != nil {
		return nil, err
	}
	return p, usable(p)
}

// usable refuses a pool whose volumes cannot be worked on.
func usable(p *store.Pool) error {
	switch p.State {
	case record.PoolActive, record.PoolDegraded:
		return nil
	case record.PoolInactive:
		return operation.Active(p.Pool)
	}
	e := record.Errorf(record.WrongState, "pool %q is %s: %s", p.Name, p.State, p.Reason)
	if p.State == record.PoolUnreachable {
		e = e.WithHint("%s", waysBack(p))
	}
	return e
}

// waysBack is what can be done about a pool in use that cannot be reached.
func waysBack(p *store.Pool) record.Hint {
	anew := record.Hintf("%s, %s and %s", record.Do("pool.stop", p.Name), record.Do("pool.build", p.Name), record.Do("pool.start", p.Name))
	if len(p.Source.Devices) > 0 { // a build would destroy what is there
		anew = record.Hintf("%s, %s, and define it anew", record.Do("pool.stop", p.Name), record.Do("pool.undefine", p.Name))
	}
	return record.Hintf("mend, mount or bring back what belongs there, then %s; to take what is there now in its place: %s", record.Do("pool.refresh", p.Name), anew)
}

// Pool gives a pool by name or uuid.
func Pool(tx *store.Tx, name string) (*store.Pool, error) {
	p, err := tx.Pool(name)
	if errors.Is(err, store.ErrNotFound) {
		p, err = tx.PoolByUUID(name)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, record.Errorf(record.NotFound, "no pool %q", name).WithHint("%s", record.Do("pool.list"))
	}
	return p, err
}

// Volume gives an entry of the catalog. A snapshot, by the name of its file, is as if
// it were a volume.
func Volume(tx *store.Tx, pool, name string) (*store.Volume, error) {
	v, err := entry(tx, pool, name)
	if volume, snapshot, ok := record.ParseSnapshot(name); ok && errors.Is(err, store.ErrNotFound) {
		return nil, record.Errorf(record.NotFound, "volume %s has no snapshot %q", record.Quoted(pool, volume), snapshot).
			WithHint("%s", record.Do("snapshot.list", pool+"/"+volume))
	}
	if errors.Is(err, store.ErrNotFound) {
		if e := notTheSnapshot(tx, pool, name); e != nil {
			return nil, e
		}
		return nil, record.Errorf(record.NotFound, "no volume %q in pool %q", name, pool).
			WithHint("%s; a volume that another program made appears after %s", record.Do("volume.list", pool), record.Do("pool.refresh", pool))
	}
	return v, err
}

// notTheSnapshot refuses a snapshot where a volume is to be named; nil: it is none.
func notTheSnapshot(tx *store.Tx, pool, name string) error {
	if is, err := isSnapshot(tx, pool, name); err != nil || !is {
		return err
	}
	is, of := pool+"/"+name, pool+"/"+name[:strings.LastIndexByte(name, '@')]
	return record.Errorf(record.NotFound, "%q is a snapshot and no volume: it stays as it is, its keys too", is).
		WithHint("%s shows it, %s makes a volume of it, %s makes %q that again, %s takes it away",
			record.Do("snapshot.list", of), record.Do("snapshot.clone", is, "POOL/NAME"), record.Do("snapshot.restore", is), of, record.Do("snapshot.delete", is))
}

// IgnoreNotFound takes a record that is gone for no failure: others may have removed it.
func IgnoreNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// FreeName refuses a name that no volume of the pool can have, and one that the
// catalog has already, be it as that of a snapshot.
func FreeName(tx *store.Tx, p *store.Pool, name string) error {
	if err := nameable(p, name); err != nil {
		return err
	}
	pool := p.Name
	v, err := tx.Volume(pool, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return notOfASnapshot(tx, pool, name)
	case err != nil:
		return err
	case v.State == record.VolumeBuilding:
		return record.Errorf(record.Exists, "volume \"%s/%s\" is being made%s", pool, name, byJob(v.Job))
	}
	return &NameTakenError{record.Errorf(record.Exists, "volume \"%s/%s\" exists already", pool, name), v}
}

// notOfASnapshot refuses the name VOLUME@NAME of a snapshot: whoever says it means that.
func notOfASnapshot(tx *store.Tx, pool, name string) error {
	if is, err := isSnapshot(tx, pool, name); err != nil || !is {
		return err
	}
	return record.Errorf(record.Exists, "\"%s/%s\" is a snapshot already", pool, name).
		WithHint("choose another name; %s takes that one away", record.Do("snapshot.delete", pool+"/"+name))
}

// isSnapshot reports whether VOLUME@NAME is one.
func isSnapshot(tx *store.Tx, pool, name string) (bool, error) {
	at := strings.LastIndexByte(name, '@')
	if at < 0 {
		return false, nil
	}
	_, err := entry(tx, pool, record.SnapshotFile(name[:at], name[at+1:]))
	return err == nil, IgnoreNotFound(err)
}

// NameTakenError is the refusal of a name that the catalog has.
type NameTakenError struct {
	refusal *record.Error
	By      *store.Volume
}

// Error is the text of the refusal.
func (e *NameTakenError) Error() string { return e.refusal.Error() }

// Unwrap gives the refusal.
func (e *NameTakenError) Unwrap() error { return e.refusal }

// asSeen refuses work on an object that has changed since the request was made
// for a generation of it. What the job itself has changed, when it was granted
// before the daemon went away, does not count.
func asSeen(tx *store.Tx, o operation.Operation, j *store.Job) error {
	seen, at := o.Bound().IfMatch, o.On()
	if seen == 0 || creates(o) {
		return nil
	}
	if at.Name == "" {
		p, err := Pool(tx, at.Pool)
		if err != nil || p.Job == j.Number {
			return err
		}
		return Unchanged(seen, p.Generation, "pool "+p.Name)
	}
	v, err := Volume(tx, at.Pool, at.Name)
	if err != nil || Made(v, j) {
		return err
	}
	return Unchanged(seen, v.Generation, "volume "+record.Quoted(at.Pool, at.Name))
}

// Unchanged refuses when the caller has seen another generation; 0 is any.
func Unchanged(seen, generation int64, what string) error {
	if seen == 0 || seen == generation {
		return nil
	}
	return record.Errorf(record.Changed, "%s has changed: its generation is %d, not %d", what, generation, seen).
		WithHint("read it again")
}

// creates reports whether an operation makes a volume of nothing that was there.
func creates(o operation.Operation) bool {
	return o.Effect() == operation.Makes && operation.Destination(o) == nil
}

// Complete refuses a volume whose content is not to be relied on.
func Complete(tx *store.Tx, v *store.Volume) error {
	switch v.State {
	case record.VolumeReady:
		return nil
	case record.VolumeBuilding:
		return record.Errorf(record.Busy, "volume \"%s/%s\" is still being made%s", v.Pool, v.Name, byJob(v.Job))
	}
	hint, err := completes(tx, v)
	if err != nil {
		return err
	}
	return &IncompleteError{record.Errorf(record.WrongState, "volume \"%s/%s\" is incomplete: its content was left half changed%s", v.Pool, v.Name, byJob(v.Job)).
		WithHint("%s", hint), v}
}

// IncompleteError is the refusal of a volume that is incomplete. It may have another file by
// now, which a look at it tells.
type IncompleteError struct {
	refusal *record.Error
	Of      *store.Volume
}

// Error is the text of the refusal.
func (e *IncompleteError) Error() string { return e.refusal.Error() }

// Unwrap gives the refusal.
func (e *IncompleteError) Unwrap() error { return e.refusal }

// completes says what makes an incomplete volume whole, by what became of the
// job that marked it.
func completes(tx *store.Tx, v *store.Volume) (record.Hint, error) {
	anew, name := record.Hintf("wipe it, or delete it"), v.Pool+"/"+v.Name
	if v.Job == nil {
		return anew, nil
	}
	last := cmp.Or(v.Writer, *v.Job) // who came after the one that marked it
	j, err := tx.JobByNumber(last)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return anew, nil
	case err != nil:
		return nil, err
	case !j.State.Terminal():
		return record.Hintf("%s, which is still at it", record.Do("job.wait", j.Number)), nil
	}
	o, err := OperationOf(j)
	if err != nil || !wasOn(o, v) {
		return anew, nil
	}
	u, ok := o.(*operation.Upload)
	again := older(v, j) == nil
	switch {
	case j.Resumable != nil && again:
		return record.Hintf("%s goes on with it", record.Do("job.retry", j.Number)), nil
	case !ok || u.Over && !again:
	case u.Over:
		return record.Hintf("%s writes it again; or %s", record.Do("job.retry", j.Number), anew), nil
	case j.State == record.Succeeded || j.Code() == record.Mismatch:
		return record.Hintf("%s with a content that fills it makes it whole; or %s", record.Do("volume.upload", name, "FILE"), anew), nil
	case !u.Partial():
		return record.Hintf("%s goes on with it; or %s", record.Do("volume.upload", name, "FILE").With("resume"), anew), nil
	}
	return anew, nil
}

// wasOn reports whether an operation was on a volume by the name that it has.
func wasOn(o operation.Operation, v *store.Volume) bool {
	pool, name := operation.ResultOf(o)
	return pool == v.Pool && name == v.Name
}

func byJob(n *int64) string {
	if n == nil {
		return ""
	}
	return fmt.Sprintf(" by job %d", *n)
}

// Known is what is known of a pool, of a volume of it, and of the pool that that
// is to go to; each of the latter can be nil.
func Known(tx *store.Tx, p *store.Pool, v *store.Volume, to *store.Pool) (operation.Known, error) {
	k := operation.Known{On: OnPool(p), Pool: p.Pool, Own: p.Identity != "" || p.Built}
	var err error
	if k.Can, err = Capabilities(p.Type); err != nil {
		return k, err
	}
	k.Volumes = func(pattern string) ([]record.Volume, error) { return matching(tx, p.Name, pattern) }
	k.Chain = func() (operation.Chain, error) { return chainOf(tx, v) }
	k.Under = func(pool, volume string) (operation.Chain, error) { return chainUnder(tx, pool, volume) }
	k.Snapshots = func() ([]operation.Layer, error) { return topDown(p, v), nil }
	k.Above = func(snapshot string) ([]operation.Layer, error) { return above(tx, p, v, snapshot) }
	k.Other = func(pool, volume string) (record.Volume, error) {
		v, err := Volume(tx, pool, volume)
		if err != nil {
			return record.Volume{}, err
		}
		return v.Volume, nil
	}
	if v != nil {
		k.On, k.Volume, k.Promised, k.IterTime, k.Cut = OnVolume(p, v.Name), v.Volume, v.Promised, v.IterTime, v.Cut
		if k.References, err = knownReferences(tx, v); err != nil {
			return k, err
		}
	}
	if to != nil {
		k.Near, k.Apart = together(p, to), shareless(p, to)
		k.There, err = Capabilities(to.Type)
	}
	return k, err
}

// matching are the volumes of a pool whose names match a pattern.
func matching(tx *store.Tx, pool, pattern string) (out []record.Volume, err error) {
	vols, err := tx.Volumes(pool)
	for _, v := range vols {
		if ok, err := record.MatchName(pattern, v.Name); err == nil && ok {
			out = append(out, v.Volume)
		}
	}
	return out, err
}

// OnPool names a pool for an operation.
func OnPool(p *store.Pool) operation.Volume {
	return operation.Volume{Pool: p.Name, UUID: p.UUID, Type: p.Type, Path: p.Target.Path, PoolSource: p.Source}
}

// OnVolume names a volume of a pool for an operation, known or not.
func OnVolume(p *store.Pool, name string) operation.Volume {
	v := OnPool(p)
	v.Name, v.Path = name, locationOf(p, name).Path
	return v
}
