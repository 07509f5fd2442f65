package main_test

import (
	"errors"
	"os"
	"testing"

	"storaged/internal/record"
)

// What is written to a file that somebody replaces or removes meanwhile is nowhere: the job
// has not done what it was to do.
func TestWhatIsWrittenToALostFileIsNotDone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	replace := func(volume string) { h.must(os.Rename(h.path("other-"+volume), h.path(volume))) }
	remove := func(volume string) { h.must(os.Remove(h.path(volume))) }
	for volume, lose := range map[string]func(string){"replaced": replace, "removed": remove} {
		for _, job := range []string{"wipe", "upload", "trim"} {
			volume := job + "-" + volume
			h.random(volume, 4*mib)
			h.random("other-"+volume, mib)
			st, goOn := h.writing(job, volume)
			lose(volume)
			goOn()
			if j := h.end(st, nil); j.State != record.Failed || j.Code() != record.Changed || j.Error.Hint == nil {
				t.Errorf("%s: %s", volume, outcome(j))
			}
		}
	}
	h.must(h.refresh("pool"))
	for _, job := range []string{"wipe", "upload", "trim"} {
		h.is(job+"-replaced", record.Volume{State: record.VolumeReady})
		h.absent(job + "-removed")
	}
}

// writing begins a job that writes to a volume, and does so for long until goOn.
func (h *host) writing(job, volume string) (st started, goOn func()) {
	h.t.Helper()
	begin := map[string]func() (started, error){
		"wipe": func() (started, error) { return h.wipe(volume, acceptLimits, limited(mib/4)) },
		"trim": func() (started, error) { return h.trim(volume, limited(mib/4)) },
	}[job]
	if begin != nil {
		st = h.began(begin())
		h.written(st.Job.ID, 1)
		return st, func() { h.unlimit(st) }
	}
	content := noise(2 * mib)
	up, out := h.sending(volume, upload{}, content[:mib])
	h.written(up.Job.ID, mib)
	return of(up.Job), func() {
		_, err := out.Write(content[mib:])
		h.must(err)
		out.Close()
	}
}

// A volume in the making whose unfinished file others have removed or replaced is not made, and
// it is said what has become of it.
func TestVolumeWhoseUnfinishedFileIsRemovedIsNotMade(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 4*mib)
	for name, lose := range map[string]func(string){
		"removed":  func(path string) { h.must(os.Remove(path)) },
		"replaced": func(path string) { h.must(errors.Join(os.WriteFile(path+"x", nil, 0o600), os.Rename(path+"x", path))) },
	} {
		st := h.began(h.clone("v", name, noReflink, limited(mib)))
		h.written(st.Job.ID, 1)
		path := h.path(record.DraftName(st.Job.ID))
		lose(path)
		h.unlimit(st)
		h.hints(h.fails(h.end(st, nil), record.Changed, "somebody has removed or replaced"), "ask again")
		if name == "replaced" {
			h.must(os.Remove(path)) // it is nobody's of ours
		}
		h.absent(name)
	}
}
