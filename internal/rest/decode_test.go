package rest

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service"
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
		var v service.VolumeCreate
		if err := unmarshal(b, &v); err != nil {
			if record.CodeOf(err) != record.Invalid {
				t.Fatalf("%q: %v is no refusal", b, err)
			}
			return
		}
		strict := json.NewDecoder(strings.NewReader(string(b)))
		strict.DisallowUnknownFields()
		var same, again service.VolumeCreate
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
func TestWholeChangesCopiesOnly(t *testing.T) {
	j := record.Job{Helper: &record.Helper{PID: 1}, Stats: &record.Stats{CPUS: new(1.0)}}
	w := wholeJob(j)
	if j.Helper.Argv != nil || j.Stats.Phases != nil || w.Helper.Argv == nil || w.Stats.Phases == nil {
		t.Errorf("given %+v, made %+v", j, w)
	}
	e := record.Event{Job: &j, Volume: &record.Volume{}}
	if wholeEvent(e); e.Job != &j || j.Objects != nil || e.Volume.Children != nil {
		t.Errorf("the event has changed: %+v", e)
	}
}

func TestPeerNamesAreHarmless(t *testing.T) {
	for in, want := range map[string]string{
		"storagedctl": "storagedctl", "evil\x1b[2J\n": `evil\x1b[2J\n`, "a\u202eb": `a\u202eb`, "\xff": `\xff`, `a"b`: `a\"b`, "": "",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q is shown as %s", in, got)
		}
	}
	if got := userName("4294967290"); got != "4294967290" {
		t.Errorf("a uid without a name is shown as %s", got)
	}
}

func TestRoleFollowsSocketUIDAndGroup(t *testing.T) {
	own, other, group := os.Geteuid(), os.Geteuid()+1, 4242
	for _, c := range []struct {
		uid      int
		groups   []int
		readOnly bool
		group    *int
		want     service.Role
	}{
		{0, nil, false, nil, service.Root}, {0, nil, true, nil, service.Reader}, {own, nil, false, nil, service.Root}, {own, nil, true, nil, service.Reader},
		{other, nil, false, nil, service.Member}, {other, nil, true, nil, service.Reader},
		{0, nil, false, &group, service.Root}, {own, nil, false, &group, service.Root},
		{other, nil, false, &group, service.User}, {other, []int{1, 4241}, false, &group, service.User},
		{other, []int{1, 4242}, false, &group, service.Member}, {other, []int{4242}, true, &group, service.Reader},
	} {
		p := &peer{uid: c.uid, groups: c.groups, loginUID: "0"}
		if got := p.caller(c.readOnly, c.group); got.Role != c.want || got.Owner.LoginUser != "root" {
			t.Errorf("uid %d of %v, read-only %v, members %v: %+v", c.uid, c.groups, c.readOnly, c.group, got)
		}
	}
	p := &peer{uid: 0, loginUID: noLoginUID}
	if got := p.caller(false, nil); got.Owner.LoginUser != "" {
		t.Errorf("without a login: %+v", got)
	}
}
