package helper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/operation"
)

// Move makes the task of an operation.
func Move(o *operation.Move) (Task, error) {
	from, err := volume(o, "source", o.Volume)
	if err != nil {
		return Task{}, err
	}
	to, err := volume(o, "target", operation.Volume(o.Target))
	if err != nil {
		return Task{}, err
	}
	w := move{from: from, to: to, format: o.Format, allocation: orZero(o.Promise)}
	return Task{
		doing:   fmt.Sprintf("move %q to %q", from.path, to.path),
		done:    fmt.Sprintf("moved %q to %q", from.path, to.path),
		undone:  fmt.Sprintf("%q stays where it is", from.path),
		makes:   to.path,
		reads:   from.path,
		writes:  to.path,
		spares:  &from,
		copies:  &from,
		changes: []pool{to.in(), from.in()},
		work:    w.work,
	}, nil
}

type move struct {
	from, to   place
	format     string // of the volume
	allocation int64  // of the copy, if it has to be one
}

func (w move) work(ctx context.Context, r *run) error {
	v, err := r.take(ctx, w.from)
	if err != nil {
		return err
	}
	defer v.Close() // what becomes of it is durable by then
	if err := (copying{w.from.path, w.to.path, w.format, false}).admit(v); err != nil {
		return err
	}
	err = w.rename(ctx, r, v, func() error {
		r.plan(single("rename"))
		r.next(0)
		return r.seal()
	})
	if !errors.Is(err, backends.ErrElsewhere) {
		return err
	}
	size, err := sizeOf(v)
	if err != nil {
		return err
	}
	r.plan(moving("copy", size), single("commit"), single("remove"))
	r.next(0)
	identity, err := v.Identity()
	if err == nil {
		err = w.copy(ctx, r, v, identity, 1)
	}
	if err != nil {
		return err
	}
	r.next(2)
	return w.remove(ctx, r, v, identity)
}

// rename moves the name alone, if that is enough. begin is called before
// anything changes.
func (w move) rename(ctx context.Context, r *run, v backends.Taken, begin func() error) error {
	return r.step(ctx, func() error {
		err := v.Rename(ctx, w.to.pool, w.to.name, func(identity []byte) error {
			if err := begin(); err != nil {
				return err
			}
			return moveRecords{r.records, w.from.name, identity}.save(identity)
		})
		if err != nil {
			return err
		}
		r.report.Method = methodRename
		return r.describe(v)
	})
}

// methodRename is a move without a copy.
const methodRename = "rename"

// copy makes the target. source is the identity of the volume if it is to go:
// from the commit on whoever ends the job removes it.
func (w move) copy(ctx context.Context, r *run, v backends.Volume, source []byte, commit int) error {
	records := r.records
	r.records = moveRecords{records, w.from.name, source}
	defer func() { r.records = records }()
	attributes, err := diskio.AttributesOf(v.File()) // reading it is an access
	if err != nil {
		return err
	}
	kept, err := r.watch(ctx, v.File(), strconv.Quote(w.from.path))
	if err != nil {
		return err
	}
	return r.create(ctx, w.to, commit, func(d backends.Draft) error {
		did, err := diskio.Copy(ctx, r.pacer, diskio.CopySpec{Dst: d.File(), Src: v.File(), Clean: true, Allocation: w.allocation, Reserved: true})
		copied(r, did)
		if err = kept.ended(err); err == nil {
			err = w.unchanged(v, source)
		}
		if err == nil {
			give(r, d.File(), attributes, w.to.path)
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
		err = fmt.Errorf("volume %q %w", w.from.path, backends.ErrChanged)
	}
	return err
}

// remove takes the source away, whose copy is complete.
func (w move) remove(ctx context.Context, r *run, v backends.Taken, source []byte) error {
	err := w.unchanged(v, source)
	if err == nil {
		err = r.step(context.WithoutCancel(ctx), v.Remove)
	}
	if err != nil {
		return fmt.Errorf("%q is complete, but %q is still there too: %w", w.to.path, w.from.path, err)
	}
	return nil
}

// give gives a new volume the attributes of the one that it was made of. What it
// cannot be given is worth a warning.
func give(r *run, f *os.File, a diskio.Attributes, path string) {
	if lost := a.Give(f); len(lost) > 0 {
		r.warn("%q could not be given %s", path, strings.Join(lost, ", "))
	}
}

// moveRecords keeps, with the identity of a volume that is about to get its
// name, that of the volume that is to go then.
type moveRecords struct {
	commitRecords
	name   string
	source []byte // nil: it stays
}

// moveRecord is what moveRecords keeps.
type moveRecord struct {
	Name   string `json:"name"` // of the source
	Source []byte `json:"source"`
	Target []byte `json:"target"`
}

func (m moveRecords) save(identity []byte) error {
	b, err := json.Marshal(moveRecord{m.name, m.source, identity})
	if err != nil {
		panic("internal error: " + err.Error()) // plain values
	}
	return m.commitRecords.save(b)
}

// loadMove gives what moveRecords kept, nothing if that is nothing.
func loadMove(c commitRecords) (rec moveRecord, err error) {
	b, err := c.load()
	if err != nil || b == nil {
		return rec, err
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return rec, fmt.Errorf("cannot read the record of the move: %w", err)
	}
	return rec, nil
}
