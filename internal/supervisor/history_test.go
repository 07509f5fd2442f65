package supervisor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"storaged/internal/record"
	"storaged/internal/store"
)

var day = 24 * time.Hour

// past is an ended job of so long ago.
func past(number int64, ago time.Duration, change func(*store.Job)) *store.Job {
	at := time.Now().Add(-ago).UTC()
	j := &store.Job{Job: record.Job{
		ID: uuid.Must(uuid.NewV7()).String(), Number: number, Kind: record.VolumeClone, Class: record.Async,
		State: record.Succeeded, Created: at, Started: &at, Ended: &at, Owner: uid1000,
		Objects: objects("p", fmt.Sprint("v", number), "W"),
	}}
	if change != nil {
		change(j)
	}
	return j
}

func kept(kind record.Kind, state record.State) func(*store.Job) {
	return func(j *store.Job) { j.Kind, j.State = kind, state }
}

// put stores jobs, with a state directory each, as they would have.
func (r *rig) put(jobs ...*store.Job) {
	r.t.Helper()
	err := r.store.Update(func(tx *store.Tx) error {
		for _, j := range jobs {
			if _, err := tx.NextNumber(); err != nil {
				return err
			}
			if err := tx.PutJob(j); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, j := range jobs {
		r.catalog.ended[j.ID] = 1
		if err := os.MkdirAll(r.jobDir(j.ID).State, 0o700); err != nil {
			r.t.Fatal(err)
		}
	}
}

// numbers lists the jobs that have a record, and checks that no others have
// files.
func (r *rig) numbers() (numbers []int64) {
	r.t.Helper()
	ids := map[string]bool{}
	for _, j := range r.all() {
		numbers, ids[j.ID] = append(numbers, j.Number), true
	}
	for _, id := range jobDirs(r.sup.launcher.state) {
		if !ids[id] {
			r.t.Errorf("files of %s are left", id)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// The figures of the default configuration, but for the counts.
var retention = Retention{
	Ordinary:    Keep{30 * day, 3},
	Failed:      Keep{90 * day, 3},
	Routine:     Keep{30 * day, 2},
	Destructive: Keep{400 * day, 0},
}

func TestHistoryIsKeptByClass(t *testing.T) {
	destroys := func(j *store.Job) { j.Kind, j.Destroys = record.VolumeWipe, true }
	jobs := []*store.Job{
		past(1, 401*day, destroys), // too old
		past(2, 399*day, destroys),
		past(3, 91*day, kept(record.VolumeClone, record.Failed)), // too old
		past(4, 89*day, kept(record.VolumeClone, record.Failed)),
		past(5, 900*day, func(j *store.Job) { j.Pinned = true }),
		past(6, 31*day, nil), // too old
		past(7, 29*day, func(j *store.Job) { j.State, j.Destroys = record.Failed, true }),
		past(8, 5*day, nil),                                    // the fourth
		past(9, time.Hour, func(j *store.Job) { j.Key = "k" }), // the third
		past(10, time.Hour, nil),
		past(11, 5*day, kept(record.PoolRefresh, record.Succeeded)),  // too many since
		past(12, time.Hour, kept(record.PoolStart, record.Failed)),   // likewise
		past(13, time.Hour, kept(record.PoolStop, record.Succeeded)), // likewise
		past(14, time.Hour, kept(record.VolumeClone, record.Canceled)),
	}
	for i := range int64(50) { // routine never crowds others out
		jobs = append(jobs, past(15+i, 10*time.Minute, kept(record.PoolRefresh, record.Succeeded)))
	}
	for i := range int64(50) { // nor does what destroys
		jobs = append(jobs, past(65+i, time.Minute, destroys))
	}
	r := stillRig(t, t.TempDir())
	r.cfg.Retention = retention
	r.sup = New(r.cfg, r.store, r.catalog, r.hub)
	r.put(jobs...)
	r.start()
	for tick := time.NewTicker(time.Millisecond); len(jobDirs(r.sup.launcher.state)) > 59; <-tick.C { // pruning has no event
	}
	want := []int64{2, 4, 5, 7, 9, 10, 14, 63, 64}
	for i := range int64(50) {
		want = append(want, 65+i)
	}
	if got := r.numbers(); !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
}

func TestKeyedJobIsKeptForADay(t *testing.T) {
	p := pruner{retention: Retention{Ordinary: Keep{day, 1}}, now: time.Now(), seen: map[*Keep]int{}}
	keyed := func(j *store.Job) { j.Key = "k" }
	for i, c := range []struct {
		job *store.Job
		due bool
	}{
		{past(9, time.Hour, nil), false},
		{past(8, time.Hour, nil), true},
		{past(7, 23*time.Hour, keyed), false},
		{past(6, 25*time.Hour, keyed), true},
		{past(5, 0, func(j *store.Job) { j.State, j.Ended = record.Queued, nil }), false},
	} {
		if got := p.due(c.job.Head()); got != c.due {
			t.Errorf("job %d: due is %v", i, got)
		}
	}
}

func TestPinnedMeanwhileIsNotDropped(t *testing.T) {
	r := newRig(t)
	r.put(past(1, 31*day, nil), past(2, 31*day, nil))
	if _, err := r.sup.SetPinned("1", true); err != nil {
		t.Fatal(err)
	}
	if n, err := r.sup.drop([]int64{1, 2, 3}); n != 1 || err != nil {
		t.Errorf("dropped %d, %v", n, err)
	}
	if got := r.numbers(); !slices.Equal(got, []int64{1}) {
		t.Errorf("left are %v", got)
	}
}

func TestPruneGoesByTheClock(t *testing.T) {
	r := stillRig(t, t.TempDir())
	now := time.Now()
	r.cfg.Retention, r.cfg.clock = retention, func() time.Time { return now }
	r.sup = New(r.cfg, r.store, r.catalog, r.hub)
	r.start()
	j := r.ended(r.submit(request(fakeHelper("short"))).ID, record.Succeeded)
	now = now.Add(29 * day)
	if n, err := r.sup.Prune(); n != 0 || err != nil {
		t.Errorf("pruned %d, %v", n, err)
	}
	now = now.Add(2 * day)
	if n, err := r.sup.Prune(); n != 1 || err != nil {
		t.Errorf("pruned %d, %v", n, err)
	}
	if _, err := r.sup.Job(j.ID); record.CodeOf(err) != record.NotFound {
		t.Errorf("job of a month ago: %v", err)
	}
}

func TestForgottenJobThatDestroyedLeavesATrace(t *testing.T) {
	r := newRig(t)
	req := request(fakeHelper("fail"))
	req.Destroys, req.Key, req.Digest, req.Params = true, "k", "d", []byte("secret")
	req.Labels = map[string]string{"a": "b"}
	j := r.ended(r.submit(req).ID, record.Failed)
	for range 2 { // again is no error
		trace, err := r.sup.Forget(j.ID)
		if err != nil {
			t.Fatal(err)
		}
		if trace == nil || trace.Number != j.Number || !trace.Forgotten {
			t.Errorf("the answer is %+v", trace)
		}
	}
	got, err := r.sup.Job(j.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Forgotten || got.Number != j.Number || got.Kind != j.Kind || got.State != j.State || got.Owner != j.Owner ||
		!slices.Equal(got.Objects, j.Objects) || !got.Created.Equal(j.Created) || !got.Ended.Equal(*j.Ended) {
		t.Errorf("left is %+v of %+v", got, j)
	}
	if got.Error != nil || got.Helper != nil || len(got.Labels) > 0 || got.Stats != nil {
		t.Errorf("too much is left: %+v", got)
	}
	if rec := r.all()[0]; rec.Params != nil || rec.Argv != nil {
		t.Errorf("too much is left: %+v", rec)
	}
	if _, err := os.Stat(r.jobDir(j.ID).State); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("files are left: %v", err)
	}
	if again := r.submit(req); again.ID != j.ID {
		t.Error("a repeated request destroys again")
	}
}

func TestForgottenJobThatNeverBeganLeavesNothing(t *testing.T) {
	r := newRig(t)
	r.catalog.refuse = record.Errorf(record.Busy, "not now")
	req := request(fakeHelper("short"))
	req.Destroys = true
	id := r.ended(r.submit(req).ID, record.Failed).ID
	r.catalog.refuse = nil
	if trace, err := r.sup.Forget(id); trace != nil || err != nil {
		t.Errorf("left is %+v, %v", trace, err)
	}
	if _, err := r.sup.Job(id); record.CodeOf(err) != record.NotFound {
		t.Errorf("it is still there: %v", err)
	}
}

func TestPinnedJobIsNotForgotten(t *testing.T) {
	r := newRig(t)
	id := r.ended(r.submit(request(fakeHelper("short"))).ID, record.Succeeded).ID
	if _, err := r.sup.SetPinned(id, true); err != nil {
		t.Fatal(err)
	}
	var refusal *record.Error
	if _, err := r.sup.Forget(id); !errors.As(err, &refusal) || refusal.Code != record.WrongState || refusal.Hint.String() != "job pin 1 off" {
		t.Errorf("refused with %+v", err)
	}
	if _, err := r.sup.SetPinned(id, false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.sup.Forget(id); err != nil {
		t.Error(err)
	}
}
