package record

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is NAME_MAX of Linux file systems, bytes.
const maxName = 255

// maxShown bounds hostile text in reports, so that a record stays small.
const maxShown = 512

// draftSuffix ends the reserved names, which are for volumes in the making.
const draftSuffix = ".storaged"

// maxJob bounds the identifiers that may become part of a file name, bytes.
const maxJob = 100

// DraftName is the temporary name of what a job makes. The job has passed
// CheckJob.
func DraftName(job string) string { return "." + job + draftSuffix }

// Reserved reports whether a name is kept for volumes in the making, and for
// snapshots.
func Reserved(name string) bool {
	rest, ok := strings.CutPrefix(name, ".")
	return ok && strings.HasSuffix(rest, draftSuffix)
}

// SnapshotFile is the name of the file in which a snapshot of a volume lies beside
// that. No name of a volume and no temporary name is like it.
func SnapshotFile(volume, snapshot string) string {
	return "." + volume + "@" + snapshot + draftSuffix
}

// ParseSnapshot reads such a name.
func ParseSnapshot(file string) (volume, snapshot string, ok bool) {
	rest, reserved := strings.CutPrefix(file, ".")
	rest, suffixed := strings.CutSuffix(rest, draftSuffix)
	at := strings.LastIndexByte(rest, '@')
	if !reserved || !suffixed || at < 0 {
		return "", "", false
	}
	volume, snapshot = rest[:at], rest[at+1:]
	return volume, snapshot, CheckSnapshot(volume, snapshot) == nil
}

// CheckSnapshot is the rule for the name of a snapshot of a volume: that for volumes,
// and no "@". Both together must fit a name of a file.
func CheckSnapshot(volume, snapshot string) error {
	if err := errors.Join(CheckName(volume), CheckName(snapshot)); err != nil {
		return err
	}
	if strings.Contains(snapshot, "@") {
		return fmt.Errorf("bad name %s of a snapshot: it contains an @", quote(snapshot))
	}
	if n := len(SnapshotFile(volume, snapshot)); n > maxName {
		return fmt.Errorf("bad name %s of a snapshot: with that of its volume it makes a file name of %d bytes, and %d is the most", quote(snapshot), n, maxName)
	}
	return nil
}

// Shown is a volume's name for people: a snapshot is VOLUME@NAME.
func Shown(name string) string {
	if volume, snapshot, ok := ParseSnapshot(name); ok {
		return volume + "@" + snapshot
	}
	return name
}

// CheckJob is the rule for the job in a temporary name: a UUID, or what a
// helper started by hand calls itself.
func CheckJob(job string) error {
	other := strings.IndexFunc(job, func(r rune) bool {
		return !('0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' || r == '-' || r == '_')
	})
	if job == "" || len(job) > maxJob || other >= 0 || job[0] == '-' || job[0] == '_' {
		return fmt.Errorf("bad job identifier %s: only letters, digits, '-' and '_', %d at most", quote(job), maxJob)
	}
	return nil
}

// Escape makes hostile text harmless to show: what cannot be printed, and what
// would be mistaken for an escape, is escaped as in Go; the rest stays. More
// than maxShown bytes are cut.
func Escape(s string) string {
	cut := ""
	if len(s) > maxShown {
		s, cut = s[:maxShown], "…"
	}
	q := strconv.Quote(s)
	return q[1:len(q)-1] + cut
}

// CheckName is the one rule for names of pools and volumes: one path
// component, UTF-8, printable, at most 255 bytes, not "." or "..", no leading
// dash, no space at either end, and not reserved. The error says which part is
// broken; the name in it is quoted and escaped.
func CheckName(name string) error {
	bad := func(why string) error { return fmt.Errorf("bad name %s: %s", quote(name), why) }
	switch {
	case name == "":
		return bad("it is empty")
	case len(name) > maxName:
		return bad(fmt.Sprintf("%d bytes are more than %d", len(name), maxName))
	case !utf8.ValidString(name):
		return bad("it is not UTF-8")
	case name == "." || name == "..":
		return bad("it means a directory")
	case strings.Contains(name, "/"):
		return bad("it contains a slash")
	case strings.HasPrefix(name, "-"):
		return bad("it begins with a dash")
	case strings.TrimSpace(name) != name:
		return bad("it begins or ends with a space")
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return bad("it contains a character that cannot be printed")
	case Reserved(name):
		return bad("names of the form .*.storaged are reserved for volumes in the making and for snapshots")
	}
	return nil
}

// ParseVolume reads POOL/NAME.
func ParseVolume(s string) (pool, name string, err error) {
	pool, name, found := strings.Cut(s, "/")
	switch {
	case !found && CheckName(s) == nil:
		return "", "", fmt.Errorf("%q is no volume: write POOL/NAME; if it is the pool, %s/NAME", s, s)
	case !found || pool == "" || name == "":
		return "", "", fmt.Errorf("%q is no volume: write POOL/NAME", s)
	}
	if err := CheckName(pool); err != nil {
		return "", "", fmt.Errorf("pool: %w", err)
	}
	return pool, name, CheckName(name)
}

// CheckNameOf is CheckName for what a request names.
func CheckNameOf(what, name string) error {
	if err := CheckName(name); err != nil {
		return Errorf(Invalid, "%s: %v", what, err)
	}
	return nil
}

// MatchName is the one rule for patterns of names: those of the shell, as in
// path.Match; a dot at the beginning of a name is matched by a dot only (glob(7)). An empty
// pattern is any name.
func MatchName(pattern, name string) (bool, error) {
	if pattern == "" {
		return true, nil
	}
	ok, err := path.Match(pattern, name)
	if err != nil {
		return false, fmt.Errorf("bad pattern %s", quote(pattern))
	}
	hidden := strings.HasPrefix(name, ".") && !strings.HasPrefix(pattern, ".") && !strings.HasPrefix(pattern, `\.`)
	return ok && !hidden, nil
}

// CheckPath is the rule for paths of pools: absolute, clean, UTF-8, printable.
func CheckPath(path string) error {
	bad := func(why string) error { return fmt.Errorf("bad path %s: %s", quote(path), why) }
	switch {
	case !filepath.IsAbs(path):
		return bad("it is not absolute")
	case len(path) > 4000:
		return bad("it is too long")
	case filepath.Clean(path) != path:
		return bad(fmt.Sprintf("it is not clean; write %s", quote(filepath.Clean(path))))
	case path == "/":
		return bad("it is the root directory")
	case !utf8.ValidString(path):
		return bad("it is not UTF-8")
	case strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }):
		return bad("it contains a character that cannot be printed")
	}
	return nil
}

// quote shows hostile text harmlessly and not longer than a line.
func quote(s string) string {
	if len(s) > 64 {
		return fmt.Sprintf("%q…", s[:64])
	}
	return fmt.Sprintf("%q", s)
}
