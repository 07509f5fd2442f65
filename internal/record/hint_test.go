package record_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"storaged/internal/record"
)

func TestHintsAreDataAndWords(t *testing.T) {
	stop := record.Do("pool.stop", "images")
	for _, c := range []struct {
		hint       record.Hint
		json, text string
	}{
		{nil, `null`, ""},
		{record.Hintf("try %d times", 3), `["try 3 times"]`, "try 3 times"},
		{record.Hintf("%s", stop), `[{"verb":"pool.stop","args":["images"]}]`, "pool stop images"},
		{
			record.Hintf("use another directory, or %s; then %s again", stop, record.Do("job.retry", int64(7)).With("now")),
			`["use another directory, or ",{"verb":"pool.stop","args":["images"]},"; then ",{"verb":"job.retry","args":["7"],"options":[{"name":"now"}]}," again"]`,
			"use another directory, or pool stop images; then job retry 7 now again",
		},
		{
			record.Hintf("%s chooses some", record.Do("").With("only", "GLOB")),
			`[{"options":[{"name":"only","value":"GLOB"}]}," chooses some"]`, "only=GLOB chooses some",
		},
		{record.Hintf("first %s", record.Hintf("%s, or %q", stop, "x")), `["first ",{"verb":"pool.stop","args":["images"]},", or \"x\""]`, `first pool stop images, or "x"`},
		{record.Hintf("%s %s", "a\x00b", stop), `["ab ",{"verb":"pool.stop","args":["images"]}]`, "ab pool stop images"},
	} {
		b, err := json.Marshal(c.hint)
		if err != nil || string(b) != c.json || c.hint.String() != c.text {
			t.Errorf("%s %q, %v; want %s %q", b, c.hint, err, c.json, c.text)
		}
		var read record.Hint
		if err := json.Unmarshal(b, &read); err != nil || !reflect.DeepEqual(read, c.hint) {
			t.Errorf("%s is read as %+v, %v", b, read, err)
		}
	}
}

// A version before this one wrote hints as strings, into records that are read.
func TestAHintThatIsAStringIsWords(t *testing.T) {
	var e record.Error
	if err := json.Unmarshal([]byte(`{"code":"busy","message":"m","hint":"storagectl job wait 3"}`), &e); err != nil {
		t.Fatal(err)
	}
	if e.Hint.String() != "storagectl job wait 3" {
		t.Errorf("%+v", e)
	}
}
