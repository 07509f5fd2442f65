package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"storaged/internal/record"
)

// place is where a setting is: on a line of a file, or what else it comes from.
type place struct {
	file  string
	index int // of the file among those that are read
	line  int // 0: of no line
}

func (p place) String() string {
	if p.line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s:%d", p.file, p.line)
}

// fault is something wrong with settings at a place.
type fault struct {
	place place
	err   error
}

func (f *fault) Error() string { return f.place.String() + ": " + f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// Faults are all that an error of Load or Complete says is wrong with settings, one after the
// other as they stand in the files.
func Faults(err error) []error {
	all := parts(err)
	slices.SortStableFunc(all, func(a, b error) int {
		var p, q *fault
		switch inA, inB := errors.As(a, &p), errors.As(b, &q); {
		case inA && inB:
			return cmp.Or(cmp.Compare(p.place.index, q.place.index), cmp.Compare(p.place.line, q.place.line))
		case inA:
			return -1
		case inB:
			return 1
		}
		return 0
	})
	return all
}

// parts are the errors that were joined, also several times over.
func parts(err error) (all []error) {
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	}
	for _, e := range joined.Unwrap() {
		all = append(all, parts(e)...)
	}
	return all
}

// located says where the settings are that something is wrong with.
func (c *Config) located(err error) error {
	var all []error
	for _, e := range parts(err) {
		wrong, ok := errors.AsType[*record.SettingError](e)
		switch at, placed := c.placeOf(keyOf(wrong)); {
		case ok && c.isUnread(wrong.Key): // it may follow from that
		case placed:
			all = append(all, &fault{place: at, err: e})
		default:
			all = append(all, e)
		}
	}
	return errors.Join(all...)
}

func keyOf(e *record.SettingError) string {
	if e == nil {
		return ""
	}
	return e.Key
}

// isUnread reports whether a setting, or one in the table, could not be read.
func (c *Config) isUnread(key string) bool {
	return slices.ContainsFunc(c.unread, func(u string) bool { return u == key || strings.HasPrefix(u, key+".") })
}

// placeOf finds where a setting is, or else the table that it would be in.
func (c *Config) placeOf(key string) (at place, ok bool) {
	for key != "" {
		if at, ok = c.places[key]; ok {
			return at, true
		}
		key = key[:max(0, strings.LastIndexByte(key, '.'))]
	}
	return at, false
}

// isSet reports whether somebody has set a setting, be it to what it is by default.
func (c *Config) isSet(key string) bool { _, ok := c.places[key]; return ok }

// Given says that a setting comes from there, whatever files say.
func (c *Config) Given(key, from string) { c.places[key] = place{file: from} }
