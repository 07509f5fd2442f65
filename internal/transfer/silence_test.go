package transfer

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// quietBody is a client's stream whose silence is measured; bound is a minute.
func quietBody(t *testing.T) (send func(), atWork *atomic.Bool, silent <-chan bool) {
	r, w := io.Pipe()
	b, work, out := &heardBody{Reader: r}, new(atomic.Bool), make(chan bool, 1)
	work.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { _, _ = io.Copy(io.Discard, b) }()
	go func() { out <- b.silent(ctx, time.Minute, work.Load) }()
	t.Cleanup(func() { cancel(); w.Close() })
	return func() {
		if _, err := w.Write([]byte("x")); err != nil {
			t.Error(err)
		}
	}, work, out
}

func cut(silent <-chan bool) bool {
	synctest.Wait()
	return len(silent) > 0
}

func TestSilenceOfAClientHasItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		send, _, silent := quietBody(t)
		for range 5 { // a slow producer
			time.Sleep(55 * time.Second)
			send()
		}
		time.Sleep(59 * time.Second)
		if cut(silent) {
			t.Fatal("cut before its time")
		}
		time.Sleep(8 * time.Second)
		if !cut(silent) {
			t.Fatal("silent for ever")
		}
	})
}

func TestWhatTheJobDoesNotTakeIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, atWork, silent := quietBody(t)
		time.Sleep(50 * time.Second)
		atWork.Store(false) // paused, or waiting for a lock
		time.Sleep(time.Hour)
		atWork.Store(true)
		time.Sleep(55 * time.Second)
		if cut(silent) {
			t.Fatal("a paused job's time was counted")
		}
		time.Sleep(12 * time.Second)
		if !cut(silent) {
			t.Fatal("silent for ever after a pause")
		}
	})
}

// A job that is limited leaves the pipe full, and nobody waits for the client.
func TestClientThatIsNotWaitedForIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		b := &heardBody{}
		if b.silent(ctx, time.Minute, func() bool { return true }) {
			t.Fatal("cut although nobody reads")
		}
	})
}
