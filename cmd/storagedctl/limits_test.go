package main

import (
	"reflect"
	"slices"
	"testing"

	"storaged/internal/service/contract"
)

func ptrTo[T any](v T) *T { return &v }

func TestLimitsSetSendsWhatWasGiven(t *testing.T) {
	d := newDaemon(t)
	for line, want := range map[string]contract.LimitsPatch{
		"limits set --running 3":             {Running: ptrTo(3)},
		"limits set --rate 1K":               {Rate: []byte("1024")},
		"limits set --rate none --running 3": {Rate: []byte("null"), Running: ptrTo(3)},
		"limits set --pool p --rate 5":       {PoolRates: map[string]*int64{"p": ptrTo(int64(5))}},
		"limits set --rate none --running 2 --pool p": {
			PoolRates: map[string]*int64{"p": nil}, PoolRunning: map[string]*int{"p": ptrTo(2)},
		},
		"limits set --running-pool 2 --running-device 3 --queued 4": {RunningPool: ptrTo(2), RunningDevice: ptrTo(3), Queued: ptrTo(4)},
		"limits set --device 8:0 --rate 1M --running 1": {
			DeviceRates: map[string]*int64{"8:0": ptrTo(int64(1 << 20))}, DeviceRunning: map[string]*int{"8:0": ptrTo(1)},
		},
		"limits set --device 8:0 --running none": {DeviceRunning: map[string]*int{"8:0": nil}},
	} {
		if _, errs, code := d.run(line); code != 0 {
			t.Errorf("%s: exit %d: %s", line, code, errs)
		}
		var got contract.LimitsPatch
		d.locked(func(f *fake) { got = f.patched })
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s sent %+v", line, got)
		}
	}
}

func TestFreshIsAskedForWhereItIsGiven(t *testing.T) {
	d := newDaemon(t)
	for line, want := range map[string][]string{
		"pool show images --fresh":        {"images"},
		"vol list images isos --fresh":    {"images", "isos"},
		"vol show images/vm1.raw --fresh": {"images"},
		"pool show images":                nil,
		"vol list images -o json":         nil,
	} {
		d.locked(func(f *fake) { f.freshened = nil })
		if _, errs, code := d.run(line); code != 0 {
			t.Errorf("%s: exit %d: %s", line, code, errs)
		}
		var got []string
		d.locked(func(f *fake) { got = f.freshened })
		slices.Sort(got)
		if !slices.Equal(slices.Compact(got), want) {
			t.Errorf("%s has %v read", line, got)
		}
	}
}
