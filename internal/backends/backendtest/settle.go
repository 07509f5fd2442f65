package backendtest

import (
	"os"
	"path/filepath"

	"storaged/internal/backends"
)

var settleCases = []testCase{
	{"a helper that was killed anywhere", settleKilled},
	{"a helper that still lives", settleAlive},
	{"a job that made nothing", settleNothing},
	{"another job's volume and draft", settleOthers},
	{"a volume that has gone or changed since", settleSince},
	{"a record that cannot be read", settleGarbage},
	{"a draft that another goes on with", settleResumed},
	{"a draft whose name is taken by then", settleOvertaken},
}

// settleResumed kills a real helper and goes on with what it made, under its
// own job and under another.
func settleResumed(r *rig) {
	r.started()
	for _, job := range []string{"first", "second"} {
		helper := r.process(order{Act: actWrite, Name: "a", Job: "first"})
		_, err := r.creator().Resume(r.Context(), r.p, r.n("a"), job, "first")
		r.busy(err, "")
		helper.kill()
		d, err := r.creator().Resume(r.Context(), r.p, r.n("a"), job, "first")
		r.must(err)
		_, err = r.creator().Resume(r.Context(), r.p, r.n("a"), "third", job)
		r.busy(err, "")
		r.has() // out of sight still
		_, err = r.creator().Settle(r.Context(), r.p, r.n("a"), job, nil)
		r.busy(err, "") // it has that job's name, and is in use
		r.must(d.Commit(r.Context(), keepNothing))
		r.must(d.Close())
		r.holds("a", draftContent)
		_, err = r.creator().Resume(r.Context(), r.p, r.n("b"), job, "first")
		r.is(err, backends.ErrNotFound)
		r.must(r.remove(r.Context(), r.p, r.n("a")))
	}
	for _, job := range []string{"", "../x"} {
		if _, err := r.creator().Resume(r.Context(), r.p, r.n("c"), "first", job); err == nil {
			r.Errorf("what job %q left was taken up", job)
		}
		if _, err := r.creator().Resume(r.Context(), r.p, r.n("c"), job, "first"); err == nil {
			r.Errorf("job %q took up a draft", job)
		}
	}
}

// settleOvertaken: while nobody was making it, the name became another's.
func settleOvertaken(r *rig) {
	r.started()
	r.process(order{Act: actWrite, Name: "a", Job: "first"}).kill()
	r.made("a", []byte("somebody else's"))
	_, err := r.creator().Resume(r.Context(), r.p, r.n("a"), "first", "first")
	r.is(err, backends.ErrExists)
	_, err = r.creator().Resume(r.Context(), r.p, r.n("b"), "first", "first")
	r.is(err, backends.ErrNotFound)
	r.holds("a", []byte("somebody else's"))
}

// settleKilled kills a real helper at each stage of a commit and looks what
// becomes of its volume.
func settleKilled(r *rig) {
	r.started()
	for _, c := range []struct {
		stage     string
		committed bool
	}{
		{actWrite, false},
		{actRecording, false},
		{actRecorded, false},
		{actCommitted, true},
	} {
		o := order{Act: c.stage, Name: "vol-" + c.stage, Job: "job-" + c.stage, Record: filepath.Join(r.TempDir(), "commit")}
		r.process(o).kill()
		identity, err := os.ReadFile(o.Record)
		if err != nil && !os.IsNotExist(err) {
			r.Fatal(err)
		}
		for range 2 {
			committed, err := r.creator().Settle(r.Context(), r.p, r.n(o.Name), o.Job, identity)
			r.must(err)
			if committed != c.committed {
				r.Errorf("killed at %q: committed is %v", c.stage, committed)
			}
		}
		if c.committed {
			r.has(o.Name)
			r.holds(o.Name, draftContent)
			r.must(r.remove(r.Context(), r.p, r.n(o.Name)))
		}
		r.has()
	}
	r.must(r.deleter().Delete(r.Context(), r.p, false)) // nothing was left
}

func settleAlive(r *rig) {
	r.started()
	helper := r.process(order{Act: actWrite, Name: "a", Job: "job"})
	_, err := r.creator().Settle(r.Context(), r.p, r.n("a"), "job", nil)
	r.busy(err, "")
	helper.kill()
	_, err = r.creator().Settle(r.Context(), r.p, r.n("a"), "job", nil)
	r.must(err)
	r.must(r.deleter().Delete(r.Context(), r.p, false))
}

func settleNothing(r *rig) {
	r.started().made("a", []byte("a"))
	for _, name := range []string{"a", "b"} {
		if committed, err := r.creator().Settle(r.Context(), r.p, r.n(name), "job", nil); committed || err != nil {
			r.Errorf("%s: %v, %v", name, committed, err)
		}
	}
	r.holds("a", []byte("a"))
}

func settleOthers(r *rig) {
	r.started()
	var identity []byte
	first := r.draft("a", "first", []byte("first"))
	r.must(first.Commit(r.Context(), func(b []byte) error { identity = b; return nil }))
	r.must(first.Close())
	r.made("b", []byte("second"))
	draft := r.draft("c", "third", []byte("third"))
	if committed, err := r.creator().Settle(r.Context(), r.p, r.n("b"), "fourth", identity); committed || err != nil {
		r.Errorf("another volume's identity: %v, %v", committed, err)
	}
	r.has("a", "b")
	r.must(draft.Commit(r.Context(), keepNothing)) // nobody took its temporary name
	r.has("a", "b", "c")
}

func settleSince(r *rig) {
	r.started()
	var identity []byte
	d := r.draft("a", "job", []byte("a"))
	r.must(d.Commit(r.Context(), func(b []byte) error { identity = b; return nil }))
	r.must(d.Close())
	v, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.WriteExclusive)
	r.must(err)
	_, err = v.Content().WriteAt([]byte("b"), 0) // somebody uses it already
	r.must(err)
	r.must(v.Close())
	if committed, err := r.creator().Settle(r.Context(), r.p, r.n("a"), "job", identity); !committed || err != nil {
		r.Errorf("written to: %v, %v", committed, err)
	}
	r.must(r.remove(r.Context(), r.p, r.n("a")))
	if committed, err := r.creator().Settle(r.Context(), r.p, r.n("a"), "job", identity); committed || err != nil {
		r.Errorf("removed: %v, %v", committed, err)
	}
}

func settleGarbage(r *rig) {
	r.started().made("a", []byte("a"))
	if committed, err := r.creator().Settle(r.Context(), r.p, r.n("a"), "job", []byte("\x00garbage")); committed || err == nil {
		r.Errorf("%v, %v", committed, err)
	}
	r.holds("a", []byte("a"))
}
