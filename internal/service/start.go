package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/catalog"
	"storaged/internal/confine"
	"storaged/internal/events"
	"storaged/internal/metrics"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/secret"
	"storaged/internal/service/contract"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

// ringEvents is how many events a client that was away can catch up with: hours
// of job states at ordinary rates, a few MiB.
const ringEvents = 4096

// Setup is what a service needs.
type Setup struct {
	Settings Settings
	Log      hclog.Logger
	// Notes is for what is more than information, and no warning: a log like Log
	// whose lines are notices in the journal.
	Notes hclog.Logger
	Lost  func() int64 // lines of both that could not be written

	// Receivers hands a notice to those that the settings have, without waiting for them.
	// Untold says which are not told, and why. nil: there are none.
	Receivers func(record.Notice)
	Untold    func() []string
}

// New makes a service of a state. It does nothing before Begin.
func New(setup Setup, st *store.Store) (*Service, error) {
	c, log := setup.Settings, setup.Log
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	secrets, err := secret.Open(filepath.Join(c.StateDir, "secrets"))
	if err != nil {
		return nil, err
	}
	hub := events.New(ringEvents)
	var set *store.Limits
	var restored *store.Restoration
	err = st.View(func(tx *store.Tx) (err error) {
		if set, err = tx.Limits(); err != nil {
			return err
		}
		restored, err = tx.Restoration()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read limits and what became of a damaged database: %w", err)
	}
	s := &Service{config: c, store: st, hub: hub, catalog: catalog.New(hub, boot, c.Resume.KeepDays), log: log, herald: &herald{log: log, notes: setup.Notes, receivers: setup.Receivers}, untold: setup.Untold, restored: restored, secrets: secrets}
	s.settings.Store(&c)
	s.started, s.confinement = time.Now().UTC(), confine.Available()
	s.metrics = metrics.New(metrics.Source{
		Version: c.Version,
		Live:    func() map[supervisor.Tally]supervisor.Census { return s.jobs.Census() },
		Catalog: s.census, Writable: func() bool { return st.Trouble() == nil }, Warnings: func() int { return len(s.warnings()) },
		Updates: st.Commits, Dropped: hub.Dropped, LinesLost: setup.Lost,
	})
	s.jobs = supervisor.New(supervisor.Config{
		RuntimeDir: c.RuntimeDir, StateDir: c.StateDir, Helper: c.Helper,
		Limits: c.Limits.with(set), Retention: c.History.retention(), Replay: restored != nil && !restored.Replayed, Observer: ends{s.metrics, s.herald, st},
		Attempts: c.Resume.Attempts, Secret: secrets.Memory, Log: log.Named("supervisor"),
	}, st, s.catalog, hub)
	s.jobs.Confine(c.Helpers.Confinement, c.Helpers.refusal(s.confinement))
	s.jobs.SetFill(c.Logical.Fill)
	s.catalog.Connect(s.jobs.SetDevices, s.taken)
	return s, s.tellAllDevices()
}

// tellAllDevices tells the scheduler what the catalog knows of the pools.
func (s *Service) tellAllDevices() error {
	return s.store.View(func(tx *store.Tx) error {
		pools, err := tx.Pools()
		for _, p := range pools {
			s.jobs.SetDevices(p.Name, p.Devices...)
		}
		return err
	})
}

// Begin goes on with the jobs of before, and starts the pools that are to be.
// Jobs that were replayed may be of before a reboot, so that pools are looked at
// after them. On return the locks are as they were, and every job is classified.
// Stop is called in any case.
func (s *Service) Begin(ctx context.Context) error {
	replay := s.restored != nil && !s.restored.Replayed
	var start []operation.Operation
	var err error
	if !replay {
		if start, err = s.reset(); err != nil {
			return err
		}
	}
	if !replay {
		s.catalog.ExpectSeek()
	}
	if err := s.jobs.Start(ctx); err != nil {
		return fmt.Errorf("cannot take up jobs: %w", err)
	}
	s.catalog.Seek(s.seekChildren)
	if replay {
		if start, err = s.reset(); err != nil {
			return err
		}
	}
	s.recovered = []int64{}
	for _, j := range s.jobs.Live() {
		s.recovered = append(s.recovered, j.Number)
	}
	s.startOwn(ctx, start)
	return s.afterRestoration(ctx)
}

// GrantNothing begins none of the jobs that wait, until the next start.
func (s *Service) GrantNothing() { s.jobs.GrantNothing() }

// Stop ends what Begin began, but not the helpers: they run on.
func (s *Service) Stop(ctx context.Context) error {
	s.catalog.StopSeeking()
	err := s.jobs.Stop(ctx)
	s.sights.all.Wait()
	return err
}

// CloseEvents ends what Subscribe began.
func (s *Service) CloseEvents() { s.hub.Close() }

// reset brings pools back to where they were, before any job looks.
func (s *Service) reset() (start []operation.Operation, err error) {
	err = s.store.Update(func(tx *store.Tx) (err error) {
		start, err = s.catalog.Reset(tx)
		return err
	})
	return start, err
}

// startOwn starts jobs that the daemon itself wants.
func (s *Service) startOwn(ctx context.Context, all []operation.Operation) {
	for _, o := range all {
		if _, err := s.submit(ctx, contract.Submit{Caller: s.self()}, order{operation: o}); err != nil {
			s.log.Warn("cannot start a job of the daemon's own", "kind", o.Kind(), "pool", o.On().Pool, "error", err)
		}
	}
}

// self is the daemon as a caller.
func (s *Service) self() record.Caller {
	return record.Caller{Role: record.RootRole, Owner: record.Owner{
		UID: os.Geteuid(), User: "storaged", LoginUser: "", PID: os.Getpid(), Command: "storaged", Via: "daemon",
	}}
}

// bootID names this boot of the host (proc(5), random/boot_id).
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot tell this boot from others: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// errNothing is the update that changes nothing.
var errNothing = errors.New("nothing to write")

// Answer returns when the store's writer has answered. What it answers does not
// matter: a state that cannot be written is no hang, and a new daemon would not
// mend it.
func (s *Service) Answer() {
	_ = s.store.Update(func(*store.Tx) error { return errNothing })
}

// Count counts the jobs that run, those that wait, and the helpers that cannot be
// killed.
func (s *Service) Count() (running, waiting, stuck int) { return s.jobs.Count() }

// DrainAll takes no new jobs any more, by the daemon's own will, and says which
// run.
func (s *Service) DrainAll() record.Drain {
	s.jobs.Drain(true, s.self().Owner)
	return s.jobs.Drained()
}

// Drained says which jobs run while no new ones are taken.
func (s *Service) Drained() record.Drain { return s.jobs.Drained() }

// stuckIn says which process of a job cannot be killed, "" for none.
func stuckIn(j record.Job) string {
	i := slices.IndexFunc(j.WaitingOn, func(b record.Blocker) bool {
		return b.For == "device" && b.Holder != nil && b.Holder.External != ""
	})
	if i < 0 || j.State == record.Queued {
		return ""
	}
	return j.WaitingOn[i].Holder.External
}

// Apply puts settings in force as far as a running service can. later says which
// others hold from the next start of the daemon on.
func (s *Service) Apply(c Settings, later []string) error {
	err := s.store.Update(func(tx *store.Tx) error {
		set, err := tx.Limits()
		if err != nil {
			return err
		}
		// The same way as PatchLimits, so that the later of the two counts.
		tx.OnCommit(func() {
			s.settings.Store(&c)
			s.jobs.SetLimits(c.Limits.with(set))
		})
		return tx.PutLimits(set)
	})
	if err != nil {
		return err
	}
	s.jobs.SetRetention(c.History.retention())
	s.jobs.Confine(c.Helpers.Confinement, c.Helpers.refusal(s.confinement))
	s.jobs.SetFill(c.Logical.Fill)
	s.later.Store(&later)
	return nil
}
