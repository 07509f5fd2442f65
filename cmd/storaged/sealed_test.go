package main_test

import (
	"os"
	"os/exec"
	"sync"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// sealedImages are encrypted qcow2 that name a backing, by what they name and their
// secret: each takes seconds to be made.
var sealedImages sync.Map

// sealed puts an encrypted qcow2 into the pool that stands on a raw file, with a key that
// takes no time.
func (h *host) sealed(volume, base, value string) {
	h.t.Helper()
	image, made := sealedImages.Load(base + value)
	if !made {
		h.makeSealed(h.path(volume), base, value)
		image = must(os.ReadFile(h.path(volume)))(h.t)
		sealedImages.Store(base+value, image)
	}
	h.must(os.WriteFile(h.path(volume), image.([]byte), 0o600))
	h.succeed(h.refreshPool("pool"))
}

func (h *host) makeSealed(path, base, value string) {
	h.t.Helper()
	for range 20 { // it measures its processor, which a busy machine spoils
		out, err := exec.Command(testenv.Tool(h.t, "qemu-img"), "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data="+value,
			"-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "-b", base, "-F", "raw", path).CombinedOutput()
		if err == nil {
			return
		}
		h.t.Logf("qemu-img: %v\n%s", err, out)
	}
}

// Whatever is done with an encrypted image that stands on another: it is known by what
// secret it opens, and opens by that.
func TestEncryptedOverlaysStayOpen(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "qemu-storage-daemon")
	h := newHost(t)
	h.setSecret("disks", canary("disks"))
	h.random("base", mib)
	h.random("other", mib)
	made := func(name string) {
		t.Helper()
		h.sealed(name, h.path("base"), canary("disks"))
		h.must(h.opens(name, "disks"))
	}
	opens := func(name string) {
		t.Helper()
		h.is(name, record.Volume{Secret: "disks", State: record.VolumeReady})
		h.succeed(h.verify(name, field("as", "raw"), checksum("sha256")))
	}
	made("flat")
	h.succeed(h.flatten("flat"))
	opens("flat")
	made("based")
	h.succeed(h.rebase("based", "other"))
	opens("based")
	made("keyed")
	h.setSecret("next", canary("next"))
	h.succeed(h.rekey("keyed", newSecret("next")))
	h.is("keyed", record.Volume{Secret: "next", State: record.VolumeReady})
	h.succeed(h.verify("keyed", field("as", "raw"), checksum("sha256")))
	made("moved")
	h.succeed(h.move("moved", "there"))
	opens("there")
}

// A snapshot has the keys that the volume had, whatever opens that by now.
func TestSnapshotOfAnEncryptedVolumeKeepsItsSecret(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "qemu-storage-daemon")
	h := newHost(t)
	h.setSecret("disks", canary("disks"))
	h.setSecret("next", canary("next"))
	h.random("base", mib)
	h.sealed("disk", h.path("base"), canary("disks"))
	h.succeed(h.rekey("disk", field("opened_by", "disks")))
	h.succeed(h.freeze("disk", "s"))
	h.opensAtOnce("disk")
	h.must(h.opens("disk", "next"))
	h.refused(h.client.DeleteSecret(h.ctx(), contract.Submit{}, "disks"), record.Busy)
	h.must(os.Remove(h.path(".disk@s.storaged"))) // else it is a leftover of the test
}

// A copy of the file of an encrypted volume has the keys of that.
func TestCopiesOfEncryptedVolumesOpenByTheSameSecret(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.locked("disk", "disks", canary("disks"))
	h.succeed(h.clone("disk", "copy"))
	h.succeed(h.move("disk", "moved"))
	for _, name := range []string{"copy", "moved"} {
		h.is(name, record.Volume{Secret: "disks", State: record.VolumeReady})
	}
	h.succeed(h.remove("moved"))
	h.refused(h.client.DeleteSecret(h.ctx(), contract.Submit{}, "disks"), record.Busy)
}
