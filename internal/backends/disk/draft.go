package disk

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"storaged/internal/backends"
	"storaged/internal/record"
)

// draft is a partition with the mark of its job.
type draft struct {
	*volume
	job  string
	err  error // of the Commit that failed
	fate fate
}

var _ backends.Draft = (*draft)(nil)

// fate is what became of a draft.
type fate int

const (
	undecided fate = iota
	committed
	discarded
)

// Create makes a partition with the mark of the job.
func (b Backend) Create(ctx context.Context, p backends.Pool, n backends.NewVolume) (backends.Draft, error) {
	if err := errors.Join(b.CheckNameIn(p, n.Name), record.CheckJob(n.Job)); err != nil {
		return nil, err
	}
	if n.Size < 0 {
		return nil, fmt.Errorf("how large volume %q is to be must be known before it is made: partitions do not grow as they are written", n.Name)
	}
	v, err := ask(ctx, p, doMake, n.Name, n.Job, strconv.FormatInt(n.Size, 10))
	if err != nil {
		return nil, err
	}
	return &draft{volume: v, job: n.Job}, nil
}

// Resume takes up what an earlier process of the job has made. Nobody else had its name
// meanwhile: that is the partition's number.
func (b Backend) Resume(ctx context.Context, p backends.Pool, name, job, left string) (backends.Draft, error) {
	if err := errors.Join(b.CheckNameIn(p, name), record.CheckJob(job), record.CheckJob(left)); err != nil {
		return nil, err
	}
	v, err := ask(ctx, p, doRejoin, name, left, job)
	if err != nil {
		return nil, err
	}
	return &draft{volume: v, job: job}, nil
}

// Settle looks whether the job had committed, and removes what it was making.
func (Backend) Settle(ctx context.Context, p backends.Pool, name, job string, commit []byte) (done bool, err error) {
	was, err := identityIn(commit)
	if err := errors.Join(err, record.CheckName(name), record.CheckJob(job)); err != nil {
		return false, err
	}
	now, err := seen(ctx, p)
	if err != nil {
		return false, err
	}
	for _, v := range now.Volumes {
		done = done || v.Name == name && v.Ignored == "" && v.ID == was.ID
	}
	_, err = ask(ctx, p, doDiscard, name, job)
	return done && err == nil, err
}

// Clean: it has what was there before.
func (d *draft) Clean() bool { return false }

// Commit takes the mark off.
func (d *draft) Commit(ctx context.Context, record func(identity []byte) error) error {
	if d.fate != undecided || d.err != nil {
		return d.err
	}
	d.err = d.commit(ctx, record)
	if d.err == nil {
		d.fate = committed
	}
	return d.err
}

func (d *draft) commit(ctx context.Context, record func(identity []byte) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.File.Sync(); err != nil {
		return fmt.Errorf("cannot make volume %q durable: %w", d.Path, err)
	}
	if err := record(identity{ID: d.ID}.bytes()); err != nil {
		return err
	}
	_, err := ask(context.WithoutCancel(ctx), d.pool, doComplete, d.Name, d.job)
	return err
}

// Discard removes it.
func (d *draft) Discard() error {
	switch d.fate {
	case committed:
		return fmt.Errorf("cannot discard volume %q: it is complete", d.Path)
	case discarded:
		return nil
	}
	if err := d.Close(); err != nil {
		return err
	}
	_, err := ask(context.Background(), d.pool, doDiscard, d.Name, d.job) // it ends by the kernel's own time
	if err == nil {
		d.fate = discarded
	}
	return err
}
