package main_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// fast has keys made as fast as they can be: QEMU measures its processor for a second
// and more even so.
var fast = options("iter_time=10")

// seals fails unless what a guest sees of an encrypted volume is that content, and its
// file has nothing of it.
func (h *host) seals(volume, secret string, content []byte) {
	h.t.Helper()
	h.is(volume, record.Volume{Secret: secret, Capacity: int64(len(content)), State: record.VolumeReady})
	if j := h.succeed(h.verify(volume, asRaw, checksum("sha256"))); j.Result.Checksum != sumOf(content) {
		h.t.Errorf("%s has another content: %s", volume, j.Result.Checksum)
	}
	stored := must(os.ReadFile(h.path(volume)))(h.t)
	for off := 0; off+sector <= len(content); off += len(content)/16 + sector - len(content)/16%sector {
		if b := content[off : off+sector]; len(bytes.Trim(b, "\x00")) > 0 && bytes.Contains(stored, b) {
			h.t.Fatalf("%s has byte %d in clear", volume, off)
		}
	}
}

const sector = 512

// What a guest sees stays the same from one secret and format to another, by whatever
// way, what is not written reads as zeros, and nothing is left in clear, also where the
// helper is killed and another goes on.
func TestContentsStayEncryptedWhateverIsMadeOfThem(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "qemu-storage-daemon")
	h := newHost(t)
	values := []string{canary("old"), canary("next")}
	h.locked("old", "old", values[0])
	h.setSecret("next", values[1])
	stop := h.hunt(values...)
	small, full := noise(mib), append(patchwork(10*mib), make([]byte, 2*mib)...)
	h.succeed(h.hand("old", h.holding("small", small), asRaw))
	h.succeed(h.resize("old", 12*mib))
	h.seals("old", "old", append(slices.Clone(small), make([]byte, 11*mib)...))
	h.succeed(h.hand("old", h.holding("full", full[:10*mib]), asRaw))
	h.seals("old", "old", full)

	st := h.began(h.clone("old", "new", format("qcow2"), encryptedBy("next"), fast, limited(mib)))
	h.killHelper(h.marked(st, nil))
	first := h.end(st, nil)
	if first.State != record.Failed || first.Resumable == nil {
		t.Fatal(outcome(first))
	}
	h.retried(first)
	h.seals("new", "next", full)

	up, err := h.stream("made", io.MultiReader(bytes.NewReader(small), bytes.NewReader(small)), upload{Create: &operation.CreateRequest{
		Format: "luks", Secret: "next", Capacity: 4 * mib, Options: map[string]string{"encrypt.iter-time": "10"},
	}})
	h.must(err)
	h.must(up.Wait())
	h.seals("made", "next", append(append(slices.Clone(small), small...), make([]byte, 2*mib)...))
	if limits := shown(h.succeed(h.wipe("made", ofContent)).Result.Limits); strings.Contains(limits, "cluster") {
		t.Errorf("of a volume in format luks is said: %s", limits)
	}
	h.seals("made", "next", make([]byte, 4*mib))

	image := must(os.ReadFile(h.path("old")))(t)
	h.succeed(h.hand("clear", h.holding("image", image), creating(), field("fromformat", "luks"), field("fromsecret", "old")))
	h.hasHash("clear", hashOf(t, h.holding("full", full).Name()))
	h.fails(h.end(h.hand("x", h.holding("image", image), creating(), field("fromformat", "luks"), field("fromsecret", "next"))), record.Denied, "does not open it")
	h.fails(h.end(h.hand("x", h.holding("image", image), creating(format("luks"), encryptedBy("next")), length(int64(len(image))))), record.Invalid, "begins like an image in format luks")
	down := must(os.Create(filepath.Join(h.dir, "down")))(t)
	defer down.Close()
	h.succeed(h.handDown("new", down, asRaw))
	if got := must(os.ReadFile(down.Name()))(t); !bytes.Equal(got, full) {
		t.Error("another content came down")
	}
	if seen := stop(); seen < 3 { // the helper of the slow clone, and those of both its images
		t.Errorf("only %d processes were looked at", seen)
	}
	h.nowhere(values...)
}

// holding makes a file of a client.
func (h *host) holding(name string, content []byte) *os.File {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	h.must(os.WriteFile(path, content, 0o600))
	f := must(os.OpenFile(path, os.O_RDWR, 0))(h.t)
	h.t.Cleanup(func() { f.Close() })
	return f
}

// A copy of the content of an encrypted volume is so in clear only if somebody has said
// so, and then with a warning.
func TestCopyOfAnEncryptedContentInClearIsWarnedOf(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "qemu-storage-daemon")
	h := newHost(t)
	h.locked("disk", "disks", canary("disks"))
	h.setSecret("next", canary("next"))
	h.runs(0, "volume \"pool/disk\" is encrypted, and its copy is not", "vol", "clone", "pool/disk", "pool/plain", "--format", "raw")
	h.runs(record.ExitUsage, "needs a secret", "vol", "clone", "pool/plain", "pool/x", "--format", "luks")
	h.runs(record.ExitUsage, "is not encrypted", "vol", "clone", "pool/disk", "pool/x", "--format", "vmdk", "--secret", "next")
	h.runs(record.ExitNotFound, "no secret", "vol", "clone", "pool/disk", "pool/x", "--secret", "none")
	content := noise(mib)
	h.succeed(h.hand("disk", h.holding("content", content), asRaw))
	h.succeed(h.rekey("disk", field("opened_by", "disks")))
	h.runs(0, "", "vol", "clone", "pool/disk", "pool/linked", "--linked", "--secret", "next")
	h.runs(record.ExitUsage, "would be in clear", "vol", "clone", "pool/linked", "pool/x", "--format", "qcow2", "-O", "cluster_size=128K")
	h.runs(record.ExitUsage, "would be in clear", "vol", "clone", "pool/linked", "pool/x", "--format", "qcow2")
	h.runs(0, "volume \"pool/linked\" is encrypted, and what is downloaded is not", "vol", "download", "pool/linked", filepath.Join(h.dir, "clear"), "--as", "raw")
	h.opensAtOnce("linked") // as what it stands on
	h.seals("linked", "next", content)
	out := h.runs(0, "", "vol", "clone", "pool/disk", "pool/x", "--secret", "next", "--dry-run", "-o", "json")
	if bytes.Contains([]byte(out), []byte("is not")) {
		t.Errorf("the plan says %s", out)
	}
}

// Where there is no room for a content that goes into an image, that is said before
// anything is written, as far as it can be known; else what is made is gone, and what
// is changed is not complete.
func TestContentsOfImagesNeedRoom(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.define("small", testenv.Mount(t, "ext4"))
	h.succeed(h.create("small/image", 32*mib, format("qcow2")))
	h.must(h.refresh("small"))
	h.succeed(h.create("small/filler", h.poolEntry("small").Available-8*mib))
	big := noise(24 * mib)
	plain := h.holding("big", big)
	const early = "are needed, and"
	h.fails(h.end(h.hand("small/image", plain, asRaw)), record.NoSpace, early)
	h.is("small/image", record.Volume{State: record.VolumeReady})
	h.fails(h.end(h.hand("small/new", plain, creating(format("qcow2")), field("fromformat", "raw"), length(24*mib))), record.NoSpace, early)
	h.random("base", 24*mib)
	h.qemuTool("qemu-img", "convert", "-f", "raw", "-O", "vmdk", h.path("base"), filepath.Join(h.dir, "vmdk"))
	vmdk := must(os.Open(filepath.Join(h.dir, "vmdk")))(t)
	defer vmdk.Close()
	h.fails(h.end(h.hand("small/new", vmdk, creating(format("qcow2")), field("fromformat", "vmdk"))), record.NoSpace, early)
	h.fails(h.end(h.clone("base", "small/new", format("qcow2"))), record.NoSpace, early)

	create := &operation.CreateRequest{Format: "qcow2", Capacity: 32 * mib}
	st, err := h.client.Start(h.ctx(), contract.Submit{DryRun: true}, "small", "new", &upload{Create: create, FromFormat: "raw", Data: operation.Data{Form: operation.RawForm}})
	if err != nil || len(st.Plan.Warnings) != 1 || !strings.Contains(st.Plan.Warnings[0], "nobody knows yet how long") {
		t.Errorf("the plan is %s, %v", shown(st), err)
	}
	up, err := h.stream("small/new", bytes.NewReader(big), upload{Create: create, FromFormat: "raw"})
	h.must(err)
	h.refused(up.Wait(), record.NoSpace)
	if _, err := h.client.Volume(h.ctx(), "small", "new"); record.CodeOf(err) != record.NotFound {
		t.Errorf("there is something of it: %v", err)
	}
	up, err = h.stream("small/image", bytes.NewReader(big), upload{As: record.AsRaw})
	h.must(err)
	h.refused(up.Wait(), record.NoSpace)
	if j := h.job(of(up.Job)); !strings.Contains(j.Error.Hint.String(), "is not complete until") {
		t.Errorf("the hint is %q", j.Error.Hint)
	}
	h.is("small/image", record.Volume{State: record.VolumeIncomplete})
}

// iterations are how often the secret of an encrypted qcow2 is hashed at a try of it.
func (h *host) iterations(volume string) int {
	h.t.Helper()
	var info struct {
		Specific struct {
			Data struct {
				Encrypt struct {
					Slots []struct{ Iters int }
				}
			}
		} `json:"format-specific"`
	}
	h.must(json.Unmarshal([]byte(h.qemuTool("qemu-img", "info", "--output=json", h.path(volume))), &info))
	return info.Specific.Data.Encrypt.Slots[0].Iters
}

// opensAtOnce fails unless a try of the secret of an encrypted qcow2 takes no time: 2 s
// are some million iterations.
func (h *host) opensAtOnce(volume string) {
	h.t.Helper()
	if n := h.iterations(volume); n > 200000 {
		h.t.Errorf("a try of the secret of %s takes %d iterations", volume, n)
	}
}
