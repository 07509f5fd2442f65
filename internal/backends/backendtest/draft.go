package backendtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/record"
)

var draftCases = []testCase{
	{"is invisible until commit and right afterwards", draftLife},
	{"discard leaves nothing", draftDiscard},
	{"has nothing of what was there before", draftBlank},
	{"cannot be begun on a taken name", draftTaken},
	{"commit replaces nothing", draftTakenLater},
	{"of several by one name exactly one wins", draftRace},
	{"has no name when the record fails", draftRecordFails},
	{"has no name when canceled before commit", draftCanceled},
	{"stays locked after commit until closed", draftLocked},
	{"of one job is made once", draftTwice},
	{"is not discarded when complete", draftDiscardLate},
	{"needs a job fit for a name", draftJob},
}

func numbered(i int) string { return fmt.Sprintf("vol-%04d.raw", i) }

func draftLife(r *rig) {
	r.started()
	content := bytes.Repeat([]byte("storaged"), 1<<19) // a size that all types can have exactly
	d := r.draft("a", "job", content)
	r.has()
	_, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.ReadShared)
	r.is(err, backends.ErrNotFound)
	identity := 0
	r.must(d.Commit(r.Context(), func(b []byte) error {
		identity = len(b)
		r.has() // still out of sight: the record is not durable yet
		return nil
	}))
	if identity == 0 {
		r.Error("the record was given nothing")
	}
	told, err := d.Info()
	r.must(err)
	r.must(d.Close())
	r.must(d.Close())
	found := r.list()[r.n("a")]
	checkInfo(r, told, found, int64(len(content)))
	r.holds("a", content)
}

// checkInfo compares what a draft tells of itself with what refresh finds.
func checkInfo(r *rig, told, found backends.VolumeInfo, size int64) {
	r.Helper()
	if found.Size != size || found.Capacity != size || found.Format != "raw" || found.Backing != "" {
		r.Errorf("found %+v, made %d bytes", found, size)
	}
	if found.Name != r.n("a") || found.Path == "" || found.Key == "" || found.Type == "" || found.ID == "" {
		r.Errorf("incomplete: %+v", found)
	}
	found.Format = ""
	told.Allocation = found.Allocation // may come late: delayed allocation
	if !reflect.DeepEqual(told, found) {
		r.Errorf("the draft says\n%+v, refresh\n%+v", told, found)
	}
}

func draftDiscard(r *rig) {
	r.started()
	d := r.draft("a", "job", []byte("a"))
	r.must(d.Discard())
	r.must(d.Discard())
	r.must(d.Close())
	r.has()
	r.made("a", []byte("again"))
	r.must(r.remove(r.Context(), r.p, r.n("a")))
	r.must(r.deleter().Delete(r.Context(), r.p, false)) // it is empty indeed
}

// draftBlank: a new volume is no way to read what somebody has deleted.
func draftBlank(r *rig) {
	const size = 1 << 20
	r.started().made("a", bytes.Repeat([]byte("secret"), size/6))
	r.must(r.remove(r.Context(), r.p, r.n("a")))
	d, err := r.creator().Create(r.Context(), r.p, backends.NewVolume{Name: r.n("b"), Job: "job", Size: size, Format: record.FormatRaw})
	r.must(err)
	_, err = diskio.Allocate(r.Context(), diskio.NewPacer(), d.Content(), diskio.AllocateSpec{Capacity: size, Clean: d.Clean()})
	r.must(err)
	_, err = d.Content().WriteAt([]byte("end"), size-3)
	r.must(err)
	r.must(d.Commit(r.Context(), keepNothing))
	r.must(d.Close())
	r.holds("b", make([]byte, size-3))
}

func draftTaken(r *rig) {
	r.started().made("a", []byte("first"))
	_, err := r.creator().Create(r.Context(), r.p, small(r.n("a"), "job"))
	r.is(err, backends.ErrExists)
	r.holds("a", []byte("first"))
}

func draftTakenLater(r *rig) {
	r.started()
	late := r.draft("a", "late", []byte("late"))
	later := r.draft("a", "later", []byte("later"))
	r.made("a", []byte("first"))
	recorded := false
	err := late.Commit(r.Context(), func([]byte) error { recorded = true; return nil })
	r.is(err, backends.ErrExists)
	if recorded {
		r.Error("a commit that cannot be was recorded")
	}
	r.is(late.Commit(r.Context(), keepNothing), backends.ErrExists)
	r.must(late.Discard())
	r.must(r.remove(r.Context(), r.p, r.n("a")))
	err = later.Commit(r.Context(), func([]byte) error { r.made("a", []byte("between")); return nil })
	r.is(err, backends.ErrExists)
	r.must(later.Discard())
	r.holds("a", []byte("between"))
	r.has("a")
}

func draftRace(r *rig) {
	r.started()
	const racers = 8
	drafts := make([]backends.Draft, racers)
	for i := range drafts {
		drafts[i] = r.draft("a", fmt.Sprintf("job-%d", i), fmt.Appendf(nil, "racer %d", i))
	}
	errs, start := make([]error, racers), make(chan struct{})
	var all sync.WaitGroup
	for i, d := range drafts {
		all.Go(func() {
			<-start
			errs[i] = d.Commit(r.Context(), keepNothing)
		})
	}
	close(start)
	all.Wait()
	winner := -1
	for i, d := range drafts {
		switch {
		case errs[i] == nil && winner < 0:
			winner = i
		case errs[i] == nil:
			r.Errorf("both %d and %d won", winner, i)
		default:
			r.is(errs[i], backends.ErrExists)
			r.must(d.Discard())
		}
		r.must(d.Close())
	}
	r.has("a")
	r.holds("a", fmt.Appendf(nil, "racer %d", winner))
}

func draftRecordFails(r *rig) {
	r.started()
	d := r.draft("a", "job", []byte("a"))
	full := errors.New("state directory is full")
	r.is(d.Commit(r.Context(), func([]byte) error { return full }), full)
	r.has()
	r.is(d.Commit(r.Context(), keepNothing), full) // the first answer is final
	r.has()
	r.must(d.Discard())
	r.must(d.Close())
	r.made("a", []byte("again"))
}

func draftCanceled(r *rig) {
	r.started()
	d := r.draft("a", "job", []byte("a"))
	r.is(d.Commit(canceled(r.T), keepNothing), context.Canceled)
	r.has()
	r.must(d.Discard())
	late := r.draft("a", "late", []byte("late"))
	ctx, cancel := context.WithCancel(r.Context())
	r.must(late.Commit(ctx, func([]byte) error { cancel(); return nil })) // too late
	r.has("a")
}

func draftLocked(r *rig) {
	r.started()
	d := r.draft("a", "job", []byte("a"))
	r.must(d.Commit(r.Context(), keepNothing))
	_, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.ReadShared)
	r.busy(err, "")
	r.busy(r.remove(r.Context(), r.p, r.n("a")), "")
	r.must(d.Close())
	r.must(r.remove(r.Context(), r.p, r.n("a")))
}

func draftTwice(r *rig) {
	r.started()
	d := r.draft("a", "job", []byte("a"))
	if _, err := r.creator().Create(r.Context(), r.p, small(r.n("b"), "job")); err == nil {
		r.Error("one job has two drafts by one temporary name")
	}
	r.must(d.Commit(r.Context(), keepNothing))
	r.must(d.Close())
	r.holds("a", []byte("a"))
}

func draftDiscardLate(r *rig) {
	r.started()
	d := r.draft("a", "job", []byte("a"))
	r.must(d.Commit(r.Context(), keepNothing))
	if d.Discard() == nil {
		r.Error("a complete volume was discarded")
	}
	r.must(d.Close())
	r.holds("a", []byte("a"))
}

func draftJob(r *rig) {
	r.started()
	for _, job := range []string{"", "..", "../x", "a/b", "a\x00b", "a\nb", strings.Repeat("j", 300)} {
		if _, err := r.creator().Create(r.Context(), r.p, small(r.n("a"), job)); err == nil {
			r.Errorf("job %q passed create", job)
		}
		if _, err := r.creator().Settle(r.Context(), r.p, r.n("a"), job, nil); err == nil {
			r.Errorf("job %q passed settle", job)
		}
	}
	r.has()
}
