package helper

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// thinVolume is one of a pool with so much room.
type thinVolume struct {
	left atomic.Int64
	need int64
}

func (v *thinVolume) Room(context.Context, int) (backends.Room, error) {
	return backends.Room{Of: `the thin pool "p"`, Left: v.left.Load(), Grain: 1 << 16, Lacks: v.need}, nil
}

func guarded(left int64) (*Run, context.Context, *thinVolume) {
	r, ctx := newRun("job", noRecords{}, hclog.NewNullLogger())
	r.guard.every = time.Millisecond
	v := &thinVolume{need: 1 << 30}
	v.left.Store(left)
	return r, ctx, v
}

// A job writes no more than there is room for, whatever it looks like, waits where there is
// none, says so, and goes on when there is some.
func TestJobWaitsForRoom(t *testing.T) {
	r, ctx, v := guarded(8 << 20)
	r.guard.watch(v, false)
	const chunk, all = 1 << 20, 64 << 20
	written, ended := atomic.Int64{}, make(chan error, 1)
	go func() {
		for written.Load() < all {
			n, err := r.Pacer.Admit(ctx, chunk)
			if err != nil {
				ended <- err
				return
			}
			if left := v.left.Add(-n); left < 0 {
				t.Errorf("%d bytes were written that there was no room for", -left)
			}
			written.Add(n)
			r.Pacer.Finished(diskio.Moved{})
		}
		ended <- nil
	}()
	for range 2 {
		for r.guard.waiting() == "" || v.left.Load() >= leastRation<<16 {
			<-r.guard.changed
		}
		if !strings.Contains(r.guard.waiting(), `thin pool "p"`) {
			t.Errorf("it waits for %q", r.guard.waiting())
		}
		v.left.Add(8 << 20)
	}
	v.left.Add(all)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Who waits for room can be canceled.
func TestWaitForRoomIsCanceled(t *testing.T) {
	r, ctx, v := guarded(0)
	r.guard.watch(v, false)
	ended := make(chan error)
	go func() {
		_, err := r.Pacer.Admit(ctx, 1)
		ended <- err
	}()
	<-r.guard.changed
	r.control.cancel(cancelCause{})
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// What the plan shows to be too much is refused before anything is written, unless the volume
// has that storage already.
func TestPlanThatNeedsTooMuchIsRefused(t *testing.T) {
	for _, c := range []struct {
		plan, lacks int64
		refused     bool
	}{{1 << 20, 1 << 30, false}, {9 << 20, 1 << 30, true}, {9 << 20, 1 << 20, false}} {
		r, ctx, v := guarded(8 << 20)
		v.need = c.lacks
		r.guard.watch(v, true)
		r.guard.plan([]ipc.PlanPhase{Moving("wipe", c.plan)})
		_, err := r.Pacer.Admit(ctx, 1<<16)
		said, _ := errors.AsType[*ipc.Error](err)
		if refused := err != nil && said != nil && said.Code == string(record.NoSpace); refused != c.refused || (err != nil) != refused {
			t.Errorf("%d of %d lacking: %v", c.plan, c.lacks, err)
		}
	}
}
