package daemon

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// fixed are the settings, and tables of them, that a running daemon cannot change.
var fixed = []string{"socket", "socket_ro", "state_dir", "runtime_dir", "helper", "group", "log_format", "resume", "upload", "libvirt"}

func isFixed(key string) bool {
	return slices.ContainsFunc(fixed, func(f string) bool { return key == f || strings.HasPrefix(key, f+".") })
}

// fixedBut says what of the new settings holds from the next start on, because
// a running daemon cannot change it.
func (c Config) fixedBut(now Config) (later []string) {
	was, is := c.values(), now.values()
	for _, key := range slices.Sorted(maps.Keys(was)) {
		if isFixed(key) && was[key] != is[key] {
			later = append(later, fmt.Sprintf("%s stays %q; %q holds from the next start of the daemon on", key, was[key], is[key]))
		}
	}
	return later
}

// changes says what is otherwise in new settings, of what a running daemon can change.
func (c Config) changes(now Config) (all []string) {
	was, is := c.values(), now.values()
	for _, key := range slices.Sorted(maps.Keys(was)) {
		switch {
		case isFixed(key) || was[key] == is[key]:
		case key == receiversKey:
			all = append(all, key) // with which addresses, not everybody need know
		default:
			all = append(all, fmt.Sprintf("%s %s -> %s", key, was[key], is[key]))
		}
	}
	return all
}

// receiversKey is that of tables of which there may be several.
const receiversKey = "notify"

// values are the settings by their keys, as texts.
func (c Config) values() map[string]string {
	all := map[string]string{}
	collect(reflect.ValueOf(c), "", all)
	return all
}

func collect(in reflect.Value, key string, all map[string]string) {
	for i := range in.NumField() {
		switch f, v := in.Type().Field(i), in.Field(i); {
		case f.Anonymous:
			collect(v, key, all)
		case f.Tag.Get("toml") == "" || f.Tag.Get("toml") == "-":
		case isTable(f.Type):
			collect(v, below(key, f.Tag.Get("toml")), all)
		default:
			all[below(key, f.Tag.Get("toml"))] = fmt.Sprintf("%+v", v.Interface())
		}
	}
}
