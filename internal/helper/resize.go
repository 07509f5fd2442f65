package helper

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Resize makes the task of an operation.
func Resize(o *operation.Resize) (Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return Task{}, err
	}
	if err := needed(o, "capacity", o.Capacity != 0); err != nil {
		return Task{}, err
	}
	capacity := o.Capacity
	w := resize{at, diskio.ResizeSpec{Capacity: capacity, Shrink: o.Shrink, Allocate: o.Allocate}}
	t := Task{
		doing:   fmt.Sprintf("resize %q to %s", at.path, quantity.FormatExact(capacity)),
		done:    fmt.Sprintf("resized %q to %s", at.path, quantity.FormatExact(capacity)),
		undone:  fmt.Sprintf("%q keeps the size it had, unless it was to shrink", at.path),
		writes:  at.path,
		changes: []pool{at.in()},
		work:    w.work,
	}
	if w.spec.Shrink {
		t.spares = &at
		t.ask = fmt.Sprintf("%q (%s) will lose what lies behind %s", at.path, length(at.path), quantity.FormatExact(capacity))
	}
	return t, nil
}

type resize struct {
	at   place
	spec diskio.ResizeSpec
}

func (w resize) work(ctx context.Context, r *run) error {
	access := backends.Grow
	if w.spec.Shrink {
		access = backends.WriteExclusive
	}
	return r.changing(ctx, w.at, access, func(v backends.Volume) error {
		sized, ok := v.(backends.Resizer)
		if !ok {
			return failed(record.Unsupported, "volumes of pool type %q cannot be resized", w.at.pool.Type)
		}
		size, err := sizeOf(v)
		if err != nil {
			return err
		}
		if w.spec.Capacity < size && !w.spec.Shrink {
			return failed(record.Invalid, "%q has %s; a capacity of %s would cut its end off (--shrink)", w.at.path, quantity.FormatBoth(size), quantity.FormatBoth(w.spec.Capacity))
		}
		r.plan(moving("resize", max(w.spec.Capacity-size, 0)))
		r.next(0)
		did, err := sized.Resize(ctx, r.pacer, w.spec)
		if err != nil {
			return w.undo(r, sized, size, err)
		}
		r.report.Method, r.report.Bytes = did.Method, max(w.spec.Capacity-size, 0)
		if w.spec.Allocate && !did.Kept {
			r.warn("the file system has reserved only %s; its space may run out later", quantity.FormatBytes(did.Allocated))
		}
		return nil
	})
}

// undo gives a volume that did not grow as asked the size it had. What was cut
// off does not come back.
func (w resize) undo(r *run, v backends.Resizer, size int64, cause error) error {
	if w.spec.Capacity < size {
		r.report.Rollback = string(record.RollbackKept)
		return cause
	}
	r.view.state(ipc.ActivityRollingBack)
	pacer := diskio.NewPacer() // the run's may be paused
	_, err := v.Resize(context.Background(), pacer, diskio.ResizeSpec{Capacity: size, Shrink: true})
	if err != nil {
		r.report.Rollback = string(record.RollbackFailed)
		r.warn("cannot give %q the size back that it had, %s: %v", w.at.path, quantity.FormatBoth(size), err)
		return cause
	}
	r.report.Rollback = string(record.RollbackDone)
	return cause
}
