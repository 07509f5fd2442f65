package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"storaged/internal/crash"
	"storaged/internal/ipc"
	"storaged/internal/supervisor/process"
)

// launcher starts helpers and finds them again.
type launcher struct {
	program string
	runtime string // directory of the runtime directories of jobs
	state   string // directory of their state directories
	env     []string
	cgroups process.Cgroups
}

// inherited are the variables of ours that a helper gets. The last two steer
// race and coverage builds and mean nothing to others.
var inherited = []string{"PATH", "LANG", "HOME", "GORACE", "GOCOVERDIR"}

func newLauncher(cfg Config) launcher {
	l := launcher{
		program: cfg.Helper,
		runtime: filepath.Join(cfg.RuntimeDir, "jobs"),
		state:   filepath.Join(cfg.StateDir, "jobs"),
		cgroups: process.FindCgroups(),
	}
	for _, name := range slices.Concat(inherited, crash.Inherited) {
		if v, ok := os.LookupEnv(name); ok {
			l.env = append(l.env, name+"="+v)
		}
	}
	return l
}

// dir names a job's directories.
func (l launcher) dir(job string) ipc.JobDir {
	return ipc.JobDir{Job: job, Runtime: filepath.Join(l.runtime, job), State: filepath.Join(l.state, job)}
}

func (l launcher) family(d ipc.JobDir, cgroup string) process.Family {
	return process.Family{Mark: ipc.EnvJob + "=" + d.Job, Lock: d.Lock(), Cgroup: cgroup}
}

// given is what a helper has open from its start.
type given struct {
	data    *os.File // nil: none
	secrets []*os.File
	short   bool // its work is over in a moment
}

// launch makes the job's directories and starts a helper in them. What it made is gone
// again when it fails.
func (l launcher) launch(d ipc.JobDir, argv []string, has given) (*helper, error) {
	if err := l.makeDirs(d); err != nil {
		return nil, err
	}
	cgroup, group, err := l.makeCgroup(d)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(d.Runtime))
	}
	if group != nil {
		defer group.Close()
	}
	h, err := l.open(d, l.family(d, cgroup), false)
	if err == nil {
		if d.State != d.Runtime { // else it is a query, of which nothing is kept
			h.nameIn(l.state)
		}
		if err = l.exec(h, process.Spec{Argv: argv, Env: l.variables(has), Cgroup: group, Data: has.data, More: has.secrets}); err == nil {
			return h, nil
		}
		h.close()
	}
	return nil, errors.Join(err, os.RemoveAll(d.Runtime), process.RemoveCgroup(cgroup))
}

// cgroupFile names the job's cgroup, for those who find the directory later.
const cgroupFile = "cgroup"

// makeCgroup makes a cgroup for the job, where there can be one.
func (l launcher) makeCgroup(d ipc.JobDir) (path string, dir *os.File, err error) {
	path, dir, err = l.cgroups.Make(d.Job)
	if err != nil || dir == nil {
		return "", nil, err
	}
	if err := os.WriteFile(filepath.Join(d.Runtime, cgroupFile), []byte(path), 0o600); err != nil {
		dir.Close()
		return "", nil, errors.Join(fmt.Errorf("cannot note cgroup: %w", err), process.RemoveCgroup(path))
	}
	return path, dir, nil
}

// find names the processes of a job that was started before us.
func (l launcher) find(d ipc.JobDir) process.Family {
	cgroup, err := os.ReadFile(filepath.Join(d.Runtime, cgroupFile))
	if err != nil { // there was none, or the directory was wiped
		return l.family(d, l.cgroups.Find(d.Job))
	}
	return l.family(d, string(cgroup))
}

// remove removes what a helper needed to run. The state directory stays with
// the job's record.
func (l launcher) remove(d ipc.JobDir) error {
	cgroup := l.find(d).Cgroup
	return errors.Join(os.RemoveAll(d.Runtime), process.RemoveCgroup(cgroup))
}

// variables are those that a helper gets of us. Go's scheduler would wake threads for
// short work on every processor, which costs more than they do, and first look how many of
// them its cgroup is given.
func (l launcher) variables(has given) []string {
	if has.short {
		return append([]string{"GOMAXPROCS=1", "GODEBUG=containermaxprocs=0"}, l.env...)
	}
	return slices.Clone(l.env)
}

// exec starts the process; spec has what differs from job to job. Our copy of
// the lock is closed at once: from then on it is held by the helper and whom it
// passes it on to.
func (l launcher) exec(h *helper, spec process.Spec) error {
	lock, err := process.TakeLock(h.dir.Lock())
	if err != nil {
		return err
	}
	defer lock.Close()
	spec.Path, spec.Argv = l.program, append([]string{helperName}, spec.Argv...)
	spec.Env = append(spec.Env, ipc.EnvJob+"="+h.dir.Job, ipc.EnvRuntime+"="+h.dir.Runtime, ipc.EnvState+"="+h.dir.State)
	spec.Log, spec.Lock = h.log.f, lock
	h.proc, err = process.Start(spec)
	if err != nil && spec.Cgroup != nil {
		// The cgroup may be ours to write and yet not ours to enter (EPERM
		// where our own cgroup is not in the delegated tree).
		if err := l.removeCgroup(h); err != nil {
			return err
		}
		spec.Cgroup, h.family.Cgroup = nil, ""
		h.proc, err = process.Start(spec)
	}
	return err
}

func (l launcher) removeCgroup(h *helper) error {
	return errors.Join(process.RemoveCgroup(h.family.Cgroup), os.Remove(filepath.Join(h.dir.Runtime, cgroupFile)))
}

// makeDirs makes the job's directories and FIFOs anew.
func (l launcher) makeDirs(d ipc.JobDir) error {
	if err := os.RemoveAll(d.Runtime); err != nil {
		return fmt.Errorf("cannot clear job directory: %w", err)
	}
	for _, dir := range []string{d.Runtime, d.State} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("cannot make job directory: %w", err)
		}
	}
	// What an earlier helper of the job wrote, if anything, was read and judged.
	if err := os.Remove(d.Result()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot clear job directory: %w", err)
	}
	for _, fifo := range []string{d.Frames(), d.Control()} {
		if err := ipc.MakeFIFO(fifo); err != nil {
			return err
		}
	}
	return nil
}

// open opens our ends of the FIFOs and begins to read. An adopter enters the
// stream in the middle.
func (l launcher) open(d ipc.JobDir, family process.Family, adopting bool) (_ *helper, err error) {
	h := &helper{dir: d, family: family, frames: make(chan ipc.Frame), quit: make(chan struct{})}
	defer func() {
		if err != nil {
			h.closeFiles()
		}
	}()
	if h.in, h.hold, err = ipc.ReadFrames(d.Frames()); err != nil {
		return nil, err
	}
	if h.control, err = ipc.OpenControl(d.Control()); err != nil {
		return nil, err
	}
	if h.log, err = openLog(d.Log()); err != nil {
		return nil, err
	}
	in := ipc.NewReader(h.in, ipc.MaxFrame)
	if adopting {
		in = ipc.NewAdoptingReader(h.in, ipc.MaxFrame)
	}
	h.reader.Go(func() { h.read(in) })
	return h, nil
}

// deaf is a helper that cannot be heard, nor reached but by signals: it
// never got GO, or the runtime directory was wiped under it.
func deaf(d ipc.JobDir, family process.Family) *helper {
	h := &helper{dir: d, family: family, frames: make(chan ipc.Frame), quit: make(chan struct{}), readErr: os.ErrClosed}
	close(h.frames)
	return h
}
