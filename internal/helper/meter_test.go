package helper

import (
	"context"
	"math"
	"testing"
	"time"

	"storaged/internal/diskio"
	"storaged/internal/ipc"
)

// progressed is a meter whose pacer has counted these bytes of its phase.
func progress(t *testing.T, p *diskio.Pacer, n int64) {
	t.Helper()
	_, err := p.Admit(context.Background(), 0)
	must(t, err)
	p.Finished(diskio.Moved{Done: n, Durable: n, Written: n})
}

func TestPercentIsWeightedNeverFallsAndNeverSaysHundred(t *testing.T) {
	p := diskio.NewPacer()
	m := &meter{pacer: p}
	if r := m.read(); r.Percent != 0 || r.Begun {
		t.Errorf("before the plan: %+v", r)
	}
	m.setPlan([]ipc.PlanPhase{
		{Name: "copy", Unit: "bytes", Total: 300, Weight: 300},
		{Name: "commit", Unit: "items", Total: 1, Weight: 100},
	})
	m.begin(0)
	for _, step := range []struct {
		moved int64
		want  float64
	}{{0, 0}, {150, 37.5}, {150, 75}, {50, 75}} {
		progress(t, p, step.moved)
		if r := m.read(); r.Percent != step.want {
			t.Errorf("%d more: percent %v, want %v", step.moved, r.Percent, step.want)
		}
	}
	m.begin(1)
	if r := m.read(); r.Percent != 75 || r.Plan[r.Phase.Index].Name != "commit" {
		t.Errorf("in the last phase: %+v", r)
	}
	progress(t, p, 1)
	if r := m.read(); r.Percent != maxUnfinished {
		t.Errorf("at the end: percent %v", r.Percent)
	}
	read, written, _, spent := m.finish()
	if read != 0 || written != 351 || len(spent) != 2 || spent[0].Name != "copy" {
		t.Errorf("finish gave %d %d %+v", read, written, spent)
	}
	if r := m.read(); r.Percent != maxUnfinished {
		t.Errorf("behind the end: percent %v", r.Percent)
	}
}

func TestRateFollowsAndFallsInAStall(t *testing.T) {
	now := time.Now()
	var r rate
	if r.at(now) != 0 {
		t.Error("a rate out of nothing")
	}
	r.see(now, 1000) // where a run began is no speed
	for i := range 60 {
		now = now.Add(time.Second)
		r.see(now, 1000+int64(i+1)*100)
	}
	if got := r.at(now); math.Abs(got-100) > 1 {
		t.Errorf("rate %v, want 100", got)
	}
	if got := r.at(now.Add(30 * time.Second)); got > 20 {
		t.Errorf("rate %v after half a minute of nothing", got)
	}
	for i := range 60 {
		now = now.Add(time.Second)
		r.see(now, 7000+int64(i+1)*10)
	}
	if got := r.at(now); math.Abs(got-10) > 5 {
		t.Errorf("rate %v, want about 10", got)
	}
}

func TestRateIsRightFromTheFirstSecond(t *testing.T) {
	now := time.Now()
	var r rate
	r.see(now, 0)
	now = now.Add(200 * time.Millisecond)
	r.see(now, 20)
	if got := r.at(now); math.Abs(got-100) > 0.1 {
		t.Errorf("rate %v, want 100", got)
	}
}
