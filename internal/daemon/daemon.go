package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"storaged/internal/notify"
	"storaged/internal/peer"
	"storaged/internal/polkit"
	"storaged/internal/record"
	"storaged/internal/rest"
	"storaged/internal/service"
	"storaged/internal/store"
)

const (
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
	collectSeldom()
	return live(ctx, setup, signals, hangup)
}

// gcPercent is by how much the heap grows before it is collected, per cent of what is in
// use. That is some MiB, and with Go's 100 a fifth of what the daemon does for a client
// that lists and looks would be to collect it.
const gcPercent = 200

// collectSeldom sets that, unless whoever started us has set another.
func collectSeldom() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// live opens what the daemon needs, in the order in which it depends on each
// other, serves until ctx ends, and closes it in reverse.
func live(ctx context.Context, setup Setup, signals, hangup <-chan os.Signal) error {
	c, log := setup.Config, setup.Log
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil { // secrets pass through
		return fmt.Errorf("cannot forbid core dumps: %w", err)
	}
	if err := makeDirs(c); err != nil {
		return err
	}
	runtime, err := claimRuntime(c)
	if err != nil {
		return err
	}
	defer runtime.Close()
	st, err := openState(c.StateDir, log)
	if err != nil {
		return err
	}
	defer func() { logged(log, "closing state", st.Close()) }()
	given, err := activated()
	if err != nil {
		return err
	}
	c.LibvirtURI = given.libvirtURI(c.Libvirt)
	notifier := newNotifier(c, log)
	defer notifier.Close()
	s, err := service.New(service.Setup{
		Settings: c.Settings, Log: log, Notes: setup.Notes, Lost: setup.Lost, Receivers: notifier.Tell, Untold: notifier.Complaints,
	}, st)
	if err != nil {
		return err
	}
	l := &life{Setup: setup, service: s, notifier: notifier, activated: given, signals: signals, hangup: hangup}
	l.settings.Store(&c)
	l.notify("STATUS=takes up the jobs of before")
	defer s.CloseEvents()
	defer beside(ctx, s.KeepCopies)()
	defer func() { logged(log, "stopping jobs", bounded(s.Stop)) }()
	if err := s.Begin(ctx); err != nil {
		return err
	}
	defer beside(ctx, func(context.Context) { notifier.Replay(s.EndedSince) })()
	defer beside(ctx, s.KeepTelling)()
	defer beside(ctx, s.KeepTidy)()
	defer beside(ctx, s.KeepStarting)()
	defer beside(ctx, s.KeepReading)()
	return l.serve(ctx)
}

// life is a daemon at work: its service, and what it is told by signals and tells
// the service manager.
type life struct {
	Setup
	service   *service.Service
	notifier  *notify.Notifier
	activated sockets // those of the service manager

	authority *polkit.Authority // nil: nobody asks it
	signals   <-chan os.Signal  // SIGTERM and SIGINT
	hangup    <-chan os.Signal

	settings  atomic.Pointer[Config]    // as last read
	drainEnds atomic.Pointer[time.Time] // nil: no drain before the end
	reloaded  atomic.Pointer[string]    // how the last reload went; nil: there was none
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
	st, restored, err := store.OpenOrRestore(filepath.Join(dir, "storaged.db"))
	if err != nil {
		return nil, unopened(err)
	}
	if restored != nil {
		log.Error("the state was damaged and has been put together again", "damage", restored.Damage, "kept_as", restored.Aside,
			"copy", restored.Copy, "old_records", restored.OldCount, "lost", restored.Lost)
	}
	return st, nil
}

// serve answers calls until ctx ends. The locks are rebuilt by now, and every
// job is classified.
func (l *life) serve(ctx context.Context) error {
	if l.authority = l.findAuthority(ctx); l.authority != nil {
		defer l.authority.Close()
	}
	socks, err := l.activated.listen(l.Config, l.authority != nil)
	if err != nil {
		return err
	}
	group, err := groupOf(l.Config)
	if err != nil {
		return errors.Join(err, socks.close())
	}
	defer func() { logged(l.Log, "giving libvirt its place back", socks.leaveDriver()) }()
	serving, shutdown := l.frontEnds(socks, group)
	failed := make(chan error, len(serving)) // closed by nobody; one send by each listener's goroutine
	for _, serve := range serving {
		go func() { failed <- serve() }()
	}
	l.Log.Info("ready", "version", l.Config.Version, "socket", l.Config.Socket, "state", l.Config.StateDir)
	l.notify(sd.SdNotifyReady)
	defer beside(context.Background(), l.pulse)() // also while it drains

	ended, first := l.attend(ctx, failed)
	l.service.GrantNothing() // an upload whose turn comes while its stream breaks would begin with nothing
	l.service.CloseEvents()  // ends the event streams, which would hold the servers up
	stopped := bounded(shutdown)
	for range len(serving) - ended {
		first = errors.Join(first, <-failed)
	}
	return errors.Join(first, stopped)
}

// frontEnds makes those that answer on the sockets. Each of serving answers on one of
// them until shutdown.
func (l *life) frontEnds(socks sockets, group *int) (serving []func() error, shutdown func(context.Context) error) {
	connections := new(peer.Connections)
	server := rest.NewServer(l.service, rest.ServerConfig{
		Log: l.Log.Named("api"), Socket: l.Config.Socket, Group: group, Silence: time.Duration(l.Config.Upload.Silence), Connections: connections,
	})
	serving = []func() error{func() error { return server.Serve(socks.ro, true) }, func() error { return server.Serve(socks.main, false) }}
	libvirt := l.libvirtServer(group, connections)
	for _, two := range [][2]net.Listener{{socks.libvirt, socks.libvirtRO}, {socks.standIn, socks.standInRO}} {
		for i, one := range two {
			if one != nil {
				serving = append(serving, func() error { return libvirt.Serve(one, i == 1) })
			}
		}
	}
	return serving, func(ctx context.Context) error {
		other := make(chan error)
		go func() { other <- libvirt.Shutdown(ctx) }() // both have the time of ctx
		return errors.Join(server.Shutdown(ctx), <-other)
	}
}

// attend does what it is asked by signals until it is asked to leave, or a
// listener fails: how many have, and the error of that one.
func (l *life) attend(ctx context.Context, failed <-chan error) (ended int, err error) {
	for {
		select {
		case <-l.hangup:
			l.reload()
		case <-ctx.Done():
			l.notify(sd.SdNotifyStopping)
			l.drain()
			l.Log.Info("stopping; running jobs go on without me", "running", len(l.service.Drained().Running))
			return 0, nil
		case err := <-failed:
			l.notify(sd.SdNotifyStopping)
			return 1, err
		}
	}
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
