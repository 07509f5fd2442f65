package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
	"storaged/internal/term"
)

// volumeRef is a volume as the user names it: by pool and name, or by path.
type volumeRef struct{ pool, name, path string }

func (r volumeRef) String() string {
	if r.path != "" {
		return r.path
	}
	return r.pool + "/" + r.name
}

func (r volumeRef) object() record.Object { return record.Object{Pool: r.pool, Volume: r.name} }

// parseVolume reads POOL/NAME or an absolute path.
func parseVolume(s string) (volumeRef, error) {
	if strings.HasPrefix(s, "/") {
		return volumeRef{path: s}, record.CheckPath(s)
	}
	return parseNewVolume(s)
}

// parseNewVolume reads POOL/NAME.
func parseNewVolume(s string) (volumeRef, error) {
	pool, name, found := strings.Cut(s, "/")
	if !found && record.CheckName(s) == nil {
		return volumeRef{}, fmt.Errorf("%q is no volume: write POOL/NAME; if it is the pool, %s/NAME", s, s)
	}
	if !found || pool == "" || name == "" {
		return volumeRef{}, fmt.Errorf("%q is no volume: write POOL/NAME", s)
	}
	if err := record.CheckName(pool); err != nil {
		return volumeRef{}, fmt.Errorf("pool: %w", err)
	}
	if err := record.CheckName(name); err != nil {
		return volumeRef{}, err
	}
	return volumeRef{pool: pool, name: name}, nil
}

// volume finds out pool and name of a volume given as s, which the grammar
// has checked.
func (s *session) volume(ctx context.Context, given string) (volumeRef, error) {
	r, err := parseVolume(given)
	if err != nil {
		return r, cmdline.Usagef("%s", err)
	}
	if r.path == "" {
		return r, nil
	}
	found, err := s.client.Volumes(ctx, contract.VolumeFilter{Paths: []string{r.path}})
	if err != nil {
		return r, err
	}
	if len(found) == 0 {
		return r, record.Errorf(record.NotFound, "no volume has the path %s", r.path).
			WithHint("storagedctl pool refresh finds volumes that others made")
	}
	return volumeRef{pool: found[0].Pool, name: found[0].Name}, nil
}

// volumes does so for several; one that is named twice is one.
func (s *session) volumes(ctx context.Context, given []string) ([]volumeRef, error) {
	var refs []volumeRef
	for _, g := range given {
		r, err := s.volume(ctx, g)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(refs, r) {
			refs = append(refs, r)
		}
	}
	return refs, nil
}

func checkJob(s string) error {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 {
		return nil
	}
	if _, err := uuid.Parse(s); err == nil && len(s) == 36 {
		return nil
	}
	return fmt.Errorf("%q is no job: write its number or uuid", s)
}

// timeLayouts are the ways to write a point in time, in local time unless it
// says otherwise.
var timeLayouts = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"}

// parseWhen reads a point in time, or a duration that lies so far back.
func parseWhen(s string, now time.Time) (time.Time, error) {
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	if d, err := quantity.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time: write 2026-11-21, 2026-11-21T10:00 or how long ago, like 2h", s)
}

// parsePair reads KEY=VALUE.
func parsePair(s string) (key, value string, err error) {
	key, value, found := strings.Cut(s, "=")
	if !found || key == "" {
		return "", "", fmt.Errorf("%q is no KEY=VALUE", s)
	}
	return key, value, record.CheckLabel(key, value)
}

// words are the vocabulary of the grammar, beside that of cmdline.
func (t *tool) words() map[string]cmdline.Word {
	return map[string]cmdline.Word{
		"POOL":        {Check: record.CheckName, Complete: t.completePools},
		"NAME":        {Check: record.CheckName},
		"VOL":         {Check: func(s string) error { _, err := parseVolume(s); return err }, Complete: t.completeVolumes},
		"POOL/NAME":   {Check: func(s string) error { _, err := parseNewVolume(s); return err }, Complete: t.completeNewVolumes},
		"JOB":         {Check: checkJob, Complete: t.completeJobs},
		"WHEN":        {Check: func(s string) error { _, err := parseWhen(s, time.Now()); return err }},
		"KEY=VALUE":   {Check: func(s string) error { _, _, err := parsePair(s); return err }},
		"GLOB":        {Check: func(s string) error { _, err := record.MatchName(s, ""); return err }},
		"CHECKSUM":    {Check: func(s string) error { _, _, err := record.ParseContentChecksum(s); return err }},
		"KEY":         {Check: record.CheckKey},
		"TYPE":        {Complete: t.completeTypes},
		"ALGORITHM":   {Complete: t.completeAlgorithms},
		"MAJOR:MINOR": {Complete: t.completeDevices},
		"KIND":        {Check: checkKind, Complete: func(context.Context, cmdline.Typed) []string { return kinds() }},
		"STATE":       {Check: checkState, Complete: func(context.Context, cmdline.Typed) []string { return states() }},
	}
}

func states() []string {
	list := []string{"live", "ended"}
	for _, s := range record.States() {
		list = append(list, string(s))
	}
	return list
}

func checkState(s string) error {
	if !slices.Contains(states(), s) {
		return fmt.Errorf("%q is no state of a job; there are %s", s, strings.Join(states(), ", "))
	}
	return nil
}

func kinds() []string {
	var list []string
	for _, k := range record.Kinds() {
		list = append(list, string(k))
	}
	return list
}

func checkKind(s string) error {
	if slices.Contains(kinds(), s) {
		return nil
	}
	alike := slices.DeleteFunc(kinds(), func(k string) bool { return !strings.HasSuffix(k, "."+s) })
	if len(alike) == 0 {
		alike = kinds()
	}
	return fmt.Errorf("%q is no kind of job; there are %s", s, strings.Join(alike, ", "))
}

// ask calls the daemon for a completion; a daemon that is not there has
// nothing to offer.
func ask[T any](ctx context.Context, t cmdline.Typed, call func(context.Context, *client.Client) ([]T, error)) []T {
	c := choice{socket: t.Flags["socket"], env: os.Getenv("STORAGED_SOCKET"), system: t.Flags["system"] != "", user: t.Flags["user"] != ""}
	s, err := chooseSocket(c, os.Getuid())
	if err != nil {
		return nil
	}
	daemon := client.Dial(s.pick(ctx, true))
	defer daemon.Close()
	all, err := call(ctx, daemon)
	if err != nil {
		return nil
	}
	return all
}

func (t *tool) completePools(ctx context.Context, typed cmdline.Typed) []string {
	pools := ask(ctx, typed, func(ctx context.Context, c *client.Client) ([]record.Pool, error) { return c.Pools(ctx) })
	names := make([]string, len(pools))
	for i, p := range pools {
		names[i] = p.Name
	}
	return names
}

func (t *tool) completeNewVolumes(ctx context.Context, typed cmdline.Typed) []string {
	names := t.completePools(ctx, typed)
	for i := range names {
		names[i] += "/"
	}
	return names
}

func (t *tool) completeVolumes(ctx context.Context, typed cmdline.Typed) []string {
	pool, _, inPool := strings.Cut(typed.Prefix, "/")
	if !inPool {
		return t.completeNewVolumes(ctx, typed)
	}
	volumes := ask(ctx, typed, func(ctx context.Context, c *client.Client) ([]record.Volume, error) {
		return c.Volumes(ctx, contract.VolumeFilter{Pools: []string{pool}})
	})
	names := make([]string, len(volumes))
	for i, v := range volumes {
		names[i] = v.Pool + "/" + v.Name
	}
	return names
}

func (t *tool) completeJobs(ctx context.Context, typed cmdline.Typed) []string {
	var filter contract.JobFilter
	if state := stateTaken(typed.Command); state != "" {
		filter.States = []string{state}
	}
	jobs := ask(ctx, typed, func(ctx context.Context, c *client.Client) ([]record.Job, error) {
		l, err := c.Jobs(ctx, filter, contract.Page{})
		return l.Items, err
	})
	numbers := make([]string, len(jobs))
	for i, j := range jobs {
		numbers[i] = fmt.Sprintf("%d\t%s %s, %s", j.Number, j.Kind, term.Escape(j.Subject()), j.State)
	}
	return numbers
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

func (t *tool) completeTypes(ctx context.Context, typed cmdline.Typed) []string {
	types := ask(ctx, typed, func(ctx context.Context, c *client.Client) ([]record.Capabilities, error) { return c.Capabilities(ctx) })
	names := make([]string, len(types))
	for i, p := range types {
		names[i] = p.Type
	}
	return names
}

func (t *tool) completeAlgorithms(ctx context.Context, typed cmdline.Typed) []string {
	types := ask(ctx, typed, func(ctx context.Context, c *client.Client) ([]record.Capabilities, error) { return c.Capabilities(ctx) })
	var names []string
	for _, p := range types {
		names = append(names, p.Algorithms...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// completeDevices offers the devices that pools lie on, which have limits.
func (t *tool) completeDevices(ctx context.Context, typed cmdline.Typed) []string {
	pools := ask(ctx, typed, func(ctx context.Context, c *client.Client) ([]record.Pool, error) { return c.Pools(ctx) })
	var devices []string
	for _, p := range pools {
		devices = append(devices, p.Devices...)
	}
	slices.Sort(devices)
	return slices.Compact(devices)
}
