package service

import (
	"cmp"
	"errors"
	"fmt"

	"storaged/internal/record"
	"storaged/internal/store"
)

// activePool gives a pool whose volumes can be worked on.
func activePool(tx *store.Tx, name string) (*store.Pool, error) {
	p, err := findPool(tx, name)
	if err != nil {
		return nil, err
	}
	switch p.State {
	case record.PoolActive, record.PoolDegraded:
		return p, nil
	case record.PoolInactive:
		return nil, record.Errorf(record.WrongState, "pool %q is not active", p.Name).
			WithHint("%s", record.Do("pool.start", p.Name))
	}
	e := record.Errorf(record.WrongState, "pool %q is %s: %s", p.Name, p.State, p.Reason)
	if p.State == record.PoolUnreachable {
		e = e.WithHint("%s, when it is there again", record.Do("pool.refresh", p.Name))
	}
	return nil, e
}

// findPool gives a pool by name or uuid.
func findPool(tx *store.Tx, name string) (*store.Pool, error) {
	p, err := tx.Pool(name)
	if errors.Is(err, store.ErrNotFound) {
		p, err = tx.PoolByUUID(name)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, record.Errorf(record.NotFound, "no pool %q", name).WithHint("%s", record.Do("pool.list"))
	}
	return p, err
}

// findVolume gives an entry of the catalogue.
func findVolume(tx *store.Tx, pool, name string) (*store.Volume, error) {
	v, err := tx.Volume(pool, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, record.Errorf(record.NotFound, "no volume %q in pool %q", name, pool).
			WithHint("%s; a volume that another program made appears after %s", record.Do("volume.list", pool), record.Do("pool.refresh", pool))
	}
	return v, err
}

// freeName refuses a name that no volume of the pool can have, and one that the
// catalogue has already.
func freeName(tx *store.Tx, p *store.Pool, name string) error {
	if err := nameable(p, name); err != nil {
		return err
	}
	pool := p.Name
	v, err := tx.Volume(pool, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case v.State == record.VolumeBuilding:
		return record.Errorf(record.Exists, "volume \"%s/%s\" is being made%s", pool, name, byJob(v.Job))
	}
	return &takenError{record.Errorf(record.Exists, "volume \"%s/%s\" exists already", pool, name), v}
}

// meant refuses work on an object that has changed since the request was made
// for a generation of it. What the job itself has changed, when it was granted
// before the daemon went away, does not count.
func (w work) meant(tx *store.Tx, j *store.Job) error {
	if w.IfMatch == 0 || w.Kind == record.VolumeCreate {
		return nil
	}
	sub := Submit{IfMatch: w.IfMatch}
	if w.Volume == "" {
		p, err := findPool(tx, w.Pool)
		if err != nil || p.Job == j.Number {
			return err
		}
		return unchanged(sub, p.Generation, "pool "+p.Name)
	}
	v, err := findVolume(tx, w.Pool, w.Volume)
	if err != nil || made(v, j) {
		return err
	}
	return unchanged(sub, v.Generation, "volume "+quoted(w.Pool, w.Volume))
}

// whole refuses a volume whose content is not to be relied on.
func whole(tx *store.Tx, v *store.Volume) error {
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
	return record.Errorf(record.WrongState, "volume \"%s/%s\" is incomplete: its content was left half changed%s", v.Pool, v.Name, byJob(v.Job)).
		WithHint("%s", hint)
}

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
	case j.Resumable != nil:
		return record.Hintf("%s goes on with it", record.Do("job.retry", j.Number)), nil
	}
	w, err := workOf(j)
	switch {
	case err != nil || w.Kind != record.VolumeUpload:
	case j.State == record.Succeeded || j.Code() == record.Mismatch:
		return record.Hintf("%s with a content that fills it makes it whole; or %s", record.Do("volume.upload", name, "FILE"), anew), nil
	case !w.partial():
		return record.Hintf("%s goes on with it; or %s", record.Do("volume.upload", name, "FILE").With("resume"), anew), nil
	}
	return anew, nil
}

// list names at most n things, and how many more there are.
func list(names []string, n int) string {
	if len(names) <= n {
		return join(names)
	}
	return fmt.Sprintf("%s and %d more", join(names[:n]), len(names)-n)
}

func join(names []string) string {
	out := ""
	for i, s := range names {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprintf("%q", s)
	}
	return out
}

func byJob(n *int64) string {
	if n == nil {
		return ""
	}
	return fmt.Sprintf(" by job %d", *n)
}
