package helper

import (
	"cmp"
	"context"
	"errors"

	"storaged/internal/backends"
	"storaged/internal/crash"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// Location is a volume as the command line names it.
type Location struct {
	Path    string
	Backend backends.Backend
	Pool    backends.Pool
	Name    string
	ID      backends.Identity // which the volume must be
}

// Create makes a new volume: fill writes its content, and whatever goes wrong
// before the commit leaves nothing behind, or, if that is asked for, what was
// written by then under the volume's name. commit is the index of the phase in
// which it gets that. Name and job of v are those of at and of the run.
func (r *Run) Create(ctx context.Context, at Location, v backends.NewVolume, commit int, fill func(d backends.Draft) error) error {
	v.Name, v.Job = at.Name, r.ID
	draft, done, err := r.begin(ctx, at, v)
	if err != nil || done {
		return err
	}
	defer draft.Close() // what it held is durable or gone by then
	named := false
	defer func() {
		if !named {
			r.discard(draft)
		}
	}()
	wrong := fill(draft)
	if wrong == nil {
		crash.At(crash.Filled)
	}
	if wrong == nil && commit != SamePhase {
		r.Next(commit)
	} else if wrong != nil && (!r.Keep || r.Pacer.Counts().Done == 0) {
		return wrong
	}
	named, wrong = r.Name(ctx, draft, wrong)
	if !named {
		return wrong
	}
	if wrong != nil {
		r.Report.Rollback = string(record.RollbackKept)
	}
	return cmp.Or(wrong, r.Describe(draft))
}

// samePhase is a commit within the phase that fills the volume.
const SamePhase = -1

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

// unfinished stands in front of the identity of a volume that got its name
// without being complete.
const Unfinished = "unfinished\n"

// discard undoes a volume in the making. Nothing cancels or pauses that.
func (r *Run) discard(d backends.Draft) {
	if !r.Many || r.control.stopped() != nil {
		r.view.state(ipc.ActivityRollingBack)
	}
	if err := d.Discard(); err != nil {
		r.Report.Rollback = string(record.RollbackFailed)
		r.Warn("cannot remove the unfinished volume: %v", err)
		return
	}
	r.Report.Rollback = string(record.RollbackDone)
}

// InPlace opens a volume for a change of what it holds. Nothing undoes that, so
// the volume is described in the report also when the change fails or stops
// half-way.
func (r *Run) InPlace(ctx context.Context, at Location, change func(v backends.Volume) error) error {
	return r.Changing(ctx, at, backends.WriteExclusive, change)
}

// Changing is inPlace for another access.
func (r *Run) Changing(ctx context.Context, at Location, a backends.Access, change func(v backends.Volume) error) error {
	v, err := r.Open(ctx, at, a)
	if err != nil {
		return err
	}
	defer v.Close() // what was written is durable by then
	wrong := change(v)
	if err := r.Describe(v); wrong == nil {
		return err
	}
	return wrong
}

func (r *Run) Open(ctx context.Context, at Location, a backends.Access) (v backends.Volume, err error) {
	err = r.Step(ctx, func() error {
		v, err = at.Backend.Open(ctx, at.Pool, at.Name, a)
		return err
	})
	if err == nil {
		err = r.is(ctx, at, v)
	}
	return v, err
}

func (r *Run) Take(ctx context.Context, at Location) (v backends.Taken, err error) {
	taker, err := at.Taker()
	if err != nil {
		return nil, err
	}
	err = r.Step(ctx, func() error {
		v, err = taker.Take(ctx, at.Pool, at.Name)
		return err
	})
	if err == nil {
		err = r.is(ctx, at, v)
	}
	return v, err
}

// is closes a volume that was just opened if it is not the one that is meant,
// and reports what has its name instead, headers and all: whoever keeps a
// catalogue has to look at it anew.
func (r *Run) is(ctx context.Context, at Location, v backends.Volume) error {
	wrong := v.Is(at.ID)
	if wrong == nil {
		return nil
	}
	v.Close() // nothing was written
	if _, ok := errors.AsType[*backends.AnotherError](wrong); !ok {
		return wrong
	}
	if info, err := at.Backend.Look(ctx, at.Pool, at.Name); err == nil {
		it := Item(info)
		r.Report.Volume = &it
	}
	return wrong
}

// Describe reports the volume as it is now.
func (r *Run) Describe(v backends.Volume) error {
	info, err := v.Info()
	if err != nil {
		return err
	}
	it := Item(info)
	r.Report.Volume = &it
	return nil
}

// Item is a volume as the daemon is told of it.
func Item(v backends.VolumeInfo) ipc.Item {
	it := ipc.Item{
		Name: v.Name, Path: v.Path, Key: v.Key, VolType: v.Type, Format: v.Format,
		Capacity: v.Capacity, Size: v.Size, Allocation: v.Allocation, Backing: v.Backing,
		Identity: string(v.ID), Ignored: v.Ignored,
	}
	if !v.Change.IsZero() {
		it.ChangeNS = v.Change.UnixNano()
	}
	if !v.Modify.IsZero() {
		it.ModifyNS = v.Modify.UnixNano()
	}
	for _, r := range v.References {
		it.References = append(it.References, ipc.Reference{Name: r.Name, Data: r.Data, Relative: r.Relative, Path: r.Path, Identity: string(r.ID)})
	}
	return it
}
