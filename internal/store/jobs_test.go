package store

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"storaged/internal/record"
)

const manyJobs = 10000

// fill stores many ended jobs with results and statistics, one in a hundred of
// them failed.
func fill(t testing.TB, s *Store) {
	must(t, s.Update(func(tx *Tx) error {
		for n := int64(1); n <= manyJobs; n++ {
			j := testJob(n, record.Succeeded)
			if n%100 == 0 {
				j.State = record.Failed
			}
			ended := j.Created.Add(time.Minute)
			j.Started, j.Ended = &j.Created, &ended
			j.Result = &record.Result{Pool: "images", Volume: "vm.raw", Path: "/srv/images/vm.raw", Method: "copy", Bytes: 1 << 30}
			j.Stats = &record.Stats{BytesRead: new(int64(1 << 30)), BytesWritten: new(int64(1 << 30)), Phases: []record.PhaseStats{{Name: "copy", Seconds: 59}, {Name: "flush", Seconds: 1}}}
			if err := tx.PutJob(j); err != nil {
				return err
			}
		}
		return nil
	}))
}

// jobsBefore gives the whole records of jobs whose head matches.
func jobsBefore(tx *Tx, before int64, match func(*JobHead) bool, fn func(*Job) (bool, error)) error {
	return tx.JobsBefore(before, func(h *JobHead, load func() (*Job, error)) (bool, error) {
		if match != nil && !match(h) {
			return true, nil
		}
		j, err := load()
		if err != nil {
			return false, err
		}
		return fn(j)
	})
}

// page reads the newest hundred failed jobs: all of them, so every head is
// looked at.
func page(s *Store) (n int, err error) {
	failed := func(h *JobHead) bool { return h.State == record.Failed && h.Labels["batch"] != "none" }
	err = s.View(func(tx *Tx) error {
		return jobsBefore(tx, 0, failed, func(*Job) (bool, error) { n++; return n < 100, nil })
	})
	return n, err
}

func TestPageOfManyJobsIsTheSameAfterReopening(t *testing.T) {
	s, path := open(t)
	fill(t, s)
	for range 2 {
		if n, err := page(s); n != 100 || err != nil {
			t.Fatalf("%d jobs, %v", n, err)
		}
		must(t, s.Close())
		s = reopen(t, path)
	}
}

func TestCallerEndsTheList(t *testing.T) {
	s, _ := open(t)
	must(t, s.Update(func(tx *Tx) error {
		return errors.Join(tx.PutJob(testJob(1, record.Running)), tx.PutJob(testJob(2, record.Running)), tx.PutJob(testJob(5, record.Running)))
	}))
	errMine := errors.New("mine")
	must(t, s.View(func(tx *Tx) error {
		var seen []int64
		must(t, jobsBefore(tx, 5, nil, func(j *Job) (bool, error) { seen = append(seen, j.Number); return false, nil }))
		if !reflect.DeepEqual(seen, []int64{2}) {
			t.Errorf("seen %v, want job 2 only", seen)
		}
		if err := jobsBefore(tx, 0, nil, func(*Job) (bool, error) { return true, errMine }); !errors.Is(err, errMine) {
			t.Errorf("error is %v", err)
		}
		heads := 0
		must(t, tx.JobsBefore(0, func(*JobHead, func() (*Job, error)) (bool, error) { heads++; return true, nil }))
		if heads != 3 {
			t.Errorf("%d heads", heads)
		}
		return nil
	}))
}

func TestHeadSurvivesTheRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		h := &JobHead{
			Number: rapid.Int64().Draw(t, "number"), ID: text.Draw(t, "id"), Kind: record.Kind(text.Draw(t, "kind")),
			Class: record.Async, State: record.Running, UID: rapid.Int().Draw(t, "uid"), User: text.Draw(t, "user"), Key: text.Draw(t, "key"),
			Created: epoch.Add(time.Duration(rapid.Int64Range(-1e17, 1e17).Draw(t, "created"))),
			Pinned:  rapid.Bool().Draw(t, "pinned"), Destroys: rapid.Bool().Draw(t, "destroys"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "objects") {
			h.Objects = append(h.Objects, record.Object{Pool: text.Draw(t, "pool"), Volume: text.Draw(t, "volume"), Mode: record.ModeRead})
		}
		if labels := rapid.MapOfN(text, text, 0, 3).Draw(t, "labels"); len(labels) > 0 {
			h.Labels = labels
		}
		b := h.append(nil)
		var got JobHead
		if err := got.parse(b); err != nil || !reflect.DeepEqual(&got, h) {
			t.Fatalf("got %+v, want %+v (%v)", got, h, err)
		}
		if cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut"); new(JobHead).parse(b[:cut]) == nil {
			t.Fatalf("cut to %d of %d bytes and still parsed", cut, len(b))
		}
	})
}

func FuzzHead(f *testing.F) {
	f.Add(testJob(7, record.Running).Head().append(nil))
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h JobHead
		if h.parse(b) == nil && len(h.Objects) > len(b) {
			t.Errorf("%d objects out of %d bytes", len(h.Objects), len(b))
		}
	})
}

func TestVolumeWithOddTextIsRefused(t *testing.T) {
	s, _ := open(t)
	for _, v := range []*Volume{testVolume("p", "a\x00b"), testVolume("p", "\xff"), testVolume("", "a"), testVolume("p", "")} {
		if err := s.Update(func(tx *Tx) error { return tx.PutVolume(v) }); err == nil {
			t.Errorf("volume %q of pool %q was stored", v.Name, v.Pool)
		}
	}
}

func BenchmarkPageOf10000(b *testing.B) {
	s, _ := open(b)
	fill(b, s)
	for b.Loop() {
		if n, err := page(s); n != 100 || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkVerify10000(b *testing.B) {
	s, _ := open(b)
	fill(b, s)
	for b.Loop() {
		if found, err := s.Verify(); len(found) != 0 || err != nil {
			b.Fatal(fmt.Sprint(found), err)
		}
	}
}
