package main_test

import (
	"os"
	"strings"
	"testing"

	"storaged/internal/record"
)

// halved makes a volume of which every other MiB is written zeros, and gives its
// checksum, which is recorded.
func (h *host) halved(volume string, n int) string {
	h.t.Helper()
	h.random(volume, int64(n)*mib)
	f := must(os.OpenFile(h.path(volume), os.O_WRONLY, 0))(h.t)
	for off := mib; off < n*mib; off += 2 * mib {
		_, err := f.WriteAt(make([]byte, mib), int64(off))
		h.must(err)
	}
	h.must(f.Sync())
	h.must(f.Close())
	h.must(h.refresh("pool"))
	return h.end(h.verify(volume)).Result.Checksum
}

// trimmed compares a volume with what it was before a trim.
func (h *host) trimmed(volume, sum string, current bool) {
	h.t.Helper()
	if got := "sha256:" + h.hash(volume); got != sum {
		h.t.Errorf("the content has %s, not %s", got, sum)
	}
	if v := h.is(volume, record.Volume{State: record.VolumeReady}); v.Checksum == nil || v.Checksum.Current != current {
		h.t.Errorf("its checksum is %s, current: want %t", shown(v.Checksum), current)
	}
}

func TestTrimKeepsTheContentAndItsChecksum(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	sum := h.halved("a", 8)
	out, errs, code := h.ctl("vol", "trim", "pool/a")
	if code != 0 || !strings.Contains(errs, "4.00 MiB, by punch") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	h.trimmed("a", sum, true)
	if got := h.blocks("a"); got > 4*mib+64<<10 {
		t.Errorf("%d bytes have blocks", got)
	}
	if _, errs, code := h.ctl("vol", "trim", "pool/a"); code != 0 || !strings.Contains(errs, "nothing to give back") {
		t.Errorf("exit %d, %q", code, errs)
	}
	h.trimmed("a", sum, true)
	h.must(h.refresh("pool"))
	h.trimmed("a", sum, true)
}

func TestTrimRefusesWhatIsToHaveItsAllocation(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.succeed(h.create("full", 4*mib, allAllocated))
	if _, errs, code := h.ctl("vol", "trim", "pool/full"); code != record.ExitBusy || !strings.Contains(errs, "--give-up-allocation") {
		t.Errorf("exit %d, %q", code, errs)
	}
	if got := h.blocks("full"); got < 4*mib {
		t.Errorf("%d bytes have blocks", got)
	}
	if j := h.succeed(h.trim("full", giveUpAllocation)); j.Result.Bytes != 4*mib || j.Result.Allocation != 0 || j.Result.Method != "punch" {
		t.Error(shown(j.Result))
	}
	h.succeed(h.trim("full")) // nothing is promised any more
}

func TestTrimGoesOnAfterItsHelperWasKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	sum := h.halved("a", 64)
	st, err := h.trim("a", limited(8*mib))
	before := h.marked(st, err)
	h.killHelper(before)
	h.unlimit(of(before))
	if j := h.succeed(st, nil); j.Resumed != 1 || j.Result.Bytes < 31*mib || *j.Stats.BytesRead > 80*mib {
		t.Errorf("%s, %s, %s", outcome(j), shown(j.Result), shown(j.Stats))
	}
	h.trimmed("a", sum, false) // who wrote last is not known for certain
}

func TestTrimOutlivesTheDaemonAndIsCanceled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	sum := h.halved("a", 64)
	st, err := h.trim("a", limited(8*mib))
	h.marked(st, err)
	h.kill()
	h.start()
	h.cancel(st)
	h.jobIs(h.end(st, nil), record.Job{State: record.Canceled})
	h.trimmed("a", sum, true)
}
