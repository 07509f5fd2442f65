package service

import (
	"context"
	"os"
	"runtime"
	"time"

	"storaged/internal/backends/all"
	"storaged/internal/confine"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// Version names this build.
func (s *Service) Version() contract.Version {
	return contract.Version{Version: s.config.Version, Go: runtime.Version()}
}

// Status is the daemon as a whole.
func (s *Service) Status(ctx context.Context) (contract.Status, error) {
	pools, err := s.Pools(ctx)
	if err != nil {
		return contract.Status{}, err
	}
	st := contract.Status{
		Version: s.config.Version, PID: os.Getpid(),
		Started: s.started, UptimeS: time.Since(s.started).Seconds(),
		Socket: s.config.Socket, State: "ready",
		Drain: s.jobs.Drained(), Helpers: []contract.HelperStatus{},
		Jobs: map[string]int{}, Pools: map[string]int{}, LibvirtURI: s.config.LibvirtURI,
		Limits: s.jobs.Limits(), Recovered: s.recovered, Warnings: s.warnings(),
		Paths: map[string]string{
			"state_dir": s.config.StateDir, "runtime_dir": s.config.RuntimeDir,
			"helper": s.config.Helper, "config": s.config.File,
		},
	}
	st.Confinement = contract.ConfinementStatus{Host: confinementOf(s.confinement), Minimum: s.settings.Load().Helpers.Confinement}
	switch {
	case s.store.Trouble() != nil:
		st.State = "state_unwritable"
	case st.Drain.On:
		st.State = "draining"
	}
	for _, j := range s.jobs.Live() {
		st.Jobs[string(j.State)]++
		if h, ok := helperStatus(j, st.Version); ok {
			st.Helpers = append(st.Helpers, h)
		}
	}
	for _, p := range pools {
		st.Pools[string(p.State)]++
	}
	return st, nil
}

// warnings are sentences on what somebody should look after, of the daemon itself.
func (s *Service) warnings() []string {
	all := append([]string{}, s.troubles()...)
	if later := s.later.Load(); later != nil {
		all = append(all, *later...)
	}
	return all
}

// confinementOf is a level as it is told.
func confinementOf(l confine.Level) record.Confinement {
	return record.Confinement{
		Level: l.Word(), Landlock: l.Landlock, Seccomp: l.Seccomp, Anywhere: l.Anywhere,
		Capabilities: append([]string{}, l.Capabilities...), Lacks: append([]string{}, l.Lacks...),
	}
}

// helperStatus says how the helper of a job is, if one is at work.
func helperStatus(j record.Job, version string) (h contract.HelperStatus, ok bool) {
	h = contract.HelperStatus{Job: j.Number, Kind: j.Kind, Stuck: stuckIn(j)}
	switch j.State {
	case record.Running, record.Paused, record.Finalizing, record.Canceling:
		ok = j.Helper != nil
	}
	if ok {
		h.PID, h.Version = j.Helper.PID, j.Helper.Version
		h.Foreign = h.Version != version
		if c := j.Helper.Confinement; c != nil {
			h.Confined = c.Level
		}
	}
	return h, ok || h.Stuck != ""
}

// Capabilities are what each type of pool can do.
func (s *Service) Capabilities() []record.Capabilities {
	var out []record.Capabilities
	for _, b := range all.Backends() {
		out = append(out, b.Properties())
	}
	return out
}

// Metrics gives figures for Prometheus.
func (s *Service) Metrics() ([]byte, error) { return s.metrics.Text() }

// Subscribe gives events.
func (s *Service) Subscribe(ctx context.Context, after int64) (<-chan record.Event, error) {
	return s.hub.Subscribe(ctx, after), nil
}
