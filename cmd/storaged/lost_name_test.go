package main_test

import (
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
		for _, job := range []string{"wipe", "upload"} {
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
	for _, job := range []string{"wipe", "upload"} {
		h.is(job+"-replaced", record.Volume{State: record.VolumeReady})
		h.absent(job + "-removed")
	}
}

// writing begins a job that writes to a volume, and does so for long until goOn.
func (h *host) writing(job, volume string) (st started, goOn func()) {
	h.t.Helper()
	if job == "wipe" {
		st = h.began(h.wipe(volume, acceptLimits, limited(mib/4)))
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
