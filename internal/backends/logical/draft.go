package logical

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"storaged/internal/backends"
	"storaged/internal/backends/deputy"
	"storaged/internal/crash"
	"storaged/internal/diskio"
	"storaged/internal/record"
)

// draft is a volume by its temporary name.
type draft struct {
	*volume
	final string // name that it is to get
	job   string // whose it is
	err   error  // of the Commit that failed
	fate  fate
}

var _ backends.Draft = (*draft)(nil)

// fate is what became of a draft.
type fate int

const (
	undecided fate = iota
	committed
	discarded
)

// Create makes a volume by the temporary name of the job.
func (Backend) Create(ctx context.Context, p backends.Pool, n backends.NewVolume) (backends.Draft, error) {
	if err := record.CheckJob(n.Job); err != nil {
		return nil, err
	}
	path := Backend{}.Locate(p, n.Name).Path
	if n.Size < 0 {
		return nil, record.Errorf(record.Invalid, "how large volume %q is to be must be known before it is made: logical volumes do not grow as they are written", path).
			WithHint("say its capacity")
	}
	g, err := enter(ctx, p, n.Name)
	if err != nil {
		return nil, err
	}
	if g.find(n.Name) != nil && !n.Replaces {
		return nil, taken(p, n.Name)
	}
	temp := record.DraftName(n.Job)
	if err := g.make(ctx, p, temp, n); err != nil {
		return nil, fmt.Errorf("cannot create volume %q: %w", path, err)
	}
	crash.At(crash.Drafted)
	d, err := openDraft(context.WithoutCancel(ctx), p, n.Job, n.Name) // it is there, and must not be left
	if err != nil {
		return nil, errors.Join(err, dropped(p, temp))
	}
	return d, nil
}

// dropped removes what was made and cannot be opened.
func dropped(p backends.Pool, temp string) error {
	ctx := context.Background() // it ends by LVM's own time
	g, err := look(ctx, p)
	if err != nil {
		return err
	}
	if x := g.find(temp); x != nil {
		return x.remove(ctx, p)
	}
	return nil
}

// make makes a volume of the next size that is a number of extents. One that begins as another
// has the size of that.
func (g *group) make(ctx context.Context, p backends.Pool, name string, n backends.NewVolume) error {
	extents := g.extents(n.Size)
	switch pool := n.Options[record.OptionThinPool]; {
	case n.Origin != "":
		return g.share(ctx, p, name, n.Origin)
	case pool != "":
		return g.makeThin(ctx, p, name, extents, pool)
	}
	if need := extents * g.extent; need > g.free {
		return &diskio.NoRoomError{Needed: need, Available: g.free}
	}
	_, err := deputy.Do(ctx, Backend{}, p, backends.Errand{Do: doCreate, Args: []string{name, strconv.FormatInt(extents, 10)}})
	return err
}

// extents is how many hold so many bytes.
func (g *group) extents(size int64) int64 { return max((size-1)/g.extent+1, 1) }

func openDraft(ctx context.Context, p backends.Pool, job, name string) (backends.Draft, error) {
	g, err := look(ctx, p)
	if err != nil {
		return nil, err
	}
	x := g.find(record.DraftName(job))
	if x == nil {
		return nil, fmt.Errorf("volume %q in the making is gone", record.DraftName(job))
	}
	v, err := x.opened(ctx, p, backends.WriteExclusive)
	if err != nil {
		return nil, err
	}
	return &draft{volume: v, final: name, job: job}, nil
}

// Clean: LVM gives what others have given back, and thin pools clear that before.
func (d *draft) Clean() bool { return d.kind == thinVolume && d.zeroes && d.origin == "" }

// Info is that of the volume to be.
func (d *draft) Info() (backends.VolumeInfo, error) {
	is := *d.volume
	is.name = d.final
	return is.Info()
}

// Commit renames it.
func (d *draft) Commit(ctx context.Context, record func(identity []byte) error) error {
	if d.fate != undecided || d.err != nil {
		return d.err
	}
	if d.err = ctx.Err(); d.err == nil {
		d.err = d.file.Sync()
	}
	if d.err == nil {
		d.err = d.rename(ctx, d.final, encode(identity{UUID: d.uuid}), record)
	}
	if d.err == nil {
		d.fate = committed
		crash.At(crash.Renamed)
	}
	return d.err
}

// Discard removes it.
func (d *draft) Discard() error {
	switch d.fate {
	case committed:
		return fmt.Errorf("cannot discard volume %q: it is complete", d.path())
	case discarded:
		return nil
	}
	if err := d.Close(); err != nil {
		return err
	}
	err := d.remove(context.Background(), d.pool) // it ends by LVM's own time
	if err == nil {
		d.fate = discarded
	}
	return err
}

// Resume takes up what an earlier process of the job has made.
func (Backend) Resume(ctx context.Context, p backends.Pool, name, job, left string) (backends.Draft, error) {
	if err := errors.Join(record.CheckJob(job), record.CheckJob(left)); err != nil {
		return nil, err
	}
	g, err := entered(ctx, p, name, record.DraftName(left))
	if err != nil {
		return nil, err
	}
	x := g.find(record.DraftName(left))
	if x != nil && !x.active { // LVM was killed when it was making it
		if err := x.remove(ctx, p); err != nil {
			return nil, err
		}
		x = nil
	}
	if x == nil {
		return nil, fmt.Errorf("what job %s left of volume %q: %w", left, name, backends.ErrNotFound)
	}
	v, err := x.opened(ctx, p, backends.WriteExclusive)
	if err != nil {
		return nil, err
	}
	d := &draft{volume: v, final: name, job: job}
	if g.find(name) != nil {
		return nil, errors.Join(taken(p, name), d.Discard())
	}
	if job == left {
		return d, nil
	}
	if err := v.becomes(ctx, p, record.DraftName(job)); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot take up volume %q: %w", v.path(), err), v.Close())
	}
	return d, nil
}

// Settle looks whether the job had committed, and removes what it was making.
func (Backend) Settle(ctx context.Context, p backends.Pool, name, job string, commit []byte) (done bool, err error) {
	was, err := decode(commit)
	if err := errors.Join(err, record.CheckJob(job)); err != nil {
		return false, err
	}
	g, err := entered(ctx, p, name, record.DraftName(job), awayOf(job))
	if err != nil {
		return false, err
	}
	if was.Replaces != "" {
		if err := g.replaced(ctx, p, name, job, was); err != nil {
			return false, err
		}
	}
	v := g.find(name)
	done = v != nil && was.UUID != "" && v.uuid == was.UUID
	if x := g.find(record.DraftName(job)); x != nil {
		if err := x.cleared(ctx, p); err != nil {
			return false, err
		}
	}
	crash.At(crash.Cleared)
	return done, nil
}

// entered is enter after what was killed in the middle of a change of one of those volumes.
func entered(ctx context.Context, p backends.Pool, name string, others ...string) (group, error) {
	if err := cmp.Or(ctx.Err(), checkName(name)); err != nil {
		return group{}, err
	}
	for _, n := range append(others, name) {
		if _, err := deputy.Do(ctx, Backend{}, p, backends.Errand{Do: doMend, Args: []string{n}}); err != nil {
			return group{}, fmt.Errorf("cannot mend volume %q: %w", Backend{}.Locate(p, n).Path, err)
		}
	}
	return look(ctx, p)
}

// cleared removes what a job has left, which nobody has open.
func (v *logicalVolume) cleared(ctx context.Context, p backends.Pool) error {
	if !v.active { // LVM was killed when it was making it
		return v.remove(ctx, p)
	}
	open, err := v.opened(ctx, p, backends.WriteExclusive)
	if err != nil {
		return err
	}
	return open.Remove()
}
