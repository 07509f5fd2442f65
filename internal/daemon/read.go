package daemon

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"storaged/internal/record"
)

// dropIns is what the name of the directory with more settings ends with, behind that of the
// config file.
const dropIns = ".d"

// Load reads the config file over c, and then, in the order of their names, the files NAME.toml
// in the directory beside it that is called like it with .d. A key that comes again counts
// as it came last; receivers of notices add up. A missing config file is nothing, unless it was
// asked for. The error is all that is wrong, see Faults.
func (c *Config) Load(path string, asked bool) error {
	c.File, c.places = path, map[string]place{}
	more, err := moreFiles(path + dropIns)
	faults := []error{err}
	for i, file := range append([]string{path}, more...) {
		text, err := os.ReadFile(file)
		switch {
		case errors.Is(err, os.ErrNotExist) && i == 0 && !asked:
		case err != nil:
			faults = append(faults, record.Errorf(record.Invalid, "cannot read config file %q: %v", file, cause(err)))
		default:
			r := &reading{place: place{index: i, file: file}, config: c}
			faults = append(faults, r.all(string(text))...)
			c.Files = append(c.Files, file)
		}
	}
	return errors.Join(faults...)
}

// cause is the error without the path, which is said.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// moreFiles are those in a directory that settings are read from. What begins with a dot is
// an editor's.
func moreFiles(dir string) (files []string, err error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, record.Errorf(record.Invalid, "cannot read config files in %q: %v", dir, cause(err))
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".toml") && !strings.HasPrefix(name, ".") {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files, nil
}

// reading is of one file.
type reading struct {
	place  place // of the file
	config *Config
	meta   toml.MetaData
	lines  map[string]int
	faults []error
}

// all reads the file over the settings, key by key, so that all is said that is wrong with it.
func (r *reading) all(text string) []error {
	var tree map[string]toml.Primitive
	var err error
	if r.meta, err = toml.Decode(text, &tree); err != nil {
		at := r.place
		if e, ok := errors.AsType[toml.ParseError](err); ok {
			at.line, err = e.Position.Line, errors.New(e.Message)
		}
		return []error{&fault{place: at, err: record.Errorf(record.Invalid, "%v; nothing of the file is read", err)}}
	}
	r.lines = keyLines(text)
	r.table(reflect.ValueOf(r.config).Elem(), tree, "", "")
	return r.faults
}

// table reads a table into a struct; own is its key in the file, and key that among all files.
func (r *reading) table(into reflect.Value, tree map[string]toml.Primitive, own, key string) {
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		own, key := below(own, name), below(key, name)
		at := r.place
		at.line = r.lines[own]
		r.config.places[key] = at
		field, ok := fieldOf(into, name)
		if !ok {
			e := record.Errorf(record.Invalid, "unknown key %q", own).WithHint("the keys here are %s", strings.Join(keysOf(into.Type()), ", "))
			r.faults = append(r.faults, &fault{place: at, err: e})
			continue
		}
		r.value(field, tree[name], own, key)
	}
}

// value reads what a key has.
func (r *reading) value(field reflect.Value, p toml.Primitive, own, key string) {
	at := r.config.places[key]
	switch {
	case isTable(field.Type()):
		var tree map[string]toml.Primitive
		if _, ok := r.decoded(p).(map[string]any); !ok || r.meta.PrimitiveDecode(p, &tree) != nil {
			r.fault(at, "%s is a table of settings: [%s]", own, own)
			return
		}
		r.table(field, tree, own, key)
	case field.Kind() == reflect.Slice && isTable(field.Type().Elem()):
		var list []map[string]toml.Primitive
		if _, ok := r.decoded(p).([]map[string]any); !ok || r.meta.PrimitiveDecode(p, &list) != nil {
			r.fault(at, "%s are tables of settings: [[%s]]", own, own)
			return
		}
		for i, tree := range list {
			one := reflect.New(field.Type().Elem()).Elem()
			n := field.Len()
			own, key := fmt.Sprintf("%s[%d]", own, i), fmt.Sprintf("%s[%d]", key, n)
			at.line = cmp.Or(r.lines[own], at.line)
			r.config.places[key] = at
			r.table(one, tree, own, key)
			field.Set(reflect.Append(field, one))
		}
	default:
		before := reflect.New(field.Type()).Elem()
		before.Set(field)
		if err := r.meta.PrimitiveDecode(p, field.Addr().Interface()); err != nil {
			field.Set(before)
			r.fault(at, "%s: %s", own, r.wrong(p, field, err))
			r.config.unread = append(r.config.unread, key)
		}
	}
}

// decoded is what a key has, whatever it is to have.
func (r *reading) decoded(p toml.Primitive) (v any) {
	if r.meta.PrimitiveDecode(p, &v) != nil {
		return nil
	}
	return v
}

func (r *reading) fault(at place, format string, args ...any) {
	r.faults = append(r.faults, &fault{place: at, err: record.Errorf(record.Invalid, format, args...)})
}

func below(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// fieldOf gives the field of a struct that has the key in a file.
func fieldOf(in reflect.Value, key string) (reflect.Value, bool) {
	for i := range in.NumField() {
		f := in.Type().Field(i)
		if f.Anonymous {
			if v, ok := fieldOf(in.Field(i), key); ok {
				return v, true
			}
		} else if name := f.Tag.Get("toml"); name == key && name != "-" && f.IsExported() {
			return in.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// keysOf are the keys of a struct in a file.
func keysOf(t reflect.Type) (all []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		switch name := f.Tag.Get("toml"); {
		case f.Anonymous:
			all = append(all, keysOf(f.Type)...)
		case name != "" && name != "-":
			all = append(all, name)
		}
	}
	return all
}

// isTable holds for what has keys of its own in a file.
func isTable(t reflect.Type) bool { return t.Kind() == reflect.Struct && !isText(t) }

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// kinds are what values are called.
var kinds = map[reflect.Kind]string{
	reflect.String: "a text in quotes", reflect.Int: "a whole number", reflect.Int64: "a whole number", reflect.Bool: "true or false",
	reflect.Float64: "a number", reflect.Slice: "a list", reflect.Map: "a table",
}

// beforeMessage is what package toml says before what is wrong.
var beforeMessage = regexp.MustCompile(`^toml: (line \d+ )?(\(last key "[^"]*"\): )?`)

// wrong says what is wrong with a value.
func (r *reading) wrong(p toml.Primitive, field reflect.Value, err error) string {
	if e, ok := errors.AsType[toml.ParseError](err); ok {
		return e.Message
	}
	wanted, got := kinds[field.Kind()], ""
	if isText(field.Type()) {
		wanted = kinds[reflect.String]
	}
	if is := r.decoded(p); is != nil {
		got = kinds[reflect.TypeOf(is).Kind()]
	}
	switch {
	case wanted != "" && got != "" && wanted != got:
		return "it is " + wanted + ", and not " + got
	case field.Kind() == reflect.Slice || field.Kind() == reflect.Map: // all are of texts
		return "what is in it are texts in quotes"
	}
	return beforeMessage.ReplaceAllString(err.Error(), "")
}
