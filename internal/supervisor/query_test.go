package supervisor

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/supervisor/helpertest"
)

// runs counts the query helpers that left their file.
func runs(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestOneQueryAnswersEveryone(t *testing.T) {
	g, seen := newGate(t), t.TempDir()
	r := newRig(t)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			report, _, err := r.sup.Query(r.ctx(), "pool p", fakeHelper("query", g.path, seen))
			if err != nil || report.Bytes != 42 {
				t.Errorf("answer %+v, %v", report, err)
			}
		})
	}
	g.open()
	all.Wait()
	if _, _, err := r.sup.Query(r.ctx(), "pool p", fakeHelper("query", g.path, seen)); err != nil {
		t.Error(err)
	}
	if n := runs(t, seen); n != 1 {
		t.Errorf("%d helpers ran", n)
	}
	if len(r.all()) != 0 {
		t.Error("a query has a record")
	}
}

func TestQueryIsAskedAnewWhenOld(t *testing.T) {
	g, seen := newGate(t), t.TempDir()
	r := newRig(t, func(tt *Times) { tt.QueryReuse = 0 })
	for range 2 {
		var all sync.WaitGroup
		all.Go(g.open)
		if _, _, err := r.sup.Query(r.ctx(), "k", fakeHelper("query", g.path, seen)); err != nil {
			t.Error(err)
		}
		all.Wait()
	}
	if n := runs(t, seen); n != 2 {
		t.Errorf("%d helpers ran", n)
	}
}

func TestQuerySinceWaitsForWhatBeganBeforeAndAsksAnew(t *testing.T) {
	g, seen := newGate(t), t.TempDir()
	r := newRig(t)
	var all sync.WaitGroup
	early := make(chan error, 1)
	all.Go(func() {
		_, _, err := r.sup.Query(r.ctx(), "k", fakeHelper("query", g.path, seen))
		early <- err
	})
	g.open()
	if err := <-early; err != nil { // an answer that others may have, but for those who ask from now on
		t.Fatal(err)
	}
	since := time.Now()
	for range 2 {
		all.Go(func() {
			if _, began, err := r.sup.QuerySince(r.ctx(), "k", fakeHelper("query", g.path, seen), since); err != nil || began.Before(since) {
				t.Errorf("begun %v, asked at %v: %v", began, since, err)
			}
		})
	}
	g.open()
	all.Wait()
	if n := runs(t, seen); n != 2 {
		t.Errorf("%d helpers ran", n)
	}
}

func TestQueryThatFailsSaysWhy(t *testing.T) {
	g := newGate(t)
	r := newRig(t)
	var all sync.WaitGroup
	all.Go(g.open)
	_, _, err := r.sup.Query(r.ctx(), "k", fakeHelper("query", g.path, t.TempDir(), "fail"))
	if record.CodeOf(err) != record.NotFound {
		t.Errorf("error is %v", err)
	}
	all.Wait()
	if _, _, err := r.sup.Query(r.ctx(), "other", fakeHelper("exitWithout", "4")); record.CodeOf(err) != record.Internal {
		t.Errorf("error is %v", err)
	}
}

func TestAbandonedQueryIsKilled(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithTimeout(r.ctx(), 200*time.Millisecond)
	defer cancel()
	_, _, err := r.sup.Query(ctx, "k", fakeHelper("hangBeforeHello"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	r.sup.queries.wait()
	for _, pid := range helpertest.Processes(r.cfg.RuntimeDir) {
		t.Errorf("process %d is left", pid)
	}
}

func TestStopEndsQueries(t *testing.T) {
	r := newRig(t)
	asked := make(chan error, 1)
	go func() {
		_, _, err := r.sup.Query(r.ctx(), "k", fakeHelper("hangBeforeHello"))
		asked <- err
	}()
	for tick := time.NewTicker(time.Millisecond); len(helpertest.Processes(r.cfg.RuntimeDir)) == 0; <-tick.C { // exec has no event
	}
	if err := r.sup.Stop(r.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := <-asked; err == nil {
		t.Error("a killed query has an answer")
	}
	if _, _, err := r.sup.Query(r.ctx(), "k", fakeHelper("short")); record.CodeOf(err) != record.RecoveringCode {
		t.Errorf("query after stop: %v", err)
	}
}
