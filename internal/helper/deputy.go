package helper

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"storaged/internal/backends"
	"storaged/internal/backends/deputy"
)

// deputizing is how a helper calls itself that is a deputy (deputy.Send). It is no
// command: nobody starts it by hand.
const deputizing = "deputy"

// using is an Opening by which something may be done in a pool that takes more than the
// process keeps.
type using interface {
	// uses are what may be done, and in which pool.
	uses(r *Run) (*Pool, []backends.Use)
}

// uses of a pool by itself are to read what is in it, and to change it where the task does.
func (p *Pool) uses(*Run) (*Pool, []backends.Use) {
	return p, []backends.Use{{Reads: true, Makes: p.Changes, Takes: p.Changes}}
}

// uses of a volume are what becomes of its name and its size: it is open.
func (v *Volume) uses(r *Run) (*Pool, []backends.Use) {
	u := backends.Use{Name: v.Name, Takes: v.Leaves, To: r.makes, Sizes: v.Sizes}
	if v.Volume == nil {
		return v.Pool, nil
	}
	if info, err := v.Volume.Info(); err == nil && len(u.Sizes) > 0 { // which it gets back if that fails
		u.Sizes = append(slices.Clone(u.Sizes), info.Size)
	}
	return v.Pool, []backends.Use{u}
}

// uses of a draft are to make it, or to go on with that of the job that this one retries.
func (d *Draft) uses(r *Run) (*Pool, []backends.Use) {
	u := backends.Use{Name: d.Name, Job: r.ID, Reads: true, Makes: true, Replaces: d.Over != nil}
	if d.Like != nil && d.Like.Pool.Type == d.Pool.Type && d.Like.Pool.Target == d.Pool.Target { // else it is a name of another pool
		u.Origin = d.Like.Name
	}
	if r.Earlier != nil && r.Earlier.Draft != r.ID {
		u.Left = r.Earlier.Draft
	}
	return d.Pool, []backends.Use{u}
}

// sendDeputy starts the deputy of a task that needs one.
func (r *Run) sendDeputy(t Task) (err error) {
	for _, o := range t.Opens {
		if d, ok := draftOf(o); ok {
			r.makes = d.Name
		}
	}
	var grants []deputy.Grant
	for _, o := range t.Opens {
		if o, ok := o.(using); ok {
			grants = append(grants, r.granted(o)...)
		}
	}
	if len(grants) > 0 {
		r.deputy, err = deputy.Send(deputizing, r.lock, grants)
	}
	return err
}

// draftOf is the draft that an opening is.
func draftOf(o Opening) (*Draft, bool) {
	if b, ok := o.(Begun); ok {
		return b.Draft, true
	}
	d, ok := o.(*Draft)
	return d, ok
}

// granted is what a deputy is to be asked for about an opening; nothing where the driver of
// its pool has no use for one. The pool's figures are asked for in any case.
func (r *Run) granted(o using) (grants []deputy.Grant) {
	p, uses := o.uses(r)
	driver, ok := p.Backend.(backends.Deputed)
	if !ok {
		return nil
	}
	g := deputy.Grant{Pool: p.Pool, May: driver.Grants(p.Pool, backends.Use{})}
	for _, u := range uses {
		g.May = append(g.May, driver.Grants(p.Pool, u)...)
	}
	return []deputy.Grant{g}
}

func (r *Run) recallDeputy() {
	if r.deputy != nil {
		r.deputy.Recall()
	}
}

// Deputizes does the work of a deputy, if it is what this process was started as. find
// gives the driver of a pool type.
func Deputizes(args []string, find func(poolType string) (backends.Backend, error)) (was bool) {
	if !slices.Equal(args[1:], []string{deputizing}) {
		return false
	}
	// What it is asked by has it end; what a person sends is for the helper.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	if err := deputy.Serve(find); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", Program, err)
	}
	return true
}
