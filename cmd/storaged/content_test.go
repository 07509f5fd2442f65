package main_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	imageformat "storaged/internal/format"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
	"storaged/internal/sparse"
)

// noise is that many bytes without a pattern, the same for each size.
func noise(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size), 7}).Read(b)
	return b
}

// given makes a file of a client, with a hole in it, and gives its content.
func (h *host) given(name string, size int) (*os.File, []byte) {
	h.t.Helper()
	content := noise(size)
	clear(content[size/4 : size/2])
	f := must(os.OpenFile(filepath.Join(h.dir, name), os.O_RDWR|os.O_CREATE, 0o600))(h.t)
	h.t.Cleanup(func() { f.Close() })
	h.must(f.Truncate(int64(size)))
	_, err := f.WriteAt(content[:size/4], 0)
	h.must(err)
	_, err = f.WriteAt(content[size/2:], int64(size/2))
	h.must(err)
	return f, content
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("%v\n%s", err, h.log())
	}
}

// holds fails unless the volume has the content at off, and is what state says.
func (h *host) holds(volume string, off int, content []byte, state record.VolumeState) {
	h.t.Helper()
	got := must(os.ReadFile(h.path(volume)))(h.t)
	if len(got) < off+len(content) || !bytes.Equal(got[off:off+len(content)], content) {
		h.t.Errorf("%s has other content", volume)
	}
	h.is(volume, record.Volume{State: state})
}

func TestFilesAreHandedOver(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const size = 5*mib + 777
	f, content := h.given("src", size)
	h.sparse("v", 8*mib)
	j := h.succeed(h.hand("v", f, checksum("sha256")))
	h.holds("v", 0, content, record.VolumeReady)
	sum := sha256.Sum256(content)
	if want := "sha256:" + hex.EncodeToString(sum[:]); j.Result.Checksum != want || j.Result.Bytes != size || j.Progress.Done != size {
		t.Errorf("%s, %s, want %s", shown(j.Result), shown(j.Progress), want)
	}
	h.fails(h.end(h.hand("v", f, offset(3*mib-5))), record.TooLarge)
	part := int64(mib + 1)
	h.succeed(h.hand("v", f, offset(6*mib-5), length(part)))
	h.holds("v", 6*mib-5, content[:part], record.VolumeReady)

	to, _ := h.given("dst", 9*mib)
	h.succeed(h.handDown("v", to))
	whole := must(os.ReadFile(h.path("v")))(t)
	got := must(os.ReadFile(to.Name()))(t)
	if !bytes.Equal(got, whole) {
		t.Error("downloaded something else")
	}
	var info syscall.Stat_t
	h.must(syscall.Fstat(int(to.Fd()), &info))
	if info.Blocks*512 > 7*mib {
		t.Errorf("%d bytes are allocated: holes were written", info.Blocks*512)
	}
}

func TestDescriptorsThatAreNoFiles(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	f, _ := h.given("src", 1000)
	dir := must(os.Open(h.dir))(t)
	null := must(os.OpenFile(os.DevNull, os.O_RDWR, 0))(t)
	r, w, err := os.Pipe()
	h.must(err)
	l := must(net.Listen("unix", filepath.Join(h.dir, "listener")))(t)
	sock := must(l.(*net.UnixListener).File())(t)
	readOnly := must(os.Open(f.Name()))(t)
	appending := must(os.OpenFile(f.Name(), os.O_RDWR|os.O_APPEND, 0))(t)
	itself := must(os.OpenFile(h.path("v"), os.O_RDWR, 0))(t)
	for _, c := range []io.Closer{dir, null, r, w, l, sock, readOnly, appending, itself} {
		t.Cleanup(func() { c.Close() })
	}
	for _, c := range map[string]struct {
		up, down *os.File
		says     string
	}{
		"directory": {dir, nil, "a directory, not a regular file"}, "device": {null, null, "a character device"},
		"pipe": {r, w, "a pipe"}, "socket": {sock, sock, "a socket"},
		"not for writing": {nil, readOnly, "not open for writing"}, "appending": {nil, appending, "appending"},
		"the volume": {itself, itself, "the volume itself"},
	} {
		for i, fd := range []*os.File{c.up, c.down} {
			if fd == nil {
				continue
			}
			hand := func() (started, error) { return h.hand("v", fd, asFormat("raw")) }
			if i == 1 {
				hand = func() (started, error) { return h.handDown("v", fd) }
			}
			h.fails(h.end(hand()), record.Invalid, c.says)
		}
	}
	h.holds("v", 0, make([]byte, mib), record.VolumeReady)
}

func TestStreamsComeAndGo(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", 8*mib)
	content := noise(3*mib + 5)
	up := h.upload(h.ctx(), "v", bytes.NewReader(content), upload{Offset: mib + 3, Checksum: "crc32c"})
	h.must(up.Wait())
	h.holds("v", mib+3, content, record.VolumeReady)
	whole := must(os.ReadFile(h.path("v")))(t)
	for _, form := range []bool{false, true} {
		down := h.download("v", form)
		var got bytes.Buffer
		h.must(down.CopyTo(&got))
		if !form {
			if !bytes.Equal(got.Bytes(), whole) {
				t.Error("downloaded something else")
			}
			continue
		}
		if got.Len() > 4*mib {
			t.Errorf("%d bytes in the sparse form", got.Len())
		}
		h.sparse("w", 8*mib)
		up := h.uploadSparse("w", &got)
		h.must(up.Wait())
		h.holds("w", 0, whole, record.VolumeReady)
	}
	up = h.upload(h.ctx(), "made", bytes.NewReader(content), upload{Create: &operation.CreateRequest{Name: "made"}})
	h.must(up.Wait())
	h.holds("made", 0, content, record.VolumeReady)
	if up.Job.Kind != record.VolumeCreate {
		t.Errorf("a new volume is made by %s", up.Job.Kind)
	}
}

func TestUploadsThatAreRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	content := noise(mib + 1)
	up := h.upload(h.ctx(), "v", bytes.NewReader(content), upload{})
	if err := up.Wait(); record.CodeOf(err) != record.TooLarge {
		t.Errorf("a stream that is too long: %v", err)
	}
	n := int64(len(content))
	_, err := h.stream("v", bytes.NewReader(content), upload{Length: &n})
	h.refused(err, record.TooLarge)
	h.sparse("w", mib)
	image := append([]byte("QFI\xfb\x00\x00\x00\x03"), make([]byte, 4088)...)
	up = h.upload(h.ctx(), "w", bytes.NewReader(image), upload{})
	if err := up.Wait(); record.CodeOf(err) != record.Invalid || !strings.Contains(err.Error(), "qcow2") {
		t.Errorf("an image: %v", err)
	}
	h.holds("w", 0, make([]byte, mib), record.VolumeReady)
	up = h.upload(h.ctx(), "w", bytes.NewReader(image), upload{AsFormat: "raw", Checksum: "crc32c:00000000"})
	if err := up.Wait(); record.CodeOf(err) != record.Mismatch {
		t.Errorf("another checksum: %v", err)
	}
	h.holds("w", 0, image, record.VolumeIncomplete)
	h.refuses(record.Unsupported)(h.retry(up.Job))
	for name, stream := range map[string]string{"no magic": "something", "unknown frame": "\x89SPR\r\n\x1a\x01X\x00\x00\x00\x00\x00\x00\x00\x01"} {
		if err := h.uploadSparse("w", strings.NewReader(stream)).Wait(); record.CodeOf(err) != record.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A stream that breaks off leaves the volume incomplete and what came durable;
// the rest makes it whole.
func TestBrokenStreamGoesOn(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", 8*mib)
	content := noise(8 * mib)
	at := 0
	var last *record.Job
	for range 3 {
		cut := at + imageformat.HeadSize + 1 + rand.IntN(2*mib) // a header is looked at before anything is written
		r := upload{Offset: int64(at)}
		if last != nil {
			r.Continues = last.ID
		}
		in, out := io.Pipe()
		ctx, leave := context.WithCancel(h.ctx())
		up := h.upload(ctx, "v", in, r)
		_, err := out.Write(content[at:cut])
		h.must(err)
		h.written(up.Job.ID, int64(cut))
		leave()
		out.CloseWithError(errors.New("gone"))
		j := h.end(of(up.Job), nil)
		if j.Code() != record.Interrupted || j.Progress.Done > int64(cut) || j.Progress.Done < int64(at) {
			t.Fatalf("%s at %d of %d to %d: %s", j.State, j.Progress.Done, at, cut, outcome(j))
		}
		at, last = int(j.Progress.Done), &j
		h.holds("v", 0, content[:at], record.VolumeIncomplete)
	}
	wrong := upload{Offset: int64(at) + 1, Continues: last.ID}
	_, err := h.stream("v", strings.NewReader(""), wrong)
	h.refused(err, record.Invalid)
	up := h.upload(h.ctx(), "v", bytes.NewReader(content[at:]), upload{Offset: int64(at), Continues: last.ID})
	h.must(up.Wait())
	h.holds("v", 0, content, record.VolumeReady)
}

// reading has a volume read, so that who would change it waits, until stop.
func (h *host) reading(volume string) (stop func()) {
	h.t.Helper()
	st := h.began(h.clone(volume, volume+"-read", noReflink, limited(8<<10)))
	return func() {
		h.cancel(st)
		h.end(st, nil)
	}
}

// sending begins an upload of which a part has come so far.
func (h *host) sending(volume string, r upload, part []byte) (*client.Transfer, *io.PipeWriter) {
	h.t.Helper()
	in, out := io.Pipe()
	up := h.upload(h.ctx(), volume, in, r)
	_, err := out.Write(part)
	h.must(err)
	return up, out
}

// breakOff begins an upload, leaves when so many bytes have come, and gives the
// job's end.
func (h *host) breakOff(volume string, r upload, part []byte) record.Job {
	h.t.Helper()
	up, out := h.sending(volume, r, part)
	done := int64(len(part))
	if r.Continues != "" { // what is in place counts too
		done += r.Offset
	}
	h.until(up.Job.ID, func(j record.Job) bool { return j.State == record.Running && j.Progress.Done >= done })
	out.CloseWithError(errors.New("gone"))
	return h.end(of(up.Job), nil)
}

// A volume is whole when all of a content is in it, whichever of the uploads that
// brought it was the one to mark the volume, and whoever had marked it before.
func TestUploadInSeveralPartsMakesTheVolumeWhole(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for name, c := range map[string]struct {
		size   int            // of the content, in a volume of 4 MiB
		before func(v string) // marks the volume
		parts  []int          // bytes that each upload brings before it breaks off
	}{
		"the first brought nothing":           {3 * mib, nil, []int{0, mib}},
		"the first two brought nothing":       {3 * mib, nil, []int{0, 0, mib, mib}},
		"the first marked it":                 {3 * mib, nil, []int{mib, 0, mib}},
		"another upload had broken off":       {4 * mib, func(v string) { h.breakOff(v, upload{Offset: 5}, noise(mib)) }, []int{mib, mib}},
		"that, and the first brought nothing": {4 * mib, func(v string) { h.breakOff(v, upload{}, noise(mib)) }, []int{0, mib, mib}},
	} {
		volume := strings.ReplaceAll(name, " ", "-")
		h.sparse(volume, 4*mib)
		if c.before != nil {
			c.before(volume)
		}
		content, r := noise(c.size), upload{}
		for _, n := range c.parts {
			j := h.breakOff(volume, r, content[r.Offset:r.Offset+int64(n)])
			if j.Code() != record.Interrupted {
				t.Fatalf("%s: %s", name, outcome(j))
			}
			r.Offset, r.Continues = j.Progress.Done, j.ID
		}
		up := h.upload(h.ctx(), volume, bytes.NewReader(content[r.Offset:]), r)
		h.must(up.Wait())
		h.holds(volume, 0, content, record.VolumeReady)
		if v := h.described(volume); v.Checksum != nil && v.Checksum.Current {
			t.Errorf("%s: the checksum of a part is recorded as the volume's: %s", name, shown(v.Checksum))
		}
	}
}

// What all of a content must have is held against the whole of it, though it
// came in parts; what is not the right content has no rest.
func TestRestOfAnUploadIsHeldAgainstTheWholeChecksum(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := noise(4 * mib)
	digest := sha256.Sum256(content)
	sum := record.Checksum(digest)
	for name, c := range map[string]struct {
		first, remainder, at string // checksums asked for; at is what the job gives in the end
		tail                 byte   // is added to the last byte
	}{
		"the first asked":             {sum, "", sum, 0},
		"the rest asks":               {"", sum, sum, 0},
		"the rest asks which it is":   {"", "sha256", sum, 0},
		"nobody asked":                {"", "", "", 0},
		"the first asked, wrong tail": {sum, "", "", 1},
		"the rest asks less":          {sum, "sha256", "", 1},
		"the rest asks, with crc32c":  {"", "crc32c:00000000", "", 0},
	} {
		volume := strings.NewReplacer(" ", "-", ",", "").Replace(name)
		h.sparse(volume, 4*mib)
		j := h.breakOff(volume, upload{Checksum: c.first}, content[:mib])
		remainder := slices.Clone(content[j.Progress.Done:])
		remainder[len(remainder)-1] += c.tail
		up := h.upload(h.ctx(), volume, bytes.NewReader(remainder), upload{Offset: j.Progress.Done, Continues: j.ID, Checksum: c.remainder})
		err := up.Wait()
		last, jerr := h.client.Job(h.ctx(), up.Job.ID)
		h.must(jerr)
		right := c.tail == 0 && c.remainder != "crc32c:00000000"
		if right != (err == nil) || !right && last.Code() != record.Mismatch {
			t.Errorf("%s: %v, %s", name, err, outcome(last))
		}
		if right && last.Result.Checksum != c.at {
			t.Errorf("%s: the checksum is %q, want %q", name, last.Result.Checksum, c.at)
		}
		v := h.described(volume)
		if v.Checksum != nil && v.Checksum.Current != (c.at != "") || (v.State == record.VolumeReady) != right {
			t.Errorf("%s: the volume is %s, %s", name, v.State, shown(v.Checksum))
		}
		if !right {
			h.noRest(volume, last)
		}
	}
}

// noRest fails unless nothing goes on with an upload of the wrong content.
func (h *host) noRest(volume string, j record.Job) {
	h.t.Helper()
	_, err := h.stream(volume, strings.NewReader(""), restOf(j))
	h.refused(err, record.WrongState)
	file, _ := h.given("whole", 4*mib)
	h.runs(record.ExitBusy, "not the one it should be", "vol", "upload", "pool/"+volume, file.Name(), "--resume", "--yes")
}

// An upload of a part leaves a volume incomplete that was so before.
func TestUploadOfAPartHealsNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", 4*mib)
	h.breakOff("v", upload{Offset: 5}, noise(mib))
	up := h.upload(h.ctx(), "v", bytes.NewReader(noise(2*mib)), upload{Offset: 2 * mib})
	h.must(up.Wait())
	h.holds("v", 2*mib, noise(2*mib), record.VolumeIncomplete)
}

// A place that its own total contradicts is refused, and nothing begins.
func TestContentRangeBeyondItsTotalIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	jobs := func() int {
		l := must(h.client.Jobs(h.ctx(), contract.JobFilter{}, contract.Page{}))(t)
		return len(l.Items)
	}
	before := jobs()
	for given, status := range map[string]int{
		"bytes 0-9/9": 400, "bytes 5-14/5": 400, "bytes 0-9/0": 400, "bytes 0-9/10": 200, "bytes 10-19/1000": 200, "bytes 0-9/*": 200,
	} {
		resp := must(h.plain(http.MethodPut, "v/content", strings.NewReader("0123456789"), "Content-Range", given))(t)
		body := must(io.ReadAll(resp.Body))(t)
		resp.Body.Close()
		if resp.StatusCode != status || status == 400 && !strings.Contains(string(body), `"code":"invalid"`) {
			t.Errorf("%q: %s %s", given, resp.Status, body)
		}
	}
	if n := jobs() - before; n != 3 {
		t.Errorf("%d jobs were begun, not 3", n)
	}
	h.holds("v", 0, []byte("0123456789"), record.VolumeReady)
}

// The rest of a content is refused where its beginning is gone, also if it goes
// while the rest waits.
func TestRestOfAnUploadNeedsItsBeginning(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const size = 65 * mib // no short work, which would not wait
	h.sparse("v", size)
	remainder := h.brokenUpload("v", noise(2*mib))
	h.random("w", 4*mib)
	h.patchLimits(contract.LimitsPatch{Running: ptr(1)})
	before := h.began(h.wipe("w", limited(64<<10)))
	h.began(h.wipe("v"))
	second := h.upload(h.ctx(), "v", strings.NewReader("the rest"), remainder)
	h.stopped(before, nil)
	if err := second.Wait(); record.CodeOf(err) != record.Changed {
		t.Errorf("wiped while it waited: %v", err)
	}
	_, err := h.stream("v", strings.NewReader("the rest"), remainder)
	h.refused(err, record.Changed)
	h.holds("v", 0, make([]byte, size), record.VolumeReady)
}

// What wrote only a part of a volume does not go on as if it were the whole, also
// if nothing of it is in place.
func TestUploadOfAPartDoesNotGoOn(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", 4*mib)
	for _, wrote := range []int{0, mib} {
		j := h.breakOff("v", upload{Offset: 2 * mib}, noise(wrote))
		_, err := h.stream("v", strings.NewReader("the rest"), restOf(j))
		h.refused(err, record.Unsupported, "wrote a part of the volume")
	}
	h.is("v", record.Volume{State: record.VolumeIncomplete})
	_, err := h.clone("v", "c")
	h.refused(err, record.WrongState)
	h.hints(err, "wipe it")
}

// brokenUpload leaves a volume with the beginning of a content in it, and gives
// the request for the rest.
func (h *host) brokenUpload(volume string, beginning []byte) upload {
	h.t.Helper()
	j := h.breakOff(volume, upload{}, beginning)
	if j.Progress.Done == 0 {
		h.t.Fatalf("nothing is in place: %s", outcome(j))
	}
	return restOf(j)
}

// stopped cancels a job that changes content, once it has begun to.
func (h *host) stopped(st started, err error) {
	h.t.Helper()
	h.must(err)
	h.written(st.Job.ID, 1)
	_, err = h.client.CancelJob(h.ctx(), st.Job.ID, contract.JobCancel{})
	if j := h.end(st, err); j.State != record.Canceled {
		h.t.Fatal(outcome(j))
	}
}

// Who broke off leaves the volume incomplete, as the upload before him did: the
// mark alone does not tell that the beginning is gone.
func TestRestOfAnUploadIsRefusedAfterWorkThatBrokeOffToo(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for volume, between := range map[string]func(volume string) (started, error){
		"wiped": func(volume string) (started, error) {
			return h.wipe(volume, limited(64<<10))
		},
		"uploaded": func(volume string) (started, error) {
			f, _ := h.given("other", 2*mib)
			return h.hand(volume, f, limited(64<<10))
		},
	} {
		h.sparse(volume, 4*mib)
		remainder := h.brokenUpload(volume, noise(2*mib))
		h.stopped(between(volume))
		_, err := h.stream(volume, strings.NewReader("the rest"), remainder)
		h.refused(err, record.Changed)
		if v := h.described(volume); v.State != record.VolumeIncomplete {
			t.Errorf("%s meanwhile, the volume is %s", volume, v.State)
		}
	}
}

// What changes no content, or never came to it, is in nobody's way.
func TestRestOfAnUploadOutlivesWhatChangesNoContent(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", 4*mib)
	content := noise(4 * mib)
	remainder := h.brokenUpload("v", content[:2*mib])
	h.describe("v", "half of it")
	h.must(h.refresh("pool"))
	h.refuses(record.WrongState)(h.verify("v"))
	h.random("w", 4*mib)
	h.patchLimits(contract.LimitsPatch{Running: ptr(1)})
	busy := h.began(h.wipe("w", limited(64<<10)))
	for range 2 { // each goes on from the one before
		left, cancel := context.WithCancel(h.ctx())
		waits := h.upload(left, "v", strings.NewReader("the rest"), remainder)
		h.cancel(of(waits.Job))
		h.end(of(waits.Job), nil)
		cancel()
		remainder.Continues = waits.Job.ID
	}
	h.stopped(busy, nil)
	up := h.upload(h.ctx(), "v", bytes.NewReader(content[remainder.Offset:]), remainder)
	h.must(up.Wait())
	h.holds("v", 0, content, record.VolumeReady)
}

// written waits until a job has taken so many bytes, which need not be durable.
func (h *host) written(job string, n int64) {
	h.t.Helper()
	h.until(job, func(j record.Job) bool { return j.Progress.Done >= n })
}

// until waits until a live job is as it is wanted, and gives it.
func (h *host) until(job string, is func(record.Job) bool) record.Job {
	h.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx := h.ctx(); ; <-tick.C {
		j := must(h.client.Job(ctx, job))(h.t)
		if is(j) {
			return j
		}
		if j.State.Terminal() {
			h.t.Fatalf("job %d is %s", j.Number, outcome(j))
		}
	}
}

func TestStreamThatWaitsEndsWithItsClient(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 16*mib)
	defer h.reading("v")()
	ctx, leave := context.WithCancel(h.ctx())
	in, _ := io.Pipe()
	up := h.upload(ctx, "v", in, upload{})
	leave()
	if j := h.end(of(up.Job), nil); j.State != record.Canceled || j.Started != nil {
		t.Error(outcome(j))
	}
}

// A client that is connected and sends nothing does not have its volume for ever.
func TestSilentClientLosesItsUpload(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.stop()
	h.config = filepath.Join(h.dir, "storaged.toml")
	h.must(os.WriteFile(h.config, []byte("[upload]\nsilence = \"3s\"\n"), 0o600))
	h.start()
	h.sparse("v", 4*mib)
	content := noise(4 * mib)
	up, out := h.sending("v", upload{}, content[:2*mib])
	defer out.Close()
	j := h.end(of(up.Job), nil)
	if j.State != record.Failed || j.Code() != record.Interrupted || !strings.Contains(j.Error.Message, "sent nothing for 3s") || j.Error.Hint == nil {
		t.Error(outcome(j))
	}
	if err := up.Wait(); record.CodeOf(err) != record.Interrupted || !strings.Contains(err.Error(), "sent nothing for 3s") {
		t.Errorf("the client is told %v", err)
	}
	h.holds("v", 0, content[:j.Progress.Done], record.VolumeIncomplete)
	if j.Progress.Done == 0 {
		t.Error("nothing of what came is in place")
	}
	remainder := h.upload(h.ctx(), "v", bytes.NewReader(content[j.Progress.Done:]), restOf(j))
	h.must(remainder.Wait())
	h.holds("v", 0, content, record.VolumeReady)
}

// When the daemon dies, a file's upload goes on and a stream's does not; both
// are told of by the next one.
func TestContentsOutliveTheDaemonOrNot(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("f", 8*mib)
	h.sparse("s", 8*mib)
	h.sparse("q", 8*mib)
	f, content := h.given("src", 8*mib)
	byFile := h.began(h.hand("f", f, limited(2*mib)))
	waits := h.began(h.hand("f", f))
	byStream, out := h.sending("s", upload{}, content[:mib])
	h.written(byStream.Job.ID, mib)
	h.written(byFile.Job.ID, 1)
	h.kill()
	h.start()
	if j := h.end(of(byStream.Job), nil); j.Code() != record.Interrupted || j.Progress.Done > mib {
		t.Errorf("the stream: %s at %d: %s", j.State, j.Progress.Done, outcome(j))
	}
	if j := h.end(waits, nil); j.Code() != record.Interrupted || j.Started != nil {
		t.Errorf("the one that waited: %s", outcome(j))
	}
	h.succeed(byFile, nil)
	h.holds("f", 0, content, record.VolumeReady)
	h.holds("s", 0, nil, record.VolumeIncomplete)
	out.Close()
}

// get asks for a content, as any program would.
func (h *host) get(volume string, header ...string) (*http.Response, error) {
	h.t.Helper()
	return h.plain(http.MethodGet, volume+"/content", nil, header...)
}

// plain makes a request about volumes without the house's client.
func (h *host) plain(method, path string, body io.Reader, header ...string) (*http.Response, error) {
	h.t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.sock)
	}}}
	h.t.Cleanup(c.CloseIdleConnections)
	r := must(http.NewRequestWithContext(h.ctx(), method, "http://storaged/v1/pools/pool/volumes/"+path, body))(h.t)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return c.Do(r)
}

func TestRangesOfADownload(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", mib)
	content := must(os.ReadFile(h.path("v")))(t)
	for asked, want := range map[string]struct {
		status, from, to int
	}{
		"": {200, 0, mib}, "bytes=0-0": {206, 0, 1}, "bytes=5-": {206, 5, mib}, "bytes=-7": {206, mib - 7, mib},
		"bytes=10-99999999": {206, 10, mib}, "bytes=-99999999": {206, 0, mib},
		"bytes=1-2,5-6": {200, 0, mib}, "bytes=2-1": {200, 0, mib}, "lines=1-2": {200, 0, mib},
		"bytes=1048576-": {416, 0, 0}, "bytes=-0": {416, 0, 0},
		"bytes=9223372036854775806-": {416, 0, 0}, "bytes=9223372036854775807-9223372036854775807": {416, 0, 0},
		"bytes=99999999999999999999999-": {416, 0, 0}, "bytes=2000000-99999999999999999999999": {416, 0, 0},
		"bytes=5-99999999999999999999999": {206, 5, mib}, "bytes=-99999999999999999999999": {206, 0, mib},
		"bytes=99999999999999999999999-5": {200, 0, mib}, "Bytes=5-6": {206, 5, 7}, "bytes= 5-6 , ": {206, 5, 7},
		"bytes=-": {200, 0, mib}, "bytes=": {200, 0, mib}, "bytes=+5-6": {200, 0, mib}, "bytes=0x5-6": {200, 0, mib},
	} {
		resp := must(h.get("v", "Range", asked))(t)
		got := must(io.ReadAll(resp.Body))(t)
		resp.Body.Close()
		if resp.StatusCode != want.status {
			t.Errorf("%q: %s", asked, resp.Status)
			continue
		}
		if want.status == 416 {
			if resp.Header.Get("Content-Range") != "bytes */1048576" {
				t.Errorf("%q: %v", asked, resp.Header)
			}
			continue
		}
		if !bytes.Equal(got, content[want.from:want.to]) || resp.Header.Get("Storaged-Job") == "" {
			t.Errorf("%q: %d bytes, %v", asked, len(got), resp.Header)
		}
		if cr := fmt.Sprintf("bytes %d-%d/%d", want.from, want.to-1, mib); want.status == 206 && resp.Header.Get("Content-Range") != cr {
			t.Errorf("%q: %s", asked, resp.Header.Get("Content-Range"))
		}
	}
}

// wholeAnyway reports whether a plain client takes the answer for whole.
func wholeAnyway(resp *http.Response, err error) bool {
	if err != nil {
		return false // broken before the header had come
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}

// A download that fails breaks the connection, in either form: also one of
// which all bytes had come, since the last of them are held back, and one whose
// helper dies.
func TestFailedDownloadIsNoShortAnswer(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("small", 64<<10)
	h.random("large", 16*mib) // no buffer on the way has room for it
	for _, form := range []string{"*/*", sparse.MediaType} {
		for _, volume := range []string{"small", "large"} {
			resp, err := h.plain(http.MethodGet, volume+"/content?checksum=crc32c:00000000", nil, "Accept", form)
			if wholeAnyway(resp, err) {
				t.Errorf("%s as %s with another checksum is taken for whole", volume, form)
			}
		}
		resp := must(h.get("large", "Accept", form))(t)
		if h.killDownload(resp.Header.Get("Storaged-Job")); wholeAnyway(resp, nil) {
			t.Errorf("as %s without a helper it is taken for whole", form)
		}
		down := h.download("large", form != "*/*")
		h.killDownload(down.Job.ID)
		if err := down.CopyTo(io.Discard); record.CodeOf(err) != record.Interrupted {
			t.Errorf("our client says %v", err)
		}
	}
	r, w, err := os.Pipe()
	h.must(err)
	defer r.Close()
	p := h.spawn(func(c *exec.Cmd) { c.Stdout = w }, "vol", "download", "pool/large", "-")
	h.must(w.Close())
	h.killDownload(h.newest(record.VolumeDownload).ID)
	n, err := io.Copy(io.Discard, r)
	if code := p.code(); code == 0 || n >= 16*mib || err != nil {
		t.Errorf("storagedctl: exit %d after %d bytes (%v): %s", code, n, err, p.log.String())
	}
}

// killDownload kills the helper of a download that waits for its reader.
func (h *host) killDownload(job string) {
	h.t.Helper()
	j := h.until(job, moves)
	h.must(syscall.Kill(j.Helper.PID, syscall.SIGKILL))
	h.fails(h.end(of(j), nil), record.Killed)
}

// A reader that does not read holds nobody up but its own job.
func TestSlowReaderSlowsNobody(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 16*mib)
	resp := must(h.get("v"))(t)
	down, err := h.handDownWhole("v")
	if err != nil || down.State != record.Succeeded {
		t.Errorf("another download: %v, %s", err, outcome(down))
	}
	j, err := h.client.Job(h.ctx(), resp.Header.Get("Storaged-Job"))
	if err != nil || j.State.Terminal() {
		t.Errorf("the slow one is %s already (%v)", j.State, err)
	}
	resp.Body.Close()
	h.fails(h.end(of(j), nil), record.Interrupted)
}

func (h *host) handDownWhole(volume string) (record.Job, error) {
	to, _ := h.given("to", 4096)
	st, err := h.handDown(volume, to)
	return h.end(st, err), err
}

func TestContentIsNotForTheReadOnlySocket(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	socks, err := filepath.Glob(filepath.Join(h.dir, "storaged-ro*"))
	h.must(err)
	if len(socks) == 0 {
		t.Fatalf("no read-only socket in %s", h.dir)
	}
	ro := client.Dial(socks[0])
	defer ro.Close()
	f, _ := h.given("src", 100)
	_, up := ro.Start(h.ctx(), contract.Submit{}, "pool", "v", &upload{Data: operation.Data{File: f}})
	_, down := ro.Download(h.ctx(), contract.Submit{}, client.StreamDownload{Pool: "pool", Volume: "v"})
	_, stream := ro.Upload(h.ctx(), contract.Submit{}, client.StreamUpload{Pool: "pool", Volume: "v", Body: strings.NewReader("x")})
	for _, err := range []error{up, down, stream} {
		if record.CodeOf(err) != record.Denied {
			t.Errorf("%v", err)
		}
	}
}

// The rest of a content is all of it, where anybody knows how long it is.
func TestRestOfAnUploadIsAllOfIt(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", 4*mib)
	content, n := noise(4*mib), int64(4*mib)
	first := h.breakOff("v", upload{Length: &n}, content[:mib])
	at := first.Progress.Done
	short, _ := h.given("short", mib/2)
	h.refuses(record.Invalid)(h.hand("v", short, offset(at), length(0), continues(first.ID)))
	part := h.upload(h.ctx(), "v", bytes.NewReader(content[at:at+mib]), restOf(first))
	if err := part.Wait(); err == nil {
		t.Error("a part of the rest was taken for all of it")
	}
	h.holds("v", 0, content[:at], record.VolumeIncomplete)
}

// Of a client that has gone nobody reads while its job waits and the pipe to the
// helper is full.
func TestStreamThatWaitsWithAFullPipeEndsWithItsClient(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 16*mib)
	defer h.reading("v")()
	ctx, leave := context.WithCancel(h.ctx())
	in, out := io.Pipe()
	up := h.upload(ctx, "v", in, upload{})
	for range 15 { // about what pipe and buffers hold; soon nobody takes any more
		_, err := out.Write(noise(mib / 16))
		h.must(err)
	}
	more := make(chan struct{})
	go func() { defer close(more); _, _ = out.Write(noise(4 * mib)) }()
	leave()
	out.CloseWithError(errors.New("gone"))
	<-more
	if j := h.end(of(up.Job), nil); j.State != record.Canceled || j.Started != nil {
		t.Error(outcome(j))
	}
}

// A job that never had the volume has not changed it.
func TestJobThatOnlyWaitedLeavesTheVolumeAsItIs(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", 4*mib)
	f, _ := h.given("f", 4*mib)
	h.end(h.hand("v", f))
	before := h.described("v")
	defer h.reading("v")()
	wipe := h.began(h.wipe("v"))
	h.cancel(wipe)
	if j := h.end(wipe, nil); j.State != record.Canceled {
		t.Fatal(outcome(j))
	}
	after := h.described("v")
	if before.Checksum == nil || after.Checksum == nil || !after.Checksum.Current {
		t.Errorf("checksum %s, then %s", shown(before.Checksum), shown(after.Checksum))
	}
}

// A download whose job somebody else ends before anything has come says who it
// was: no status of it is one of the daemon's own faults.
func TestDownloadThatSomebodyCancelsSaysSo(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", mib)
	h.patchLimits(contract.LimitsPatch{Running: ptr(1)})
	stop := h.reading("v") // which has the only place
	defer stop()
	var resp *http.Response
	var asking sync.WaitGroup
	var err error
	asking.Go(func() { resp, err = h.get("v") })
	filter := contract.JobFilter{Kinds: []string{string(record.VolumeDownload)}, States: []string{"live"}}
	h.await("a download that waits", func() bool {
		l := must(h.client.Jobs(h.ctx(), filter, contract.Page{}))(t)
		for _, j := range l.Items {
			h.cancel(of(j))
		}
		return len(l.Items) > 0
	})
	asking.Wait()
	h.must(err)
	defer resp.Body.Close()
	body := must(io.ReadAll(resp.Body))(t)
	if resp.StatusCode != http.StatusConflict || !strings.Contains(string(body), `"code":"canceled"`) {
		t.Errorf("the answer is %s %s", resp.Status, body)
	}
}
