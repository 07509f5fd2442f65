package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/term"
	"storaged/internal/virtxml"
)

func (t *tool) poolCommand() *cli.Command {
	return &cli.Command{
		Name: "pool", Usage: "storage pools",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list the pools, also those that are not active", Action: t.reading(poolList),
				Flags: append(freshFlag(), templateFlag(), &cli.BoolFlag{Name: "inactive", Usage: "only those that are not in use; one that is unreachable is"},
					&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Hidden: true}), // as for virsh, where it says more
			},
			{Name: "show", Usage: "show all about a pool", ArgsUsage: "POOL…", Flags: append(freshFlag(), templateFlag()), Action: t.reading(poolShow)},
			t.sourcesVerb(), t.defineVerb(), t.poolCreateVerb(), t.buildVerb(),
			{Name: "start", Usage: "make a pool's volumes reachable", ArgsUsage: "POOL…", Flags: jobFlags(), Action: t.changing(onPools(new(operation.PoolStartRequest)))},
			t.stopVerb(),
			{Name: "refresh", Usage: "read a pool anew and find volumes that others made", ArgsUsage: "POOL…", Flags: jobFlags(), Action: t.changing(onPools(new(operation.PoolRefreshRequest)))},
			{
				Name: "verify", Usage: "read every volume of a pool and give the checksums", ArgsUsage: "POOL…",
				Description: "A volume that cannot be read does not keep the others from being read, and makes the exit code 11.\nBetween two volumes other jobs get their turn.",
				Flags:       jobFlags(), Action: t.changing(onPools(new(operation.PoolVerifyRequest))),
			},
			t.evacuateVerb(), t.editVerb(), t.autostartVerb(), t.undefineVerb(), t.poolDeleteVerb(),
		},
	}
}

// freshFlag is of verbs that tell of pools and volumes.
func freshFlag() []cli.Flag {
	return []cli.Flag{&cli.BoolFlag{Name: "fresh", Usage: "read the pools first; else the figures of the last reading are shown"}}
}

// poolSize gives a figure of a pool; one that was never read has none.
func (s *session) poolSize(p record.Pool, n int64) string {
	if p.Observed == nil {
		return "-"
	}
	return size(n, s.cli.Bool("bytes"))
}

func (s *session) poolShape() shape[record.Pool] {
	return shape[record.Pool]{
		columns: []term.Column[record.Pool]{
			{Name: "name", Weight: 2, Middle: true, Cell: func(p record.Pool) string { return p.Name }},
			{Name: "type", Spare: 2, Cell: func(p record.Pool) string { return p.Type }},
			{Name: "state", Cell: func(p record.Pool) string { return string(p.State) }},
			{Name: "autostart", Spare: 3, Cell: func(p record.Pool) string { return yesNo(p.Autostart) }},
			{Name: "capacity", Right: true, Cell: func(p record.Pool) string { return s.poolSize(p, p.Capacity) }, Order: byValue(func(p record.Pool) int64 { return p.Capacity })},
			{Name: "allocation", Spare: 1, Right: true, Cell: func(p record.Pool) string { return s.poolSize(p, p.Allocation) }, Order: byValue(func(p record.Pool) int64 { return p.Allocation })},
			{Name: "available", Right: true, Cell: func(p record.Pool) string { return s.poolSize(p, p.Available) }, Order: byValue(func(p record.Pool) int64 { return p.Available })},
			{Name: "reserved", Right: true, Extra: true, Cell: func(p record.Pool) string { return s.poolSize(p, p.Reserved) }, Order: byValue(func(p record.Pool) int64 { return p.Reserved })},
			{Name: "provisioned", Right: true, Extra: true, Cell: func(p record.Pool) string { return s.poolSize(p, p.Provisioned) }, Order: byValue(func(p record.Pool) int64 { return p.Provisioned })},
			{Name: "target", Weight: 4, Middle: true, Extra: true, Cell: func(p record.Pool) string { return p.Target.Path }},
			{Name: "devices", Weight: 2, Extra: true, Cell: func(p record.Pool) string { return strings.Join(p.Devices, ",") }},
			{Name: "uuid", Extra: true, Cell: func(p record.Pool) string { return p.UUID }},
			{Name: "reason", Weight: 4, Extra: true, Cell: func(p record.Pool) string { return p.Reason }},
		},
		name:   func(p record.Pool) string { return p.Name },
		xml:    func(p record.Pool) string { return virtxml.OfPool(p).Format() },
		detail: poolFields,
	}
}

func poolFields(s *session, p record.Pool) []field {
	state := string(p.State)
	if p.Reason != "" {
		state += " (" + p.Reason + ")"
	}
	fields := []field{
		{"Name", p.Name}, {"UUID", p.UUID}, {"Type", p.Type}, {"State", state}, {"Since", stamp(&p.Since)},
		{"Persistent", yesNo(p.Persistent)}, {"Autostart", yesNo(p.Autostart)}, {"Target", p.Target.Path}, {"Permissions", permissions(p.Permissions)},
		{"Source devices", strings.Join(p.Source.Devices, ", ")}, {"Source name", p.Source.Name}, {"Source hosts", strings.Join(p.Source.Hosts, ", ")},
		{"Source path", p.Source.Path}, {"Source format", p.Source.Format},
		{"Source initiator", p.Source.Initiator}, {"Source username", p.Source.Username}, {"Source secret", p.Source.Secret},
		{"Source options", pairs(p.Source.Options)}, {"On devices", strings.Join(p.Devices, ", ")},
		{"Capacity", s.poolSize(p, p.Capacity)}, {"Allocation", s.poolSize(p, p.Allocation)}, {"Available", s.poolSize(p, p.Available)},
		{"Reserved by jobs", s.poolSize(p, p.Reserved)}, {"Provisioned", s.poolSize(p, p.Provisioned)}, {"Read at", stamp(p.Observed)},
	}
	if p.Next != nil {
		anew := "it is defined anew, with target " + p.Next.Target.Path
		if len(p.Next.Source.Devices) > 0 {
			anew += " on " + strings.Join(p.Next.Source.Devices, ", ")
		}
		fields = append(fields, field{"When stopped", anew})
	}
	if p.Ignored > 0 {
		fields = append(fields, field{"Ignored", fmt.Sprintf("%d entries that are no volumes: names that are refused, or not regular files", p.Ignored)})
	}
	return fields
}

func poolList(ctx context.Context, s *session) error {
	pools, err := s.client.Pools(ctx)
	if err != nil {
		return err
	}
	if s.cli.Bool("inactive") {
		pools = slices.DeleteFunc(pools, func(p record.Pool) bool { return p.State.InUse() })
	}
	return printList(s, s.poolShape(), pools)
}

func poolShow(ctx context.Context, s *session) error {
	return showEach(s, s.args(), s.poolShape(), func(name string) (record.Pool, error) { return s.client.Pool(ctx, name) })
}

// onPools makes a verb that starts a job on each pool that it names.
func onPools(r operation.Request) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		*r.Job() = s.jobOptions()
		return s.eachPool(ctx, r)
	}
}

// eachPool starts a job on each pool that the command names.
func (s *session) eachPool(ctx context.Context, r operation.Request) error {
	var starts []start
	for _, pool := range s.pools(ctx) {
		starts = append(starts, s.job(record.Object{Pool: pool}, r))
	}
	return s.run(ctx, starts...)
}

// missing is what --missing-ok asks for.
func (s *session) missing() operation.Missing {
	return operation.Missing{MissingOK: s.cli.Bool("missing-ok")}
}

// printChanged confirms what changed without a job.
func (s *session) printChanged(name string, object any) error {
	switch s.format {
	case "json":
		return printDocument(s.out, object)
	case "jsonl":
		return printJSON(s.out, object)
	case "name":
		return printLines(s.out, []string{name}, func(n string) string { return n })
	}
	return nil
}
