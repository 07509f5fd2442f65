package operation_test

import (
	"strings"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
)

// A volume that is there is the one to be made only if it is ready and like it.
func TestWhatIsThereIsTakenOnlyIfItIsTheSame(t *testing.T) {
	same := record.Volume{Pool: "images", Name: "vm", Format: record.FormatRaw, State: record.VolumeReady, Capacity: 100}
	like := func(change func(*record.Volume)) record.Volume {
		v := same
		change(&v)
		return v
	}
	for name, c := range map[string]struct {
		there   record.Volume
		done    bool
		refusal string // "": none
	}{
		"nothing":          {},
		"the same":         {there: same, done: true},
		"another capacity": {there: like(func(v *record.Volume) { v.Capacity = 90 }), refusal: "not 100"},
		"another format":   {there: like(func(v *record.Volume) { v.Format = "qcow2" }), refusal: "not raw"},
		"both":             {there: like(func(v *record.Volume) { v.Format, v.Capacity = "qcow2", 90 }), refusal: "not raw with 100"},
		"incomplete":       {there: like(func(v *record.Volume) { v.State = record.VolumeIncomplete }), refusal: "not ready"},
	} {
		t.Run(name, func(t *testing.T) {
			o := &operation.Create{Content: operation.Content{Format: record.FormatRaw}, Existing: operation.Existing{ExistOK: true, Match: n(100)}}
			done, err := o.Done(operation.Known{Volume: c.there})
			switch {
			case done != c.done || (err != nil) != (c.refusal != ""):
				t.Errorf("done: %t, %v", done, err)
			case err != nil && (record.CodeOf(err) != record.Exists || !strings.Contains(err.Error(), c.refusal)):
				t.Errorf("%v, not …%s", err, c.refusal)
			}
		})
	}
}

// Only what another job may be about to make is waited for, and only where it will do.
func TestWhoWaitsForOthersThatDoTheSame(t *testing.T) {
	will := operation.Existing{ExistOK: true}
	for _, c := range []struct {
		o     operation.Operation
		waits bool
	}{
		{&operation.Create{}, false},
		{&operation.Create{Existing: will}, true},
		{&operation.Clone{Existing: will}, true},
		{&operation.PoolStart{}, false},
		{&operation.PoolStart{ExistOK: true}, true},
		{&operation.Delete{MissingOK: true}, false},
		{&operation.Wipe{}, false},
	} {
		if got := operation.Waits(c.o); got != c.waits {
			t.Errorf("%+v waits: %t", c.o, got)
		}
	}
}
