package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"storaged/internal/record"
	"storaged/internal/store"
)

const (
	// pulseEvery is how often the text for the service manager is looked over:
	// often enough for a person who looks twice.
	pulseEvery = 5 * time.Second

	// drainEvery is how often a drain looks whether it is over.
	drainEvery = time.Second

	// drainGrace is by how much a drain asks the service manager to put its
	// timeout off, over and over: more than a busy host keeps drainEvery late,
	// less than anybody waits for a daemon that hangs.
	drainGrace = 30 * time.Second
)

// pulse tells the service manager until ctx ends what there is to say, and
// that the daemon lives: only after the store's writer and the supervisor have
// answered. When one of them hangs so does the pulse, and the service manager's
// watchdog ends the daemon and starts another (sd_watchdog_enabled(3)).
func (s *Service) pulse(ctx context.Context) {
	every := pulseEvery
	watchdog, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("cannot tell the service manager's watchdog", "error", err)
	}
	if watchdog > 0 {
		every = min(every, watchdog/3) // late once is not dead
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for said := ""; ; {
		s.askWriter()
		text := "STATUS=" + s.summary() // asks the supervisor
		if text != said {
			s.notify(text)
			said = text
		}
		if watchdog > 0 {
			s.notify(sd.SdNotifyWatchdog)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// errNothing is the update that changes nothing.
var errNothing = errors.New("nothing to write")

// askWriter returns when the store's writer has answered. What it answers does
// not matter: a state that cannot be written is no hang, and a new daemon would
// not mend it.
func (s *Service) askWriter() {
	_ = s.store.Update(func(*store.Tx) error { return errNothing })
}

// summary is the daemon in a line, for systemctl status.
func (s *Service) summary() string {
	running, waiting, stuck := s.jobs.Count()
	parts := []string{fmt.Sprintf("%d jobs running, %d waiting", running, waiting)}
	if stuck > 0 {
		parts = append(parts, fmt.Sprintf("%d helpers cannot be killed", stuck))
	}
	if until := s.drainEnds.Load(); until != nil {
		parts = append(parts, "stopping, waits for running jobs until "+until.Format(time.TimeOnly))
	}
	if s.reloaded.Load() != nil {
		parts = append(parts, *s.reloaded.Load())
	}
	return strings.Join(parts, "; ")
}

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

// drain takes no new jobs and waits for those that run, as long as the settings
// say; without a setting it does nothing. A second signal ends it.
func (s *Service) drain(signals <-chan os.Signal) {
	patience := time.Duration(s.settings.Load().Stop.Drain)
	if patience == 0 {
		return
	}
	end := time.Now().Add(patience)
	s.drainEnds.Store(&end)
	s.jobs.Drain(true, s.self().Owner)
	s.log.Info("draining: no new jobs; waiting for those that run", "running", s.jobs.Drained().Running, "until", end.Format(time.TimeOnly))
	over := time.NewTimer(patience)
	defer over.Stop()
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for asked := 0; len(s.jobs.Drained().Running) > 0 && asked < 2; {
		s.notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", drainGrace.Microseconds()))
		select {
		case <-tick.C:
		case <-signals:
			asked++ // the first is the one by which the drain began
		case <-over.C:
			asked = 2
		}
	}
	s.log.Info("drained", "left", s.jobs.Drained().Running)
}

// reload reads the settings again. What is wrong with them is said, and the
// old ones stay.
func (s *Service) reload() {
	s.notify(sd.SdNotifyReloading + "\n" + sd.SdNotifyMonotonicUsec())
	said := "settings read again at " + s.keeper.now().Local().Format(time.TimeOnly)
	c, err := s.read()
	if err == nil {
		err = s.apply(c)
	}
	if err != nil {
		said = "settings not read again: " + strings.ReplaceAll(err.Error(), "\n", " ")
		s.log.Error("settings stay as they were", "file", s.config.File, "error", err)
	} else {
		s.log.Info("settings read again", "file", c.File)
	}
	s.reloaded.Store(&said)
	s.notify(sd.SdNotifyReady + "\nSTATUS=" + s.summary())
}

// apply puts settings in force as far as a running daemon can.
func (s *Service) apply(c Config) error {
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
	s.log.SetLevel(logLevel(c.LogLevel))
	s.notes.SetLevel(logLevel(c.LogLevel))
	later := s.config.fixedBut(c)
	for _, w := range later {
		s.log.Warn(w)
	}
	s.later.Store(&later)
	return nil
}
