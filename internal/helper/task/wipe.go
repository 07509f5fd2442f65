package task

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/wipe"
)

// Wipe makes the task of an operation.
func Wipe(o *operation.Wipe) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	w := wiping{path: at.Path, accept: o.AcceptLimits, spec: wipe.Spec{Algorithm: o.Algorithm, Verify: o.Verify}}
	format := ""
	if o.Content {
		format = imageIn(record.AsRaw, o.Format)
	}
	opened, err := viewOf(o, &helper.Volume{Location: at, Access: backends.WriteExclusive, Admits: w.admits}, format, o.Image)
	if err != nil {
		return helper.Task{}, err
	}
	return helper.Task{
		Name: o.Task().Name, Resumes: o.Resume,
		Doing:   fmt.Sprintf("wipe %q", at.Path),
		Done:    fmt.Sprintf("wiped %q", at.Path),
		Undone:  fmt.Sprintf("what is overwritten of %q already stays so", at.Path),
		Ask:     fmt.Sprintf("the whole content of %q (%s) will be overwritten", at.Path, length(at.Path)),
		Reads:   at.Path,
		Writes:  at.Path,
		ByHand:  spares(at),
		Secrets: o.Files,
		Opens:   opened.opens(),
		Images:  opened.images(1),
		Work:    func(ctx context.Context, r *helper.Run) error { return w.work(ctx, r, opened) },
	}, nil
}

type wiping struct {
	path   string
	spec   wipe.Spec
	accept bool
	grows  bool // the file of the volume may have another length after that
}

func (w *wiping) work(ctx context.Context, r *helper.Run, of view) error {
	if err := w.ready(ctx, r, of); err != nil {
		return err
	}
	return of.with(ctx, r, true, func(c diskio.Content) error {
		size, err := c.Size()
		if err != nil {
			return err
		}
		r.Plan(w.phase(size))
		r.Next(0)
		if of.isImage() {
			if err := w.ofImage(of, &c); err != nil {
				return err
			}
		}
		w.goOn(r, of.at.Volume)
		return w.overwrite(ctx, r, c)
	})
}

// ready looks over the tables of an image: what is compressed is not overwritten.
func (w *wiping) ready(ctx context.Context, r *helper.Run, of view) error {
	if !of.isImage() {
		return nil
	}
	found, err := of.checked(ctx, r, r.Earlier != nil)
	if err == nil && found.Compressed > 0 {
		w.spec.Beside = append(w.spec.Beside, wipe.Limit{Text: fmt.Sprintf("%d clusters are compressed; what is written takes other places in the file", found.Compressed), Certain: true})
	}
	return err
}

// ofImage overwrites what an image itself has stored of its content, and names what
// else there may be of it.
func (w *wiping) ofImage(of view, c *diskio.Content) error {
	header, err := of.header()
	if err != nil {
		return err
	}
	w.grows, w.spec.Stored, w.spec.File = true, true, of.at.Volume.Content()
	if of.format != operation.Encrypted[0] { // which has one place for each byte
		w.spec.Beside = append(w.spec.Beside, wipe.Limit{Text: "what the image has written elsewhere before is not overwritten: clusters that are used no more, or are marked as zeros, or were compressed"})
	}
	if n := header.Snapshots; n > 0 {
		w.spec.Beside = append(w.spec.Beside, wipe.Limit{Text: fmt.Sprintf("the image has %d snapshots of its own, which keep the old content", n), Certain: true})
	}
	if len(of.chain) > 0 {
		*c = (*c).(interface{ Own() diskio.Content }).Own()
		w.spec.Beside = append(w.spec.Beside, wipe.Limit{Text: fmt.Sprintf("the image stands on %q, which keeps its content, and shows it where the image has none of its own", of.chain[0].Path)})
	}
	return nil
}

// goOn begins where an earlier helper was interrupted, if nobody else has
// written to the volume since, and makes checkpoints.
func (w *wiping) goOn(r *helper.Run, v backends.Volume) {
	if e := r.Earlier; e != nil {
		switch why := e.Fits(v.Content()); {
		case why != "":
			r.Anew("%q: %s", w.path, why)
		case e.At.Algorithm != w.spec.Algorithm:
			r.Anew("it was by algorithm %q", e.At.Algorithm)
		default:
			w.spec.Order = e.At.Order
		}
	}
	if w.spec.Order == nil {
		w.spec.Order = wipe.Order(w.spec.Algorithm)
	}
	w.spec.Checkpoints = r.Checkpoints(helper.Position{Algorithm: w.spec.Algorithm, Order: w.spec.Order, Grows: w.grows}, v.Content(), "")
}

// phase is the plan of the wiping.
func (w wiping) phase(size int64) ipc.PlanPhase {
	return helper.Moving("wipe", size*int64(w.spec.Rounds()))
}

// overwrite is the wiping itself, in the current phase.
func (w wiping) overwrite(ctx context.Context, r *helper.Run, c diskio.Content) error {
	if err := w.reach(ctx, c); err != nil {
		return err
	}
	did, err := wipe.Run(ctx, r.Pacer, c, w.spec)
	r.Report.Method, r.Report.Algorithm, r.Report.Passes = did.Method, did.Algorithm, did.Passes
	r.Report.Bytes, r.Report.Limits, r.Report.Device = did.Bytes, sentences(did.Limits), did.Device
	r.Report.Checked, r.Report.Verified = w.spec.Verify || did.Verified, did.Verified
	if did.From < w.spec.From {
		r.Warn("the pass that was interrupted is made again as a whole: it is random and is to be read back, and nobody knows what was written")
	}
	if err != nil && (did.Touched || r.Earlier != nil) {
		r.Report.Rollback = string(record.RollbackKept)
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

// admits refuses a file of which old content certainly stays readable, unless that is
// accepted.
func (w wiping) admits(ctx context.Context, v backends.Volume) error {
	return w.reach(ctx, v.Content())
}

// reach refuses, before anything is written, a wipe after which old content
// certainly stays readable somewhere, unless that is accepted.
func (w wiping) reach(ctx context.Context, c diskio.Content) error {
	if w.accept {
		return nil
	}
	limits, err := wipe.Limits(ctx, c, w.spec)
	if err != nil {
		return err
	}
	limits = slices.DeleteFunc(limits, func(l wipe.Limit) bool { return !l.Certain })
	if len(limits) == 0 {
		return nil
	}
	return ipc.Errorf(record.Unsupported, "cannot wipe %q wholly: %s; nothing was overwritten", w.path, strings.Join(sentences(limits), "; ")).
		WithHint("--accept-limits wipes what can be reached")
}
