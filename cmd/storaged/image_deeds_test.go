package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// moreImageDeeds are deeds on images that die, are canceled and lose their power at any
// moment, and not at each crash point: what writes there is QEMU, which passes none.
func moreImageDeeds() (all []deed) {
	for _, to := range []string{"vmdk", "vdi", "vhdx", "vpc", "qed", "qcow"} {
		all = append(all, deed{"convert-" + to, withSource, startConvert(to), checkConvertedTo(to)})
	}
	return append(all, []deed{
		{"convert-packed", withSource, startPacked, checkConvertedTo("qcow2")},
		{"convert-sealed", withSourceAndKey, startSealed("qcow2"), checkSealed("qcow2")},
		{"convert-luks", withSourceAndKey, startSealed("luks"), checkSealed("luks")},
		{"rebase", withTwoBases, startRebase, checkRebased},
		{"snapshot", withPlainImage, startFreeze, checkKept},
		{"restore", withChangedImage, startRestore, checkReverted},
		{"merge", withChangedImage, startMerge, checkReverted},
		{"rekey", withKeys, startRekey, checkRekeyed},
		{"grow-image", withPlainImage, startResize(2 * deedBytes), checkImageResized},
		{"grow-image-allocated", withPlainImage, startGrowAllocated, checkImageResized},
		{"shrink-image", withPlainImage, startResize(deedBytes / 2), checkImageResized},
		{"upload-content", withPlainImage, startUploadContent, checkContentUploaded},
	}...)
}

// allDeeds are both.
func allDeeds() []deed { return append(deeds(), moreImageDeeds()...) }

// checkConvertedTo is checkConverted for a source that is raw.
func checkConvertedTo(to string) func(*host, string, record.Job) {
	return func(h *host, n string, j record.Job) {
		h.t.Helper()
		_, v := h.stored(j, "vol"+n)
		switch {
		case j.State != record.Succeeded && v != nil:
			h.fault(j, "its volume is there, %s", v.State)
		case j.State == record.Succeeded:
			h.sees("vol"+n, to, content("src"+n, deedBytes))
		}
	}
}

func startPacked(h *host, n string, o ...option) (started, error) {
	return h.clone("src"+n, "vol"+n, append(o, format("qcow2"), options("compression=zstd"), slowly())...)
}

func withSourceAndKey(h *host, n string) {
	h.t.Helper()
	withSource(h, n)
	h.setSecret("first", canary("first"))
}

func startSealed(to string) func(*host, string, ...option) (started, error) {
	return func(h *host, n string, o ...option) (started, error) {
		return h.clone("src"+n, "vol"+n, append(o, format(to), encryptedBy("first"), quickKey, slowly())...)
	}
}

// quickKey has a key be derived in no time.
var quickKey = options("iter-time=10")

// checkSealed: an encrypted volume is there whole, or not at all.
func checkSealed(to string) func(*host, string, record.Job) {
	return func(h *host, n string, j record.Job) {
		h.t.Helper()
		_, v := h.stored(j, "vol"+n)
		switch {
		case j.State != record.Succeeded && v != nil:
			h.fault(j, "its volume is there, %s", v.State)
		case j.State == record.Succeeded && !ready(v):
			h.fault(j, "its volume is %s", shown(v))
		case j.State == record.Succeeded:
			h.opensTo("vol"+n, to, content("src"+n, deedBytes))
		}
	}
}

// opensTo fails unless the secret "first" opens a volume, with that content.
func (h *host) opensTo(volume, format string, want []byte) {
	h.t.Helper()
	key := map[string]string{"qcow2": "encrypt.key-secret", "luks": "key-secret"}[format]
	to := filepath.Join(h.t.TempDir(), "raw")
	h.qemuTool("qemu-img", "convert", "--object", "secret,id=s,data="+canary("first"), "--image-opts",
		fmt.Sprintf("driver=%s,%s=s,file.filename=%s", format, key, h.path(volume)), "-O", "raw", to)
	if !bytes.Equal(must(os.ReadFile(to))(h.t), want) {
		h.t.Errorf("%s has another content", volume)
	}
}

// withTwoBases makes an overlay and another volume that it may stand on.
func withTwoBases(h *host, n string) {
	h.t.Helper()
	withOverlay(h, n)
	h.put("other" + n)
}

func startRebase(h *host, n string, o ...option) (started, error) {
	return h.rebase("vol"+n, "other"+n, append(o, slowly())...)
}

// checkRebased: the content is the same whatever became of the job.
func checkRebased(h *host, n string, j record.Job) {
	h.t.Helper()
	want := content("raw"+n, deedBytes)
	copy(want, bytes.Repeat([]byte{1}, ownBytes))
	v := h.whole(j, "vol"+n, want)
	if on := v.Backing; on != h.path("other"+n) && (j.State == record.Succeeded || on != h.path("raw"+n)) {
		h.fault(j, "it stands on %q", on)
	}
}

// whole fails unless a qcow2 is ready and has a content. One that was interrupted may
// have clusters that nothing uses, and nothing worse.
func (h *host) whole(j record.Job, name string, want []byte) record.Volume {
	h.t.Helper()
	v := h.entry(name)
	if !ready(&v) {
		h.fault(j, "%s is %s", name, shown(v))
	}
	if !bytes.Equal(h.guest(h.path(name)), want) {
		h.fault(j, "%s has another content", name)
	}
	h.soundAfter(j, name)
	return v
}

func (h *host) soundAfter(j record.Job, name string) {
	h.t.Helper()
	smooth := j.State == record.Succeeded && j.Resumed == 0
	err := exec.CommandContext(h.ctx(), testenv.Tool(h.t, "qemu-img"), "check", "-q", "-f", "qcow2", h.path(name)).Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (smooth || !ok || exit.ExitCode() != leakedOnly) {
		h.fault(j, "qemu-img finds faults in %s: %v", name, err)
	}
}

// withPlainImage makes a qcow2.
func withPlainImage(h *host, n string) {
	h.t.Helper()
	h.put("raw" + n)
	h.succeed(h.clone("raw"+n, "vol"+n, format("qcow2")))
}

func startFreeze(h *host, n string, o ...option) (started, error) {
	return h.freeze("vol"+n, "s", o...)
}

// checkKept: the volume is what it was, and so is its snapshot, if it has one.
func checkKept(h *host, n string, j record.Job) {
	h.t.Helper()
	want := content("raw"+n, deedBytes)
	v := h.whole(j, "vol"+n, want)
	if has := h.frozen(j, v); has != (j.State == record.Succeeded) {
		h.fault(j, "it has a snapshot: %v", has)
	} else if has && !bytes.Equal(h.guest(h.path(".vol"+n+"@s.storaged")), want) {
		h.fault(j, "its snapshot has another content")
	}
}

// frozen reports whether a volume has the snapshot "s", in the catalog as in the pool.
func (h *host) frozen(j record.Job, v record.Volume) bool {
	h.t.Helper()
	has := slices.Equal(v.Snapshots, []string{"s"})
	if _, err := os.Stat(h.path("." + v.Name + "@s.storaged")); os.IsNotExist(err) == has || !has && len(v.Snapshots) > 0 {
		h.fault(j, "its snapshots are %q, and the file: %v", v.Snapshots, err)
	}
	return has
}

// withChangedImage makes a qcow2 that has changed since its snapshot was made.
func withChangedImage(h *host, n string) {
	h.t.Helper()
	withPlainImage(h, n)
	h.succeed(h.freeze("vol"+n, "s"))
	h.qemuIO(h.path("vol"+n), "write -P 1 0 64k", "flush")
}

func startRestore(h *host, n string, o ...option) (started, error) {
	return h.restore("vol"+n+"@s", o...)
}

func startMerge(h *host, n string, o ...option) (started, error) {
	return h.dropSnapshot("vol"+n+"@s", o...)
}

// checkReverted: the volume is what it was before, or what the snapshot was if it was
// restored, and a snapshot that is there is what it was.
func checkReverted(h *host, n string, j record.Job) {
	h.t.Helper()
	want := content("raw"+n, deedBytes)
	changed := slices.Clone(want)
	copy(changed, bytes.Repeat([]byte{1}, ownBytes))
	restored := j.Kind == record.SnapshotRestore && j.State == record.Succeeded
	dropped := j.Kind == record.SnapshotDelete && j.State == record.Succeeded
	v := h.whole(j, "vol"+n, map[bool][]byte{true: want, false: changed}[restored])
	if has := h.frozen(j, v); has == dropped {
		h.fault(j, "it has a snapshot: %v", has)
	} else if has && !bytes.Equal(h.guest(h.path(".vol"+n+"@s.storaged")), want) {
		h.fault(j, "its snapshot has another content")
	}
}

// withKeys makes an encrypted volume that a secret opens, and another secret.
func withKeys(h *host, n string) {
	h.t.Helper()
	made := filepath.Join(h.t.TempDir(), "luks")
	testenv.LUKS(h.t, made, canary("first"))
	writeDurably(h.t, h.path("vol"+n), must(os.ReadFile(made))(h.t))
	h.must(h.refresh("pool"))
	h.setSecret("first", canary("first"))
	h.setSecret("second", canary("second"))
	h.must(h.opens("vol"+n, "first"))
}

func startRekey(h *host, n string, o ...option) (started, error) {
	return h.rekey("vol"+n, append(o, newSecret("second"))...)
}

// checkRekeyed: the secret that is known opens the volume.
func checkRekeyed(h *host, n string, j record.Job) {
	h.t.Helper()
	v := h.entry("vol" + n)
	if !ready(&v) || j.State == record.Succeeded != (v.Secret == "second") {
		h.fault(j, "the volume is %s", shown(v))
	}
	h.unlocks("vol"+n, canary(v.Secret), true)
}

func startGrowAllocated(h *host, n string, o ...option) (started, error) {
	return h.resize("vol"+n, 2*deedBytes, append(o, allocate, slowly())...)
}

// checkImageResized: the image has the new capacity or the old, and what it kept.
func checkImageResized(h *host, n string, j record.Job) {
	h.t.Helper()
	v, was, got := h.entry("vol"+n), content("raw"+n, deedBytes), h.guest(h.path("vol"+n))
	kept := min(len(got), len(was))
	switch {
	case v.Capacity != int64(len(got)):
		h.fault(j, "it has %d bytes, and is %s", len(got), shown(v))
	case !bytes.Equal(got[:kept], was[:kept]) || !bytes.Equal(got[kept:], make([]byte, len(got)-kept)):
		h.fault(j, "its content is changed")
	case j.State == record.Succeeded && (!ready(&v) || len(got) == deedBytes):
		h.fault(j, "it has %d bytes, and is %s", len(got), shown(v))
	case ready(&v) && j.State != record.Succeeded && len(got) < deedBytes:
		h.fault(j, "it lost its end and is ready")
	}
	h.soundAfter(j, "vol"+n)
}

func startUploadContent(h *host, n string, o ...option) (started, error) {
	return h.hand("vol"+n, h.outside(n), append(o, asRaw, slowly())...)
}

// checkContentUploaded: the image has what came, or says that it may be neither.
func checkContentUploaded(h *host, n string, j record.Job) {
	h.t.Helper()
	v, got := h.entry("vol"+n), h.guest(h.path("vol"+n))
	came, old := bytes.Equal(got, content("up"+n, deedBytes)), bytes.Equal(got, content("raw"+n, deedBytes))
	switch {
	case j.State == record.Succeeded && !(came && ready(&v)):
		h.fault(j, "the volume is %s and has what came: %v", v.State, came)
	case j.State != record.Succeeded && ready(&v) && !old:
		h.fault(j, "the volume is changed and yet ready")
	}
	h.soundAfter(j, "vol"+n)
}

// TestDeedsOnImagesDoWhatTheySay: what is to die at any moment goes well when nothing
// does; in the gate, every fifth.
func TestDeedsOnImagesDoWhatTheySay(t *testing.T) {
	t.Parallel()
	h := newDeadlyHost(t)
	t.Cleanup(h.dropFrozen)
	for i, d := range moreImageDeeds() {
		if *chaosPoints != 0 && uint64(i)%5 != *chaosSeed%5 {
			continue
		}
		d.prepare(h, d.name)
		j := h.succeed(d.start(h, d.name))
		for range 2 { // it can be looked at again
			d.check(h, d.name, j)
		}
		h.tidy(j)
	}
}
