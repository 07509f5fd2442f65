package helper

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/wipe"
)

// Wipe makes the task of an operation.
func Wipe(o *operation.Wipe) (Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return Task{}, err
	}
	w := wiping{at: at, accept: o.AcceptLimits, spec: wipe.Spec{Algorithm: o.Algorithm, Verify: o.Verify}}
	return Task{
		name: o.Task().Name, resumes: o.Resume,
		doing:   fmt.Sprintf("wipe %q", at.path),
		done:    fmt.Sprintf("wiped %q", at.path),
		undone:  fmt.Sprintf("what is overwritten of %q already stays so", at.path),
		ask:     fmt.Sprintf("the whole content of %q (%s) will be overwritten", at.path, length(at.path)),
		reads:   at.path,
		writes:  at.path,
		spares:  &at,
		changes: []pool{at.in()},
		work:    w.work,
	}, nil
}

type wiping struct {
	at     place
	spec   wipe.Spec
	accept bool
}

func (w wiping) work(ctx context.Context, r *run) error {
	return r.inPlace(ctx, w.at, func(v backends.Volume) error {
		size, err := sizeOf(v)
		if err != nil {
			return err
		}
		r.plan(w.phase(size))
		r.next(0)
		w.goOn(r, v)
		return w.overwrite(ctx, r, v)
	})
}

// goOn begins where an earlier helper was interrupted, if nobody else has
// written to the volume since, and makes checkpoints.
func (w *wiping) goOn(r *run, v backends.Volume) {
	if e := r.earlier; e != nil {
		switch why := e.fits(v.File()); {
		case why != "":
			r.anew("%q: %s", w.at.path, why)
		case e.at.Algorithm != w.spec.Algorithm:
			r.anew("it was by algorithm %q", e.at.Algorithm)
		default:
			w.spec.Order = e.at.Order
		}
	}
	if w.spec.Order == nil {
		w.spec.Order = wipe.Order(w.spec.Algorithm)
	}
	w.spec.Checkpoints = r.checkpoints(position{Algorithm: w.spec.Algorithm, Order: w.spec.Order}, v.File(), "")
}

// phase is the plan of the wiping.
func (w wiping) phase(size int64) ipc.PlanPhase {
	return moving("wipe", size*int64(w.spec.Rounds()))
}

// overwrite is the wiping itself, in the current phase.
func (w wiping) overwrite(ctx context.Context, r *run, v backends.Volume) error {
	if err := w.reach(ctx, v); err != nil {
		return err
	}
	did, err := wipe.Run(ctx, r.pacer, v.File(), w.spec)
	r.report.Method, r.report.Algorithm, r.report.Passes = did.Method, did.Algorithm, did.Passes
	r.report.Bytes, r.report.Limits, r.report.Device = did.Bytes, sentences(did.Limits), did.Device
	r.report.Checked, r.report.Verified = w.spec.Verify || did.Verified, did.Verified
	if did.From < w.spec.From {
		r.warn("the pass that was interrupted is made again as a whole: it is random and is to be read back, and nobody knows what was written")
	}
	if err != nil && (did.Touched || r.earlier != nil) {
		r.report.Rollback = string(record.RollbackKept)
	}
	return err
}

// sentences are the limits as people read them.
func sentences(limits []wipe.Limit) []string {
	var out []string
	for _, l := range limits {
		out = append(out, l.Text)
	}
	return out
}

// reach refuses, before anything is written, a wipe after which old content
// certainly stays readable somewhere, unless that is accepted.
func (w wiping) reach(ctx context.Context, v backends.Volume) error {
	if w.accept {
		return nil
	}
	limits, err := wipe.Limits(ctx, v.File(), w.spec)
	if err != nil {
		return err
	}
	limits = slices.DeleteFunc(limits, func(l wipe.Limit) bool { return !l.Certain })
	if len(limits) == 0 {
		return nil
	}
	return &ipc.Error{
		Code:    string(record.Unsupported),
		Message: fmt.Sprintf("cannot wipe %q wholly: %s; nothing was overwritten", w.at.path, strings.Join(sentences(limits), "; ")),
		Hint:    "--accept-limits wipes what can be reached",
		Offset:  -1,
	}
}
