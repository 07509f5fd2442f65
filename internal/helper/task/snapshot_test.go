package task

import (
	"path/filepath"
	"testing"

	"storaged/internal/helper"
	"storaged/internal/operation"
)

// A restore opens no file of its pool but those that it is about: its draft is there before
// the process is confined.
func TestRestoreBeginsItsDraftBefore(t *testing.T) {
	o := operation.NewSnapshotRestore()
	o.Path, o.Snapshot = filepath.Join(t.TempDir(), "vm1"), "was"
	made, err := SnapshotRestore(o)
	if err != nil {
		t.Fatal(err)
	}
	begun := 0
	for _, opening := range made.Opens {
		switch opening.(type) {
		case *helper.Draft:
			t.Error("a draft is begun under way, for which the files of its pool stay open")
		case helper.Begun:
			begun++
		}
	}
	if begun != 1 {
		t.Errorf("%d drafts are begun before", begun)
	}
}
