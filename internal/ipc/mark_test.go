package ipc

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestACheckpointComesBackWholeOrNotAtAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	if _, err := LoadMark(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	want := Mark{Task: "wipe", Done: 7, Total: 9, State: `{"order":[0]}`}
	for _, m := range []Mark{{Task: "wipe", Done: 1}, want} { // the second replaces the first
		if err := SaveMark(path, m); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := LoadMark(path); err != nil || *got != want {
		t.Errorf("%+v, %v", got, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(data) {
		if err := os.WriteFile(path, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := LoadMark(path); err == nil {
			t.Fatalf("cut at %d of %d: %+v", cut, len(data), m)
		}
	}
}

func TestAResultIsNoCheckpoint(t *testing.T) {
	path, _, _ := savedReport(t, sampleReport())
	if m, err := LoadMark(path); err == nil {
		t.Errorf("%+v", m)
	}
	mark := filepath.Join(t.TempDir(), "checkpoint")
	if err := SaveMark(mark, Mark{Task: "wipe"}); err != nil {
		t.Fatal(err)
	}
	if r, _, err := LoadReport(mark); err == nil {
		t.Errorf("%+v", r)
	}
}
