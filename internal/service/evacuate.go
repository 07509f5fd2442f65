package service

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

// maxEvacuated bounds the volumes of one evacuation: each is a lock, and stands
// in the job's record.
const maxEvacuated = 1000

// EvacuatePool moves the volumes of a pool to another. The pool is read before,
// so that all its volumes are known by name.
func (s *Service) EvacuatePool(ctx context.Context, sub Submit, pool string, r PoolEvacuate) (Started, error) {
	if _, err := record.MatchName(r.Only, ""); err != nil {
		return Started{}, record.Errorf(record.Invalid, "only: %v", err)
	}
	if again, err := s.repeated(sub); again != nil || err != nil {
		return deref(again), err
	}
	if err := s.Freshen(ctx, pool); err != nil {
		return Started{}, err
	}
	return s.onPool(ctx, sub, pool, r.JobOptions, func(tx *store.Tx, from *store.Pool) (work, error) {
		if _, err := activePool(tx, from.Name); err != nil {
			return work{}, err
		}
		to, err := activePool(tx, r.To)
		if err != nil {
			return work{}, err
		}
		if to.Name == from.Name {
			return work{}, record.Errorf(record.Invalid, "pool %q cannot be evacuated to itself", from.Name)
		}
		return evacuateWork(tx, from, to, r)
	})
}

func evacuateWork(tx *store.Tx, from, to *store.Pool, r PoolEvacuate) (work, error) {
	w := poolWork(from, record.PoolEvacuate)
	w.TargetPool, w.TargetUUID, w.TargetType, w.TargetPath = to.Name, to.UUID, to.Type, to.Target.Path
	w.Only, w.SkipBusy, w.KeepSource, w.OnError = r.Only, r.SkipBusy, r.KeepSource, r.OnError
	if r.KeepSource {
		w.Reflink = "auto"
	}
	vols, err := tx.Volumes(from.Name)
	if err != nil {
		return work{}, err
	}
	for _, v := range vols {
		if ok, err := record.MatchName(r.Only, v.Name); err != nil || !ok {
			continue
		}
		w.Names = append(w.Names, v.Name)
		w.Capacity = plus(w.Capacity, v.Capacity)
		if r.KeepSource || !together(from, to) {
			w.Allocation += v.Allocation
		}
	}
	if len(w.Names) == 0 && r.Only != "" {
		return work{}, record.Errorf(record.NotFound, "no volume of pool %q matches %q", from.Name, r.Only).WithHint("%s", record.Do("volume.list", from.Name))
	}
	if len(w.Names) > maxEvacuated {
		return work{}, record.Errorf(record.TooLarge, "%d volumes of pool %q are to be moved; one job moves %d at most", len(w.Names), from.Name, maxEvacuated).
			WithHint("%s chooses some of them", record.Do("").With("only", "GLOB"))
	}
	return w, nil
}

func beginEvacuate(_ *keeper, tx *store.Tx, w work, _ *store.Job) error {
	for _, pool := range []string{w.Pool, w.TargetPool} {
		if _, err := activePool(tx, pool); err != nil {
			return err
		}
	}
	return nil
}

// stay finds the volumes that an evacuation must leave: others stand on them,
// or they would not find what they stand on.
func (w *work) stay(tx *store.Tx) error {
	w.stays = nil
	if w.Kind != record.PoolEvacuate {
		return nil
	}
	for _, name := range w.Names {
		v, err := tx.Volume(w.Pool, name)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err == nil {
			err = w.leavable(tx, v)
		}
		var refusal *record.Error
		switch {
		case errors.As(err, &refusal):
			w.stays = append(w.stays, name)
		case err != nil:
			return err
		}
	}
	return nil
}

// leavable refuses a volume that cannot leave its pool, or not be copied.
func (w *work) leavable(tx *store.Tx, v *store.Volume) error {
	to := &store.Pool{Pool: record.Pool{Name: w.TargetPool}}
	if w.KeepSource {
		return copyable(v, to)
	}
	if err := childless(tx, v); err != nil {
		return err
	}
	return portable(v, to)
}

// evacuated lets the catalogue follow the volumes that were dealt with.
func (k *keeper) evacuated(tx *store.Tx, e end, items []ipc.Item) error {
	for _, it := range items {
		if it.Path != locate(e.TargetType, e.TargetPath, it.Name).Path || record.CheckName(it.Name) != nil {
			continue // it did not get there
		}
		if err := k.followItem(tx, e, it); err != nil {
			return fmt.Errorf("volume %q of an evacuation: %w", it.Name, err)
		}
	}
	return nil
}

// followItem lists a volume where it is now. Whatever the catalogue had by that
// name in the target pool cannot have been there: nothing is ever replaced.
func (k *keeper) followItem(tx *store.Tx, e end, it ipc.Item) error {
	src, err := tx.Volume(e.Pool, it.Name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	last, err := tx.LastNumber()
	if err != nil {
		return err
	}
	at := locate(e.TargetType, e.TargetPath, it.Name)
	dst := &store.Volume{Arrived: last, Volume: record.Volume{
		Pool: e.TargetPool, Name: it.Name, Path: at.Path, Key: at.Key, Type: at.Type, Format: it.Format, Origin: record.Found,
	}}
	inherit(dst, src)
	if e.KeepSource {
		dst.Origin, dst.CreatedBy, dst.Generation, dst.Description = record.Made, &e.job.Number, 1, ""
	}
	if it.Identity == "" && src != nil { // nobody could look at it
		it.Size, it.Capacity, it.Allocation = src.Capacity, src.Capacity, src.Allocation
	}
	k.see(dst, it)
	if err := k.arrive(tx, dst); err != nil || src == nil || e.KeepSource || it.State != string(record.Succeeded) {
		return err
	}
	return k.depart(tx, src)
}

// endEvacuate lets the catalogue follow what it was not told of before, and
// says of the volumes that had to stay why.
func endEvacuate(k *keeper, tx *store.Tx, e end) error {
	if e.report != nil && len(e.report.Items) > e.job.Advanced {
		if err := k.evacuated(tx, e, e.report.Items[e.job.Advanced:]); err != nil {
			return err
		}
		e.job.Advanced = len(e.report.Items)
	}
	r := e.job.Result
	if r == nil {
		return nil
	}
	r.Pool, r.Volume, r.Path = e.Pool, "", e.Path
	r.Items = slices.Clone(r.Items)
	for i, it := range r.Items {
		if it.Error == nil || it.Error.Code != record.HasChildren {
			continue
		}
		v, err := tx.Volume(e.Pool, it.Volume)
		if err != nil {
			continue
		}
		var refusal *record.Error
		if errors.As(e.leavable(tx, v), &refusal) {
			r.Items[i].Error = refusal
		}
	}
	return nil
}
