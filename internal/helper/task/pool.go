package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
)

// PoolBuild makes the task of an operation.
func PoolBuild(o *operation.PoolBuild) (helper.Task, error) {
	t, err := poolTask(o, o.Volume, said{do: "build", done: "built"}, func(ctx context.Context, r *helper.Run, p *helper.Pool) error {
		p.Rights = rightsOf(o.Rights)
		p.Spared = o.Spared
		return change(ctx, r, "build", func() error { return makePool(ctx, p, o.Overwrite) })
	})
	if o.Overwrite {
		t.Ask = fmt.Sprintf("what is at %q will be overwritten", o.Path)
	}
	return t, err
}

// PoolStart makes the task of an operation.
func PoolStart(o *operation.PoolStart) (helper.Task, error) {
	s := &starting{build: o.Build, secret: o.PoolSource.Secret}
	t, err := poolTask(o, o.Volume, said{"start", "started", true}, func(ctx context.Context, r *helper.Run, p *helper.Pool) error {
		return refreshPool(ctx, r, p, s.phases)
	})
	if err == nil {
		s.Pool = t.Opens[0].(*helper.Pool)
		s.Rights = rightsOf(o.Rights)
		s.Spared = o.Spared
		t.Opens[0] = s
		t.Secrets = o.Files
	}
	return t, err
}

// PoolStop makes the task of an operation.
func PoolStop(o *operation.PoolStop) (helper.Task, error) {
	return poolTask(o, o.Volume, said{do: "stop", done: "stopped"}, func(ctx context.Context, r *helper.Run, p *helper.Pool) error {
		p.Force = o.Force
		return change(ctx, r, "stop", func() error { return p.Backend.Stop(ctx, p.Pool) })
	})
}

// PoolRefresh makes the task of an operation.
func PoolRefresh(o *operation.PoolRefresh) (helper.Task, error) {
	t, err := poolTask(o, o.Volume, said{"refresh", "read", true}, func(ctx context.Context, r *helper.Run, p *helper.Pool) error {
		r.Plan(helper.Scanning())
		discardLeftovers(ctx, r, p, o.Discard)
		return refreshPool(ctx, r, p, 0)
	})
	switch {
	case err != nil:
	case len(o.Discard) > 0:
		t.Seeks = true
		t.Opens[0].(*helper.Pool).Changes = true
	default:
		t.Again = func() (helper.Task, error) { return PoolRefresh(o) }
	}
	return t, err
}

// PoolSpace makes the task of an operation.
func PoolSpace(o *operation.Space) (helper.Task, error) {
	return poolTask(o, o.Volume, said{"ask the space of", "asked the space of", true}, func(ctx context.Context, r *helper.Run, p *helper.Pool) error {
		return change(ctx, r, "space", func() error {
			figures, err := p.Space(ctx)
			r.Report.Pool = &figures
			return err
		})
	})
}

// PoolReady makes the task of an operation.
func PoolReady(o *operation.Ready) (helper.Task, error) {
	b, err := driver(o.Type)
	if err != nil {
		return helper.Task{}, err
	}
	_, unseen := b.(backends.Readier)
	return poolTask(o, o.Volume, said{"look for", "found", !unseen}, func(ctx context.Context, r *helper.Run, p *helper.Pool) error {
		return change(ctx, r, "look", func() error {
			if b, ok := p.Backend.(backends.Readier); ok {
				return b.Ready(ctx, p.Pool)
			}
			_, err := p.Space(ctx)
			return err
		})
	})
}

// PoolDelete makes the task of an operation.
func PoolDelete(o *operation.PoolDelete) (helper.Task, error) {
	t, err := poolTask(o, o.Volume, said{do: "delete", done: "deleted"}, func(ctx context.Context, r *helper.Run, p *helper.Pool) error {
		var err error
		p.Spared, p.Listed = o.Spared, o.Held
		if p.Others, err = identities(p, o.Others); err != nil {
			return err
		}
		return change(ctx, r, "delete", func() error { return deletePool(ctx, p, o.WithVolumes) })
	})
	t.Ask = fmt.Sprintf("the pool at %q will be deleted", o.Path)
	if o.WithVolumes {
		t.Ask = fmt.Sprintf("the pool at %q will be deleted with all its volumes", o.Path)
	}
	return t, err
}

// said is what a task does to a pool, in words: the infinitive and the participle.
type said struct {
	do, done string
	opened   bool // the pool is there before and after, and so is opened once for all
}

// poolTask makes a task about the pool of --target.
func poolTask(o Tasked, v operation.Volume, verb said, work func(ctx context.Context, r *helper.Run, p *helper.Pool) error) (helper.Task, error) {
	p, err := poolOf(o, "target", v)
	if err != nil {
		return helper.Task{}, err
	}
	var opens []helper.Opening
	do := func(ctx context.Context, r *helper.Run) error {
		p.JobLock = r.Lock()
		return work(ctx, r, p)
	}
	_, privileged := p.Backend.(backends.Privileged)
	switch {
	case verb.opened:
		opens = append(opens, p)
	case privileged:
		opens, do = append(opens, outright{do}), func(context.Context, *helper.Run) error { return nil }
	}
	return helper.Task{
		Doing:  fmt.Sprintf("%s pool %q", verb.do, cmp.Or(v.Pool, p.Target)),
		Done:   fmt.Sprintf("%s pool %q", verb.done, cmp.Or(v.Pool, p.Target)),
		Undone: "what is done already stays so",
		Reads:  p.Target,
		Writes: p.Target,
		Opens:  opens,
		Pools:  !verb.opened,
		Work:   do,
	}, nil
}

// discardLeftovers removes what jobs left unfinished that ended. What cannot be removed
// keeps nobody from reading the pool.
func discardLeftovers(ctx context.Context, r *helper.Run, p *helper.Pool, jobs []string) {
	for _, job := range jobs {
		err := r.Step(ctx, func() error {
			creator, err := helper.Able[backends.Creator](p.Backend, "get new volumes")
			if err == nil {
				_, err = creator.Settle(ctx, p.Pool, job, job, nil) // of any volume
			}
			return err
		})
		if err != nil {
			r.Warn("what job %q left unfinished is not removed: %v", job, err)
		}
	}
}

// identities reads which pools are not to be deleted under another name.
func identities(p *helper.Pool, texts []string) (ids []backends.Identity, err error) {
	for _, text := range texts {
		id, err := identity(p.Backend, text)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// change does one thing as the only phase of the run.
func change(ctx context.Context, r *helper.Run, name string, do func() error) error {
	r.Plan(helper.Single(name))
	r.Next(0)
	return r.Step(ctx, do)
}

// outright is work on a pool that a confined process could not do, and so is done before
// the process is.
type outright struct {
	work func(ctx context.Context, r *helper.Run) error
}

// Open does the work.
func (o outright) Open(ctx context.Context, r *helper.Run) error { return o.work(ctx, r) }

// Lock has nothing to lock: the work is done.
func (outright) Lock(context.Context, *helper.Run) error { return nil }

// Close has nothing to give up.
func (outright) Close() {}

// starting is a pool that is started, and built before that if it is to be, before the
// process is confined: what leads to it has to be made by then, and of what is in it
// nothing has been read.
type starting struct {
	*helper.Pool
	build  bool
	secret string // name of the source's, "" for none
	unmade error  // why it was not built
	phases int    // that are over when it is open
}

// Open starts it, and opens it.
func (s *starting) Open(ctx context.Context, r *helper.Run) (err error) {
	p := s.Pool
	p.JobLock = r.Lock()
	if p.Secret, err = r.SecretFile(s.secret); err != nil {
		return err
	}
	steps := []func() error{func() error { return s.start(ctx) }}
	phases := []ipc.PlanPhase{helper.Single("start"), helper.Scanning()}
	if s.build && p.ID == "" { // else what was there is to be found, not made
		steps = append([]func() error{func() error { return s.make(ctx) }}, steps...)
		phases = append([]ipc.PlanPhase{helper.Single("build")}, phases...)
	}
	s.phases = len(steps)
	r.Plan(phases...)
	absent := missing(p.Target)
	for i, do := range steps {
		r.Next(i)
		if err := r.Step(ctx, do); err != nil {
			removeEmpty(absent)
			return err
		}
	}
	return p.Open(ctx, r)
}

// missing are the directories that are missing on a path, the deepest first.
func missing(path string) (all []string) {
	for filepath.IsAbs(path) {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		all = append(all, path)
		path = filepath.Dir(path)
	}
	return all
}

// removeEmpty takes directories away that were made for nothing, as far as nobody has put
// anything there; the deepest comes first.
func removeEmpty(directories []string) {
	for _, d := range directories {
		if err := unix.Rmdir(d); err != nil && !errors.Is(err, unix.ENOENT) {
			return
		}
	}
}

// makePool makes the pool's storage.
func makePool(ctx context.Context, p *helper.Pool, overwrite bool) error {
	b, err := helper.Able[backends.Builder](p.Backend, "be built")
	if err != nil {
		return err
	}
	return b.Build(ctx, p.Pool, overwrite)
}

// deletePool deletes the pool's storage.
func deletePool(ctx context.Context, p *helper.Pool, withVolumes bool) error {
	b, err := helper.Able[backends.Deleter](p.Backend, "be deleted")
	if err != nil {
		return err
	}
	return b.Delete(ctx, p.Pool, withVolumes)
}

// make makes the pool's storage unless it is there, or something else is in its place.
func (s *starting) make(ctx context.Context) error {
	err := makePool(ctx, s.Pool, false)
	if errors.Is(err, backends.ErrExists) {
		s.unmade = err
		return nil
	}
	return err
}

// start starts the pool. What is not there, though it was to be made, is told with the reason.
func (s *starting) start(ctx context.Context) error {
	err := s.Backend.Start(ctx, s.Pool.Pool)
	if s.unmade != nil && errors.Is(err, backends.ErrNotFound) {
		return fmt.Errorf("%w; it was not made: %v", err, s.unmade)
	}
	return err
}

// refreshPool lists the volumes as the phase of that index.
func refreshPool(ctx context.Context, r *helper.Run, p *helper.Pool, phase int) error {
	r.Next(phase)
	return r.Step(ctx, func() error {
		info, err := p.Backend.Refresh(ctx, p.Pool, func(v backends.VolumeInfo) error {
			r.Report.Items = append(r.Report.Items, helper.Item(v))
			return nil
		})
		if err != nil {
			return err
		}
		figures := p.Figures(info)
		r.Report.Pool = &figures
		return nil
	})
}
