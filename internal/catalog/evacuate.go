package catalog

import (
	"errors"
	"fmt"
	"slices"

	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// beginEvacuate refuses pools that cannot be worked on.
func beginEvacuate(_ *Catalog, tx *store.Tx, o operation.Operation, _ *store.Job) error {
	for _, at := range objectsOf(o) {
		if _, err := ActivePool(tx, at.Pool); err != nil {
			return err
		}
	}
	return nil
}

// staying are the volumes that an evacuation must leave: others stand on them,
// or they would not find what they stand on. Images are, with their format, those
// whose headers count.
func staying(tx *store.Tx, o *operation.Evacuate) (names, images []string, err error) {
	for _, name := range o.Names {
		v, err := tx.Volume(o.Volume.Pool, name)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err == nil && !record.Plain(v.Format) {
			images = append(images, v.Format+":"+name)
		}
		if err == nil {
			err = leavable(tx, o, v)
		}
		var refusal *record.Error
		switch {
		case errors.As(err, &refusal):
			names = append(names, name)
		case err != nil:
			return nil, nil, err
		}
	}
	return names, images, nil
}

// leavable refuses a volume that cannot leave its pool, or not be copied.
func leavable(tx *store.Tx, o *operation.Evacuate, v *store.Volume) error {
	if !o.KeepSource {
		if err := Childless(tx, v); err != nil {
			return err
		}
	}
	p, err := Pool(tx, v.Pool)
	if err != nil {
		return err
	}
	k, err := Known(tx, p, v, nil)
	if err != nil {
		return err
	}
	return o.CanLeave(k)
}

// evacuated lets the catalog follow the volumes that were dealt with.
func (c *Catalog) evacuated(tx *store.Tx, o *operation.Evacuate, j *store.Job, items []ipc.Item) error {
	for _, it := range items {
		if err := c.followItem(tx, o, j, it); err != nil {
			return fmt.Errorf("volume %q of an evacuation: %w", it.Name, err)
		}
	}
	return nil
}

// followItem lists a volume where it is now. Whatever the catalog had by that
// name in the target pool cannot have been there: nothing is ever replaced.
func (c *Catalog) followItem(tx *store.Tx, o *operation.Evacuate, j *store.Job, it ipc.Item) error {
	to, err := tx.Pool(o.Target.Pool)
	if err != nil {
		return IgnoreNotFound(err)
	}
	at := locationOf(to, it.Name)
	if it.Path != at.Path || nameable(to, it.Name) != nil {
		return nil // it did not get there
	}
	src, err := tx.Volume(o.Volume.Pool, it.Name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	last, err := tx.LastNumber()
	if err != nil {
		return err
	}
	dst := &store.Volume{Arrived: last, Volume: record.Volume{
		Pool: o.Target.Pool, Name: it.Name, Path: at.Path, Key: at.Key, Type: at.Type, Format: it.Format, Origin: record.Found,
	}}
	inherit(dst, src)
	if o.KeepSource {
		dst.Origin, dst.CreatedBy, dst.Generation, dst.Description = record.Made, &j.Number, 1, ""
	}
	if it.Identity == "" && src != nil { // nobody could look at it
		it.Size, it.Capacity, it.Allocation = src.Capacity, src.Capacity, src.Allocation
	}
	c.see(dst, it)
	if err := c.arrive(tx, dst); err != nil || src == nil || o.KeepSource || it.State != string(record.Succeeded) {
		return err
	}
	return c.depart(tx, src)
}

// endEvacuate lets the catalog follow what it was not told of before, and
// says of the volumes that had to stay why.
func endEvacuate(c *Catalog, tx *store.Tx, e end) error {
	o := e.Operation.(*operation.Evacuate)
	if e.report != nil && len(e.report.Items) > e.job.Advanced {
		if err := c.evacuated(tx, o, e.job, e.report.Items[e.job.Advanced:]); err != nil {
			return err
		}
		e.job.Advanced = len(e.report.Items)
	}
	r := e.job.Result
	if r == nil {
		return nil
	}
	r.Pool, r.Volume, r.Path = o.Volume.Pool, "", o.Volume.Path
	r.Items = slices.Clone(r.Items)
	for i, it := range r.Items {
		if it.Error == nil || it.Error.Code != record.HasChildren {
			continue
		}
		v, err := tx.Volume(o.Volume.Pool, it.Volume)
		if err != nil {
			continue
		}
		var refusal *record.Error
		if errors.As(leavable(tx, o, v), &refusal) {
			r.Items[i].Error = refusal
		}
	}
	return nil
}
