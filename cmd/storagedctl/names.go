package main

import (
	"context"
	"fmt"
	"path/filepath"
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
	pool, name, err := record.ParseVolume(s)
	if err != nil {
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
	if err == nil && len(found) == 0 {
		found, err = s.linked(ctx, r.path)
	}
	if err != nil {
		return r, err
	}
	if len(found) == 0 {
		return r, record.Errorf(record.NotFound, "no volume has the path %s", r.path).
			WithHint("storagedctl pool refresh finds volumes that others made")
	}
	return volumeRef{pool: found[0].Pool, name: found[0].Name}, nil
}

// linked finds volumes at a path with symbolic links in it, which the daemon does not
// follow: it knows volumes by the paths of their pools as they were defined.
func (s *session) linked(ctx context.Context, path string) ([]record.Volume, error) {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return nil, nil // there is nothing by that name
	}
	paths := []string{filepath.Join(dir, filepath.Base(path))}
	if file, err := filepath.EvalSymlinks(path); err == nil {
		paths = append(paths, file)
	}
	pools, err := s.client.Pools(ctx)
	if err != nil {
		return nil, err
	}
	for _, path := range paths[:len(paths):len(paths)] {
		for _, p := range pools {
			if rest, ok := under(path, p.Real); ok && p.Real != "" {
				paths = append(paths, filepath.Join(p.Target.Path, rest))
			}
		}
	}
	return s.client.Volumes(ctx, contract.VolumeFilter{Paths: paths})
}

// wanted gives the names of volumes that are given, of which each may be a pattern of
// the shell's: 'images/vm*'. A volume of that very name comes first. What no pattern
// matches stays as it is given, and is not found.
func (s *session) wanted(ctx context.Context, given []string) ([]string, error) {
	var names []string
	for _, g := range given {
		matches, err := s.matched(ctx, g)
		switch {
		case err != nil && record.CodeOf(err) != record.NotFound:
			return nil, err
		case len(matches) == 0:
			names = append(names, g)
		}
		for _, v := range matches {
			names = append(names, volumeName(v))
		}
	}
	return once(names), nil
}

// matched are the volumes that a pattern matches, by pool and by name: those of a pool
// that is named, and of active pools where there is a pattern for these.
func (s *session) matched(ctx context.Context, pattern string) ([]record.Volume, error) {
	pool, name, found := strings.Cut(pattern, "/")
	if !found || pool == "" || !strings.ContainsAny(pattern, wildcards) {
		return nil, nil
	}
	if _, err := s.client.Volume(ctx, pool, name); record.CodeOf(err) != record.NotFound {
		return nil, err // there is one of that name, or it cannot be known
	}
	if !strings.ContainsAny(pool, wildcards) {
		volumes, err := s.client.PoolVolumes(ctx, pool)
		return slices.DeleteFunc(volumes, func(v record.Volume) bool { return !matches(name, v.Name) }), err
	}
	volumes, err := s.client.Volumes(ctx, contract.VolumeFilter{})
	return slices.DeleteFunc(volumes, func(v record.Volume) bool { return !matches(pool, v.Pool) || !matches(name, v.Name) }), err
}

// wildcards are characters that make a name a pattern.
const wildcards = `*?[`

// matches reports whether a pattern does; a bad one matches nothing.
func matches(pattern, name string) bool {
	ok, err := record.MatchName(pattern, name)
	return err == nil && ok
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

// checkPool wants the name of a pool.
func checkPool(s string) error {
	if _, err := parseNewVolume(s); err == nil {
		return fmt.Errorf("%q is a volume, and a pool is named here; storagedctl vol show %s shows that volume", s, s)
	}
	return record.CheckName(s)
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

// checkWord wants a word, which may have a value.
func checkWord(s string) error {
	if s == "" || s[0] == '=' {
		return fmt.Errorf("%q is no KEY or KEY=VALUE", s)
	}
	return nil
}

func checkOption(s string) error {
	if name, _, found := strings.Cut(s, "="); !found || name == "" {
		return fmt.Errorf("%q is no OPTION=VALUE", s)
	}
	return nil
}

// words are the vocabulary of the grammar, beside that of cmdline.
func (t *tool) words() map[string]cmdline.Word {
	return map[string]cmdline.Word{
		"POOL":         {Check: checkPool, Complete: offer((*client.Client).Pools, poolName)},
		"SECRET":       {Check: record.CheckName, Complete: offer((*client.Client).Secrets, func(k record.Secret) []string { return []string{k.Name} })},
		"NAME":         {Check: record.CheckName},
		"VOL":          {Check: func(s string) error { _, err := parseVolume(s); return err }, Complete: completeVolumes},
		"VOL@NAME":     {Check: func(s string) error { _, _, err := parseSnapshot(s); return err }, Complete: completeSnapshots},
		"POOL/NAME":    {Check: func(s string) error { _, err := parseNewVolume(s); return err }, Complete: completeNewVolumes},
		"POOL/":        {Check: checkPoolSlash, Complete: completeNewVolumes},
		"JOB":          {Check: checkJob, Complete: completeJobs},
		"WHEN":         {Check: func(s string) error { _, err := parseWhen(s, time.Now()); return err }},
		"KEY=VALUE":    {Check: func(s string) error { _, _, err := parsePair(s); return err }},
		"OPTION=VALUE": {Check: checkOption},
		"KEY[=VALUE]":  {Check: checkWord},
		"GLOB":         {Check: func(s string) error { _, err := record.MatchName(s, ""); return err }},
		"CHECKSUM":     {Check: func(s string) error { _, _, err := record.ParseContentChecksum(s); return err }},
		"KEY":          {Check: record.CheckKey},
		"FORMAT":       {Complete: completeFormats},
		"TYPE":         {Complete: offer((*client.Client).Capabilities, func(p record.Capabilities) []string { return []string{p.Type} })},
		"ALGORITHM":    {Complete: offer((*client.Client).Capabilities, func(p record.Capabilities) []string { return p.Algorithms })},
		"MAJOR:MINOR":  {Complete: offer((*client.Client).Pools, func(p record.Pool) []string { return p.Devices })},
		"KIND":         {Check: checkKind, Complete: func(context.Context, cmdline.Typed) []string { return kinds() }},
		"COLUMN":       {Complete: completeColumns("")},
		"-COLUMN":      {Complete: completeColumns("-")},
		"STATE":        {Check: checkState, Complete: func(context.Context, cmdline.Typed) []string { return states() }},
	}
}

// checkPoolSlash refuses what is no pool with a slash behind it.
func checkPoolSlash(s string) error {
	pool, ok := strings.CutSuffix(s, "/")
	if !ok {
		return fmt.Errorf("%q is no POOL/", s)
	}
	return checkPool(pool)
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
