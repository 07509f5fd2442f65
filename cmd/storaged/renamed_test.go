package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// Who renames a file by hand does not complete it: it is known again within its pool.
func TestIncompleteVolumeStaysSoByAnyName(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	rename := func(from, to string) { h.must(os.Rename(from, to)) }
	away := filepath.Join(h.dir, "away")
	for name, become := range map[string]func(old, new string){
		"renamed": func(old, new string) { rename(h.path(old), h.path(new)) },
		"renamed and asked for": func(old, new string) {
			rename(h.path(old), h.path(new))
			h.fails(h.end(h.wipe(old, acceptLimits)), record.NotFound)
			h.unknown(old)
		},
		"renamed over another": func(old, new string) {
			h.sparse(new, mib)
			rename(h.path(old), h.path(new))
		},
		"away and back": func(old, new string) {
			rename(h.path(old), away)
			h.must(h.refresh("pool"))
			h.unknown(old)
			rename(away, h.path(new))
		},
		"away and back, with the pool defined anew": func(old, new string) {
			rename(h.path(old), away)
			h.must(h.refresh("pool"))
			h.succeed(h.stopPool("pool"))
			must(h.client.ReplacePool(h.ctx(), contract.Submit{}, "pool", contract.PoolDefine{Name: "pool", Target: record.Target{Path: h.path("")}}))(h.t)
			h.succeed(h.startPool("pool"))
			rename(away, h.path(new))
		},
		"replaced": func(old, new string) {
			rename(h.path(old), h.path(new))
			h.swap(old, noise(mib))
			h.succeed(h.clone(old, "copy of "+old)) // what is there now is another file, and whole
		},
		"with two names": func(old, new string) {
			h.must(os.Link(h.path(old), h.path(new)))
			h.must(h.refresh("pool"))
			h.unknown(new)
			h.must(os.Remove(h.path(old)))
		},
	} {
		old, new := "old "+name, "new "+name
		h.random(old, 4*mib)
		j := h.brokenWipe(old)
		become(old, new)
		h.must(h.refresh("pool"))
		h.is(new, record.Volume{State: record.VolumeIncomplete, Job: &j.Number})
		h.isRefusedAsIncomplete(h.clone(new, "copy of "+new))
		if name != "replaced" {
			h.unknown(old)
		}
		h.succeed(h.wipe(new, acceptLimits))
		rename(h.path(new), h.path(new+" again"))
		h.must(h.refresh("pool"))
		h.is(new+" again", record.Volume{State: record.VolumeReady})
	}
}

// isRefusedAsIncomplete fails unless a verb is, with the ways that there are for a file that
// has come to its name.
func (h *host) isRefusedAsIncomplete(_ started, err error) {
	h.t.Helper()
	h.refused(err, record.WrongState, "is incomplete")
	h.hints(err, "wipe it, or delete it")
}

// A file that has got its old name back is what it was; a job that had it before is not retried.
func TestIncompleteVolumeThatGetsItsNameBack(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 4*mib)
	j := h.brokenWipe("v")
	for _, name := range []string{"w", "v"} {
		h.must(os.Rename(h.path(map[string]string{"w": "v", "v": "w"}[name]), h.path(name)))
		h.must(h.refresh("pool"))
		h.is(name, record.Volume{State: record.VolumeIncomplete, Job: &j.Number})
	}
	h.isRefusedAsIncomplete(h.clone("v", "copy"))
	h.succeed(h.wipe("v", acceptLimits))
	h.succeed(h.clone("v", "copy"))
}

// A job on a volume has its file by whatever name: what becomes of it is known at its end.
func TestVolumeThatIsRenamedUnderAJobIsWhatTheJobLeaves(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("old", 4*mib)
	st := h.began(h.wipe("old", acceptLimits, limited(mib/4)))
	h.written(st.Job.ID, 1)
	h.must(os.Rename(h.path("old"), h.path("new")))
	h.must(h.refresh("pool"))
	h.unknown("new")
	h.unlimited(st)
	h.must(h.refresh("pool"))
	h.is("new", record.Volume{State: record.VolumeReady})
	h.unknown("old")
}

// A copy of an incomplete file is another one, of which nobody says anything.
func TestCopyOfAnIncompleteFileIsAnother(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 4*mib)
	h.brokenWipe("v")
	h.must(os.WriteFile(h.path("copy"), must(os.ReadFile(h.path("v")))(t), 0o600))
	h.must(h.refresh("pool"))
	h.is("copy", record.Volume{State: record.VolumeReady})
	h.is("v", record.Volume{State: record.VolumeIncomplete})
}

// A whole file that was put in the place of an incomplete one is taken as it is, at once.
func TestWholeFileInPlaceOfAnIncompleteOneIsUsed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, volume := range []string{"v", "base"} {
		h.random(volume, 4*mib)
		h.brokenWipe(volume)
		h.swap(volume, noise(mib))
	}
	want := h.hash("v")
	h.runs(0, "", "vol", "download", "pool/v", filepath.Join(h.dir, "out"))
	if got := hashOf(t, filepath.Join(h.dir, "out")); got != want {
		t.Error("another content was downloaded")
	}
	h.succeed(h.clone("base", "linked", field("linked", true))) // what an image stands on is looked at too
}
