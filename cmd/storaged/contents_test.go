package main_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// imageFormats are those of which images are made here.
var imageFormats = []string{"qcow2", "qed", "vmdk", "vdi", "vhdx", "vpc", "qcow"}

// asRaw and asFile say what of an image is meant; ofContent is asRaw of a wipe.
var (
	asRaw     = field("as", record.AsRaw)
	asFile    = field("as", record.AsFile)
	ofContent = field("content", true)
)

// qemuTool runs a program of QEMU and gives what it says.
func (h *host) qemuTool(name string, args ...string) string {
	h.t.Helper()
	out, err := exec.CommandContext(h.ctx(), testenv.Tool(h.t, name), args...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// patchwork is a content with holes and with zeros that are stored.
func patchwork(size int) []byte {
	b := noise(size)
	clear(b[size/4 : size/2])
	clear(b[size-size/8:])
	return b
}

// images makes an image of a content in each format, named so, in the pool.
func (h *host) images(content []byte, formats ...string) {
	h.t.Helper()
	plain := filepath.Join(h.dir, "plain")
	h.must(os.WriteFile(plain, content, 0o600))
	for _, f := range formats {
		args := []string{"convert", "-f", "raw", "-O", f}
		if f == "vpc" {
			args = append(args, "-o", "force_size=on")
		}
		h.qemuTool("qemu-img", append(args, plain, h.path(f))...)
	}
	h.must(h.refresh("pool"))
}

// reads gives what a guest sees of an image, as QEMU reads it.
func (h *host) reads(volume, format string) []byte {
	h.t.Helper()
	to := filepath.Join(h.dir, "read")
	h.qemuTool("qemu-img", "convert", "-f", format, "-O", "raw", h.path(volume), to)
	return must(os.ReadFile(to))(h.t)
}

// sees fails unless a guest sees that content in a volume that is an image still.
func (h *host) sees(volume, format string, want []byte) {
	h.t.Helper()
	h.is(volume, record.Volume{Format: format, State: record.VolumeReady})
	if got := h.reads(volume, format); !bytes.Equal(got, want) {
		h.t.Errorf("%s, in %s, has other content, of %d bytes", volume, format, len(got))
	}
	if format == "qcow2" || format == "vdi" || format == "vhdx" || format == "qed" {
		h.qemuTool("qemu-img", "check", "-q", "-f", format, h.path(volume))
	}
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// What a guest sees has one checksum and the same bytes, whatever it is stored in.
func TestContentIsTheSameInEveryFormat(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := patchwork(4*mib + 512)
	h.images(content, imageFormats...)
	h.qemuTool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "vmdk", "-b", h.path("vmdk"), h.path("overlay"))
	h.must(h.refresh("pool"))
	for _, name := range append(slices.Clone(imageFormats), "overlay") {
		v := h.entry(name)
		want := sumOf(h.reads(name, v.Format))
		if want != sumOf(content) && v.Format != "vpc" {
			t.Fatalf("%s is not what was to be made", name)
		}
		if j := h.succeed(h.verify(name)); j.Result.Checksum != want || j.Result.Bytes != v.Capacity {
			t.Errorf("%s: %s, want %s", name, shown(j.Result), want)
		}
		if j := h.succeed(h.verify(name, asFile)); j.Result.Checksum != "sha256:"+h.hash(name) {
			t.Errorf("the file of %s: %s", name, shown(j.Result))
		}
		to, _ := h.given("down-"+name, mib)
		if j := h.succeed(h.handDown(name, to, asRaw, checksum("sha256"))); j.Result.Checksum != want {
			t.Errorf("%s: down comes %s", name, shown(j.Result))
		}
		if got := must(os.ReadFile(to.Name()))(t); sumOf(got) != want {
			t.Errorf("%s: down come %d bytes", name, len(got))
		}
	}
	if j := h.succeed(h.verify("overlay")); len(j.Objects) != 2 || !slices.Contains(j.Objects, record.Object{Pool: "pool", Volume: "vmdk", Mode: record.ModeRead}) {
		t.Errorf("what it stands on is not held: %v", j.Objects)
	}
	if c := h.entry("overlay").Checksum; c == nil || c.As != record.AsFile {
		t.Errorf("of a content that is another's too there is recorded %s", shown(c))
	}
}

// A checksum is compared with one of the same: that of the file says nothing of the
// content.
func TestRecordedChecksumSaysWhatItIsOf(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.images(patchwork(2*mib), "qcow2", "vdi")
	h.succeed(h.verify("qcow2", asFile))
	if c := h.recorded("qcow2"); c == nil || c.As != record.AsFile || c.Checksum != "sha256:"+h.hash("qcow2") {
		t.Fatalf("recorded %s", shown(c))
	}
	if out, _, _ := h.ctl("vol", "show", "pool/qcow2"); !strings.Contains(out, "of the file as it is") {
		t.Errorf("shown as %s", out)
	}
	if j := h.succeed(h.verify("qcow2", asFile)); j.Result.Verified == nil || !*j.Result.Verified {
		t.Errorf("the file again: %s", outcome(j))
	}
	j := h.succeed(h.verify("qcow2"))
	if j.Result.Verified != nil || len(j.Warnings) != 1 || !strings.Contains(j.Warnings[0], "is not compared") {
		t.Errorf("the content: %s", outcome(j))
	}
	if j := h.succeed(h.verify("qcow2")); j.Result.Verified == nil || !*j.Result.Verified || h.recorded("qcow2").As != record.AsRaw {
		t.Errorf("the content again: %s", outcome(j))
	}
}

// part gets a part of the content by any HTTP client.
func (h *host) part(volume, asked string) (status string, header http.Header, body []byte) {
	h.t.Helper()
	resp := must(h.plain(http.MethodGet, volume+"/content?as=raw", nil, "Range", asked))(h.t)
	defer resp.Body.Close()
	return resp.Status, resp.Header, must(io.ReadAll(resp.Body))(h.t)
}

func TestContentOfAnImageHasRangesAndStreams(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := patchwork(3 * mib)
	h.images(content, "qcow2")
	status, header, body := h.part("qcow2", "bytes=10-999")
	if status[:3] != "206" || !bytes.Equal(body, content[10:1000]) || header.Get("ETag") == "" || header.Get("Content-Range") != fmt.Sprintf("bytes 10-999/%d", 3*mib) {
		t.Errorf("%s, %v, %d bytes", status, header, len(body))
	}
	status, header, body = h.part("qcow2", "")
	if status[:3] != "200" || !bytes.Equal(body, content) || header.Get("Content-Length") != fmt.Sprint(3*mib) {
		t.Errorf("all: %s, %v, %d bytes", status, header, len(body))
	}
	if status, _, _ = h.part("qcow2", fmt.Sprintf("bytes=%d-", 3*mib)); status[:3] != "416" {
		t.Errorf("behind the end: %s", status)
	}
	down, err := h.streamer().Download(h.ctx(), contract.Submit{}, client.StreamDownload{
		Pool: "pool", Volume: "qcow2", DownloadRequest: operation.DownloadRequest{As: record.AsRaw}, Sparse: true,
	})
	h.must(err)
	h.qemuTool("qemu-img", "create", "-q", "-f", "vdi", h.path("up"), "3M")
	h.must(h.refresh("pool"))
	in, out := io.Pipe()
	go func() { out.CloseWithError(down.CopyTo(out)) }()
	up, err := h.streamer().Upload(h.ctx(), contract.Submit{}, client.StreamUpload{
		Pool: "pool", Volume: "up", UploadRequest: upload{As: record.AsRaw}, Body: in, Sparse: true,
	})
	h.must(err)
	h.must(up.Wait())
	h.sees("up", "vdi", content)
}

func TestUploadOfAContentKeepsTheFormat(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.images(noise(3*mib), "qcow2", "vmdk", "vhdx")
	h.qemuTool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", h.path("qcow2"), h.path("over"))
	h.qemuTool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", h.path("old"), "3M")
	h.must(h.refresh("pool"))
	f, content := h.given("src", 3*mib)
	below := h.hash("qcow2")
	for name, format := range map[string]string{"vmdk": "vmdk", "vhdx": "vhdx", "over": "qcow2", "old": "qcow2"} {
		j := h.succeed(h.hand(name, f, asRaw, checksum("sha256")))
		if j.Result.Checksum != sumOf(content) || j.Result.Bytes != 3*mib {
			t.Errorf("%s: %s", name, shown(j.Result))
		}
		h.sees(name, format, content)
		if c := h.recorded(name); c == nil || c.As != record.AsRaw || c.Checksum != sumOf(content) || !c.Current {
			t.Errorf("%s: recorded %s", name, shown(c))
		}
	}
	if h.hash("qcow2") != below {
		t.Error("what an overlay stands on was written to")
	}
	h.refuses(record.HasChildren, "over")(h.hand("qcow2", f, asRaw))
	h.fails(h.end(h.hand("over", f, asRaw, offset(1))), record.TooLarge)
	h.fails(h.end(h.hand("over", f)), record.Invalid, "does not begin like an image")
	h.sees("over", "qcow2", content)
	part := int64(mib)
	h.succeed(h.hand("over", f, asRaw, offset(mib/2+7), length(part)))
	copy(content[mib/2+7:], content[:part])
	h.sees("over", "qcow2", content)
	image := must(os.Open(h.path("vmdk")))(t)
	defer image.Close()
	h.fails(h.end(h.hand("over", image, asRaw, length(2*mib))), record.Invalid, "begins like an image in format vmdk")
	h.succeed(h.hand("over", image, asRaw, length(2*mib), asFormat("raw")))
	h.is("over", record.Volume{Format: "qcow2", State: record.VolumeReady, Capacity: 3 * mib})
}

func TestUploadOfAContentGoesOnWhereItBrokeOff(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.qemuTool("qemu-img", "create", "-q", "-f", "qcow2", h.path("v"), "4M")
	h.must(h.refresh("pool"))
	_, content := h.given("src", 4*mib)
	j := h.breakOff("v", upload{As: record.AsRaw, Checksum: sumOf(content)}, content[:2*mib+5])
	h.is("v", record.Volume{State: record.VolumeIncomplete, Format: "qcow2"})
	if j.Progress.Done == 0 {
		t.Fatal(outcome(j))
	}
	rest := restOf(j)
	_, err := h.stream("v", bytes.NewReader(content[rest.Offset:]), rest)
	h.refused(err, record.Invalid, "only the same goes on")
	rest.As = record.AsRaw
	up, err := h.stream("v", bytes.NewReader(content[rest.Offset:]), rest)
	h.must(err)
	h.must(up.Wait())
	h.sees("v", "qcow2", content)
}

func TestResizeOfAnImage(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := patchwork(2 * mib)
	h.images(content, "qcow2", "qed", "vdi")
	h.qemuTool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", h.path("qcow2"), h.path("over"), "1M")
	h.must(h.refresh("pool"))
	h.refuses(record.Unsupported, "format vdi", "qcow2")(h.resize("vdi", 4*mib))
	h.refuses(record.Unsupported, "made smaller")(h.resize("qed", mib, shrink))
	h.refuses(record.HasChildren, "over")(h.resize("qcow2", mib, shrink))
	h.succeed(h.resize("over", 3*mib))
	h.sees("over", "qcow2", append(slices.Clone(content[:mib]), make([]byte, 2*mib)...)) // and not what lies below
	h.succeed(h.remove("over"))
	grown := append(slices.Clone(content), make([]byte, 2*mib)...)
	for _, f := range []string{"qcow2", "qed"} {
		j := h.succeed(h.resize(f, 4*mib))
		if h.is(f, record.Volume{Capacity: 4 * mib, Format: f}); j.Result.Capacity != 4*mib {
			t.Errorf("%s: %s", f, shown(j.Result))
		}
		h.sees(f, f, grown)
	}
	h.succeed(h.resize("qcow2", mib, shrink))
	h.sees("qcow2", "qcow2", content[:mib])
	h.succeed(h.resize("qcow2", 8*mib, allocate))
	h.sees("qcow2", "qcow2", append(slices.Clone(content[:mib]), make([]byte, 7*mib)...))
	if n := h.blocks("qcow2"); n < 7*mib {
		t.Errorf("%d bytes have blocks", n)
	}
	holder := testenv.QEMU(t, "-r", "-f", "qcow2", h.path("qcow2"))
	h.fails(h.end(h.resize("qcow2", 16*mib)), record.Busy, holder)
	h.is("qcow2", record.Volume{Capacity: 8 * mib, State: record.VolumeReady})
}

func TestWipeOfAContentKeepsTheImage(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := patchwork(3 * mib)
	h.images(content, "qcow2", "vdi", "vhdx")
	h.qemuTool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", h.path("qcow2"), h.path("over"))
	h.qemuTool("qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 64k 128k", h.path("over"))
	h.must(h.refresh("pool"))
	j := h.succeed(h.wipe("over", ofContent, verified, algorithm("dod")))
	if r := j.Result; r.Passes != 3 || r.Bytes != 128<<10 || r.Verified == nil || !*r.Verified || !strings.Contains(strings.Join(r.Limits, "\n"), h.path("qcow2")) {
		t.Errorf("%s", shown(r))
	}
	got := h.reads("over", "qcow2")
	if bytes.Contains(got, bytes.Repeat([]byte{0x5a}, 512)) || !bytes.Equal(got[:64<<10], content[:64<<10]) || !bytes.Equal(got[192<<10:], content[192<<10:]) {
		t.Error("other bytes were overwritten than the image's own")
	}
	h.refuses(record.HasChildren)(h.wipe("qcow2", ofContent))
	h.sees("qcow2", "qcow2", content)
	h.succeed(h.remove("over"))
	for _, f := range []string{"qcow2", "vdi", "vhdx"} {
		secret := content[:512]
		h.succeed(h.wipe(f, ofContent, acceptLimits))
		h.sees(f, f, make([]byte, 3*mib))
		if bytes.Contains(must(os.ReadFile(h.path(f)))(t), secret) {
			t.Errorf("the file in %s has old content", f)
		}
	}
	h.refuses(record.Unsupported, "trimmed")(h.wipe("vdi", ofContent, algorithm("trim")))
	h.succeed(h.wipe("vdi", acceptLimits))
	h.is("vdi", record.Volume{Format: record.FormatRaw})
}

func TestWipeOfAContentGoesOn(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.images(noise(32*mib), "qcow2")
	st, err := h.wipe("qcow2", ofContent, acceptLimits, limited(4*mib))
	before := h.marked(st, err)
	h.killHelper(before)
	h.unlimit(of(before))
	j := h.succeed(st, nil)
	if n := *j.Stats.BytesWritten; j.Resumed != 1 || n < 32*mib || n > 44*mib {
		t.Errorf("%s: %d bytes were written", outcome(j), n)
	}
	h.sees("qcow2", "qcow2", make([]byte, 32*mib))
}

func TestVerifyOfAContentGoesOn(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := noise(32 * mib)
	h.images(content, "vdi")
	st, err := h.verify("vdi", limited(4*mib))
	before := h.marked(st, err)
	h.pause(of(before))
	h.resume(of(before))
	h.killHelper(before)
	h.unlimit(of(before))
	if j := h.succeed(st, nil); j.Resumed != 1 || j.Result.Checksum != sumOf(content) || *j.Stats.BytesRead > 44*mib {
		t.Errorf("%s: %s", outcome(j), shown(j.Result))
	}
}

func TestTrimOfAnImageGivesBackWhatIsZeros(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := noise(8 * mib)
	clear(content[2*mib : 6*mib])
	h.images(noise(8*mib), "qcow2", "vdi")
	f := must(os.Create(filepath.Join(h.dir, "zeros")))(t)
	defer f.Close()
	h.must(os.WriteFile(f.Name(), content, 0o600))
	for _, format := range []string{"qcow2", "vdi"} {
		h.succeed(h.hand(format, f, asRaw))
		h.succeed(h.verify(format))
		had := h.blocks(format)
		j := h.succeed(h.trim(format))
		if now := h.blocks(format); had-now < 4*mib-64<<10 || j.Result.Bytes != had-now || j.Result.Method != "punch" {
			t.Errorf("%s: %d bytes had blocks, %d have: %s", format, had, now, shown(j.Result))
		}
		h.sees(format, format, content)
		if c := h.recorded(format); c == nil || !c.Current {
			t.Errorf("%s: its checksum is %s", format, shown(c))
		}
		if j := h.succeed(h.trim(format)); j.Result.Bytes != 0 {
			t.Errorf("%s again: %s", format, shown(j.Result))
		}
	}
}

// A file that is uploaded as it is becomes the image, as long and as large as it is.
func TestUploadOfAnImageReplacesTheFile(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := patchwork(3 * mib)
	h.images(content, "qcow2", "vdi")
	for _, size := range []string{"16M", "1M"} {
		file := filepath.Join(h.dir, "other-"+size)
		h.qemuTool("qemu-img", "create", "-q", "-f", "qcow2", file, size)
		h.qemuTool("qemu-io", "-f", "qcow2", "-c", "write -P 9 0 1M", file)
		f := must(os.Open(file))(t)
		defer f.Close()
		j := h.succeed(h.hand("qcow2", f, checksum("sha256")))
		if got := must(os.ReadFile(h.path("qcow2")))(t); !bytes.Equal(got, must(os.ReadFile(file))(t)) || j.Result.Checksum != sumOf(got) {
			t.Errorf("%s: the file has %d bytes: %s", size, len(got), shown(j.Result))
		}
		h.is("qcow2", record.Volume{State: record.VolumeReady, Format: "qcow2", Capacity: map[string]int64{"16M": 16 * mib, "1M": mib}[size]})
		if c := h.recorded("qcow2"); c == nil || c.As != record.AsFile || !c.Current {
			t.Errorf("recorded %s", shown(c))
		}
		h.refuses(record.Unsupported, "as a whole")(h.hand("qcow2", f, offset(1)))
		h.fails(h.end(h.hand("vdi", f)), record.Invalid, "the volume is vdi")
	}
	h.sees("vdi", "vdi", content)
	image := must(os.ReadFile(h.path("vdi")))(t)
	j := h.breakOff("vdi", upload{}, image[:mib])
	h.is("vdi", record.Volume{State: record.VolumeIncomplete, Format: "vdi"})
	h.refuses(record.WrongState)(h.verify("vdi"))
	rest := restOf(j)
	up, err := h.stream("vdi", bytes.NewReader(image[rest.Offset:]), rest)
	h.must(err)
	h.must(up.Wait())
	h.sees("vdi", "vdi", content)
}

// What of an image lies in another volume is read there, and not written to.
func TestContentInAnotherVolumeIsRead(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := patchwork(2 * mib)
	h.images(content, "qcow2")
	h.qemuTool("qemu-img", "convert", "-O", "qcow2", "-o", "data_file="+h.path("data")+",data_file_raw=on", h.path("qcow2"), h.path("split"))
	h.must(h.refresh("pool"))
	if j := h.succeed(h.verify("split")); j.Result.Checksum != sumOf(content) || len(j.Objects) != 2 {
		t.Errorf("%s, held %v", shown(j.Result), j.Objects)
	}
	to, _ := h.given("down", mib)
	h.succeed(h.handDown("split", to, asRaw))
	if got := must(os.ReadFile(to.Name()))(t); !bytes.Equal(got, content) {
		t.Errorf("down come %d bytes", len(got))
	}
	h.refuses(record.Unsupported, "is not written to")(h.hand("split", to, asRaw))
	h.refuses(record.Unsupported, "is not written to")(h.wipe("split", ofContent))
	h.refuses(record.Unsupported, "is not written to")(h.resize("split", 4*mib))
}

func TestResizeOfAnImageThatDoesNotEndIsUndoneOrTold(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := patchwork(2 * mib)
	h.images(content, "qcow2")
	st := h.began(h.resize("qcow2", 66*mib, allocate, limited(4*mib)))
	h.written(st.Job.ID, mib)
	h.cancel(st)
	if j := h.end(st, nil); j.State != record.Canceled || j.Rollback != record.RollbackDone {
		t.Error(outcome(j))
	}
	h.is("qcow2", record.Volume{Capacity: 2 * mib})
	h.sees("qcow2", "qcow2", content)

	st = h.began(h.resize("qcow2", 66*mib, allocate, limited(4*mib)))
	h.written(st.Job.ID, mib)
	h.killHelper(h.job(st))
	if j := h.end(st, nil); j.State != record.Failed || j.Code() != record.Killed {
		t.Error(outcome(j))
	}
	h.is("qcow2", record.Volume{Capacity: 66 * mib, Format: "qcow2"}) // as its header has it
	if got := h.reads("qcow2", "qcow2"); !bytes.Equal(got[:2*mib], content) || !bytes.Equal(got[2*mib:], make([]byte, 64*mib)) {
		t.Error("it has other content")
	}
	h.succeed(h.resize("qcow2", 2*mib, shrink))
	h.sees("qcow2", "qcow2", content)
}

func TestUploadOfAContentThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.qemuTool("qemu-img", "create", "-q", "-f", "qcow2", h.path("v"), "16M")
	h.must(h.refresh("pool"))
	f, content := h.given("src", 16*mib)
	for _, end := range []string{"cancel", "kill"} {
		st := h.began(h.hand("v", f, asRaw, limited(4*mib)))
		h.written(st.Job.ID, mib)
		if end == "cancel" {
			h.cancel(st)
		} else {
			h.killHelper(h.job(st))
		}
		if j := h.end(st, nil); j.State == record.Succeeded || j.Rollback != record.RollbackKept {
			t.Errorf("%s: %s", end, outcome(j))
		}
		h.is("v", record.Volume{State: record.VolumeIncomplete, Format: "qcow2", Capacity: 16 * mib})
	}
	h.succeed(h.hand("v", f, asRaw))
	h.qemuTool("qemu-img", "check", "-q", "-r", "leaks", "-f", "qcow2", h.path("v")) // of what was killed
	h.sees("v", "qcow2", content)
}
