package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/api"
	"storaged/internal/backends"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/term"
)

func (t *tool) hostCommands() []*cli.Command {
	return []*cli.Command{
		t.jobListCommand("list", "list the jobs that are not over (job list)"),
		t.jobCancelCommand("kill"),
		{Name: "status", Usage: "show how the daemon is", Action: t.reading(status)},
		{
			Name: "events", Usage: "print what happens until Ctrl-C", Action: t.reading(followEvents),
			Flags: []cli.Flag{&cli.StringFlag{Name: "after", Usage: "begin after the event with `NUMBER`"}},
		},
		{
			Name: "limits", Usage: "the scheduler's limits", Action: t.reading(limits),
			Subcommands: []*cli.Command{{Name: "show", Usage: "show them", Action: t.reading(limits)}},
		},
		{Name: "capabilities", Usage: "show the types of pools and what they can do", Action: t.reading(capabilities)},
		{Name: "version", Usage: "show the versions of this program and of the daemon", Action: t.reading(showVersion)},
		{
			Name: "completion", Usage: "print what a shell needs to complete command lines", ArgsUsage: "bash|zsh|fish",
			Description: "Example: source <(storagectl completion bash)",
			Action:      func(c *cli.Context) error { return cmdline.Completion(t.out, c.Args().First(), "storagectl") },
		},
	}
}

func status(ctx context.Context, s *session) error {
	st, err := s.client.Status(ctx)
	if err != nil {
		return err
	}
	return printOne(s, shape[api.Status]{
		columns: []term.Column[api.Status]{
			{Name: "state", Cell: func(st api.Status) string { return st.State }},
			{Name: "pid", Right: true, Cell: func(st api.Status) string { return fmt.Sprint(st.PID) }},
			{Name: "version", Cell: func(st api.Status) string { return st.Version }},
			{Name: "uptime", Right: true, Cell: func(st api.Status) string { return seconds(st.UptimeS) }},
		},
		name: func(st api.Status) string { return st.State }, detail: statusFields,
	}, st)
}

func statusFields(s *session, st api.Status) []field {
	fields := []field{
		{"State", st.State}, {"Socket", s.client.Socket()}, {"Version", st.Version}, {"PID", fmt.Sprint(st.PID)},
		{"Started", stamp(&st.Started)}, {"Uptime", seconds(st.UptimeS)}, {"Jobs", counts(st.Jobs)}, {"Pools", counts(st.Pools)},
	}
	if len(st.Recovered) > 0 {
		fields = append(fields, field{"Recovered jobs", strings.Trim(fmt.Sprint(st.Recovered), "[]")})
	}
	for _, name := range slices.Sorted(maps.Keys(st.Paths)) {
		fields = append(fields, field{"Path " + name, st.Paths[name]})
	}
	for _, w := range st.Warnings {
		fields = append(fields, field{"Warning", w})
	}
	return fields
}

// counts lists numbers of things by state.
func counts(by map[string]int) string {
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(by)) {
		if by[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", by[state], state))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func limits(ctx context.Context, s *session) error {
	l, err := s.client.Limits(ctx)
	if err != nil {
		return err
	}
	return printOne(s, shape[record.Limits]{
		columns: []term.Column[record.Limits]{
			{Name: "running", Right: true, Cell: func(l record.Limits) string { return fmt.Sprint(l.Running) }},
			{Name: "running-pool", Right: true, Cell: func(l record.Limits) string { return fmt.Sprint(l.RunningPool) }},
			{Name: "running-device", Right: true, Cell: func(l record.Limits) string { return fmt.Sprint(l.RunningDevice) }},
			{Name: "queued", Right: true, Cell: func(l record.Limits) string { return fmt.Sprint(l.Queued) }},
		},
		name: func(record.Limits) string { return "limits" }, detail: limitFields,
	}, l)
}

func limitFields(_ *session, l record.Limits) []field {
	rate := "none"
	if l.Rate != nil {
		rate = quantity.FormatRate(*l.Rate)
	}
	fields := []field{
		{"Running jobs", fmt.Sprint(l.Running)}, {"Running jobs per pool", fmt.Sprint(l.RunningPool)},
		{"Running jobs per device", fmt.Sprint(l.RunningDevice)}, {"Queued jobs", fmt.Sprint(l.Queued)}, {"Rate of all jobs", rate},
	}
	for _, p := range slices.Sorted(maps.Keys(l.PoolRates)) {
		fields = append(fields, field{"Rate of pool " + term.Escape(p), quantity.FormatRate(l.PoolRates[p])})
	}
	for _, p := range slices.Sorted(maps.Keys(l.PoolRunning)) {
		fields = append(fields, field{"Running jobs of pool " + term.Escape(p), fmt.Sprint(l.PoolRunning[p])})
	}
	for _, d := range slices.Sorted(maps.Keys(l.DeviceRates)) {
		fields = append(fields, field{"Rate of device " + term.Escape(d), quantity.FormatRate(l.DeviceRates[d])})
	}
	for _, d := range slices.Sorted(maps.Keys(l.DeviceRunning)) {
		fields = append(fields, field{"Running jobs of device " + term.Escape(d), fmt.Sprint(l.DeviceRunning[d])})
	}
	return fields
}

func capabilities(ctx context.Context, s *session) error {
	types, err := s.client.Capabilities(ctx)
	if err != nil {
		return err
	}
	words := func(list []string) string { return strings.Join(list, ",") }
	return printList(s, shape[backends.Properties]{
		columns: []term.Column[backends.Properties]{
			{Name: "type", Cell: func(p backends.Properties) string { return p.Type }},
			{Name: "formats", Cell: func(p backends.Properties) string { return words(p.Formats) }},
			{Name: "sparse", Cell: func(p backends.Properties) string { return yesNo(p.Sparse) }},
			{Name: "wipe", Cell: func(p backends.Properties) string { return words(p.Algorithms) }},
			{Name: "needs", Cell: func(p backends.Properties) string { return words(p.Needs) }},
			{Name: "pool-verbs", Cell: func(p backends.Properties) string { return words(p.PoolVerbs) }},
			{Name: "volume-verbs", Cell: func(p backends.Properties) string { return words(p.VolVerbs) }},
		},
		name: func(p backends.Properties) string { return p.Type },
	}, types)
}

// versions are this program's and the daemon's, null where there is none.
type versions struct {
	Client string       `json:"client"`
	Daemon *api.Version `json:"daemon"`
}

// showVersion works without a daemon too.
func showVersion(ctx context.Context, s *session) error {
	v := versions{Client: version}
	daemon, err := s.client.Version(ctx)
	if err == nil {
		v.Daemon = &daemon
	} else {
		s.note("storagectl: " + err.Error())
	}
	return printOne(s, shape[versions]{
		columns: []term.Column[versions]{
			{Name: "storagectl", Cell: func(v versions) string { return v.Client }},
			{Name: "storaged", Cell: daemonVersion},
		},
		name: func(v versions) string { return v.Client },
		detail: func(_ *session, v versions) []field {
			return []field{{"storagectl", v.Client}, {"storaged", daemonVersion(v)}}
		},
	}, v)
}

func daemonVersion(v versions) string {
	if v.Daemon == nil {
		return ""
	}
	return fmt.Sprintf("%s (%s, %s)", v.Daemon.Version, v.Daemon.API, v.Daemon.Go)
}
