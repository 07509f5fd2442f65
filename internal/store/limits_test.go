package store

import (
	"reflect"
	"testing"
)

func TestLimitsAreKept(t *testing.T) {
	s, path := open(t)
	read := func(s *Store) (l *Limits) {
		t.Helper()
		if err := s.View(func(tx *Tx) (err error) { l, err = tx.Limits(); return err }); err != nil {
			t.Fatal(err)
		}
		return l
	}
	if got := read(s); !reflect.DeepEqual(got, &Limits{}) {
		t.Errorf("a new store has limits %+v", got)
	}
	eight, rate := 8, int64(0)
	want := &Limits{Running: &eight, Rate: &rate, PoolRates: map[string]int64{"p": 5}}
	if err := s.Update(func(tx *Tx) error { return tx.PutLimits(want) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(reopen(t, path)); !reflect.DeepEqual(got, want) {
		t.Errorf("kept is %+v", got)
	}
}
