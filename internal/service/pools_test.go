package service

import (
	"path/filepath"
	"testing"

	"storaged/internal/catalog"
	"storaged/internal/events"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/store"
)

func TestReplacedPoolKeepsWhatJobsLeftInIt(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	hub := events.New(16)
	defer hub.Close()
	s := &Service{config: Settings{StateDir: "/state", RuntimeDir: "/run"}, store: st, catalog: catalog.New(hub, "this", 7)}
	err = st.Update(func(tx *store.Tx) error {
		return tx.PutPool(&store.Pool{Unfinished: []string{"job"}, Pool: record.Pool{
			Name: "p", UUID: "u", Type: "dir", State: record.PoolInactive, Target: record.Target{Path: "/p"},
		}})
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReplacePool(t.Context(), contract.Submit{}, "p", contract.PoolDefine{Target: record.Target{Path: "/p"}}); err != nil {
		t.Fatal(err)
	}
	err = st.View(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err == nil && len(p.Unfinished) != 1 {
			t.Errorf("it has %q left", p.Unfinished)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
