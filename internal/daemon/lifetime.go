package daemon

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
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
func (l *life) pulse(ctx context.Context) {
	every := pulseEvery
	watchdog, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		l.Log.Warn("cannot tell the service manager's watchdog", "error", err)
	}
	if watchdog > 0 {
		every = min(every, watchdog/3) // late once is not dead
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for said := ""; ; {
		l.service.Answer()
		text := "STATUS=" + l.summary() // asks the supervisor
		if text != said {
			l.notify(text)
			said = text
		}
		if watchdog > 0 {
			l.notify(sd.SdNotifyWatchdog)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// summary is the daemon in a line, for systemctl status.
func (l *life) summary() string {
	running, waiting, stuck := l.service.Count()
	parts := []string{fmt.Sprintf("%d jobs running, %d waiting", running, waiting)}
	if stuck > 0 {
		parts = append(parts, fmt.Sprintf("%d helpers cannot be killed", stuck))
	}
	if until := l.drainEnds.Load(); until != nil {
		parts = append(parts, "stopping, waits for running jobs until "+until.Format(time.TimeOnly))
	}
	if l.reloaded.Load() != nil {
		parts = append(parts, *l.reloaded.Load())
	}
	return strings.Join(parts, "; ")
}

// drain takes no new jobs and waits for those that run, as long as the settings
// say; without a setting it does nothing. A second signal ends it.
func (l *life) drain() {
	patience := time.Duration(l.settings.Load().Stop.Drain)
	if patience == 0 {
		return
	}
	end := time.Now().Add(patience)
	l.drainEnds.Store(&end)
	running := l.service.DrainAll().Running
	l.Log.Info("draining: no new jobs; waiting for those that run", "running", running, "until", end.Format(time.TimeOnly))
	over := time.NewTimer(patience)
	defer over.Stop()
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for asked := 0; len(running) > 0 && asked < 2; running = l.service.Drained().Running {
		l.notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", drainGrace.Microseconds()))
		select {
		case <-tick.C:
		case <-l.signals:
			asked++ // the first is the one by which the drain began
		case <-over.C:
			asked = 2
		}
	}
	l.Log.Info("drained", "left", running)
}

// reload reads the settings again. What is wrong with them is said, and the
// old ones stay.
func (l *life) reload() {
	l.notify(sd.SdNotifyReloading + "\n" + sd.SdNotifyMonotonicUsec())
	said := "settings read again at " + time.Now().Format(time.TimeOnly)
	c, err := l.Reload()
	if err == nil {
		err = l.apply(c)
	}
	if faults := Faults(err); len(faults) > 0 {
		said = "settings not read again: " + faults[0].Error()
		if more := len(faults) - 1; more > 0 {
			said += fmt.Sprintf(" (and %d more)", more)
		}
		for _, f := range faults {
			l.Log.Error("settings stay as they were", "error", f)
		}
	}
	l.reloaded.Store(&said)
	l.notify(sd.SdNotifyReady + "\nSTATUS=" + l.summary())
}

// apply puts settings in force as far as a running daemon can.
func (l *life) apply(c Config) error {
	later, changes := l.Config.fixedBut(c), l.settings.Load().changes(c)
	if err := l.service.Apply(c.Settings, later); err != nil {
		return err
	}
	l.settings.Store(&c)
	l.notifier.Apply(c.receivers)
	l.Log.SetLevel(logLevel(c.LogLevel))
	l.Notes.SetLevel(logLevel(c.LogLevel))
	l.Log.Info("settings read again", "files", strings.Join(c.Files, " "), "changed", cmp.Or(strings.Join(changes, ", "), "nothing"))
	for _, w := range later {
		l.Log.Warn(w)
	}
	return nil
}
