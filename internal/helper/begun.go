package helper

import (
	"cmp"
	"context"

	"storaged/internal/confine"
	"storaged/internal/record"
)

// Begun is a draft that is begun before the process is confined: in its pool's directory
// the task may make, change and remove names then, and open nothing but the draft. It
// is so only in a directory, where nobody has to know how large the volume will be; and
// what an earlier helper of the job left is taken up by the task, which knows then whether
// it can be relied on.
type Begun struct{ *Draft }

// Lock begins it.
func (b Begun) Lock(ctx context.Context, r *Run) error {
	d := b.Draft
	if r.resumes || len(d.Pool.directory()) == 0 {
		return nil
	}
	d.As.Size = cmp.Or(d.As.Size, -1)
	d.run = r
	_, err := r.begin(ctx, d)
	return err
}

// early reports whether it is begun already, and nobody has taken it over.
func (d *Draft) early() bool { return d.run != nil && d.Draft != nil }

// Needs is to name it, and to have children open it.
func (b Begun) Needs(r *Run, policy *confine.Policy) {
	d := b.Draft
	if !d.early() {
		d.Needs(r, policy)
		return
	}
	policy.Names = append(policy.Names, d.Pool.directory()...)
	policy.Write = append(policy.Write, fileOf(d.Draft)...)
	d.needs(policy)
}

// Close takes it away again, if the task did not come to it.
func (b Begun) Close() {
	d := b.Draft
	if !d.early() {
		return
	}
	if err := d.Draft.Discard(); err != nil {
		d.run.Report.Rollback = string(record.RollbackFailed)
		d.run.Warn("cannot remove the unfinished volume: %v", err)
	}
	d.Draft.Close() // it is gone
}
