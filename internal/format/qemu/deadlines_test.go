package qemu

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A child that hangs ends with the job that is canceled, and so does what waits for it.
func TestACancelEndsAChildThatDoesNotAnswer(t *testing.T) {
	f := made(t, New{Format: "qcow2", Capacity: mib})
	ctx, cancel := context.WithCancel(t.Context())
	i, err := Open(ctx, Layer{File: f, Format: "qcow2"}, Options{Writable: true, patience: 50 * time.Millisecond})
	must(t, err)
	must(t, i.daemon.Signal(unix.SIGSTOP))
	cancel()
	for _, ask := range []func() error{
		func() error { _, err := i.ReadAt(make([]byte, 512), 0); return err },
		func() error { _, err := i.WriteAt(make([]byte, 512), 0); return err },
		i.Flush,
		i.Close,
	} {
		if err := ask(); !errors.Is(err, ErrSilent) || !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
}

// One that answers is closed in order, canceled or not.
func TestACancelLeavesAChildThatAnswers(t *testing.T) {
	f := made(t, New{Format: "qcow2", Capacity: mib})
	ctx, cancel := context.WithCancel(t.Context())
	i, err := Open(ctx, Layer{File: f, Format: "qcow2"}, Options{Writable: true})
	must(t, err)
	cancel()
	_, err = i.WriteAt(make([]byte, 512), 0)
	must(t, err)
	must(t, i.Close())
}

func TestSilenceIsMeasuredFromTheLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var a asked
		child := make(chan struct{})
		go a.watch(ctx, time.Minute, child, func(error) { close(child) })
		after := func(d time.Duration) func() error {
			return func() error {
				select {
				case <-time.After(d):
					return nil
				case <-child:
					return io.EOF
				}
			}
		}
		must(t, a.do(after(time.Hour))) // nothing was canceled
		cancel()
		for range 10 {
			must(t, a.do(after(40*time.Second)))
		}
		<-time.After(time.Hour) // and nothing is asked
		asked := time.Now()
		if err := a.do(after(time.Hour)); err == nil || time.Since(asked) > time.Minute+time.Minute/looks {
			t.Errorf("after %v: %v", time.Since(asked), err)
		}
	})
}

// What cannot be canceled has an end.
func TestWhatTakesTooLongSaysHowLong(t *testing.T) {
	ctx, cancel := within(t.Context(), 0)
	defer cancel()
	err := Create(ctx, file(t, "f"), New{Format: "qcow2", Capacity: mib})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "it was not done within 0s") {
		t.Errorf("%v", err)
	}
	if got, want := due(1<<40), tablesTime+(1<<20)*time.Second; got != want {
		t.Errorf("%v for a TiB, not %v", got, want)
	}
	if got := due(1<<63 - 1); got < due(1<<50) {
		t.Errorf("%v for all there can be", got)
	}
}
