package helper

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"storaged/internal/backends"
	"storaged/internal/crash"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// Draft is a volume that a task makes.
type Draft struct {
	unlocked // it is locked when it is begun, and closed by who begins it
	Location
	As     backends.NewVolume     // without name and job
	Draft  backends.Draft         // when it is begun
	Rights diskio.Rights          // that it gets when it is complete
	Over   *Volume                // that it is to replace, which leaves its name then; nil: none
	Aside  string                 // name that the latter gets instead; "": it is gone
	Like   *Volume                // whose content it begins with, if As has an Origin; nil: none
	Else   func(wrong error) bool // whether the task goes on another way after that, so that nothing is undone; nil: it does not
	run    *Run                   // by which it was begun before the task came to it; nil: it was not
}

// ShareStorage has the draft begin with the content of the volume that it is like, whose storage
// both share: the driver does that by itself. Where it cannot it says why, and it is nil where
// the storage is shared.
func (d *Draft) ShareStorage(ctx context.Context, r *Run) error {
	cloner, ok := d.Pool.Backend.(backends.Cloner)
	if !ok || d.Like == nil {
		return backends.ErrUnsupported
	}
	if err := cloner.Clonable(d.Pool.Pool, d.As, d.Like.Volume); err != nil {
		return err
	}
	d.As.Origin = d.Like.Name
	return r.Step(ctx, d.Like.Volume.Content().Flush)
}

// replacement is a draft that is to replace a volume.
type replacement struct {
	backends.Draft
	backends.Replacer
	old   backends.Taken
	aside string
}

// Commit gives it the name of that.
func (r replacement) Commit(ctx context.Context, record func(identity []byte) error) error {
	return r.Replace(ctx, r.old, r.aside, record)
}

// over makes a draft one that replaces a volume.
func over(d backends.Draft, old *Volume, aside string) (backends.Draft, error) {
	able, ok := d.(backends.Replacer)
	if !ok {
		return d, ipc.Errorf(record.Unsupported, "volumes of pool type %q cannot be replaced", old.Pool.Type)
	}
	return replacement{d, able, old.Taken(), aside}, nil
}

// Open opens the pool in which it is made.
func (d *Draft) Open(ctx context.Context, r *Run) error {
	d.Pool.Changes = true
	return d.Pool.Open(ctx, r)
}

// Create makes a new volume: fill writes its content, and whatever goes wrong
// before the commit leaves nothing behind, or, if that is asked for, what was
// written by then under the volume's name. It gets that in the phase that is called
// so, or else in the one that fill ends with.
func (r *Run) Create(ctx context.Context, d *Draft, fill func() error) error {
	done, err := r.begin(ctx, d)
	if err != nil || done {
		return err
	}
	defer d.Draft.Close() // what it held is durable or gone by then
	var wrong error
	named := false
	defer func() {
		if !named {
			r.discard(d, wrong)
		}
	}()
	wrong = fill()
	if wrong == nil {
		wrong = cmp.Or(d.Rights.Give(d.Draft.Content()), d.Pool.InPlace(ctx))
	}
	if wrong == nil {
		crash.At(crash.Filled)
		r.toCommit()
	} else if !r.Keep || r.Pacer.Counts().Done == 0 {
		return bounded(wrong, d.Draft.Content())
	}
	named, wrong = r.Name(ctx, d.Draft, wrong)
	if !named {
		return wrong
	}
	if wrong != nil {
		r.Report.Rollback = string(record.RollbackKept)
	}
	return cmp.Or(wrong, r.Describe(d.Draft))
}

// Name gives a draft its name: a complete one, or, where what is unfinished is
// kept, one that something went wrong with. A cancel counts until the identity
// is durable.
func (r *Run) Name(ctx context.Context, d backends.Draft, wrong error) (named bool, _ error) {
	if wrong == nil {
		if _, wrong = r.Pacer.Admit(ctx, 0); wrong == nil {
			defer r.Pacer.Finished(diskio.Moved{})
		}
	}
	if r.Keep {
		ctx = context.WithoutCancel(ctx)
	}
	err := d.Commit(ctx, func(identity []byte) error {
		if wrong == nil {
			wrong = r.Seal()
		}
		switch {
		case wrong == nil:
			return r.Records.Save(identity)
		case r.Keep:
			return r.Records.Save(append([]byte(Unfinished), identity...))
		}
		return wrong
	})
	if err != nil && wrong != nil && r.Keep {
		r.Warn("the unfinished volume cannot be kept: %v", err)
	}
	return err == nil, cmp.Or(wrong, err)
}

// Unfinished stands in front of the identity of a volume that got its name
// without being complete.
const Unfinished = "unfinished\n"

// discard removes a volume in the making, which undoes the task unless it goes on
// another way. Nothing cancels or pauses that.
func (r *Run) discard(d *Draft, wrong error) {
	if d.Else != nil && d.Else(wrong) {
		if err := d.Draft.Discard(); err != nil {
			r.Warn("cannot remove what was begun: %v", err)
		}
		return
	}
	if !r.Many || r.control.stopped() != nil {
		r.RollingBack()
	}
	if err := d.Draft.Discard(); err != nil {
		r.Report.Rollback = string(record.RollbackFailed)
		r.Warn("cannot remove the unfinished volume: %v", err)
		return
	}
	r.Report.Rollback = string(record.RollbackDone)
}

// Open opens a volume with the locks of the access.
func (r *Run) Open(ctx context.Context, at Location, a backends.Access) (backends.Volume, error) {
	v, err := opened(ctx, r, at, func() (backends.Volume, error) { return at.Pool.Backend.Open(ctx, at.Pool.Pool, at.Name, a) })
	if err == nil && a != backends.ReadShared {
		r.guard.watch(v, true)
	}
	return v, err
}

// Take opens a volume that is to leave its name.
func (r *Run) Take(ctx context.Context, at Location) (backends.Taken, error) {
	taker, err := at.Taker()
	if err != nil {
		return nil, err
	}
	return opened(ctx, r, at, func() (backends.Taken, error) { return taker.Take(ctx, at.Pool.Pool, at.Name) })
}

func opened[V backends.Volume](ctx context.Context, r *Run, at Location, open func() (V, error)) (v V, err error) {
	err = r.Step(ctx, func() error {
		v, err = open()
		return err
	})
	if err == nil {
		err = r.is(ctx, at, v)
	}
	return v, err
}

// is closes a volume that was just opened if it is not the one that is meant,
// and reports what has its name instead, headers and all: whoever keeps a
// catalog has to look at it anew.
func (r *Run) is(ctx context.Context, at Location, v backends.Volume) error {
	wrong := v.Is(at.ID)
	if wrong == nil {
		return nil
	}
	v.Close() // nothing was written
	if _, ok := errors.AsType[*backends.AnotherError](wrong); !ok {
		return wrong
	}
	if info, err := at.Pool.Backend.Look(ctx, at.Pool.Pool, at.Name); err == nil {
		it := Item(info)
		r.Report.Volume = &it
	}
	return wrong
}

// Describe reports the volume as it is now, with what the task knows of it.
func (r *Run) Describe(v backends.Volume) error {
	info, err := v.Info()
	if err != nil {
		return err
	}
	it := Item(info)
	for _, add := range r.knows {
		add(&it)
	}
	r.Report.Volume = &it
	return nil
}

// Knows adds to how the volume is described what the task knows of it.
func (r *Run) Knows(add func(v *ipc.Item)) { r.knows = append(r.knows, add) }

// Item is a volume as the daemon is told of it.
func Item(v backends.VolumeInfo) ipc.Item {
	it := ipc.Item{
		Name: v.Name, Path: v.Path, Key: v.Key, VolType: v.Type, Format: v.Format,
		Capacity: v.Capacity, Size: v.Size, Allocation: v.Allocation, Backing: v.Backing,
		Internal: v.Internal, Identity: string(v.ID), Ignored: v.Ignored, Problem: v.Problem, Twofold: v.Twofold, Cut: v.Cut,
	}
	it.ChangeNS, it.ModifyNS, it.AccessNS, it.BornNS = sinceEpoch(v.Change), sinceEpoch(v.Modify), sinceEpoch(v.Access), sinceEpoch(v.Birth)
	if p := v.Permissions; p != nil {
		it.Mode, it.Owner, it.Group, it.Label = p.Mode, int64(p.Owner), int64(p.Group), p.Label
	}
	for _, x := range v.Extents {
		it.Extents = append(it.Extents, ipc.Extent{Device: x.Device, Start: x.Start, End: x.End})
	}
	for _, name := range slices.Sorted(maps.Keys(v.Options)) {
		it.Options = append(it.Options, name+"="+v.Options[name])
	}
	it.References = references(v.References)
	for _, h := range v.As {
		it.As = append(it.As, ipc.Header{Format: h.Format, Capacity: h.Capacity, Backing: h.Backing, References: references(h.References), Problem: h.Problem})
	}
	return it
}

func references(all []backends.Reference) (out []ipc.Reference) {
	for _, r := range all {
		out = append(out, ipc.Reference{Name: r.Name, Format: r.Format, Data: r.Data, Relative: r.Relative, Path: r.Path, Identity: string(r.ID)})
	}
	return out
}

// sinceEpoch is a time in nanoseconds since 1970; 0 for one that is not known.
func sinceEpoch(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
