package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/build"
	"storaged/cmd/internal/cmdline"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/term"
)

func (t *tool) hostCommands() []*cli.Command {
	return []*cli.Command{
		t.jobListCommand("list", "list the jobs that have not ended (job list)"),
		t.jobCancelCommand("kill", "kill"),
		t.topCommand(),
		{
			Name: "status", Usage: "show the state of the daemon, and what needs a person", Action: t.reading(status),
			Description: "What needs a person: trouble with the daemon's records, helpers that cannot be killed, pools that\n" +
				"are unreachable, degraded or full (less than 5 % left beside what is reserved), volumes that a job\n" +
				"left incomplete, and jobs that failed and were not done again, of pools that there are. A job that\n" +
				"was only refused is none of these: who asked for it has heard why; but one that finds in the middle\n" +
				"of its work that something is missing or cannot be done is. job forget dismisses a failed job.\n\n" +
				"Example: storagedctl status --check --since 1h",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "check", Usage: "print only what needs a person, and exit with 1 if there is something"},
				&cli.StringFlag{Name: "since", Value: "1d", Usage: "of jobs those that have failed since `WHEN` (default 1d)"},
				templateFlag(),
			},
		},
		{
			Name: "events", Usage: "print what happens until Ctrl-C", Action: t.reading(followEvents),
			Description: "Events have numbers: \"seq\" with -o jsonl. A line \"reset\" says that some may be missing before it,\nbecause the daemon was started anew or they are too long ago.\n\n" +
				"Example: storagedctl events -o jsonl --after 1795718181382129",
			Flags: []cli.Flag{&cli.StringFlag{Name: "after", Usage: "begin after the event with `NUMBER`"}, templateFlag()},
		},
		t.dialStdioCommand(),
		t.limitsCommand(),
		t.drainCommand(),
		{Name: "capabilities", Usage: "show the types of pools and what they can do", Flags: []cli.Flag{templateFlag()}, Action: t.reading(capabilities)},
		{Name: "version", Usage: "show the versions of this program and of the daemon", Flags: []cli.Flag{templateFlag()}, Action: t.reading(showVersion)},
		{
			Name: "completion", Usage: "print what a shell needs to complete command lines", ArgsUsage: "bash|zsh|fish",
			Description: "Example: source <(storagedctl completion bash)",
			Action:      t.completion,
		},
	}
}

func (t *tool) completion(c *cli.Context) error {
	if err := working(c); err != nil {
		return err
	}
	return cmdline.Completion(t.out, c.Args().First(), "storagedctl")
}

func status(ctx context.Context, s *session) error {
	o, err := s.observe(ctx)
	switch {
	case err != nil:
		return err
	case s.cli.Bool("check"):
		return s.check(o)
	}
	return printOne(s, shape[observed]{
		columns: []term.Column[observed]{
			{Name: "state", Cell: func(o observed) string { return o.State }},
			{Name: "pid", Right: true, Cell: func(o observed) string { return fmt.Sprint(o.PID) }},
			{Name: "version", Cell: func(o observed) string { return o.Version }},
			{Name: "uptime", Right: true, Cell: func(o observed) string { return seconds(o.UptimeS) }},
			{Name: "attention", Right: true, Cell: func(o observed) string { return fmt.Sprint(len(o.Attention)) }},
		},
		name:   func(o observed) string { return o.State },
		detail: func(s *session, o observed) []field { return append(statusFields(s, o.Status), attentionFields(o)...) },
	}, o)
}

func statusFields(s *session, st contract.Status) []field {
	fields := []field{
		{"State", st.State}, {"Socket", s.client.Name()}, {"Version", st.Version}, {"PID", fmt.Sprint(st.PID)},
		{"Started", stamp(&st.Started)}, {"Uptime", seconds(st.UptimeS)}, {"Drain", drainText(st.Drain)}, {"Jobs", counts(st.Jobs)}, {"Pools", counts(st.Pools)},
	}
	if len(st.Recovered) > 0 {
		fields = append(fields, field{"Recovered jobs", recovered(st.Recovered)})
	}
	fields = append(fields, field{"Limits", limitsLine(st.Limits)}, field{"Confinement", fmt.Sprintf("%s; jobs need %s", st.Confinement.Host, st.Confinement.Minimum)})
	for _, h := range st.Helpers {
		if h.Stuck != "" {
			fields = append(fields, field{"Stuck helper", fmt.Sprintf("job %d (%s): %s does not end when killed", h.Job, h.Kind, h.Stuck)})
		}
		if h.Foreign {
			fields = append(fields, field{"Other version", fmt.Sprintf("job %d (%s): process %d runs %s", h.Job, h.Kind, h.PID, h.Version)})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(st.Paths)) {
		fields = append(fields, field{"Path " + name, st.Paths[name]})
	}
	for _, w := range st.Warnings {
		fields = append(fields, field{"Warning", w})
	}
	return fields
}

// limitsLine gives the limits on everything; those on pools and devices are for
// the command limits.
func limitsLine(l record.Limits) string {
	line := fmt.Sprintf("%d running, %d on a pool, %d on a device, %d queued", l.Running, l.RunningPool, l.RunningDevice, l.Queued)
	if l.Rate != nil {
		line += ", " + quantity.FormatRate(*l.Rate)
	}
	if n := len(l.PoolRates) + len(l.PoolRunning) + len(l.DeviceRates) + len(l.DeviceRunning); n > 0 {
		line += fmt.Sprintf("; %d more on single pools and devices", n)
	}
	return line
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

func capabilities(ctx context.Context, s *session) error {
	types, err := s.client.Capabilities(ctx)
	if err != nil {
		return err
	}
	words := func(list []string) string { return strings.Join(list, ",") }
	return printList(s, shape[record.Capabilities]{
		columns: []term.Column[record.Capabilities]{
			{Name: "type", Cell: func(p record.Capabilities) string { return p.Type }},
			{Name: "formats", Weight: 2, Cell: func(p record.Capabilities) string { return words(p.Formats) }},
			{Name: "options", Weight: 4, Extra: true, Cell: func(p record.Capabilities) string { return formatOptions(p.Creations) }},
			{Name: "unavailable", Weight: 4, Extra: true, Cell: func(p record.Capabilities) string { return unavailable(p.Creations) }},
			{Name: "sparse", Cell: func(p record.Capabilities) string { return yesNo(p.Sparse) }},
			{Name: "wipe", Weight: 3, Cell: func(p record.Capabilities) string { return words(p.Algorithms) }},
			{Name: "needs", Weight: 2, Cell: func(p record.Capabilities) string { return words(p.Needs) }},
			{Name: "takes", Weight: 2, Extra: true, Cell: func(p record.Capabilities) string { return words(p.Takes) }},
			{Name: "pool-verbs", Weight: 3, Cell: func(p record.Capabilities) string { return words(p.PoolVerbs) }},
			{Name: "volume-verbs", Weight: 3, Cell: func(p record.Capabilities) string { return words(p.VolVerbs) }},
		},
		name: func(p record.Capabilities) string { return p.Type },
	}, types)
}

// formatOptions lists the options of formats.
func formatOptions(all []record.Creation) string {
	var list []string
	for _, c := range all {
		for _, o := range c.Options {
			list = append(list, c.Format+":"+o.Name)
		}
	}
	return strings.Join(list, ",")
}

// unavailable lists the formats that cannot be made on this host now, with the
// reason of the first: it is one program that all of them need.
func unavailable(all []record.Creation) string {
	var formats []string
	reason := ""
	for _, c := range all {
		if c.Unavailable != "" {
			formats, reason = append(formats, c.Format), cmp.Or(reason, c.Unavailable)
		}
	}
	if len(formats) == 0 {
		return ""
	}
	return strings.Join(formats, ",") + ": " + reason
}

// versions are this program's and the daemon's, null where there is none.
type versions struct {
	Client string            `json:"client"`
	Daemon *contract.Version `json:"daemon"`
}

// showVersion works without a daemon too.
func showVersion(ctx context.Context, s *session) error {
	v := versions{Client: build.Version()}
	daemon, err := s.client.Version(ctx)
	if err == nil {
		v.Daemon = &daemon
	} else {
		s.note("storagedctl: " + err.Error())
	}
	return printOne(s, shape[versions]{
		columns: []term.Column[versions]{
			{Name: "storagedctl", Cell: func(v versions) string { return v.Client }},
			{Name: "storaged", Cell: daemonVersion},
		},
		name: func(v versions) string { return v.Client },
		detail: func(_ *session, v versions) []field {
			return []field{{"storagedctl", v.Client}, {"storaged", daemonVersion(v)}}
		},
	}, v)
}

func daemonVersion(v versions) string {
	if v.Daemon == nil {
		return ""
	}
	return fmt.Sprintf("%s (%s, %s)", v.Daemon.Version, v.Daemon.API, v.Daemon.Go)
}

// mostRecovered is how many jobs are named that a daemon found at its start.
const mostRecovered = 8

// recovered counts jobs, and names the first.
func recovered(numbers []int64) string {
	text := fmt.Sprintf("%d: %s", len(numbers), strings.Trim(fmt.Sprint(numbers[:min(len(numbers), mostRecovered)]), "[]"))
	if len(numbers) > mostRecovered {
		text += " …"
	}
	return text
}
