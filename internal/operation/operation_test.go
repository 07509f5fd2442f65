package operation_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"storaged/internal/operation"
	"storaged/internal/record"
)

// What is kept with a job is the operation that it was.
func TestEncodedOperationsDecode(t *testing.T) {
	for _, kind := range operation.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				o, _ := operation.New(kind)
				fill(t, reflect.ValueOf(o).Elem())
				if c, ok := o.(*operation.Create); ok && c.Allocation == nil {
					c.Allocation = new(int64) // nil is of a command line only
				}
				read, err := operation.Decode(operation.Encode(o))
				if err != nil || !reflect.DeepEqual(read, o) {
					t.Fatalf("%s is read as %+v, not %+v: %v", operation.Encode(o), read, o, err)
				}
				if read.Kind() != kind {
					t.Fatalf("%s is read as %s", kind, read.Kind())
				}
			})
		})
	}
}

// fill sets the fields that are kept to any values.
func fill(t *rapid.T, v reflect.Value) {
	for i := range v.NumField() {
		f, is := v.Field(i), v.Type().Field(i)
		switch {
		case is.Tag.Get("json") == "-" || is.Tag.Get("json") == "" && !is.Anonymous:
		case f.Kind() == reflect.Struct:
			fill(t, f)
		case f.Kind() == reflect.String:
			f.SetString(rapid.String().Draw(t, is.Name))
		case f.Kind() == reflect.Int64:
			f.SetInt(rapid.Int64().Draw(t, is.Name))
		case f.Kind() == reflect.Bool:
			f.SetBool(rapid.Bool().Draw(t, is.Name))
		case f.Type() == reflect.TypeFor[*uint32]() && rapid.Bool().Draw(t, is.Name+" is given"):
			f.Set(reflect.ValueOf(new(rapid.Uint32().Draw(t, is.Name))))
		case f.Type() == reflect.TypeFor[*int64]() && rapid.Bool().Draw(t, is.Name+" is given"):
			n := rapid.Int64().Draw(t, is.Name)
			f.Set(reflect.ValueOf(&n))
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
			for range rapid.IntRange(0, 2).Draw(t, is.Name) {
				one := reflect.New(f.Type().Elem()).Elem()
				fill(t, one)
				f.Set(reflect.Append(f, one))
			}
		case f.Kind() == reflect.Slice && rapid.Bool().Draw(t, is.Name+" are given"):
			f.Set(reflect.ValueOf(rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, is.Name)))
		}
	}
}

// Records of the version before have the same members.
func TestParametersOfTheVersionBeforeAreRead(t *testing.T) {
	o, err := operation.Decode(json.RawMessage(`{"kind":"volume.clone","pool":"images","volume":"base","type":"dir","path":"/i/base",
		"target_pool":"fast","target_name":"vm","target_type":"dir","target_path":"/f/vm","format":"raw","capacity":7,"allocation":5,
		"promise":3,"reflink":"auto","sparse":true,"keep":true,"reserve":5,"after":2,"if_match":4}`))
	if err != nil {
		t.Fatal(err)
	}
	promise := int64(3)
	want := &operation.Clone{Reflink: "auto"}
	want.Terms = operation.Terms{After: 2, IfMatch: 4, Reserve: 5}
	want.Volume = operation.Volume{Pool: "images", Name: "base", Type: "dir", Path: "/i/base"}
	want.Target = operation.Target{Pool: "fast", Name: "vm", Type: "dir", Path: "/f/vm"}
	want.Format, want.Capacity, want.Allocation, want.Promise = "raw", 7, 5, &promise
	want.Sparse, want.Keep = true, true
	if !reflect.DeepEqual(o, want) {
		t.Errorf("%+v, not %+v", o, want)
	}
}

func TestWhatCannotBeReadIsSaid(t *testing.T) {
	for _, params := range []string{``, `{`, `{"kind":"volume.dance"}`, `{"kind":"volume.wipe","capacity":"7"}`} {
		if o, err := operation.Decode(json.RawMessage(params)); err == nil {
			t.Errorf("%q is read as %+v", params, o)
		}
	}
}

// A job that a helper's death may leave half-done is settled; one that only
// reads, or is safe to repeat, is not.
func TestWhatChangesAVolumeIsSettled(t *testing.T) {
	for _, kind := range operation.Kinds() {
		o, _ := operation.New(kind)
		reads := kind == record.VolumeVerify || kind == record.VolumeDownload
		wanted := !reads && (kind[:7] == "volume." || kind[:9] == "snapshot." || kind == record.PoolEvacuate)
		if got := o.Settle() != nil; got != wanted {
			t.Errorf("%s is settled: %t, not %t", kind, got, wanted)
		}
	}
}

// A delete of a snapshot is about that, whatever stands on it.
func TestDeleteOfASnapshotIsAboutTheSnapshot(t *testing.T) {
	o := operation.NewSnapshotDelete()
	o.Pool, o.Name, o.Snapshot = "images", "vm", "s"
	for _, above := range [][]operation.Layer{nil, {{Volume: o.Volume}}, {{Volume: o.Volume}, {Volume: operation.Volume{Pool: "images", Name: record.SnapshotFile("vm", "later")}}}} {
		o.Above = above
		if j := (record.Job{Kind: o.Kind(), Objects: o.Locks()}); j.Subject() != "images/vm@s" {
			t.Errorf("with %d above it is about %s", len(above), j.Subject())
		}
	}
}

// The helper that starts a pool is given the secret of its source as a descriptor.
func TestStartHasTheSecretOfTheSource(t *testing.T) {
	o := operation.NewPoolStart()
	if names := operation.HandSecrets(o, 7); len(names) > 0 {
		t.Errorf("without one it gets %q", names)
	}
	o.PoolSource = record.Source{Username: "u", Secret: "chap"}
	names := operation.HandSecrets(o, 7)
	if argv := o.Task().Argv(); !slices.Equal(names, []string{"chap"}) || !slices.Contains(argv, "--secret-file=chap=fd:7") {
		t.Errorf("it gets %q by %q", names, argv)
	}
}
