package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
	"storaged/internal/term"
)

// ask calls the daemon for a completion; a daemon that is not there has
// nothing to offer.
func ask[T any](ctx context.Context, t cmdline.Typed, call func(*client.Client, context.Context) ([]T, error)) []T {
	c := choice{
		socket: t.Flags["socket"], env: os.Getenv("STORAGED_SOCKET"), host: t.Flags["host"], envHost: os.Getenv("STORAGED_HOST"),
		system: t.Flags["system"] != "", user: t.Flags["user"] != "", unattended: true,
	}
	if t.Command == "pool sources" {
		c.host = "" // it is that of the sources
	}
	daemon, err := c.dial(ctx, true)
	if err != nil {
		return nil
	}
	defer daemon.Close()
	all, err := call(daemon, ctx)
	if err != nil {
		return nil
	}
	return all
}

// offer completes with words of all things of a kind.
func offer[T any](call func(*client.Client, context.Context) ([]T, error), words func(T) []string) func(context.Context, cmdline.Typed) []string {
	return func(ctx context.Context, t cmdline.Typed) (out []string) {
		for _, one := range ask(ctx, t, call) {
			out = append(out, words(one)...)
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
}

func poolName(p record.Pool) []string { return []string{p.Name} }

func completeNewVolumes(ctx context.Context, t cmdline.Typed) []string {
	return offer((*client.Client).Pools, func(p record.Pool) []string { return []string{p.Name + "/"} })(ctx, t)
}

func completeVolumes(ctx context.Context, t cmdline.Typed) []string {
	pool, _, inPool := strings.Cut(t.Prefix, "/")
	if !inPool {
		return completeNewVolumes(ctx, t)
	}
	volumes := func(c *client.Client, ctx context.Context) ([]record.Volume, error) {
		return c.Volumes(ctx, contract.VolumeFilter{Pools: []string{pool}})
	}
	return offer(volumes, func(v record.Volume) []string { return []string{volumeName(v)} })(ctx, t)
}

// completeSnapshots completes the volume, and behind an "@" the snapshot.
func completeSnapshots(ctx context.Context, t cmdline.Typed) []string {
	volume, _, ok := strings.Cut(t.Prefix, "@")
	pool, name, inPool := strings.Cut(volume, "/")
	if !ok || !inPool {
		return completeVolumes(ctx, t)
	}
	snapshots := func(c *client.Client, ctx context.Context) ([]record.Snapshot, error) {
		return c.Snapshots(ctx, pool, name)
	}
	return offer(snapshots, func(s record.Snapshot) []string { return []string{volume + "@" + s.Name} })(ctx, t)
}

func completeJobs(ctx context.Context, t cmdline.Typed) (numbers []string) {
	var filter contract.JobFilter
	if state := stateTaken(t.Command); state != "" {
		filter.States = []string{state}
	}
	jobs := ask(ctx, t, func(c *client.Client, ctx context.Context) ([]record.Job, error) {
		l, err := c.Jobs(ctx, filter, contract.Page{})
		return l.Items, err
	})
	for _, j := range jobs { // newest first
		numbers = append(numbers, fmt.Sprintf("%d\t%s %s, %s", j.Number, j.Kind, term.Escape(j.Subject()), j.State))
	}
	return numbers
}

// completeFormats offers the formats that a volume can be made in, that a content can be
// in, or that the source of a pool can have.
func completeFormats(ctx context.Context, t cmdline.Typed) []string {
	switch t.Flag {
	case "format":
		return creatableFormats()
	case "source-format":
		return offer((*client.Client).Capabilities, func(p record.Capabilities) []string {
			if p.Type != t.Flags["type"] {
				return nil
			}
			return p.SourceFormats
		})(ctx, t)
	}
	return record.Formats
}

// completeColumns offers the columns of a list, each behind a dash or not.
func completeColumns(dash string) func(context.Context, cmdline.Typed) []string {
	return func(_ context.Context, t cmdline.Typed) (out []string) {
		for _, name := range columnsOf(t.Command) {
			out = append(out, dash+name)
		}
		return out
	}
}

func columnsOf(command string) []string {
	s := &session{}
	switch command {
	case "list", "job list":
		return term.Names(s.jobShape().columns)
	case "top":
		return term.Names(s.topColumns())
	case "vol list":
		return term.Names(s.volumeShape().columns)
	case "pool list":
		return term.Names(s.poolShape().columns)
	case "vol snapshot list":
		return term.Names(s.snapshotShape().columns)
	case "secret list":
		return term.Names(secretShape.columns)
	}
	return nil
}

// stateTaken is the state of the jobs that a command can do something with,
// "" for any.
func stateTaken(command string) string {
	switch command {
	case "job cancel", "kill", "job pause", "job resume", "job limit", "job priority", "job watch":
		return "live"
	case "job retry", "job forget":
		return "ended"
	}
	return ""
}
