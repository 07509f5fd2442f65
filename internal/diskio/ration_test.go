package diskio

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// admitted asks until it was given so many bytes, and gives the parts.
func admitted(t *testing.T, p *Pacer, want int64) (parts []int64) {
	t.Helper()
	for want > 0 {
		n, err := p.Admit(t.Context(), want)
		if err != nil || n <= 0 || n > want {
			t.Fatalf("of %d bytes %d are admitted, %v", want, n, err)
		}
		p.Finished(Moved{})
		parts, want = append(parts, n), want-n
	}
	return parts
}

// No more is written between two questions than was given, with the grains that its ends
// may lie in.
func TestRationsBoundWhatIsWritten(t *testing.T) {
	const grain = 1000
	p, asked := NewPacer(), 0
	p.RationBy(func(context.Context) (Ration, error) {
		asked++
		return Ration{Bytes: 5 * grain, Grain: grain}, nil
	})
	if parts := admitted(t, p, 9*grain); len(parts) != 3 || parts[0] != 4*grain || asked != 3 {
		t.Errorf("%d, asked %d times", parts, asked)
	}
	if _, err := p.admit(t.Context(), 1<<40, false); err != nil || asked != 3 {
		t.Errorf("what is read is rationed: asked %d times, %v", asked, err)
	}
	if _, err := p.Admit(t.Context(), 0); err != nil || asked != 3 {
		t.Errorf("what takes no room is rationed: asked %d times, %v", asked, err)
	}
	p.SetLimit(10 * pageSize)
	if parts := admitted(t, p, 3*grain); len(parts) < 2 || asked != 4 {
		t.Errorf("%d under a limit, asked %d times", parts, asked)
	}
}

// A ration that has lapsed is given anew: others fill what there is too.
func TestRationsLapse(t *testing.T) {
	p, asked := NewPacer(), 0
	p.RationBy(func(context.Context) (Ration, error) {
		asked++
		return Ration{Bytes: 1 << 40, Grain: 1, For: time.Nanosecond}, nil
	})
	admitted(t, p, 100)
	<-time.After(time.Millisecond)
	admitted(t, p, 100)
	if asked < 2 {
		t.Errorf("asked %d times", asked)
	}
}

// Who waits for a ration can be canceled, is no chunk in flight that a pause would wait for,
// and asks alone.
func TestWaitForARation(t *testing.T) {
	p, asked, room := NewPacer(), make(chan struct{}, 9), make(chan struct{})
	p.RationBy(func(ctx context.Context) (Ration, error) {
		asked <- struct{}{}
		select {
		case <-room:
			return Ration{Bytes: 1 << 30, Grain: 1}, nil
		case <-ctx.Done():
			return Ration{}, context.Cause(ctx)
		}
	})
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := make(chan error)
	go func() {
		_, err := p.Admit(ctx, 10)
		gone <- err
	}()
	<-asked
	if err := p.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Resume()
	cancel(enough)
	if err := <-gone; !errors.Is(err, enough) {
		t.Errorf("canceled: %v", err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := p.Admit(t.Context(), 10); err != nil {
				t.Error(err)
			}
		})
	}
	<-asked
	close(room)
	all.Wait()
	if n := len(asked); n > 0 {
		t.Errorf("asked %d times more", n)
	}
	broken := errors.New("broken")
	p.RationBy(func(context.Context) (Ration, error) { return Ration{}, broken })
	if _, err := p.Admit(t.Context(), 10); !errors.Is(err, broken) {
		t.Errorf("a question that failed: %v", err)
	}
}
