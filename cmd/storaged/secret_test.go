package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// setSecret keeps a secret.
func (h *host) setSecret(name, value string) {
	h.t.Helper()
	_, err := h.client.SetSecret(h.ctx(), name, []byte(value))
	h.must(err)
}

// opens has a volume opened by a secret.
func (h *host) opens(volume, secret string) error {
	h.t.Helper()
	on := at(volume)
	_, err := h.client.PatchVolume(h.ctx(), contract.Submit{}, on.Pool, on.Volume, contract.VolumePatch{Secret: &secret})
	return err
}

// What opens a volume is neither deleted nor replaced, also by a daemon that was
// started anew.
func TestSecretThatOpensAVolumeStays(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("disk", mib)
	h.refused(h.opens("disk", "disks"), record.NotFound, "no secret")
	h.setSecret("disks", "first")
	h.setSecret("disks", "second") // nothing needs it yet
	h.must(h.opens("disk", "disks"))
	h.stop()
	h.start()
	h.setSecret("disks", "second")
	_, err := h.client.SetSecret(h.ctx(), "disks", []byte("third"))
	h.refused(err, record.Busy, `opens "pool/disk"`, "not replaced")
	h.refused(h.client.DeleteSecret(h.ctx(), "disks"), record.Busy, `opens "pool/disk"`, "not deleted")
	h.is("disk", record.Volume{Secret: "disks"})
	all, err := h.client.Secrets(h.ctx())
	if err != nil || len(all) != 1 || all[0].Uses != 1 || len(all[0].UsedBy) != 1 || all[0].UsedBy[0] != "pool/disk" {
		t.Errorf("secrets are %s, %v", shown(all), err)
	}
	if b, err := os.ReadFile(filepath.Join(h.dir, "state/secrets/disks")); err != nil || string(b) != "second" {
		t.Errorf("it is %q, %v", b, err)
	}
	h.must(h.opens("disk", ""))
	h.must(h.client.DeleteSecret(h.ctx(), "disks"))
	h.refused(h.client.DeleteSecret(h.ctx(), "disks"), record.NotFound)
}
