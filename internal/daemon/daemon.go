package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"storaged/internal/api"
	"storaged/internal/events"
	"storaged/internal/metrics"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

const (
	// ringEvents is how many events a client that was away can catch up with:
	// hours of job states at ordinary rates, a few MiB.
	ringEvents = 4096

	// stopTimeout bounds a clean stop. Answers in flight are short; helpers go
	// on without us.
	stopTimeout = 10 * time.Second
)

// Setup is what Run needs.
type Setup struct {
	Config Config
	Log    hclog.Logger
	// Notes is for what is more than information, and no warning: a log like Log
	// whose lines are notices in the journal.
	Notes hclog.Logger
	Lost  func() int64 // lines of both that could not be written
	// Reload reads the settings again, as they were read for Config. SIGHUP
	// asks for it.
	Reload func() (Config, error)
}

// Run is the daemon's life, from start to the end of ctx or to SIGTERM or
// SIGINT. On return every goroutine has ended and the sockets are gone; helpers
// run on.
func Run(ctx context.Context, setup Setup) error {
	signals := make(chan os.Signal, 8) // more than anybody sends while we are busy
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(signals)
	hangup := make(chan os.Signal, 1) // one reload is as good as two
	signal.Notify(hangup, unix.SIGHUP)
	defer signal.Stop(hangup)
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()

	goAhead()
	return live(ctx, setup, signals, hangup)
}

// live opens what the daemon needs, in the order in which it depends on each
// other, serves until ctx ends, and closes it in reverse.
func live(ctx context.Context, setup Setup, signals, hangup <-chan os.Signal) error {
	c, log := setup.Config, setup.Log
	if err := makeDirs(c); err != nil {
		return err
	}
	runtime, err := claimRuntime(c)
	if err != nil {
		return err
	}
	defer runtime.Close() // nothing was written to it that could be lost
	st, err := openState(c.StateDir, log)
	if err != nil {
		return err
	}
	defer func() { logged(log, "closing state", st.Close()) }()
	s, err := newService(setup, st)
	if err != nil {
		return err
	}
	s.read, s.signals, s.hangup = setup.Reload, signals, hangup
	s.notify("STATUS=takes up the jobs of before")
	defer s.hub.Close()
	defer beside(ctx, s.keepCopies)()
	start, err := s.takeUp(ctx)
	if err != nil {
		return err
	}
	defer func() { logged(log, "stopping jobs", bounded(s.jobs.Stop)) }()
	s.startOwn(ctx, start)
	defer beside(ctx, s.keepTidy)()
	defer beside(ctx, s.keepStarting)()
	return s.serve(ctx)
}

// takeUp goes on with the jobs of before, and says what else there is to start.
// Jobs that were replayed may be of before a reboot, so that pools are looked at
// after them.
func (s *Service) takeUp(ctx context.Context) (start []work, err error) {
	replay := s.restored != nil && !s.restored.Replayed
	if !replay {
		if start, err = s.reset(); err != nil {
			return nil, err
		}
	}
	if err := s.jobs.Start(ctx); err != nil {
		return nil, fmt.Errorf("cannot take up jobs: %w", err)
	}
	if replay {
		if start, err = s.reset(); err != nil {
			return nil, errors.Join(err, bounded(s.jobs.Stop))
		}
	}
	s.recovered = []int64{}
	for _, j := range s.jobs.Live() {
		s.recovered = append(s.recovered, j.Number)
	}
	return start, nil
}

// beside runs fn in a goroutine of its own. stop ends its context and waits for
// it to return.
func beside(ctx context.Context, fn func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { fn(ctx) })
	return func() {
		cancel()
		group.Wait()
	}
}

// openState opens the database, and makes a damaged one good.
func openState(dir string, log hclog.Logger) (*store.Store, error) {
	st, restored, err := store.OpenWhole(filepath.Join(dir, "storaged.db"))
	if err != nil {
		return nil, unopened(err)
	}
	if restored != nil {
		log.Error("the state was damaged and has been put together again", "damage", restored.Damage, "kept_as", restored.Aside,
			"copy", restored.Copy, "old_records", restored.OldCount, "lost", restored.Lost)
	}
	return st, nil
}

func newService(setup Setup, st *store.Store) (*Service, error) {
	c, log := setup.Config, setup.Log
	boot, err := bootID()
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
	s := &Service{config: c, store: st, hub: hub, keeper: newKeeper(hub, boot, c.Resume), log: log, notes: setup.Notes, restored: restored}
	s.settings.Store(&c)
	s.started = s.keeper.now()
	s.metrics = metrics.New(metrics.Source{
		Live:  func() map[supervisor.Tally]int { return s.jobs.Census() },
		Pools: func() ([]record.Pool, error) { return s.Pools(context.Background()) }, Updates: st.Commits, Dropped: hub.Dropped, LinesLost: setup.Lost,
	})
	s.jobs = supervisor.New(supervisor.Config{
		RuntimeDir: c.RuntimeDir, StateDir: c.StateDir, Helper: c.Helper,
		Limits: c.Limits.with(set), Retention: c.History.retention(), Replay: restored != nil && !restored.Replayed, Observer: ends{s.metrics, log, setup.Notes},
		Attempts: c.Resume.Attempts, Log: log.Named("supervisor"),
	}, st, s.keeper, hub)
	s.keeper.devices, s.keeper.taken = s.jobs.SetDevices, s.taken
	return s, s.tellAllDevices()
}

// tellAllDevices tells the scheduler what the catalogue knows of the pools.
func (s *Service) tellAllDevices() error {
	return s.store.View(func(tx *store.Tx) error {
		pools, err := tx.Pools()
		for _, p := range pools {
			s.jobs.SetDevices(p.Name, p.Devices...)
		}
		return err
	})
}

// serve answers calls until ctx ends. The locks are rebuilt by now, and every
// job is classified.
func (s *Service) serve(ctx context.Context) error {
	if err := s.afterRestoration(ctx); err != nil {
		return err
	}
	socks, err := listen(s.config)
	if err != nil {
		return err
	}
	group, err := groupOf(s.config)
	if err != nil {
		return errors.Join(err, socks.main.Close(), socks.ro.Close())
	}
	server := api.NewServer(s, api.ServerConfig{Log: s.log.Named("api"), Socket: s.config.Socket, Group: group, Silence: time.Duration(s.config.Upload.Silence)})
	failed := make(chan error, 2) // closed by nobody; one send by each listener's goroutine
	go func() { failed <- server.Serve(socks.ro, true) }()
	go func() { failed <- server.Serve(socks.main, false) }()
	s.log.Info("ready", "version", s.config.Version, "socket", s.config.Socket, "state", s.config.StateDir)
	s.notify(sd.SdNotifyReady)
	defer beside(context.Background(), s.pulse)() // also while it drains

	waiting, first := s.attend(ctx, failed)
	s.hub.Close() // ends the event streams, which would hold the server up
	shutdown := bounded(server.Shutdown)
	for range waiting {
		first = errors.Join(first, <-failed)
	}
	return errors.Join(first, shutdown)
}

// attend does what it is asked by signals until it is asked to leave, or a
// listener fails: how many still listen, and the error of the other.
func (s *Service) attend(ctx context.Context, failed <-chan error) (listening int, err error) {
	for {
		select {
		case <-s.hangup:
			s.reload()
		case <-ctx.Done():
			s.notify(sd.SdNotifyStopping)
			s.drain(s.signals)
			s.log.Info("stopping; running jobs go on without me", "running", len(s.jobs.Live()))
			return 2, nil
		case err := <-failed:
			s.notify(sd.SdNotifyStopping)
			return 1, err
		}
	}
}

// reset brings pools back to where they were, before any job looks: one that
// was active before a restart of the daemon is active still; after a reboot
// none is, and those with autostart are to be started.
func (s *Service) reset() (start []work, err error) {
	err = s.store.Update(func(tx *store.Tx) error {
		start = start[:0]
		if err := recount(tx); err != nil {
			return err
		}
		pools, err := tx.Pools()
		if err != nil {
			return err
		}
		live, err := tx.LiveJobs()
		if err != nil {
			return err
		}
		for _, p := range pools {
			if p.Boot == s.keeper.boot {
				continue
			}
			p.Boot, p.Before, p.Job = s.keeper.boot, "", 0 // what a job of before would go back to is over
			p.NotStarted = true
			s.keeper.move(p, record.PoolInactive, "host was started")
			if err := tx.PutPool(p); err != nil {
				return err
			}
			if p.Autostart && !slices.ContainsFunc(live, starts(p)) {
				start = append(start, poolWork(p, record.PoolStart))
			}
		}
		return nil
	})
	return start, err
}

// starts tells the job that will start the pool by itself: one that had not
// begun. One that had has failed by the reboot.
func starts(p *store.Pool) func(*store.Job) bool {
	return func(j *store.Job) bool {
		return j.Kind == record.PoolStart && j.Objects[0].Pool == p.Name && !j.Go && !j.CancelAsk
	}
}

// startOwn starts jobs that the daemon itself wants.
func (s *Service) startOwn(ctx context.Context, all []work) {
	for _, w := range all {
		if _, err := s.submit(ctx, api.Submit{Caller: s.self()}, w, api.JobOptions{}); err != nil {
			s.log.Warn("cannot start a job of the daemon's own", "kind", w.Kind, "pool", w.Pool, "error", err)
		}
	}
}

// self is the daemon as a caller.
func (s *Service) self() api.Caller {
	return api.Caller{Role: api.Root, Owner: record.Owner{
		UID: os.Geteuid(), User: "storaged", LoginUser: "", PID: os.Getpid(), Command: "storaged", Via: "daemon",
	}}
}

// unopened says what to do about a state that cannot be opened.
func unopened(err error) error {
	var locked *store.LockedError
	var newer *store.SchemaError
	var damage *store.DamageError
	switch {
	case errors.As(err, &locked):
		return record.Errorf(record.Busy, "%v", err).
			WithHint("stop that one, or give this one another --state-dir and --runtime-dir")
	case errors.As(err, &newer):
		return record.Errorf(record.Unsupported, "%v", err).
			WithHint("install that version again; nothing has been changed")
	case errors.As(err, &damage):
		return record.Errorf(record.IO, "%v", err).
			WithHint("nothing has been changed; put a copy of storaged.db back, or, to begin anew without pools and history, move storaged.db, copies and jobs away")
	}
	return denied(err)
}

// makeDirs makes the daemon's own directories. Nobody else has business in
// the state, nor in the jobs' runtime files.
func makeDirs(c Config) error {
	runtimeMode := os.FileMode(0o755)
	if os.Geteuid() != 0 {
		runtimeMode = 0o700
	}
	for dir, mode := range map[string]os.FileMode{
		c.StateDir:                        0o700,
		filepath.Join(c.StateDir, "jobs"): 0o700,
		c.RuntimeDir:                      runtimeMode,
	} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return denied(fmt.Errorf("cannot make directory: %w", err))
		}
	}
	return denied(os.MkdirAll(filepath.Join(c.RuntimeDir, "jobs"), 0o700))
}

// denied gives a missing permission its code.
func denied(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return record.Errorf(record.Denied, "%v", err).WithHint("another --state-dir, --runtime-dir or --socket, or another user")
	}
	return err
}

// bounded runs a stop that respects its context for at most stopTimeout.
func bounded(stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return stop(ctx)
}

func logged(log hclog.Logger, what string, err error) {
	if err != nil {
		log.Error(what, "error", err)
	}
}

// bootID names this boot of the host (proc(5), random/boot_id).
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot tell this boot from others: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
