package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/backends/all"
	"storaged/internal/crash"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// place is a volume as the command line names it.
type place struct {
	path    string
	backend backends.Backend
	pool    backends.Pool
	name    string
	id      backends.VolumeID // what the volume must be; zero: any
}

// placeOf finds the volume of a path.
func placeOf(path, poolType string) (place, error) {
	backend, err := all.Lookup(poolType)
	if err != nil {
		return place{}, record.Errorf(record.Unsupported, "%s", err)
	}
	if strings.HasSuffix(path, "/") {
		return place{}, record.Errorf(record.Invalid, "%q is no path of a volume: it ends with a slash", path)
	}
	target, name := backend.Parse(path)
	if err := backend.CheckName(name); err != nil {
		return place{}, record.Errorf(record.Invalid, "%s", err)
	}
	target, err = absolute(target)
	if err != nil {
		return place{}, err
	}
	return pool{backends.Pool{Type: poolType, Target: target}, backend}.at(name), nil
}

// at is the volume of that name.
func (p pool) at(name string) place {
	return place{path: p.backend.Locate(p.Target, name).Path, backend: p.backend, pool: p.Pool, name: name}
}

// in is the pool of the volume.
func (p place) in() pool { return pool{p.pool, p.backend} }

// absolute is the path seen from the root, clean.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("cannot tell the directory of %q: %w", path, err)
	}
	return abs, nil
}

// length is the size of what a person is asked about, as far as it can be
// seen.
func length(path string) string {
	st, err := os.Lstat(path)
	if err != nil {
		return "size not known"
	}
	return quantity.FormatBytes(st.Size())
}

// create makes a new volume: fill writes its content, and whatever goes wrong
// before the commit leaves nothing behind, or, if that is asked for, what was
// written by then under the volume's name. commit is the index of the phase in
// which it gets that.
func (r *run) create(ctx context.Context, at place, commit int, fill func(d backends.Draft) error) error {
	draft, done, err := r.begin(ctx, at)
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
	if wrong == nil && commit != samePhase {
		r.next(commit)
	} else if wrong != nil && (!r.keep || r.pacer.Counts().Done == 0) {
		return wrong
	}
	named, wrong = r.name(ctx, draft, wrong)
	if !named {
		return wrong
	}
	if wrong != nil {
		r.report.Rollback = string(record.RollbackKept)
	}
	return firstOf(wrong, r.describe(draft))
}

// samePhase is a commit within the phase that fills the volume.
const samePhase = -1

// name gives a draft its name: a complete one, or, where what is unfinished is
// kept, one that something went wrong with. A cancel counts until the identity
// is durable.
func (r *run) name(ctx context.Context, d backends.Draft, wrong error) (named bool, _ error) {
	if wrong == nil {
		if _, wrong = r.pacer.Admit(ctx, 0); wrong == nil {
			defer r.pacer.Finished(diskio.Moved{})
		}
	}
	if r.keep {
		ctx = context.WithoutCancel(ctx)
	}
	err := d.Commit(ctx, func(identity []byte) error {
		if wrong == nil {
			wrong = r.seal()
		}
		switch {
		case wrong == nil:
			return r.records.save(identity)
		case r.keep:
			return r.records.save(append([]byte(unfinished), identity...))
		}
		return wrong
	})
	if err != nil && wrong != nil && r.keep {
		r.warn("the unfinished volume cannot be kept: %v", err)
	}
	return err == nil, firstOf(wrong, err)
}

// unfinished stands in front of the identity of a volume that got its name
// without being complete.
const unfinished = "unfinished\n"

// discard undoes a volume in the making. Nothing cancels or pauses that.
func (r *run) discard(d backends.Draft) {
	if !r.many || r.control.stopped() != nil {
		r.view.state(ipc.ActivityRollingBack)
	}
	if err := d.Discard(); err != nil {
		r.report.Rollback = string(record.RollbackFailed)
		r.warn("cannot remove the unfinished volume: %v", err)
		return
	}
	r.report.Rollback = string(record.RollbackDone)
}

// inPlace opens a volume for a change of what it holds. Nothing undoes that, so
// the volume is described in the report also when the change fails or stops
// half-way.
func (r *run) inPlace(ctx context.Context, at place, change func(v backends.Volume) error) error {
	return r.changing(ctx, at, backends.WriteExclusive, change)
}

// changing is inPlace for another access.
func (r *run) changing(ctx context.Context, at place, a backends.Access, change func(v backends.Volume) error) error {
	v, err := r.open(ctx, at, a)
	if err != nil {
		return err
	}
	defer v.Close() // what was written is durable by then
	wrong := change(v)
	if err := r.describe(v); wrong == nil {
		return err
	}
	return wrong
}

func (r *run) open(ctx context.Context, at place, a backends.Access) (v backends.Volume, err error) {
	err = r.step(ctx, func() error {
		v, err = at.backend.Open(ctx, at.pool, at.name, a)
		return err
	})
	if err == nil {
		err = r.is(ctx, at, v)
	}
	return v, err
}

func (r *run) take(ctx context.Context, at place) (v backends.Taken, err error) {
	err = r.step(ctx, func() error {
		v, err = at.backend.Take(ctx, at.pool, at.name)
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
func (r *run) is(ctx context.Context, at place, v backends.Volume) error {
	wrong := v.Is(at.id)
	if wrong == nil {
		return nil
	}
	v.Close() // nothing was written
	if _, ok := errors.AsType[*backends.AnotherError](wrong); !ok {
		return wrong
	}
	if info, err := at.backend.Look(ctx, at.pool, at.name); err == nil {
		it := item(info)
		r.report.Volume = &it
	}
	return wrong
}

// describe reports the volume as it is now.
func (r *run) describe(v backends.Volume) error {
	info, err := v.Info()
	if err != nil {
		return err
	}
	it := item(info)
	r.report.Volume = &it
	return nil
}

// item is a volume as the daemon is told of it.
func item(v backends.VolumeInfo) ipc.Item {
	it := ipc.Item{
		Name: v.Name, Path: v.Path, Key: v.Key, VolType: v.Type, Format: v.Format,
		Capacity: v.Capacity, Size: v.Size, Allocation: v.Allocation, Backing: v.Backing,
		Device: v.Device, Inode: v.Inode, Ignored: v.Ignored,
	}
	if !v.Birth.IsZero() {
		it.BirthNS = v.Birth.UnixNano()
	}
	if !v.Change.IsZero() {
		it.ChangeNS = v.Change.UnixNano()
	}
	if !v.Modify.IsZero() {
		it.ModifyNS = v.Modify.UnixNano()
	}
	for _, r := range v.References {
		it.References = append(it.References, reference(r))
	}
	return it
}

func reference(r backends.Reference) ipc.Reference {
	out := ipc.Reference{Name: r.Name, Data: r.Data, Relative: r.Relative, Path: r.Path, Device: r.Device, Inode: r.Inode}
	if !r.Birth.IsZero() {
		out.BirthNS = r.Birth.UnixNano()
	}
	return out
}

// sizeOf is how much there is to read of a volume, for the plan.
func sizeOf(v backends.Volume) (int64, error) {
	info, err := v.Info()
	return info.Size, err
}
