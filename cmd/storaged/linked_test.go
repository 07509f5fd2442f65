package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/record"
)

// A backup that makes hard links takes no volume out of the list, and what is
// known of it stays so.
func TestVolumeThatABackupLinksStaysListed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("disk", mib)
	h.runs(0, "", "vol", "verify", "pool/disk")
	was := h.described("disk")
	if was.Origin != record.Made || was.Checksum == nil || !was.Checksum.Current {
		t.Fatalf("the volume is %s", shown(was))
	}
	content := h.hash("disk")
	link, alien := filepath.Join(filepath.Dir(h.pool), "backup"), filepath.Join(filepath.Dir(h.pool), "alien")
	h.must(os.Link(h.path("disk"), link))
	h.must(os.WriteFile(alien, []byte("not a volume"), 0o600))
	h.must(os.Link(alien, h.path("alien")))
	for range 2 { // the second finds nothing new
		h.runs(0, "ignored disk: it has 2 names (hard links)", "pool", "refresh", "pool")
	}
	v := h.is("disk", record.Volume{Reason: "it has 2 names (hard links)", State: was.State})
	h.sameAs(was, v)
	h.runs(0, "not usable", "vol", "list", "pool")
	h.runs(0, "it has 2 names (hard links)", "vol", "show", "pool/disk")
	h.poolIs("pool", record.Pool{Ignored: 1, Provisioned: mib})
	h.unknown("alien")
	for _, args := range [][]string{
		{"vol", "clone", "pool/disk", "pool/clone"}, {"vol", "move", "pool/disk", "pool/other"},
	} {
		h.runs(record.ExitBusy, "it has 2 names (hard links)", args...)
	}
	h.must(os.Remove(link))
	h.runs(0, "", "pool", "refresh", "pool")
	if v = h.entry("disk"); v.Reason != "" {
		t.Errorf("when the link is gone: %s", shown(v))
	}
	h.sameAs(was, v)
	h.hasHash("disk", content)
	h.runs(0, "", "vol", "clone", "pool/disk", "pool/clone")
	h.must(os.Link(h.path("disk"), link))
	h.runs(record.ExitBusy, "it has 2 names (hard links)", "vol", "wipe", "pool/disk", "--yes")
	h.runs(record.ExitBusy, "it has 2 names (hard links)", "vol", "delete", "pool/disk", "--yes")
	h.must(os.Remove(link))
	h.runs(0, "", "vol", "wipe", "pool/disk", "--yes")
}

// sameAs fails unless what is known of a volume beside its figures is as it was.
func (h *host) sameAs(was, now record.Volume) {
	h.t.Helper()
	if now.Origin != was.Origin || now.CreatedBy == nil || *now.CreatedBy != *was.CreatedBy || now.Description != was.Description ||
		now.Capacity != was.Capacity || now.Format != was.Format {
		h.t.Errorf("it is %s, was %s", shown(now), shown(was))
	}
	if now.Checksum == nil || now.Checksum.Checksum != was.Checksum.Checksum || !now.Checksum.Current {
		h.t.Errorf("its checksum is %s, was %s", shown(now.Checksum), shown(was.Checksum))
	}
}

// A link to another file in the place of a volume is another file.
func TestLinkInThePlaceOfAVolumeIsNone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("disk", mib)
	alien := filepath.Join(filepath.Dir(h.pool), "alien")
	h.must(os.WriteFile(alien, []byte("not a volume"), 0o600))
	h.must(os.Remove(h.path("disk")))
	h.must(os.Link(alien, h.path("disk")))
	h.runs(0, "ignored disk", "pool", "refresh", "pool")
	h.unknown("disk")
	if b, err := os.ReadFile(alien); err != nil || !strings.HasPrefix(string(b), "not a") {
		t.Errorf("%q, %v", b, err)
	}
}
