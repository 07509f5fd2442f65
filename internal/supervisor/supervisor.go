// Package supervisor runs jobs: it records them, grants their locks, starts a
// helper process for each, follows its frames, cancels it, and establishes how
// it ended. It knows no storage: what a job means for the catalog is its
// Catalog's, what it does stands in its argv.
//
// Each live job has one goroutine, which makes every change of the job, in
// stages: wait (queued), start and launch (starting), attend (a helper lives),
// judge, and end. The legal moves are in states.go, the waits in times.go.
package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/events"
	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/schedule"
)

// Supervisor runs jobs. Its methods may be called from any goroutine, after
// Start and until Stop.
type Supervisor struct {
	store    *store.Store
	catalog  Catalog
	hub      *events.Hub
	log      hclog.Logger
	times    Times
	launcher launcher
	schedule *schedule.Schedule
	queries  queries
	boot     string // set by Start

	observer  Observer
	retention atomic.Pointer[Retention]
	replays   bool // by Start
	attempts  int  // of a job to go on by itself
	secret    func(name string) (*os.File, error)
	speaks    ipc.Versions     // with helpers
	clock     func() time.Time // for the ages of records

	stopping chan struct{}  // closed by Stop
	jobs     sync.WaitGroup // goroutines of jobs, and of who makes one

	mu       sync.Mutex
	live     map[string]*job
	byNumber map[int64]*job
	lists    map[int]map[string]*job // of each that is being read, the jobs that have ended meanwhile
	reads    int                     // lists that were begun
	started  bool
	drain    record.Drain // without Running
	fill     atomic.Int32 // percent, see SetFill; 0: as helpers have it
	least    string       // confinement that helpers have to reach; "" is none
	refusal  error        // why no jobs are taken, and none begin; nil: they are
}

// New makes a Supervisor. It does nothing before Start.
func New(cfg Config, st *store.Store, catalog Catalog, hub *events.Hub) *Supervisor {
	times := cmp.Or(cfg.Times, DefaultTimes())
	s := &Supervisor{
		speaks:   cmp.Or(cfg.speaks, ipc.Known()),
		observer: cfg.Observer, replays: cfg.Replay, attempts: cfg.Attempts, secret: cfg.Secret, clock: cfg.clock,
		store: st, catalog: catalog, hub: hub, log: cfg.Log, times: times,
		launcher: newLauncher(cfg),
		schedule: schedule.New(cfg.Limits, times.Ageing),
		queries:  queries{running: map[string]*query{}, staying: map[string]*asking{}},
		stopping: make(chan struct{}),
		live:     map[string]*job{}, byNumber: map[int64]*job{}, lists: map[int]map[string]*job{},
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	s.SetRetention(cfg.Retention)
	return s
}

// SetRetention changes how long records are kept, from the next pruning on.
func (s *Supervisor) SetRetention(r Retention) { s.retention.Store(&r) }

// GrantNothing begins none of the jobs that wait, for good: it is called before what
// they need of clients is taken away.
func (s *Supervisor) GrantNothing() { s.schedule.Close() }

// Stop grants nothing any more, ends all goroutines and leaves the helpers of
// jobs running; the next Start finds them. Query helpers are ended. It gives
// ctx's error when the goroutines take longer than that.
func (s *Supervisor) Stop(ctx context.Context) error {
	s.mu.Lock()
	first := s.started
	s.started = false
	s.mu.Unlock()
	if !first {
		return nil
	}
	s.schedule.Close()
	close(s.stopping)
	done := make(chan struct{})
	go func() {
		s.jobs.Wait()
		s.queries.wait()
		close(done)
	}()
	select {
	case <-done:
		s.launcher.cgroups.Close()
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot stop all jobs' goroutines in time: %w", ctx.Err())
	}
}

// Drain takes no new jobs any more and begins none of those that wait, or takes
// that back. Jobs that run go on: the answer names them. It lasts as long as
// the Supervisor.
func (s *Supervisor) Drain(on bool, by record.Owner) record.Drain {
	s.mu.Lock()
	switch now := time.Now().UTC(); {
	case !on:
		s.drain = record.Drain{}
	case !s.drain.On:
		s.drain = record.Drain{On: true, Since: &now, By: &by}
	}
	s.schedule.Drain(on)
	s.mu.Unlock()
	return s.Drained()
}

// Drained says how a drain stands.
func (s *Supervisor) Drained() record.Drain {
	s.mu.Lock()
	d := s.drain
	s.mu.Unlock()
	d.Running = s.schedule.Running()
	return d
}

// open says whether new jobs are taken.
func (s *Supervisor) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed()
}

// enter is open for who makes a job. Stop waits until it calls jobs.Done: else
// it could start the job's goroutine when all have ended.
func (s *Supervisor) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.closed()
	if err == nil {
		s.jobs.Add(1)
	}
	return err
}

// closed says why no new jobs are taken. It is called with mu held.
func (s *Supervisor) closed() error {
	switch {
	case !s.started:
		return record.Errorf(record.RecoveringCode, "storaged is starting or stopping").WithHint("try again in a moment")
	case s.drain.On:
		return record.Errorf(record.Draining, "storaged is being drained by %s since %s and takes no new jobs", s.drain.By.User, clock(*s.drain.Since)).
			WithHint("%s ends that", record.Do("drain").With("off"))
	}
	return s.refusal
}

// Confine has helpers that start from now on reach that level of confinement, or they
// do nothing. Where this host cannot, unable says so: no new jobs are taken then, and
// none that wait begin. What a job has begun is settled all the same.
func (s *Supervisor) Confine(least string, unable error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.least, s.refusal = least, unable
}

// SetFill has helpers that start from now on make what thin volumes share no fuller than so
// many percent.
func (s *Supervisor) SetFill(percent int) { s.fill.Store(int32(percent)) }

// confinement is that which helpers have to reach, and why they cannot.
func (s *Supervisor) confinement() (least string, unable error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.least, s.refusal
}

// enlist puts a job among the live ones. Its goroutine must be started soon.
func (s *Supervisor) enlist(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[j.id] = j
	s.byNumber[j.shown.Load().rec.Number] = j
}

// forget lets the locks of an ended job go and takes it from the live ones, in that
// order: who finds it there no more may have them.
func (s *Supervisor) forget(j *job) {
	j.entry.Leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, j.id)
	delete(s.byNumber, j.rec.Number)
	for _, ended := range s.lists {
		ended[j.id] = j
	}
}

// makeDirs makes the directories of all jobs.
func (s *Supervisor) makeDirs() error {
	var errs []error
	for _, dir := range []string{s.launcher.runtime, s.launcher.state} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			errs = append(errs, fmt.Errorf("cannot make directory of jobs: %w", err))
		}
	}
	return errors.Join(errs...)
}

// SetLimits changes the scheduler's limits at once.
func (s *Supervisor) SetLimits(l record.Limits) { s.schedule.SetLimits(l) }

// SetDevices says on which physical devices (major:minor) a pool lies, as far
// as that is known: none is no limit per device. It may be called before Start.
func (s *Supervisor) SetDevices(pool string, devices ...string) {
	s.schedule.SetDevices(pool, devices...)
}

// Snapshot gives the schedule as it is now.
func (s *Supervisor) Snapshot() schedule.Snapshot { return s.schedule.Snapshot() }

// Limits gives the limits in force.
func (s *Supervisor) Limits() record.Limits { return s.schedule.Limits() }
