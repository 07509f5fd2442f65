package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
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

// asked is what a query answers that none before it may have answered.
func (r *rig) asked(seen, how string) int64 {
	r.t.Helper()
	report, _, err := r.sup.QuerySince(r.ctx(), "k", fakeHelper("queries", seen, how), time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	return report.Bytes
}

func TestHelperThatStaysAnswersTheNextQuery(t *testing.T) {
	seen := t.TempDir()
	r := newRig(t, func(tt *Times) { tt.QueryStay = time.Hour })
	for n := range int64(3) {
		if got := r.asked(seen, "answer"); got != n+1 {
			t.Errorf("query %d is answered as number %d", n+1, got)
		}
	}
	if n := runs(t, seen); n != 1 {
		t.Errorf("%d helpers ran", n)
	}
	if got, _, err := r.sup.QuerySince(r.ctx(), "k", fakeHelper("queries", seen, "otherwise"), time.Now()); err != nil || got.Bytes != 1 {
		t.Errorf("another command line is answered by %+v, %v", got, err)
	}
	if err := r.sup.Stop(r.ctx()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range helpertest.Processes(r.cfg.RuntimeDir) {
		t.Errorf("process %d is left", pid)
	}
}

// What is to be looked at goes to the helper that stays as to a new one, and who asks for
// something else gets no answer to that.
func TestQueryIsAnsweredForTheNamesThatItHas(t *testing.T) {
	seen := t.TempDir()
	r := newRig(t, func(tt *Times) { tt.QueryStay = time.Hour })
	ask := func(names ...string) {
		t.Helper()
		report, began, err := r.sup.QueryNames(r.ctx(), "k", fakeHelper("queries", seen, "answer"), names)
		if err != nil || !slices.Equal(report.Warnings, names) || began.IsZero() {
			t.Errorf("looked at %q: %q, %v", names, report.Warnings, err)
		}
	}
	ask("a", "b")
	ask("c")
	if n := runs(t, seen); n != 1 {
		t.Errorf("%d helpers ran", n)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { ask(fmt.Sprint("v", i)) })
	}
	all.Wait()
}

// Whatever keeps a helper from answering once more, another answers.
func TestQueryThatAHelperCannotAnswerAgainIsAnotherHelpers(t *testing.T) {
	for _, how := range []string{"die", "fail", "lie"} {
		seen := t.TempDir()
		r := newRig(t, func(tt *Times) { tt.QueryStay = time.Hour })
		for range 2 {
			if got := r.asked(seen, how); got != 1 {
				t.Errorf("%s: answered as number %d", how, got)
			}
		}
		if n := runs(t, seen); n != 2 {
			t.Errorf("%s: %d helpers ran", how, n)
		}
	}
}

func TestAbandonedQueryOfAHelperThatStayedIsKilled(t *testing.T) {
	r := newRig(t, func(tt *Times) { tt.QueryStay = time.Hour })
	argv := fakeHelper("queries", t.TempDir(), "hang")
	if _, _, err := r.sup.Query(r.ctx(), "k", argv); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.ctx(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := r.sup.QuerySince(ctx, "k", argv, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	r.sup.queries.wait()
	for _, pid := range helpertest.Processes(r.cfg.RuntimeDir) {
		t.Errorf("process %d is left", pid)
	}
}

// A helper waits for a while, and is used for a while: then it ends by itself.
func TestHelperThatStaysEndsInTime(t *testing.T) {
	for name, times := range map[string]func(*Times){
		"nobody asks": func(tt *Times) { tt.QueryStay, tt.Linger = time.Millisecond, time.Hour },
		"it is old":   func(tt *Times) { tt.QueryAge, tt.QueryStay, tt.Linger = 0, time.Hour, time.Hour },
	} {
		r := newRig(t, times)
		if _, _, err := r.sup.Query(r.ctx(), "k", fakeHelper("queries", t.TempDir(), "answer")); err != nil {
			t.Fatal(err)
		}
		r.sup.queries.wait()
		for _, pid := range helpertest.Processes(r.cfg.RuntimeDir) {
			t.Errorf("%s: process %d is left", name, pid)
		}
	}
}

// However helpers end, those who ask meanwhile get answers.
func TestQueriesAreAnsweredWhileHelpersComeAndGo(t *testing.T) {
	seen := t.TempDir()
	r := newRig(t, func(tt *Times) { tt.QueryStay, tt.QueryAge = 100*time.Microsecond, 50*time.Millisecond })
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 25 {
				r.asked(seen, "answer")
			}
		})
	}
	all.Wait()
}

// A helper that is asked nothing is told nothing, however often it says HELLO.
func TestHelperThatSaysHelloTwiceIsUsedAsOthers(t *testing.T) {
	r := newRig(t, func(tt *Times) { tt.QueryStay = time.Hour })
	for range 10 {
		if got, _, err := r.sup.QuerySince(r.ctx(), "k", fakeHelper("greets"), time.Now()); err != nil || got.Bytes != 42 {
			t.Errorf("answered by %+v, %v", got, err)
		}
	}
}

// Where a helper cannot be killed that nobody waits for any more, no other is started for the
// same before it is gone.
func TestQueryWaitsForTheHelperThatWasAbandoned(t *testing.T) {
	for name, names := range map[string][]string{"whatever": nil, "of names": {"a"}} {
		r, seen := newRig(t), t.TempDir()
		stuck := &query{key: "k", done: make(chan struct{}), abandoned: make(chan struct{}), waiting: 1, names: names}
		r.sup.leaveQuery(stuck) // as one does whose helper is in D state
		r.sup.queries.expire()
		ask := func(ctx context.Context) error {
			_, _, err := r.sup.QueryNames(ctx, "k", fakeHelper("queries", seen, "answer"), names)
			return err
		}
		ctx, cancel := context.WithTimeout(r.ctx(), 200*time.Millisecond)
		defer cancel()
		if err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: error is %v", name, err)
		}
		if n := runs(t, seen); n != 0 {
			t.Errorf("%s: %d helpers ran", name, n)
		}
		stuck.answer(nil, errors.New("killed at last"))
		if err := ask(r.ctx()); err != nil || runs(t, seen) != 1 {
			t.Errorf("%s: afterwards: %v", name, err)
		}
	}
}
