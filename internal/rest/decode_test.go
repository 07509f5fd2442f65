package rest

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
)

// FuzzBody: what is taken is JSON that means the same to every other reader,
// and taking it again gives the same request.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"name":"v","capacity":1024,"allocation":"full","options":{"a":"b"},"limit":null,"labels":{"a":"b"}}`,
		`{"name":"v","allocation":5}`, `{}`, `{"name":"\ud83d\ude00"}`, `{"name":"\ud800"}`, `{"name":"a","name":"b"}`, `{"Name":"a"}`,
		`null`, `[]`, `{"options":{"a":{"b":1}}}`, `{"capacity":-0}`, `{"capacity":1e3}`, `{"name":"\u0000"}`, "{\"name\":\"\xff\"}", `{"a":`,
		`{"name":"\\ud800"}`, `{"limit":{"a":[]}}`, `{"allocation":"none"}`, `{"allocation":true}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v operation.CreateRequest
		if err := unmarshal(b, &v); err != nil {
			if record.CodeOf(err) != record.Invalid {
				t.Fatalf("%q: %v is no refusal", b, err)
			}
			return
		}
		strict := json.NewDecoder(strings.NewReader(string(b)))
		strict.DisallowUnknownFields()
		var same, again operation.CreateRequest
		if err := strict.Decode(&same); err != nil || !reflect.DeepEqual(same, v) {
			t.Fatalf("%q: encoding/json reads %+v, %v", b, same, err)
		}
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if err := unmarshal(out, &again); err != nil {
			t.Fatalf("%q was taken, and as %s is not: %v", b, out, err)
		}
	})
}

func TestLoneSurrogates(t *testing.T) {
	for body, want := range map[string]bool{
		`"\ud83d\ude00"`: false, `"\\ud800"`: false, `"\\\ud800"`: true, `"\ud800"`: true, `"\udc00"`: true, `"\ud800\ud800"`: true,
		`"\ud800x\udc00"`: true, `"\uD83D\uDE00\ud800"`: true, `"\u00e9"`: false, `"\ud8`: false, `\`: false, `\u`: false, `"\ud800\`: true,
	} {
		if got := loneSurrogate([]byte(body)); got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
}

// What the service hands out may be shared, so nothing in it may change.
func TestListsAreAddedToCopiesOnly(t *testing.T) {
	j := record.Job{Helper: &record.Helper{PID: 1}, Stats: &record.Stats{CPUS: new(1.0)}}
	w := withLists(j).(record.Job)
	if j.Helper.Argv != nil || j.Stats.Phases != nil || w.Helper.Argv == nil || w.Stats.Phases == nil {
		t.Errorf("given %+v, made %+v", j, w)
	}
	e := record.Event{Job: &j, Volume: &record.Volume{}}
	if withLists(e); e.Job != &j || j.Objects != nil || e.Volume.Children != nil {
		t.Errorf("the event has changed: %+v", e)
	}
}
