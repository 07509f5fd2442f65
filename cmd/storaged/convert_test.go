package main_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// Formats are the same for everybody: what qemu-img reads is what we wrote.

var formats = []string{"raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed", "qcow"}

var linked = field("linked", true)

func options(pairs ...string) option {
	all := map[string]string{}
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, "=")
		all[name] = value
	}
	return field("options", all)
}

// qemu runs a program of QEMU, which must succeed, and gives what it says.
func (h *host) qemu(program string, args ...string) string {
	h.t.Helper()
	out, err := exec.CommandContext(h.ctx(), testenv.Tool(h.t, program), args...).CombinedOutput()
	if err != nil {
		h.t.Errorf("%s %q: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// holdsSame fails unless a guest sees the same in an image as there is in a file, and
// qemu-img finds nothing wrong with it.
func (h *host) holdsSame(volume, format, want string) {
	h.t.Helper()
	h.qemu("qemu-img", "compare", "-f", format, "-F", "raw", h.path(volume), want)
	if format == "qcow2" || format == "vdi" || format == "qed" || format == "vhdx" {
		h.qemu("qemu-img", "check", "-q", "-f", format, h.path(volume))
	}
}

// scattered makes a raw volume of that size with little data, some of it zeros.
func (h *host) scattered(name string, size int64) {
	h.t.Helper()
	h.sparse(name, size)
	f := must(os.OpenFile(h.path(name), os.O_WRONLY, 0))(h.t)
	defer f.Close()
	for i, off := range []int64{0, size / 5, size/2 - 777, size - 9001} {
		b := noise(9001)
		if i == 1 {
			clear(b)
		}
		must(f.WriteAt(b, off))(h.t)
	}
	h.must(f.Sync())
}

func TestVolumesAreMadeInEveryFormat(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, f := range formats[1:] {
		t.Run(f, func(t *testing.T) {
			const bytes = 1000 * 1000 * 10
			h.succeed(h.create(f, bytes+1, format(f)))
			v := h.is(f, record.Volume{Format: f, Capacity: bytes + 384, State: record.VolumeReady, Origin: record.Made})
			if v.Allocation > 4*mib || v.Problem != "" {
				t.Errorf("it is %s", shown(v))
			}
			if info := h.qemu("qemu-img", "info", "-f", f, h.path(f)); !strings.Contains(info, fmt.Sprintf("(%d bytes)", bytes+384)) {
				t.Errorf("qemu-img says %s", info)
			}
			h.must(h.refresh("pool"))
			h.is(f, record.Volume{Format: f, Capacity: bytes + 384, Generation: v.Generation})
			if st, err := h.create(f, bytes+1, format(f), field("exist_ok", true)); err != nil || st.Unchanged == nil {
				t.Errorf("again: %v", err)
			}
			h.refuses(record.Exists, "differs")(h.create(f, bytes*2, format(f), field("exist_ok", true)))
			h.refuses(record.Exists, "differs")(h.create(f, bytes+1, field("exist_ok", true)))
		})
	}
}

func TestAllocationOfImages(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const bytes = 4 * mib
	for _, f := range []string{"qcow2", "vdi", "vhdx", "vpc"} {
		h.succeed(h.create("full."+f, bytes, format(f), allAllocated))
		if n := h.blocks("full." + f); n < bytes {
			t.Errorf("%s has %d bytes", f, n)
		}
	}
	h.succeed(h.create("falloc", bytes, format("qcow2"), options("preallocation=falloc")))
	h.succeed(h.create("written", bytes, format("qcow2"), options("preallocation=full")))
	h.succeed(h.create("part", bytes, format("qcow2"), allocation(mib)))
	h.succeed(h.create("tables", 64*1024*mib, format("qcow2"), options("preallocation=metadata")))
	h.succeed(h.create("written.raw", bytes, options("preallocation=full")))
	for volume, least := range map[string]int64{"falloc": bytes, "written": bytes, "part": mib, "tables": 8 * mib, "written.raw": bytes} {
		if n := h.blocks(volume); n < least || n > least+4*mib {
			t.Errorf("%s has %d bytes", volume, n)
		}
		if volume != "written.raw" {
			h.qemu("qemu-img", "check", "-q", h.path(volume))
		}
	}
	h.is("full.qcow2", record.Volume{Capacity: bytes})
	h.refuses(record.Unsupported, "vmdk", "cannot have all reserved")(h.create("x", bytes, format("vmdk"), allAllocated))
	h.refuses(record.Invalid, "cluster_size")(h.create("x", bytes, format("qcow2"), options("cluster=1M")))
	h.runs(0, "", "vol", "create", "pool/made", "1G", "--format", "qcow2", "-O", "cluster_size=128K", "-O", "compat=0.10", "-O", "lazy_refcounts=off")
	if info := h.qemu("qemu-img", "info", h.path("made")); !strings.Contains(info, "cluster_size: 131072") || !strings.Contains(info, "compat: 0.10") {
		t.Errorf("qemu-img says %s", info)
	}
	h.runs(0, "", "vol", "create", "pool/wide", "1G", "--format", "qcow2", "-O", "extended_l2=on", "-O", "lazy_refcounts=on", "-O", "refcount_bits=32")
	h.qemu("qemu-img", "check", "-q", h.path("wide"))
	h.runs(record.ExitUsage, "power of two", "vol", "create", "pool/x", "1G", "--format", "qcow2", "-O", "cluster_size=100K")
}

// The content is the same whatever it was copied from and to, and what was a hole
// takes no storage.
func TestContentIsTheSameInEveryPairOfFormats(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const bytes = 32 * mib
	h.scattered("raw", bytes)
	for _, f := range formats[1:] {
		h.succeed(h.clone("raw", f, format(f)))
		h.holdsSame(f, f, h.path("raw"))
	}
	for _, from := range formats {
		for _, to := range formats {
			if from == to {
				continue
			}
			name := from + "-" + to
			j := h.succeed(h.clone(from, name, format(to)))
			h.holdsSame(name, to, h.path("raw"))
			v := h.is(name, record.Volume{Format: to, Capacity: bytes, State: record.VolumeReady})
			unit := map[string]int64{"vpc": 2 * mib, "vdi": mib} // in which they have storage
			if n := h.blocks(name); to != "vhdx" && n > 2*mib+5*max(unit[from], unit[to]) || v.Backing != "" || len(j.Warnings) > 0 {
				t.Errorf("%s: %d bytes, %s", name, n, shown(v))
			}
			h.must(os.Remove(h.path(name)))
		}
	}
	h.must(h.refresh("pool"))
}

// Every format is read, and written, from and to another.
func TestContentIsTheSameAfterConversions(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.scattered("raw", 16*mib)
	for i, to := range formats[1:] {
		h.succeed(h.clone(formats[i], to, format(to)))
		h.holdsSame(to, to, h.path("raw"))
	}
	h.succeed(h.clone(formats[len(formats)-1], "again", format("raw")))
	h.hasHash("again", h.hash("raw"))
	if n := h.blocks("again"); n > 10*mib { // some formats know no small ones
		t.Errorf("the holes are gone: %d bytes", n)
	}
}

func TestOptionsOfAConversion(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("text", 8*mib)
	writeDurably(t, h.path("text"), content("text", 8*mib))
	for _, method := range []string{"zlib", "zstd"} {
		h.succeed(h.clone("text", method, format("qcow2"), options("compression="+method)))
		h.holdsSame(method, "qcow2", h.path("text"))
		if info := h.qemu("qemu-img", "info", h.path(method)); h.blocks(method) > mib || !strings.Contains(info, "compression type: "+method) {
			t.Errorf("%s: %d bytes: %s", method, h.blocks(method), info)
		}
	}
	h.succeed(h.clone("zstd", "again", options("cluster_size=2M"), size(16*mib)))
	h.is("again", record.Volume{Format: "qcow2", Capacity: 16 * mib})
	h.qemu("qemu-io", "-f", "qcow2", "-r", "-c", "read -P 0 8M 8M", h.path("again"))
	h.qemu("qemu-img", "bitmap", "--add", h.path("again"), "changes")
	if j := h.succeed(h.clone("again", "bare", format("raw"))); !mentions(j.Warnings, "bitmaps") {
		t.Errorf("it warns of %q", j.Warnings)
	}
	h.succeed(h.clone("zstd", "all", format("raw"), options("preallocation=falloc")))
	h.hasHash("all", h.hash("text"))
	h.succeed(h.clone("zstd", "full", options("preallocation=falloc")))
	for _, v := range []string{"all", "full"} {
		if n := h.blocks(v); n < 8*mib {
			t.Errorf("%s has %d bytes", v, n)
		}
	}
	h.refuses(record.Invalid, "less than the source's")(h.clone("zstd", "x", size(mib)))
	h.refuses(record.Unsupported, "shares no blocks")(h.clone("zstd", "x", format("raw"), reflink("always")))
	h.absent("x")
}

// TestLinkedClones: an overlay is made at once, keeps what it stands on, and a full
// clone of it is independent.
func TestLinkedClones(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.define("other", filepath.Join(h.dir, "pool2"))
	h.scattered("base", 20*1024*mib)
	h.succeed(h.clone("base", "other/one", linked))
	v := h.entry("other/one")
	if v.Format != "qcow2" || v.Capacity != 20*1024*mib || v.Parent == nil || v.Parent.Volume != "base" || v.Backing != h.path("base") || v.Allocation > mib {
		t.Errorf("it is %s", shown(v))
	}
	one := filepath.Join(h.dir, "pool2", "one")
	h.qemu("qemu-img", "compare", "-f", "qcow2", "-F", "raw", one, h.path("base"))
	h.qemu("qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 1M", one)
	h.runs(0, "", "vol", "clone", "other/one", "pool/two", "--linked", "--size", "21G")
	h.runs(0, "", "vol", "create", "pool/three", "--backing", "other/one", "--format", "qcow2")
	if v := h.entry("two"); v.Parent == nil || v.Parent.Pool != "other" || v.Depth == nil || *v.Depth != 2 || v.Capacity != 21*1024*mib {
		t.Errorf("it is %s", shown(v))
	}
	h.is("three", record.Volume{Format: "qcow2", Capacity: 20 * 1024 * mib})
	for volume, child := range map[string]string{"base": "other/one", "other/one": "pool/two"} {
		h.refuses(record.HasChildren, child)(h.remove(volume))
		h.refuses(record.HasChildren, child)(h.wipe(volume))
	}
	h.succeed(h.clone("two", "alone", size(22*1024*mib)))
	h.succeed(h.clone("three", "plain", format("raw")))
	if v := h.entry("alone"); v.Backing != "" || v.Parent != nil || v.Capacity != 22*1024*mib {
		t.Errorf("it is %s", shown(v))
	}
	h.qemu("qemu-io", "-f", "qcow2", "-r", "-c", "read -P 7 1M 1M", "-c", "read -P 0 21G 1G", h.path("alone"))
	h.qemu("qemu-img", "compare", "-f", "qcow2", "-F", "raw", one, h.path("plain"))
	for _, v := range []string{"two", "three", "other/one", "base"} {
		h.succeed(h.remove(v))
	}
	h.qemu("qemu-img", "check", "-q", h.path("alone"))
	h.refuses(record.Unsupported, "cannot stand on another")(h.clone("plain", "x", linked, format("vdi")))
	h.refuses(record.NotFound, "gone")(h.create("x", mib, format("qcow2"), field("backing", "pool/gone")))
}

// What is made does not grow with the image; how long it takes is measured by the
// benchmarks.
func TestLinkedCloneOfALargeImageWritesLittle(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.succeed(h.create("base", 20*1024*mib, format("qcow2"), options("preallocation=metadata")))
	j := h.succeed(h.clone("base", "one", linked))
	if *j.Stats.BytesWritten > mib {
		t.Errorf("stats %s", shown(j.Stats))
	}
}

// A file of a client is converted where that is asked for, and else refused with
// both formats named.
func TestFilesOfClientsAreConverted(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.scattered("want", 8*mib)
	file := func(f string) string { return filepath.Join(h.dir, "client."+f) }
	for _, f := range []string{"qcow2", "vmdk", "vhdx"} {
		h.qemu("qemu-img", "convert", "-f", "raw", "-O", f, h.path("want"), file(f))
		h.runs(0, "", "vol", "create", "pool/raw-"+f, "--from", file(f), "--from-format", f)
		h.hasHash("raw-"+f, h.hash("want"))
		h.runs(0, "", "vol", "create", "pool/vdi-"+f, "10M", "--from", file(f), "--from-format", f, "--format", "vdi")
		h.holdsSame("vdi-"+f, "vdi", h.path("want"))
		h.is("vdi-"+f, record.Volume{Capacity: 10 * mib, Format: "vdi"})
	}
	h.runs(0, "", "vol", "create", "pool/q", "--from", h.path("want"), "--from-format", "raw", "--format", "qcow2", "-O", "compression=zstd")
	h.holdsSame("q", "qcow2", h.path("want"))
	if code, said := h.fed(h.path("want"), "vol", "create", "pool/fed", "8M", "--from", "-", "--from-format", "raw", "--format", "qcow2", "--detect-zeros"); code != 0 {
		t.Errorf("a stream: exit %d: %s", code, said)
	}
	h.holdsSame("fed", "qcow2", h.path("want"))
	sum := "sha256:" + strings.Fields(h.qemu("sha256sum", file("qcow2")))[0]
	h.runs(0, sum, "vol", "create", "pool/summed", "--from", file("qcow2"), "--from-format", "qcow2", "--checksum", sum, "-o", "json")
	h.runs(record.ExitMismatch, "", "vol", "create", "pool/x", "--from", file("vmdk"), "--from-format", "vmdk", "--checksum", sum)
	for says, args := range map[string][]string{
		"begins like an image in format qcow2, and the volume is raw": {file("qcow2")},
		"begins like an image in format vmdk, and the volume is vdi":  {file("vmdk"), "--format", "vdi"},
		"--from-format vmdk converts it":                              {file("vmdk"), "--format", "vhdx"},
		"begins like one in format vmdk, and was to be one in format": {file("vmdk"), "--from-format", "qcow2", "--format", "vdi"},
		"put as it is": {file("vmdk"), "--format", "vmdk", "-O", "adapter_type=ide"},
	} {
		h.runs(record.ExitUsage, says, append([]string{"vol", "create", "pool/x", "--from"}, args...)...)
	}
	h.runs(record.ExitUnsupported, "from a stream", "vol", "create", "pool/x", "--from", "-", "--from-format", "qcow2")
	h.runs(record.ExitNotFound, "no secret", "vol", "create", "pool/x", "--from", h.path("want"), "--from-format", "raw", "--format", "qcow2", "--secret", "s")
	h.runs(record.ExitUsage, "and not both", "vol", "create", "pool/x", "--from", h.path("want"), "--from-format", "raw", "--format", "qcow2", "--backing", "pool/q")
	h.qemu("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", h.path("want"), file("overlay"))
	h.runs(record.ExitUnsupported, "does not come with it", "vol", "create", "pool/x", "--from", file("overlay"), "--from-format", "qcow2")
	h.absent("x")
}

// slowConversion begins a conversion of 32 MiB that takes seconds.
func (h *host) slowConversion(to string, o ...option) started {
	h.t.Helper()
	return h.began(h.clone("base", "copy", append(o, format(to), limited(4*mib))...))
}

// A conversion whose helper was killed goes on, when it is retried, from what was
// durable by then.
func TestConversionGoesOnAfterItsHelperWasKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 32*mib)
	for _, to := range []string{"qcow2", "raw"} {
		source := map[string]string{"qcow2": "base", "raw": "image"}[to]
		if source == "image" {
			h.succeed(h.clone("base", "image", format("qcow2")))
		}
		st, err := h.clone(source, "copy", format(to), limited(4*mib))
		h.killHelper(h.marked(st, err))
		first := h.end(st, nil)
		if first.State != record.Failed || first.Resumable == nil {
			t.Fatal(outcome(first))
		}
		if j := h.retried(first); len(j.Warnings) > 0 || *j.Stats.BytesWritten > 32*mib-first.Resumable.Done+mib {
			t.Errorf("to %s: %s, stats %s, went on at %d", to, outcome(j), shown(j.Stats), first.Resumable.Done)
		}
		h.holdsSame("copy", to, h.path("base"))
		h.succeed(h.remove("copy"))
	}
}

// A conversion that has made its volume says so, whatever became of the process that the
// source was read by; and of one that has not there is nothing.
func TestConversionSaysWhatItMadeWhateverServedItsSource(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 400*mib)
	h.succeed(h.clone("base", "image", format("qcow2")))
	st := h.began(h.clone("image", "copy", format("qcow2"), options("cluster_size=128K"), limited(150*mib)))
	j := h.until(st.Job.ID, func(j record.Job) bool { return moves(j) && j.Progress.Done > 350*mib })
	h.must(syscall.Kill(h.first(j), syscall.SIGKILL))
	if j := h.end(st, nil); j.State != record.Succeeded {
		t.Log(outcome(j))
		h.absent("copy")
		return
	}
	h.holdsSame("copy", "qcow2", h.path("base"))
}

// first is the pid of the process that a job's helper started first to serve an image.
func (h *host) first(j record.Job) int {
	h.t.Helper()
	var pids []int
	for _, pid := range h.serving(j) {
		if comm, _ := os.ReadFile("/proc/" + pid + "/comm"); strings.HasPrefix(string(comm), "qemu-storage-d") {
			pids = append(pids, must(strconv.Atoi(pid))(h.t))
		}
	}
	if len(pids) == 0 {
		h.t.Fatalf("job %d has no image served", j.Number)
	}
	return slices.Min(pids)
}

// An image of which nobody knows that it is sound at any moment is made anew.
func TestConversionThatCannotGoOnBeginsAnew(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 32*mib)
	st := h.slowConversion("vmdk")
	j := h.running(st)
	h.killHelper(j)
	h.end(st, nil)
	h.unknown("copy")
	h.absent("copy")
	h.succeed(h.clone("base", "copy", format("vmdk")))
	h.holdsSame("copy", "vmdk", h.path("base"))
}

// Nor is one gone on with whose tables cannot be repaired after the power failed.
func TestConversionWhoseTablesAreLostBeginsAnew(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 24*mib)
	st, err := h.clone("base", "copy", format("qcow2"), limited(4*mib))
	h.killHelper(h.marked(st, err))
	first := h.end(st, nil)
	draft, err := os.OpenFile(filepath.Join(h.pool, record.DraftName(first.ID)), os.O_RDWR, 0)
	h.must(err)
	var l1 [8]byte
	_, err = draft.ReadAt(l1[:], 40) // where its first table is
	h.must(err)
	_, err = draft.WriteAt(binary.BigEndian.AppendUint64(nil, 1<<63|1<<40), int64(binary.BigEndian.Uint64(l1[:]))) // far behind its end
	h.must(errors.Join(err, draft.Close()))
	if j := h.retried(first); len(j.Warnings) != 1 || !strings.Contains(j.Warnings[0], "begins anew") {
		t.Errorf("%s: %q", outcome(j), j.Warnings)
	}
	h.holdsSame("copy", "qcow2", h.path("base"))
}

// What is compressed or encrypted is written once and in order, or begun anew.
func TestPackedAndSealedConversionsThatAreKilledComeOutRight(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 8*mib)
	h.setSecret("first", canary("first"))
	for name, how := range map[string][]option{
		"packed": {format("qcow2"), options("compression=zstd")},
		"sealed": {format("qcow2"), encryptedBy("first"), quickKey},
	} {
		slow := func() started { return h.began(h.clone("base", name, append(how, limited(mib))...)) }
		st := slow()
		h.killHelper(h.running(st))
		first := h.end(st, nil)
		if first.State != record.Failed || first.Code() != record.Killed {
			t.Fatal(outcome(first))
		}
		h.unknown(name)
		h.retried(first)
		if name == "packed" {
			h.holdsSame(name, "qcow2", h.path("base"))
		} else {
			h.opensTo(name, "qcow2", must(os.ReadFile(h.path("base")))(t))
		}
		h.succeed(h.remove(name))
	}
	st := h.began(h.clone("base", "packed", format("qcow2"), options("compression=zlib"), limited(mib)))
	h.running(st)
	h.cancel(st)
	if j := h.end(st, nil); j.State != record.Canceled || j.Rollback != record.RollbackDone {
		t.Error(outcome(j))
	}
	h.absent("packed")
}

func TestConversionIsCanceledAndLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 32*mib)
	for _, to := range []string{"qcow2", "vdi"} {
		st := h.slowConversion(to)
		h.running(st)
		h.cancel(st)
		if j := h.end(st, nil); j.State != record.Canceled || j.Rollback != record.RollbackDone {
			t.Error(outcome(j))
		}
		h.unknown("copy")
		h.absent("copy")
	}
}

func TestConversionOutlivesTheDaemonAndPauses(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 32*mib)
	st := h.slowConversion("qcow2")
	h.running(st)
	h.pause(st)
	h.kill()
	h.start()
	h.resume(st)
	h.unlimit(st)
	h.succeed(st, nil)
	h.holdsSame("copy", "qcow2", h.path("base"))
}

// Whoever dies, and whenever: what is retried, or begun anew, comes out right.
func TestConversionKilledAtRandomComesOutRight(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 32*mib)
	st := h.slowConversion("qcow2")
	for i := range 4 {
		j := h.running(st)
		h.await("a moment", momentAfter(time.Duration(rand.IntN(1500))*time.Millisecond))
		if i%2 == 1 {
			h.kill()
			h.start()
			continue
		}
		_ = syscall.Kill(j.Helper.PID, syscall.SIGKILL) // it may have ended just now
		j = h.end(st, nil)
		switch {
		case j.State == record.Succeeded:
			h.holdsSame("copy", "qcow2", h.path("base"))
			h.succeed(h.remove("copy"))
			st = h.slowConversion("qcow2")
		case j.Resumable != nil:
			st = h.began(h.retry(j))
		default:
			h.unknown("copy")
			h.absent("copy")
			st = h.slowConversion("qcow2")
		}
	}
	h.unlimited(st)
	h.succeed(st, nil)
	h.holdsSame("copy", "qcow2", h.path("base"))
}

// momentAfter is true from then on.
func momentAfter(d time.Duration) func() bool {
	at := time.Now().Add(d)
	return func() bool { return time.Now().After(at) }
}

// What VMware exports is a descriptor with the content in other files: it is read with
// those that are volumes of a pool, and written to by nobody.
func TestContentInOtherFilesIsRead(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	raw := filepath.Join(h.dir, "raw")
	h.must(os.WriteFile(raw, noise(5*mib), 0o600))
	for kind, part := range map[string]string{"monolithicFlat": "-flat.vmdk", "twoGbMaxExtentSparse": "-s001.vmdk"} {
		t.Run(kind, func(t *testing.T) {
			disk := kind + ".vmdk"
			part := kind + part
			h.qemu("qemu-img", "convert", "-O", "vmdk", "-o", "subformat="+kind, raw, h.path(disk))
			h.must(h.refresh("pool"))
			if v := h.entry(disk); v.Format != "vmdk" || v.Capacity != 5*mib || v.Problem != "" || *v.Depth != 0 {
				t.Errorf("it is %s", shown(v))
			}
			if v := h.entry(part); len(v.Children) != 1 || v.Children[0] != "pool/"+disk || v.Format == "vmdk" && !strings.Contains(v.Problem, "another file describes") {
				t.Errorf("its part is %s", shown(v))
			}
			h.refuses(record.HasChildren, disk)(h.remove(part))
			h.succeed(h.clone(disk, kind+".qcow2", format("qcow2")))
			h.holdsSame(kind+".qcow2", "qcow2", raw)
			h.succeed(h.clone(disk, kind+".linked", linked))
			h.qemu("qemu-img", "compare", "-f", "qcow2", "-F", "raw", h.path(kind+".linked"), raw)
			h.succeed(h.remove(kind + ".linked"))
			sum := h.succeed(h.verify(disk, field("as", "raw"))).Result.Checksum
			if want := h.succeed(h.verify(kind+".qcow2", field("as", "raw"))).Result.Checksum; sum != want {
				t.Errorf("its checksum is %s, and that of its copy %s", sum, want)
			}
			h.refuses(record.Unsupported, "not written to")(h.wipe(disk, field("content", true)))
			h.refuses(record.Unsupported, "share with it")(h.ask(at(disk), &operation.SnapshotCreateRequest{Name: "was"}))
		})
	}
}
