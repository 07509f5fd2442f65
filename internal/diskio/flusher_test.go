package diskio

import (
	"context"
	"errors"
	"testing"
)

// A writer is held back when too much is dirty, however slow the device.
func TestWriterWaitsWhileTooMuchIsDirty(t *testing.T) {
	w := &flusher{p: NewPacer(), room: make(chan struct{}), wake: make(chan struct{}, 1)} // nothing is ever written back
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for off := int64(0); off < maxDirty-chunkBytes; off += chunkBytes {
		must(t, w.wrote(ctx, off, chunkBytes))
	}
	if err := w.wrote(ctx, maxDirty-chunkBytes, chunkBytes); !errors.Is(err, context.Canceled) {
		t.Errorf("with %d bytes dirty the writer went on, error %v", w.dirty, err)
	}
}

// Windows span what was written in any order, and no more than one is open.
func TestWindowsHoldAllThatWasWritten(t *testing.T) {
	w := &flusher{p: NewPacer(), room: make(chan struct{}), wake: make(chan struct{}, 1)}
	for _, i := range []int64{3, 0, 2, 1, 7, 5, 6, 4, 40} {
		must(t, w.wrote(context.Background(), i*mib, mib))
	}
	next, last := w.take(true)
	want := []window{{0, 8 * mib, 8 * mib}, {40 * mib, 41 * mib, mib}}
	if last || len(next) != 2 || next[0] != want[0] || next[1] != want[1] {
		t.Errorf("windows %+v, want %+v", next, want)
	}
}

func TestFirstWriteBackErrorIsKept(t *testing.T) {
	w := &flusher{room: make(chan struct{})}
	first := errors.New("first")
	w.fail(window{lo: 7}, first)
	w.fail(window{lo: 9}, errors.New("second"))
	if e := checkIOError(t, w.err, "write back", first); e.Offset != 7 {
		t.Errorf("error is %v", w.err)
	}
}
