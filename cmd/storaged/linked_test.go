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
	h := newHost(t)
	h.random("disk", mib)
	h.does(0, "", "vol", "verify", "pool/disk")
	was := h.described("disk")
	if was.Origin != record.Made || was.Checksum == nil || !was.Checksum.Current {
		t.Fatalf("the volume is %+v", was)
	}
	content := h.hash("disk")
	link, alien := filepath.Join(filepath.Dir(h.pool), "backup"), filepath.Join(filepath.Dir(h.pool), "alien")
	h.must(os.Link(h.path("disk"), link))
	h.must(os.WriteFile(alien, []byte("not a volume"), 0o600))
	h.must(os.Link(alien, h.path("alien")))
	for range 2 { // the second finds nothing new
		h.does(0, "ignored disk: it has 2 names (hard links)", "pool", "refresh", "pool")
	}
	v, err := h.client.Volume(h.ctx(), "pool", "disk")
	if err != nil || v.Reason != "it has 2 names (hard links)" || v.State != was.State {
		t.Errorf("while there is a link: %+v, %v", v, err)
	}
	h.sameAs(was, v)
	h.does(0, "not usable", "vol", "list", "pool")
	h.does(0, "it has 2 names (hard links)", "vol", "show", "pool/disk")
	if p, err := h.client.Pool(h.ctx(), "pool"); err != nil || p.Ignored != 1 || p.Provisioned != mib {
		t.Errorf("the pool is %+v, %v", p, err)
	}
	if v, err := h.client.Volume(h.ctx(), "pool", "alien"); record.CodeOf(err) != record.NotFound {
		t.Errorf("what never was a volume: %+v, %v", v, err)
	}
	for _, args := range [][]string{
		{"vol", "clone", "pool/disk", "pool/clone"}, {"vol", "move", "pool/disk", "pool/other"},
	} {
		h.does(1, "it has 2 names (hard links)", args...)
	}
	h.must(os.Remove(link))
	h.does(0, "", "pool", "refresh", "pool")
	v, err = h.client.Volume(h.ctx(), "pool", "disk")
	if err != nil || v.Reason != "" {
		t.Errorf("when the link is gone: %+v, %v", v, err)
	}
	h.sameAs(was, v)
	if h.hash("disk") != content {
		t.Error("the content is another")
	}
	h.does(0, "", "vol", "clone", "pool/disk", "pool/clone")
	h.must(os.Link(h.path("disk"), link))
	h.does(1, "it has 2 names (hard links)", "vol", "wipe", "pool/disk", "--yes")
	h.does(1, "it has 2 names (hard links)", "vol", "delete", "pool/disk", "--yes")
	h.must(os.Remove(link))
	h.does(0, "", "vol", "wipe", "pool/disk", "--yes")
}

// sameAs fails unless what is known of a volume beside its figures is as it was.
func (h *host) sameAs(was, now record.Volume) {
	h.t.Helper()
	if now.Origin != was.Origin || now.CreatedBy == nil || *now.CreatedBy != *was.CreatedBy || now.Description != was.Description ||
		now.Capacity != was.Capacity || now.Format != was.Format {
		h.t.Errorf("it is %+v, was %+v", now, was)
	}
	if now.Checksum == nil || now.Checksum.Checksum != was.Checksum.Checksum || !now.Checksum.Current {
		h.t.Errorf("its checksum is %+v, was %+v", now.Checksum, was.Checksum)
	}
}

// A link to another file in the place of a volume is another file.
func TestLinkInThePlaceOfAVolumeIsNone(t *testing.T) {
	h := newHost(t)
	h.create("disk", mib)
	alien := filepath.Join(filepath.Dir(h.pool), "alien")
	h.must(os.WriteFile(alien, []byte("not a volume"), 0o600))
	h.must(os.Remove(h.path("disk")))
	h.must(os.Link(alien, h.path("disk")))
	h.does(0, "ignored disk", "pool", "refresh", "pool")
	if v, err := h.client.Volume(h.ctx(), "pool", "disk"); record.CodeOf(err) != record.NotFound {
		t.Errorf("the volume is %+v, %v", v, err)
	}
	if b, err := os.ReadFile(alien); err != nil || !strings.HasPrefix(string(b), "not a") {
		t.Errorf("%q, %v", b, err)
	}
}
