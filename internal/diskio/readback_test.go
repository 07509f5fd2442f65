package diskio

import (
	"context"
	"testing"
)

func TestReadBackFindsADifference(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	_, err := f.WriteAt(make([]byte, 3*mib+10), 0)
	must(t, err)
	_, err = f.WriteAt([]byte{1}, 3*mib+9)
	must(t, err)
	must(t, f.Sync())
	zero := Round{Size: 3*mib + 10, Pattern: func(buf []byte, _ int64) []byte { return zeros[:len(buf)] }}
	e := checkIOError(t, ReadBack(context.Background(), NewPacer(), file{f}, zero), "verify", ErrMismatch)
	if e.Offset != 3*mib+9 {
		t.Errorf("difference at %d", e.Offset)
	}
}
