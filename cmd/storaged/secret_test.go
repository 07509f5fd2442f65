package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// setSecret keeps a secret.
func (h *host) setSecret(name, value string) {
	h.t.Helper()
	_, err := h.client.SetSecret(h.ctx(), contract.Submit{}, name, []byte(value))
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
	_, err := h.client.SetSecret(h.ctx(), contract.Submit{}, "disks", []byte("third"))
	h.refused(err, record.Busy, `opens "pool/disk"`, "not replaced")
	h.refused(h.client.DeleteSecret(h.ctx(), contract.Submit{}, "disks"), record.Busy, `opens "pool/disk"`, "not deleted")
	h.is("disk", record.Volume{Secret: "disks"})
	all, err := h.client.Secrets(h.ctx())
	if err != nil || len(all) != 1 || all[0].Uses != 1 || len(all[0].UsedBy) != 1 || all[0].UsedBy[0] != "pool/disk" {
		t.Errorf("secrets are %s, %v", shown(all), err)
	}
	if b, err := os.ReadFile(filepath.Join(h.dir, "state/secrets/disks")); err != nil || string(b) != "second" {
		t.Errorf("it is %q, %v", b, err)
	}
	h.must(h.opens("disk", ""))
	h.must(h.client.DeleteSecret(h.ctx(), contract.Submit{}, "disks"))
	h.refused(h.client.DeleteSecret(h.ctx(), contract.Submit{}, "disks"), record.NotFound)
}

// lose has the daemon find, when it starts, that a secret's file has another value, or
// is gone, which nil is.
func (h *host) lose(secret string, value []byte) {
	h.t.Helper()
	path := filepath.Join(h.dir, "state/secrets", secret)
	h.stop()
	if value == nil {
		h.must(os.Remove(path))
	} else {
		h.must(os.WriteFile(path, value, 0o600))
	}
	h.start()
}

// Of a volume that others have encrypted is said by what secret it is opened, which is
// tried; what opens one is put back when it is lost, and neither deleted nor replaced, also
// where it is only asked whether it would be.
func TestSecretThatOpensAVolumeIsTriedAndPutBack(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "qemu-storage-daemon")
	h := newHost(t)
	value := canary("disks")
	key := filepath.Join(h.dir, "key")
	other := filepath.Join(h.dir, "other")
	h.must(os.WriteFile(key, []byte(value), 0o600))
	h.must(os.WriteFile(other, []byte("another"), 0o600))
	testenv.LUKS(t, h.path("found"), value)
	h.succeed(h.refreshPool("pool"))
	h.setSecret("wrong", canary("wrong"))
	h.runs(0, "would keep secret disks", "secret", "set", "disks", "--file", key, "--dry-run")
	h.runs(record.ExitNotFound, "no secret", "vol", "rekey", "pool/found", "--opened-by", "disks")
	h.runs(0, "secret disks is kept", "secret", "set", "disks", "--file", key)
	h.runs(record.ExitBusy, "storagedctl vol rekey pool/found --opened-by SECRET", "vol", "rekey", "pool/found", "--secret", "wrong")
	h.runs(record.ExitDenied, "does not open it", "vol", "rekey", "pool/found", "--opened-by", "wrong")
	h.is("found", record.Volume{Secret: ""})
	h.runs(0, "", "vol", "rekey", "pool/found", "--opened-by", "disks")
	h.is("found", record.Volume{Secret: "disks", State: record.VolumeReady, Origin: record.Found})
	h.runs(record.ExitBusy, "not deleted", "secret", "delete", "disks", "--dry-run")
	h.runs(record.ExitBusy, "not replaced", "secret", "set", "disks", "--file", other, "--dry-run")
	h.succeed(h.create("plain", mib, format("qcow2")))
	h.runs(record.ExitUnsupported, "is not encrypted", "vol", "rekey", "pool/plain", "--opened-by", "disks")

	h.lose("disks", nil)
	h.refuses(record.NotFound, "no secret")(h.rekey("found", alsoSecret("wrong")))
	h.runs(0, "vol rekey pool/found --opened-by disks tries whether it does", "secret", "set", "disks", "--file", key)
	h.runs(0, "", "vol", "rekey", "pool/found", "--opened-by", "disks")
	h.lose("disks", []byte("spoilt"))
	h.fails(h.end(h.verify("found", asRaw)), record.Denied, "does not open it")
	h.setSecret("right", value)
	h.runs(0, "", "vol", "rekey", "pool/found", "--opened-by", "right")
	h.runs(0, "would delete secret disks", "secret", "delete", "disks", "--dry-run")
	h.runs(0, "", "secret", "delete", "disks", "--yes")
	h.nowhere(canary("wrong"))
}
