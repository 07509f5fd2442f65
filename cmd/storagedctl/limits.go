package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/term"
)

func (t *tool) limitsCommand() *cli.Command {
	return &cli.Command{
		Name: "limits", Usage: "the scheduler's limits", Action: t.reading(limits),
		Subcommands: []*cli.Command{
			{Name: "show", Usage: "show them", Action: t.reading(limits)},
			{
				Name: "set", Usage: "change them, at once and for good",
				Description: "Without --pool or --device the limits of all jobs together are set. A rate is shared by\n" +
					"the jobs that run under it. Jobs at once are counted apart: those that are short, which\n" +
					"move 64 MiB at most, have as many places of their own, and those that move no data, such as\n" +
					"a stop of a pool, --running more. So more helpers than --running can be at work.\n\n" +
					"Examples:\n  storagedctl limits set --running 32\n  storagedctl limits set --pool images --rate 100M\n" +
					"  storagedctl limits set --pool images --running none\n  storagedctl limits set --running-device 2\n\n" +
					"storagedctl pool show names the devices of a pool. A device may have another number after a reboot.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "pool", Usage: "the limits of a pool: `POOL`"},
					&cli.StringFlag{Name: "device", Usage: "the limits of a physical device: `MAJOR:MINOR`"},
					&cli.StringFlag{Name: "rate", Usage: "bytes per second of all its jobs together: `RATE|none`"},
					&cli.StringFlag{Name: "running", Usage: "jobs at once; none, with --pool or --device: the limit for all holds again: `N|none`"},
					&cli.StringFlag{Name: "running-pool", Usage: "jobs at once on each pool that has no limit of its own: `N`"},
					&cli.StringFlag{Name: "running-device", Usage: "jobs at once on each physical device that has no limit of its own: `N`"},
					&cli.StringFlag{Name: "queued", Usage: "jobs that may wait: `N`"},
					&cli.BoolFlag{Name: "dry-run", Usage: "say what would be changed, and do nothing"},
				},
				Action: t.changing(limitsSet),
			},
		},
	}
}

// limitsSet makes one patch of the flags.
func limitsSet(ctx context.Context, s *session) error {
	patch, err := s.limitsPatch()
	if err != nil {
		return err
	}
	if s.cli.Bool("dry-run") {
		b, err := json.Marshal(patch)
		if err != nil {
			panic("internal error: limits do not encode: " + err.Error())
		}
		s.note("would change limits: " + string(b))
		return nil
	}
	l, err := s.client.PatchLimits(ctx, patch)
	if err != nil {
		return err
	}
	if s.cli.Bool("quiet") && s.form == nil && s.format == "table" {
		return nil // what was set is no answer that was asked for
	}
	return printLimits(s, l)
}

func (s *session) limitsPatch() (p contract.LimitsPatch, err error) {
	pool, device := s.cli.String("pool"), s.cli.String("device")
	if pool != "" && device != "" {
		return p, cmdline.Usagef("--pool and --device are two limits; set one at a time")
	}
	if !slices.ContainsFunc(settable, s.cli.IsSet) {
		return p, cmdline.Usagef("nothing to set: one of --%s is missing", strings.Join(settable, ", --"))
	}
	rate, err := orNone(s, "rate", quantity.ParseRate)
	if err != nil {
		return p, err
	}
	running, err := orNone(s, "running", strconv.Atoi)
	if err != nil {
		return p, err
	}
	switch {
	case pool != "":
		p.PoolRates, p.PoolRunning = exception(s, "rate", pool, rate), exception(s, "running", pool, running)
	case device != "":
		p.DeviceRates, p.DeviceRunning = exception(s, "rate", device, rate), exception(s, "running", device, running)
	case s.cli.IsSet("rate"):
		if p.Rate, err = limitOf(s.cli.String("rate")); err != nil {
			return p, err
		}
	}
	return p, s.general(&p, pool != "" || device != "")
}

// settable are the flags of which one has to be there. Only rate and running can
// be those of a pool or a device.
var settable = []string{"rate", "running", "running-pool", "running-device", "queued"}

// general reads the limits that are those of nobody in particular.
func (s *session) general(p *contract.LimitsPatch, particular bool) error {
	for flag, at := range map[string]**int{
		"running": &p.Running, "running-pool": &p.RunningPool, "running-device": &p.RunningDevice, "queued": &p.Queued,
	} {
		switch given := s.cli.IsSet(flag); {
		case !given || particular && flag == "running":
			continue
		case particular:
			return cmdline.Usagef("--%s is for all pools and devices; set it without --pool and --device", flag)
		case s.cli.String(flag) == "none":
			return cmdline.Usagef("--%s none: none is for a pool or a device", flag)
		}
		n, err := orNone(s, flag, strconv.Atoi)
		if err != nil {
			return err
		}
		*at = n
	}
	return nil
}

// orNone reads a flag; nil is none, or that it is not given.
func orNone[T any](s *session, flag string, parse func(string) (T, error)) (*T, error) {
	given := s.cli.String(flag)
	if !s.cli.IsSet(flag) || given == "none" {
		return nil, nil
	}
	v, err := parse(given)
	if err != nil {
		return nil, cmdline.Usagef("--%s %q is neither none nor a %s", flag, given, map[bool]string{true: "rate as 100M", false: "number"}[flag == "rate"])
	}
	return &v, nil
}

// exception is the change of one key of a map; nil where the flag is not
// given.
func exception[T any](s *session, flag, key string, v *T) map[string]*T {
	if !s.cli.IsSet(flag) {
		return nil
	}
	return map[string]*T{key: v}
}

func limits(ctx context.Context, s *session) error {
	l, err := s.client.Limits(ctx)
	if err != nil {
		return err
	}
	return printLimits(s, l)
}

func printLimits(s *session, l record.Limits) error {
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
