package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storaged/internal/crash"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

func (h *host) flatten(volume string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(volume), new(operation.FlattenRequest), options...)
}

func (h *host) rebase(volume, backing string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(volume), new(operation.RebaseRequest), append(options, field("backing", backing))...)
}

// qemuIO writes into an image, as a guest would.
func (h *host) qemuIO(path string, commands ...string) {
	h.t.Helper()
	args := []string{"-f", "qcow2"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	if out, err := exec.Command(testenv.Tool(h.t, "qemu-io"), append(args, path)...).CombinedOutput(); err != nil {
		h.t.Fatalf("qemu-io %q: %v\n%s", args, err, out)
	}
}

// guest is what a guest sees of a qcow2, by qemu-img, which follows its header.
func (h *host) guest(path string) []byte {
	h.t.Helper()
	out := filepath.Join(h.t.TempDir(), "raw")
	if said, err := exec.Command(testenv.Tool(h.t, "qemu-img"), "convert", "-f", "qcow2", "-O", "raw", path, out).CombinedOutput(); err != nil {
		h.t.Fatalf("qemu-img convert: %v\n%s", err, said)
	}
	b, err := os.ReadFile(out)
	h.must(err)
	return b
}

// sound fails unless qemu-img finds nothing wrong with a qcow2.
func (h *host) sound(path string) {
	h.t.Helper()
	if out, err := exec.Command(testenv.Tool(h.t, "qemu-img"), "check", "-f", "qcow2", path).CombinedOutput(); err != nil {
		h.t.Errorf("qemu-img check: %v\n%s", err, out)
	}
}

// stack makes a raw base, an overlay on it, and one on that, each with something of its
// own, and gives what a guest sees of the last.
func (h *host) stack() []byte {
	h.t.Helper()
	testenv.Tool(h.t, "qemu-storage-daemon")
	h.random("base", 8*mib)
	h.image("pool", "-f", "qcow2", "-F", "raw", "-b", h.path("base"), h.path("middle"))
	h.qemuIO(h.path("middle"), "write -P 1 1M 64k", "write -z 2M 1M")
	h.image("pool", "-f", "qcow2", "-F", "qcow2", "-b", h.path("middle"), h.path("top"), "9M")
	h.qemuIO(h.path("top"), "write -P 2 1088k 1M", "write -z 4M 64k")
	return h.guest(h.path("top"))
}

func TestFlattenedVolumeStandsOnNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.stack()
	h.refuses(record.HasChildren, "pool/top")(h.remove("middle"))
	j := h.succeed(h.flatten("top"))
	if j.Result.Method != "copy" || j.Result.Bytes == 0 {
		t.Errorf("the result is %s", shown(j.Result))
	}
	if v := h.entry("top"); v.Backing != "" || v.Parent != nil || v.Depth == nil || *v.Depth != 0 || v.State != record.VolumeReady || v.Capacity != 9*mib {
		t.Errorf("it is %s", shown(v))
	}
	h.succeed(h.remove("middle"))
	h.succeed(h.remove("base"))
	h.sound(h.path("top"))
	if !bytes.Equal(h.guest(h.path("top")), want) {
		t.Error("it has another content")
	}
	if j = h.succeed(h.flatten("top")); j.Result.Method != "none" {
		t.Errorf("done again: %s", shown(j.Result))
	}
	h.sparse("raw", mib)
	h.refuses(record.Unsupported, "nothing to flatten")(h.flatten("raw"))
}

// A job that is canceled leaves what was there, and the next goes on.
func TestCanceledFlattenLeavesACompleteVolume(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.stack()
	st := h.began(h.flatten("top", limited(mib)))
	h.cancel(st)
	h.end(st, nil)
	if v := h.entry("top"); v.State != record.VolumeReady || v.Parent == nil || v.Parent.Volume != "middle" {
		t.Errorf("it is %s", shown(v))
	}
	if !bytes.Equal(h.guest(h.path("top")), want) {
		t.Error("it has another content")
	}
	h.succeed(h.flatten("top"))
	if !bytes.Equal(h.guest(h.path("top")), want) {
		t.Error("it has another content in the end")
	}
	h.sound(h.path("top"))
}

// A job whose helper dies goes on by itself, and what stood there is whole all the while.
func TestFlattenGoesOnAfterItsHelperWasKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.stack()
	st := h.began(h.flatten("top", limited(2*mib)))
	h.killHelper(h.running(st))
	h.unlimit(st)
	if j := h.succeed(st, nil); j.Resumed != 1 {
		t.Error(outcome(j))
	}
	if !bytes.Equal(h.guest(h.path("top")), want) || h.entry("top").Backing != "" {
		t.Error("it has another content, or stands on something")
	}
	h.succeed(h.remove("middle"))
}

func TestRebasedVolumeKeepsItsContent(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.stack()
	h.succeed(h.clone("base", "other"))
	f, err := os.OpenFile(h.path("other"), os.O_WRONLY, 0)
	h.must(err)
	_, err = f.WriteAt(make([]byte, mib), 6*mib)
	h.must(err)
	h.must(f.Truncate(7 * mib))
	h.must(f.Close())
	h.must(h.refresh("pool"))
	h.succeed(h.rebase("top", "other"))
	v := h.entry("top")
	if v.Parent == nil || v.Parent.Volume != "other" || v.Parent.Format != record.FormatRaw || *v.Depth != 1 {
		t.Errorf("it is %s", shown(v))
	}
	if !bytes.Equal(h.guest(h.path("top")), want) {
		t.Error("it has another content")
	}
	if own := h.entry("top").Allocation; own > 6*mib {
		t.Errorf("it has %d bytes of its own", own)
	}
	h.succeed(h.remove("middle"))
	h.refuses(record.HasChildren, "pool/top")(h.remove("other"))
	h.image("pool", "-f", "qcow2", h.path("empty"), "1M")
	h.succeed(h.rebase("top", "pool/empty"))
	h.succeed(h.remove("base"))
	h.succeed(h.remove("other"))
	if !bytes.Equal(h.guest(h.path("top")), want) {
		t.Error("on an empty backing it has another content")
	}
	h.sound(h.path("top"))
	h.refuses(record.Invalid, "stand on itself")(h.rebase("empty", "top"))
	h.refuses(record.NotFound, "nothing")(h.rebase("top", "nothing"))
}

// What others have given another backing since it was read last is not touched.
func TestFlattenOfWhatStandsOnSomethingElseIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.stack()
	h.succeed(h.clone("base", "other"))
	if out, err := exec.Command(testenv.Tool(t, "qemu-img"), "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", h.path("other"), h.path("top")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	h.fails(h.end(h.flatten("top")), record.Changed, "not on what it was known to stand on")
	h.must(h.refresh("pool"))
	h.succeed(h.flatten("top"))
}

// An image that names what is no volume is not opened.
func TestFlattenOpensNothingBeyondThePools(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	secret := filepath.Join(h.dir, "secret")
	h.must(os.WriteFile(secret, bytes.Repeat([]byte("secret"), 20_000), 0o600))
	qemuImage(t, "-f", "qcow2", "-F", "raw", "-b", secret, h.path("thief"))
	h.must(h.refresh("pool"))
	h.refuses(record.Unsupported, "no volume of a pool")(h.flatten("thief"))
	h.sparse("base", mib)
	h.refuses(record.Unsupported, "no volume of a pool")(h.rebase("thief", "base"))
}

// What a volume stands on that others have moved is told, and what needs it refused; a
// volume of the same content takes its place.
func TestLostBackingIsToldAndReplaced(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.stack()
	all, err := h.client.Volumes(h.ctx(), contract.VolumeFilter{})
	h.must(err)
	for _, v := range all {
		if v.Name == "middle" && (!slices.Equal(v.Children, []string{"pool/top"}) || v.Parent == nil || v.Parent.Volume != "base" || *v.Depth != 1) {
			t.Errorf("it is listed as %s", shown(v))
		}
	}
	h.must(os.Rename(h.path("middle"), h.path("moved")))
	h.must(h.refresh("pool"))
	if v := h.entry("top"); !strings.Contains(v.Problem, h.path("middle")) || !strings.Contains(v.Problem, "no such file") || v.State != record.VolumeReady {
		t.Errorf("it is %s", shown(v))
	}
	h.refuses(record.Unsupported, h.path("middle"))(h.flatten("top"))
	h.refuses(record.Unsupported, h.path("middle"))(h.rebase("top", "moved"))
	unsafe := field("unsafe", true)
	h.refuses(record.Invalid, "less than")(h.rebase("top", "moved", unsafe)) // the top was made larger
	h.succeed(h.resize("moved", 9*mib))
	j := h.succeed(h.rebase("top", "moved", unsafe))
	if len(j.Warnings) != 1 || !strings.Contains(j.Warnings[0], h.path("middle")) || j.Result.Method != "none" {
		t.Errorf("warnings %q, result %s", j.Warnings, shown(j.Result))
	}
	if v := h.entry("top"); v.Problem != "" || v.Parent == nil || v.Parent.Volume != "moved" || *v.Depth != 2 {
		t.Errorf("it is %s", shown(v))
	}
	if !bytes.Equal(h.guest(h.path("top")), want) {
		t.Error("it has another content")
	}
	h.sound(h.path("top"))
	h.refuses(record.HasChildren, "pool/top")(h.remove("moved"))
}

// A helper that dies when all is done, and has told nobody, is followed by one that finds
// it done.
func TestFlattenThatIsDoneIsDoneWhoeverHasDied(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "qemu-storage-daemon")
	h := newDeadlyHost(t)
	h.put("other")
	for n, begin := range map[string]func(volume string) (started, error){
		"1": func(volume string) (started, error) { return h.flatten(volume) },
		"2": func(volume string) (started, error) { return h.rebase(volume, "other") },
	} {
		withOverlay(h, n)
		want := h.guest(h.path("vol" + n))
		h.arm([]crash.Point{crash.Done})
		if j := h.succeed(begin("vol" + n)); j.Resumed != 1 || h.fired() != crash.Done {
			t.Error(outcome(j))
		}
		if !bytes.Equal(h.guest(h.path("vol"+n)), want) {
			t.Errorf("vol%s has another content", n)
		}
	}
	h.is("vol1", record.Volume{State: record.VolumeReady})
	if v := h.entry("vol2"); v.Parent == nil || v.Parent.Volume != "other" {
		t.Errorf("it is %s", shown(v))
	}
}
