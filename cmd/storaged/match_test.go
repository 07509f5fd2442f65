package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
)

// began is the answer to a verb that must be taken up.
func (h *host) began(st started, err error) started {
	h.t.Helper()
	h.must(err)
	return st
}

// refuses gives a check: a verb is refused with a code, in words that have all of
// those in them.
func (h *host) refuses(code record.Code, says ...string) func(started, error) {
	h.t.Helper()
	return func(st started, err error) {
		h.t.Helper()
		h.refused(err, code, says...)
		if err == nil && st.Job != nil {
			h.end(st, nil)
		}
	}
}

// refused fails unless an error has the code, and all of those words.
func (h *host) refused(err error, code record.Code, says ...string) {
	h.t.Helper()
	if record.CodeOf(err) != code || !hasAll(fmt.Sprint(err), says) {
		h.t.Errorf("got %v, want %s with %q", err, code, says)
	}
}

// fails fails unless a job has failed with a code, in words that have all of
// those in them, and gives the error.
func (h *host) fails(j record.Job, code record.Code, says ...string) error {
	h.t.Helper()
	if j.State != record.Failed || j.Code() != code || !hasAll(fmt.Sprint(j.Error), says) {
		h.t.Errorf("job %d is %s, want failed, %s with %q", j.Number, outcome(j), code, says)
	}
	return j.Error
}

func hasAll(text string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

// outcome says how a job stands: its state, and what came of it.
func outcome(j record.Job) string {
	text := string(j.State)
	if j.Error != nil {
		text += fmt.Sprintf(", %s: %v (hint %v)", j.Error.Code, j.Error, j.Error.Hint)
	}
	if j.Rollback != "" && j.Rollback != record.RollbackNone {
		text += ", rollback " + string(j.Rollback)
	}
	if j.Resumed > 0 || j.Resumable != nil {
		text += fmt.Sprintf(", resumed %d times, resumable %s", j.Resumed, shown(j.Resumable))
	}
	if len(j.Warnings) > 0 {
		text += fmt.Sprintf(", warnings %q", j.Warnings)
	}
	return text
}

// is fails unless the catalog has a volume, with the fields that are wanted.
func (h *host) is(volume string, want record.Volume) record.Volume {
	h.t.Helper()
	v := h.entry(volume)
	h.matches(volume, v, want)
	return v
}

// poolIs fails unless the catalog has a pool, with the fields that are wanted.
func (h *host) poolIs(pool string, want record.Pool) record.Pool {
	h.t.Helper()
	p := h.poolEntry(pool)
	h.matches(pool, p, want)
	return p
}

// unknown fails if the catalog has a volume.
func (h *host) unknown(volume string) {
	h.t.Helper()
	on := at(volume)
	if v, err := h.client.Volume(h.ctx(), on.Pool, on.Volume); record.CodeOf(err) != record.NotFound {
		h.t.Errorf("volume %s is in the catalog, %s, %s (%v)", volume, v.State, v.Origin, err)
	}
}

// matches fails unless got has every field that want has, and says those that
// differ. A field of want that is zero is not compared.
func (h *host) matches(what string, got, want any) {
	h.t.Helper()
	if d := differences("", reflect.ValueOf(got), reflect.ValueOf(want)); len(d) > 0 {
		h.t.Errorf("%s: %s", what, strings.Join(d, "; "))
	}
}

func differences(name string, got, want reflect.Value) (all []string) {
	switch {
	case want.IsZero():
		return nil
	case want.Kind() == reflect.Pointer && !got.IsNil():
		return differences(name, got.Elem(), want.Elem())
	case want.Kind() != reflect.Struct:
		if !reflect.DeepEqual(got.Interface(), want.Interface()) {
			all = append(all, fmt.Sprintf("%s is %s, want %s", name, shown(got.Interface()), shown(want.Interface())))
		}
		return all
	}
	for i := range want.NumField() {
		all = append(all, differences(strings.TrimPrefix(name+"."+want.Type().Field(i).Name, "."), got.Field(i), want.Field(i))...)
	}
	return all
}

// changes are the fields of a record that were others before.
func changes(was, is any) string {
	a, b := reflect.ValueOf(was), reflect.ValueOf(is)
	return strings.Join(append(differences("", b, a), differences("was", a, b)...), "; ")
}

// shown is a record as people can read it: what its pointers point to, and
// without the fields that are empty.
func shown(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	var fields map[string]any
	if json.Unmarshal(b, &fields) != nil || fields == nil {
		return string(b)
	}
	var text []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if value := fields[name]; value != nil && !reflect.ValueOf(value).IsZero() {
			part, _ := json.Marshal(value) // it came from JSON
			text = append(text, name+": "+string(part))
		}
	}
	return strings.Join(text, ", ")
}

// hints fails unless an error hints at that.
func (h *host) hints(err error, at string) {
	h.t.Helper()
	var e *record.Error
	if !errors.As(err, &e) || !strings.Contains(cmdline.Hint(e.Hint), at) {
		h.t.Errorf("%v does not hint at %q", err, at)
	}
}

// jobIs fails unless a job has the fields that are wanted.
func (h *host) jobIs(j, want record.Job) {
	h.t.Helper()
	h.matches(fmt.Sprintf("job %d (%s)", j.Number, outcome(j)), j, want)
}

// hasHash fails unless a volume has the content that it is to have.
func (h *host) hasHash(volume, want string) {
	h.t.Helper()
	if got := h.hash(volume); got != want {
		h.t.Errorf("%s has the hash %s, want %s", volume, got, want)
	}
}
