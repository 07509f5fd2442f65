package task

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/operation"
)

// Move makes the task of an operation.
func Move(o *operation.Move) (helper.Task, error) {
	from, to, err := ends(o, o.Volume, o.Target)
	if err != nil {
		return helper.Task{}, err
	}
	w := move{from: from, to: &helper.Draft{Location: to, As: backends.NewVolume{Format: o.Format, Promise: bound(o.Promise, 0)}}, among: o.Among}
	taken := &helper.Volume{Location: from, Leaves: true}
	return helper.Task{
		Doing:  fmt.Sprintf("move %q to %q", from.Path, to.Path),
		Done:   fmt.Sprintf("moved %q to %q", from.Path, to.Path),
		Undone: fmt.Sprintf("%q stays where it is", from.Path),
		Makes:  to.Path,
		Reads:  from.Path,
		Writes: to.Path,
		ByHand: func(ctx context.Context) error {
			if err := spares(from)(ctx); err != nil {
				return err
			}
			return copies(from, to, false)(ctx)
		},
		Opens:  []helper.Opening{taken, w.to},
		Labels: true,
		Work:   func(ctx context.Context, r *helper.Run) error { return w.work(ctx, r, taken.Taken()) },
	}, nil
}

type move struct {
	from helper.Location
	to   *helper.Draft // of the same format; there is one only if it has to be a copy

	among []string // directories of what an image may stand on
}

// copying is what is to become of an image in that format.
func (w move) copying(format string) copying {
	return copying{from: w.from.Path, to: w.to.Path, format: format, among: w.among}
}

func (w move) work(ctx context.Context, r *helper.Run, v backends.Taken) error {
	if err := w.copying(w.to.As.Format).admit(v); err != nil {
		return err
	}
	err := w.rename(ctx, r, v, func() error {
		r.Plan(helper.Single("rename"))
		r.Next(0)
		return r.Seal()
	})
	if !errors.Is(err, backends.ErrElsewhere) {
		return err
	}
	size, err := sizeOf(v)
	if err != nil {
		return err
	}
	r.Plan(helper.Moving("copy", size), helper.Commit(), helper.Single("remove"))
	r.Next(0)
	identity, err := v.Identity()
	if err == nil {
		err = w.copy(ctx, r, v, identity)
	}
	if err != nil {
		return err
	}
	r.Next(2)
	return w.remove(ctx, r, v, identity)
}

// rename moves the name alone, if that is enough. begin is called before
// anything changes.
func (w move) rename(ctx context.Context, r *helper.Run, v backends.Taken, begin func() error) error {
	return r.Step(ctx, func() error {
		err := v.Rename(ctx, w.to.Pool.Pool, w.to.Name, func(identity []byte) error {
			if err := w.inPlace(ctx); err != nil {
				return err
			}
			if err := begin(); err != nil {
				return err
			}
			return moveRecords{r.Records, w.from.Name, identity}.Save(identity)
		})
		if err != nil {
			return err
		}
		r.Report.Method = methodRename
		return r.Describe(v)
	})
}

// methodRename is a move without a copy.
const methodRename = "rename"

// copy makes the target. source is the identity of the volume if it is to go:
// from the commit on whoever ends the job removes it.
func (w move) copy(ctx context.Context, r *helper.Run, v backends.Volume, source []byte) error {
	records := r.Records
	r.Records = moveRecords{records, w.from.Name, source}
	defer func() { r.Records = records }()
	attributes, err := diskio.AttributesOf(v.Content()) // reading it is an access
	if err != nil {
		return err
	}
	kept, err := watch(ctx, r, v.Content(), strconv.Quote(w.from.Path))
	if err != nil {
		return err
	}
	if w.to.As.Size, err = sizeOf(v); err != nil {
		return err
	}
	return r.Create(ctx, w.to, func() error {
		d := w.to.Draft
		did, err := diskio.Copy(ctx, r.Pacer, diskio.CopySpec{Dst: d.Content(), Src: v.Content(), Clean: d.Clean(), Allocation: w.to.As.Promise, Reserved: true})
		copied(r, did)
		if err = kept.ended(err); err == nil {
			err = w.unchanged(v, source)
		}
		if err == nil {
			give(r, d.Content(), attributes, w.to.Path)
		}
		return err
	})
}

// unchanged fails if a source that is to go is not what it was when the copy
// began: who takes no locks may have written to it meanwhile.
func (w move) unchanged(v backends.Volume, source []byte) error {
	t, ok := v.(backends.Taken)
	if !ok || source == nil {
		return nil
	}
	now, err := t.Identity()
	if err == nil && !bytes.Equal(now, source) {
		err = fmt.Errorf("volume %q %w", w.from.Path, backends.ErrChanged)
	}
	return err
}

// inPlace refuses to take a volume from a pool, or to leave it in one, that is not at
// its target any more.
func (w move) inPlace(ctx context.Context) error {
	if err := w.from.Pool.InPlace(ctx); err != nil {
		return err
	}
	return w.to.Pool.InPlace(ctx)
}

// remove takes the source away, whose copy is complete.
func (w move) remove(ctx context.Context, r *helper.Run, v backends.Taken, source []byte) error {
	ctx = context.WithoutCancel(ctx)
	err := w.unchanged(v, source)
	if err == nil {
		err = w.inPlace(ctx)
	}
	if err == nil {
		err = r.Step(ctx, v.Remove)
	}
	if err != nil {
		return fmt.Errorf("%q is complete, but %q is still there too: %w", w.to.Path, w.from.Path, err)
	}
	return nil
}

// give gives a new volume the attributes of the one that it was made of. What it
// cannot be given is worth a warning.
func give(r *helper.Run, c diskio.Content, a diskio.Attributes, path string) {
	if lost := a.Give(c); len(lost) > 0 {
		r.Warn("%q could not be given %s", path, strings.Join(lost, ", "))
	}
}

// moveRecords keeps, with the identity of a volume that is about to get its
// name, that of the volume that is to go then.
type moveRecords struct {
	helper.Records
	name   string
	source []byte // nil: it stays
}

// moveRecord is what moveRecords keeps.
type moveRecord struct {
	Name   string `json:"name"` // of the source
	Source []byte `json:"source"`
	Target []byte `json:"target"`
}

func (m moveRecords) Save(identity []byte) error {
	b, err := json.Marshal(moveRecord{m.name, m.source, identity})
	if err != nil {
		panic("internal error: " + err.Error()) // plain values
	}
	return m.Records.Save(b)
}

// loadMove gives what moveRecords kept, nothing if that is nothing.
func loadMove(c helper.Records) (rec moveRecord, err error) {
	b, err := c.Load()
	if err != nil || b == nil {
		return rec, err
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return rec, fmt.Errorf("cannot read the record of the move: %w", err)
	}
	return rec, nil
}
