package helper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/crash"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// Opening is something that a task works with. The engine opens all that a task
// names and then locks it, in the task's order.
type Opening interface {
	// Open opens what leads to it. Nothing is changed by that, and nobody kept away.
	Open(ctx context.Context, r *Run) error
	// Lock takes its locks; a volume is opened with them.
	Lock(ctx context.Context, r *Run) error
	// Close gives up what it has, which may be nothing.
	Close()
}

// unlocked is an Opening that leads to others, which have locks.
type unlocked struct{}

func (unlocked) Lock(context.Context, *Run) error { return nil }
func (unlocked) Close()                           {}

// Volume is a volume that a task works with. One that may be changed in place is
// described in the report, however the task ends: nothing undoes what was written.
type Volume struct {
	Location
	Access backends.Access
	Sizes  []int64         // that it may get, bytes; none where it keeps its own
	Leaves bool            // its name, in the end: nobody else may have it open
	Gone   bool            // it is no failure where an earlier helper of the job has taken it away: Volume is nil then
	Volume backends.Volume // when it is open
	// Admits refuses what the task will refuse of it, as far as that can be told while it is
	// open for reading. It is asked where to open it for more changes it; nil: nothing.
	Admits func(ctx context.Context, v backends.Volume) error
}

// Taken is a volume that leaves its name.
func (v *Volume) Taken() backends.Taken { return v.Volume.(backends.Taken) }

// Open opens its pool.
func (v *Volume) Open(ctx context.Context, r *Run) error {
	v.Pool.Changes = v.Pool.Changes || v.Leaves || v.Access != backends.ReadShared
	return v.Pool.Open(ctx, r)
}

// Lock opens it.
func (v *Volume) Lock(ctx context.Context, r *Run) (err error) {
	var open backends.Volume
	if err = v.foresee(ctx, r); err == nil {
		if v.Leaves {
			open, err = r.Take(ctx, v.Location)
		} else {
			open, err = r.Open(ctx, v.Location, v.Access)
		}
	}
	switch {
	case err == nil:
		v.Volume = open
	case v.Gone && r.resumes && errors.Is(err, backends.ErrNotFound):
		return nil
	}
	return err
}

// foresee refuses a volume by a look at it as it is, where to open it for writing changes
// it: on an overlay what lies in a lower layer gets a copy in the upper one by that.
func (v *Volume) foresee(ctx context.Context, r *Run) error {
	if !v.Leaves && v.Access == backends.ReadShared || !v.Pool.onOverlay() {
		return nil
	}
	seen, err := r.Open(ctx, v.Location, backends.ReadShared)
	if err != nil {
		return err
	}
	defer seen.Close() // nothing was written
	if v.Admits == nil {
		return nil
	}
	return v.Admits(ctx, seen)
}

// Close closes it. What was written, or became of it, is durable by then.
func (v *Volume) Close() {
	if v.Volume != nil {
		v.Volume.Close()
	}
}

// stages lead a task through its life: all is opened, then locked, then the process
// is confined to that, and only then the task works.
func (r *Run) stages(ctx context.Context, t Task) error {
	defer func() {
		for _, o := range slices.Backward(t.Opens) {
			o.Close()
		}
	}()
	if t.Settles {
		if err := r.control.seal(); err != nil {
			return err
		}
	}
	defer r.dropSecrets()
	if err := r.openSecrets(t.Secrets); err != nil {
		return err
	}
	for _, o := range t.Opens {
		if err := o.Open(ctx, r); err != nil {
			return err
		}
	}
	for _, o := range t.Opens {
		if err := o.Lock(ctx, r); err != nil {
			return err
		}
	}
	crash.At(crash.Locked)
	if err := r.prepareLinks(t.Images); err != nil {
		return err
	}
	defer r.dropLinks()
	defer r.recallScout()
	if err := r.confine(t); err != nil {
		return err
	}
	return r.described(t, t.Work(ctx, r))
}

// described reports the volumes that may have been changed, and fails where what was done
// to one is lost. err is what the work came to.
func (r *Run) described(t Task, err error) error {
	for _, o := range t.Opens {
		if v, ok := o.(*Volume); ok && v.Access != backends.ReadShared {
			if bad := cmp.Or(v.named(), r.Describe(v.Volume)); err == nil {
				err = bad
			}
		}
	}
	return err
}

// named fails if the file of a volume has lost its last name while the task was at it:
// somebody has put another one in its place, or removed it, and nobody finds what was done.
func (v *Volume) named() error {
	f := diskio.FileOf(v.Volume.Content())
	if f == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("cannot look at %q: %w", v.Path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 0 {
		return nil
	}
	return ipc.Errorf(record.Changed, "somebody has replaced or removed %q meanwhile: what was done to it is lost with it", v.Path).
		WithHint("have its pool read anew (pool refresh), and look at what is there now")
}
