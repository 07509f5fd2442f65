package store

import (
	"errors"
	"path/filepath"
	"testing"
)

func TestOnCommitRunsOnlyForWhatIsDurable(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(name string, fail error) (ran bool) {
		err := s.Update(func(tx *Tx) error {
			p := &Pool{}
			p.Name, p.UUID = name, name
			if err := tx.PutPool(p); err != nil {
				return err
			}
			tx.OnCommit(func() { ran = true })
			return fail
		})
		if !errors.Is(err, fail) {
			t.Fatalf("Update gave %v, want %v", err, fail)
		}
		return ran
	}
	if !put("a", nil) {
		t.Error("a durable update did not run its OnCommit before it returned")
	}
	if put("b", errors.New("no")) {
		t.Error("a failed update ran its OnCommit")
	}
}
