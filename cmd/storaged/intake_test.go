package main_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/sparse"
	"storaged/internal/testenv"
)

// fed runs storagedctl with a pipe from a program that writes a file, and gives
// its exit code and what it said.
func (h *host) fed(path string, args ...string) (int, string) {
	h.t.Helper()
	p := h.spawn(func(c *exec.Cmd) { c.Stdin = h.output(exec.CommandContext(h.ctx(), "cat", path)) }, args...)
	code := p.code()
	return code, p.log.String()
}

// answered makes a request about a content as any program would, and gives the
// status and the body.
func (h *host) answered(method, path string, body io.Reader, header ...string) (int, string) {
	h.t.Helper()
	resp := must(h.plain(method, path, body, header...))(h.t)
	defer resp.Body.Close()
	b := must(io.ReadAll(resp.Body))(h.t)
	return resp.StatusCode, string(b)
}

// chunked is a body whose length nobody knows before.
func chunked(b []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(b)} }

// A length takes that much of a stream, as it does of a file, whoever sends it.
func TestLengthIsTakenOfAStreamAsOfAFile(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const size, n = 4 * mib, mib + 5
	f, content := h.given("src", size)
	h.sparse("whole", size)
	h.runs(0, "succeeded", "vol", "upload", "pool/whole", f.Name(), "--yes")
	form := must(os.ReadFile(h.sparseForm("pool/whole", size)))(t)
	formed := filepath.Join(h.dir, "stream")
	length := strconv.Itoa(n)
	for name, up := range map[string]func(volume string) (int, string){
		"file": func(v string) (int, string) {
			_, errs, code := h.ctl("vol", "upload", v, f.Name(), "--yes", "--length", length)
			return code, errs
		},
		"pipe": func(v string) (int, string) {
			return h.fed(f.Name(), "vol", "upload", v, "-", "--yes", "--length", length)
		},
		"sparse": func(v string) (int, string) {
			return h.fed(formed, "vol", "upload", v, "-", "--yes", "--sparse", "--length", length)
		},
		"put": func(v string) (int, string) {
			code, body := h.answered(http.MethodPut, "put/content?length="+length, chunked(content))
			return code - http.StatusOK, body
		},
		"put-sized": func(v string) (int, string) {
			code, body := h.answered(http.MethodPut, "put-sized/content?length="+length, bytes.NewReader(content))
			return code - http.StatusOK, body
		},
		"put-sparse": func(v string) (int, string) {
			code, body := h.answered(http.MethodPut, "put-sparse/content?length="+length, chunked(form), "Content-Type", sparse.MediaType)
			return code - http.StatusOK, body
		},
	} {
		h.sparse(name, size)
		if code, said := up("pool/" + name); code != 0 {
			t.Errorf("%s: %d: %s", name, code, said)
		}
		want := append(bytes.Clone(content[:n]), make([]byte, size-n)...)
		h.holds(name, 0, want, record.VolumeReady)
	}
	status, body := h.answered(http.MethodPut, "whole/content", chunked(content[:11]), "Content-Range", "bytes 0-9/*")
	if status != http.StatusBadRequest {
		t.Errorf("longer than its Content-Range: %d %s", status, body)
	}
	h.sparse("larger", 2*size)
	if code, said := h.fed(f.Name(), "vol", "upload", "pool/larger", "-", "--yes", "--length", "5M"); code != record.ExitUsage {
		t.Errorf("shorter than its length: %d: %s", code, said)
	}
}

// A content of nothing makes no volume and is not uploaded: the program that was
// to write it has failed.
func TestEmptyContentIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	empty := filepath.Join(h.dir, "empty")
	h.must(os.WriteFile(empty, nil, 0o600))
	for _, args := range [][]string{
		{"vol", "create", "pool/made", "--from", "-"}, {"vol", "create", "pool/made", "1M", "--from", "-"},
		{"vol", "create", "pool/made", "--from", "-", "--as-format", "raw"},
		{"vol", "upload", "pool/v", "-", "--yes"}, {"vol", "upload", "pool/v", "-", "--yes", "--offset", "512K"},
		{"vol", "upload", "pool/v", "-", "--yes", "--length", "0"},
	} {
		p := h.spawn(func(c *exec.Cmd) { c.Stdin = h.output(exec.CommandContext(h.ctx(), "false")) }, args...)
		if code := p.code(); code != record.ExitUsage || !strings.Contains(p.log.String(), "empty") {
			t.Errorf("false | storagedctl %q: exit %d: %s", args, code, p.log.String())
		}
	}
	for _, args := range [][]string{
		{"vol", "create", "pool/made", "--from", empty}, {"vol", "create", "pool/made", "1M", "--from", empty},
		{"vol", "upload", "pool/v", empty, "--yes"},
	} {
		h.runs(record.ExitUsage, "empty", args...)
	}
	for _, path := range []string{"v/content", "made/content?create=true"} {
		for name, body := range map[string]io.Reader{"sized": bytes.NewReader(nil), "chunked": chunked(nil), "none": nil} {
			if status, said := h.answered(http.MethodPut, path, body); status != http.StatusBadRequest {
				t.Errorf("PUT %s, %s: %d %s", path, name, status, said)
			}
		}
		var form bytes.Buffer
		h.must(sparse.NewWriter(&form).Close())
		if status, said := h.answered(http.MethodPut, path, &form, "Content-Type", sparse.MediaType); status != http.StatusBadRequest {
			t.Errorf("PUT %s, sparse: %d %s", path, status, said)
		}
	}
	h.absent("made")
	h.holds("v", 0, make([]byte, mib), record.VolumeReady)
}

// Where a body goes is read as it stands, whatever the figures are.
func TestContentRangesThatCannotBe(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	for given, want := range map[string]int{
		"bytes 0-9/10": 200, "bytes 5-14/*": 200, "Bytes 5-14/1048576": 200,
		"bytes 9-0/10": 400, "bytes 0-9/9": 400, "bytes 0-8/10": 400, "bytes */10": 400, "bytes 0-/10": 400, "lines 0-9/10": 400,
		"bytes -9/10": 400, "bytes 0-9,20-29/30": 400, "bytes=0-9/10": 400, "bytes 9223372036854775807-9223372036854775816/*": 400,
		"bytes 99999999999999999999-100000000000000000008/*": 400, "bytes 1048576-1048585/*": 409,
	} {
		if status, said := h.answered(http.MethodPut, "v/content", bytes.NewReader(noise(10)), "Content-Range", given); status != want {
			t.Errorf("%q: %d, not %d: %s", given, status, want, said)
		}
	}
	for given, want := range map[string]int{"bytes 9223372036854775807-9223372036854775816/*": 409, "bytes 0-99999999999999999999/*": 409} {
		if status, said := h.answered(http.MethodPut, "v/content", chunked(noise(10)), "Content-Range", given); status != want {
			t.Errorf("%q: %d, not %d: %s", given, status, want, said)
		}
	}
}

// A part of a volume is that part, or none, whether it goes to a file or a stream.
func TestPartsThatAreNotThereAreNotDownloaded(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", mib)
	h.qcow("i")
	to := filepath.Join(h.dir, "to")
	for _, part := range [][]string{
		{"--offset", "1M"}, {"--offset", "2M"}, {"--length", "1025K"}, {"--offset", "1023K", "--length", "1025"}, {"--offset", "5", "--length", "7E"},
	} {
		for _, target := range []string{"-", to} {
			if target == to && part[1] == "1M" && len(part) == 2 {
				continue // a file may be made empty
			}
			out := h.runs(record.ExitUsage, "storagedctl: error: ", append([]string{"vol", "download", "pool/v", target}, part...)...)
			if out != "" {
				t.Errorf("%v to %s: %d bytes", part, target, len(out))
			}
		}
	}
	h.file(to, nil)
	h.runs(record.ExitUnsupported, "in part", "vol", "download", "pool/i", "-", "--offset", "5")
}

// qcow makes an image by that name.
func (h *host) qcow(name string) {
	h.t.Helper()
	file := filepath.Join(h.dir, name+".qcow2")
	qemuImage(h.t, "-f", "qcow2", file, "1M")
	h.runs(0, "succeeded", "vol", "create", "pool/"+name, "--from", file, "--format", "qcow2")
}

// A message names the user's file, of which the helper has only a descriptor.
func TestMessagesNameTheFileOfTheUser(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", 8*mib)
	f, _ := h.given("src", mib)
	out, said, code := h.ctl("vol", "upload", "pool/v", f.Name(), "--yes", "--length", "2M")
	if said += out; code != record.ExitUsage || !strings.Contains(said, strconv.Quote(f.Name())) || strings.Contains(said, "fd:") {
		t.Errorf("a file that is too short: exit %d: %s", code, said)
	}
	if _, said := h.fed(f.Name(), "vol", "upload", "pool/v", "-", "--yes", "--length", "2M"); !strings.Contains(said, "the stream") || strings.Contains(said, "fd:") {
		t.Errorf("a stream that is too short: %s", said)
	}
}

// What is still to be unpacked, or is the form of a stream, does not become a
// volume's content by mistake; who wants the bytes as they are says so.
func TestPackedContentsAreRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("a", mib)
	h.sparse("b", 2*mib)
	form := h.sparseForm("pool/a", 2*mib)
	packed := map[string]string{"sparse": form}
	for name, args := range map[string][]string{
		"gz": {"gzip", "-c"}, "xz": {"xz", "-c0"}, "bz2": {"bzip2", "-c"}, "zst": {"zstd", "-qc"}, "zip": {"zip", "-q", "-"}, "tar": {"tar", "-Pcf", "-"},
	} {
		b := must(exec.CommandContext(h.ctx(), testenv.Tool(t, args[0]), append(args[1:], h.path("a"))...).Output())(t)
		packed[name] = filepath.Join(h.dir, "a-"+name) // a name that ends like a packed file's would say what it is
		h.must(os.WriteFile(packed[name], b, 0o600))
	}
	for name, path := range packed {
		for _, args := range [][]string{{"vol", "upload", "pool/b", "--yes"}, {"vol", "create", "pool/new", "--from"}} {
			h.runs(record.ExitUsage, "--as-format raw", append(args, path)...)
			if code, said := h.fed(path, append(args, "-")...); code != record.ExitUsage || !strings.Contains(said, "--as-format raw") {
				t.Errorf("%s | storagedctl %v -: exit %d: %s", name, args, code, said)
			}
		}
		b := must(os.ReadFile(path))(t)
		for _, at := range []string{"b/content", "new/content?create=true"} {
			for _, body := range []io.Reader{bytes.NewReader(b), chunked(b)} {
				if status, said := h.answered(http.MethodPut, at, body); status != http.StatusBadRequest {
					t.Errorf("PUT %s of %s: %d %s", at, name, status, said)
				}
			}
		}
	}
	h.absent("new")
	h.holds("b", 0, make([]byte, 2*mib), record.VolumeReady)
	part := must(os.ReadFile(packed["gz"]))(t)
	h.runs(0, "succeeded", "vol", "upload", "pool/b", packed["gz"], "--yes", "--offset", "4K")
	h.holds("b", 4096, part, record.VolumeReady)
	h.runs(record.ExitUsage, "--sparse", "vol", "upload", "pool/b", form, "--yes", "--offset", "4K")
	h.runs(0, "succeeded", "vol", "upload", "pool/b", packed["gz"], "--yes", "--as-format", "raw")
	h.holds("b", 0, part, record.VolumeReady)
	h.runs(0, "succeeded", "vol", "create", "pool/new", "--from", form, "--as-format", "raw")
}

// TestPackedContentsAreUnpacked: a file whose name says how it is packed, and what
// is said to be packed.
func TestPackedContentsAreUnpacked(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("a", mib)
	want := h.hash("a")
	b := must(exec.CommandContext(h.ctx(), testenv.Tool(t, "zstd"), "-qc", h.path("a")).Output())(t)
	named, plain := filepath.Join(h.dir, "a.img.zst"), filepath.Join(h.dir, "a-zstd")
	h.must(errors.Join(os.WriteFile(named, b, 0o600), os.WriteFile(plain, b, 0o600)))
	h.runs(0, "", "vol", "create", "pool/named", "--from", named)
	h.runs(0, "", "vol", "create", "pool/said", "--from", plain, "--unpack", "zstd")
	h.sparse("over", mib)
	h.runs(0, "", "vol", "upload", "pool/over", named, "--yes")
	if code, said := h.fed(plain, "vol", "create", "pool/fed", "2M", "--from", "-", "--unpack", "zstd"); code != 0 {
		t.Errorf("a stream: exit %d: %s", code, said)
	}
	if status, said := h.answered(http.MethodPut, "put/content?create=true&unpack=zstd", bytes.NewReader(b)); status != http.StatusOK {
		t.Errorf("PUT: %d %s", status, said)
	}
	for _, v := range []string{"named", "said", "over", "put"} {
		h.hasHash(v, want)
	}
	h.is("fed", record.Volume{Capacity: 2 * mib, State: record.VolumeReady})
	h.runs(record.ExitUsage, "--unpack none", "vol", "create", "pool/no", "--from", named, "--unpack", "gzip")
	h.runs(0, "", "vol", "create", "pool/bytes", "--from", named, "--unpack", "none", "--as-format", "raw")
	h.runs(0, "", "vol", "create", "pool/same", "--from", named, "--as-format", "raw")
	for _, v := range []string{"bytes", "same"} {
		h.is(v, record.Volume{Capacity: int64(len(b)), State: record.VolumeReady})
	}
	status, said := h.answered(http.MethodPut, "no/content?create=true&unpack=zstd&length=5", bytes.NewReader(b))
	if status != http.StatusBadRequest || !strings.Contains(said, "taken whole") {
		t.Errorf("a part: %d %s", status, said)
	}
	h.absent("no")
}

// A client that sends all before it looks for an answer reads why its upload was
// refused, though it was stopped or starved while that came: nothing but the job's
// end, which breaks the body, comes between what it sends before and after.
func TestRefusalIsThereForAClientThatComesBackToItsUpload(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	conn := must(new(net.Dialer).DialContext(h.ctx(), "unix", h.sock))(t)
	defer conn.Close()
	w := httputil.NewChunkedWriter(conn)
	_, err := io.WriteString(conn, "PUT /v1/pools/pool/volumes/v/content HTTP/1.1\r\nHost: storaged\r\nTransfer-Encoding: chunked\r\n\r\n")
	h.must(err)
	must(w.Write(noise(1000)))(t)
	j := h.newest(record.VolumeUpload)
	h.until(j.ID, func(j record.Job) bool { return j.State == record.Running })
	_, err = h.client.CancelJob(h.ctx(), j.ID, contract.JobCancel{})
	h.end(of(j), err)
	if n, err := w.Write(make([]byte, 16*mib)); err != nil { // more than any buffer on the way holds
		t.Errorf("after %d bytes: %v", n, err)
	}
	in := bufio.NewReader(conn)
	for status := 0; status != http.StatusConflict; {
		resp := must(http.ReadResponse(in, nil))(t)
		if status = resp.StatusCode; status >= http.StatusOK && status != http.StatusConflict {
			t.Fatalf("answered %s", resp.Status)
		}
	}
}

// The type of a body is heeded: only what is the bytes of a disk is taken for it.
func TestTypesOfABody(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	var form bytes.Buffer
	w := sparse.NewWriter(&form)
	_, err := w.Write(noise(1000))
	h.must(errors.Join(err, w.Close()))
	for given, want := range map[string]int{
		"application/octet-stream": 200, "Application/Octet-Stream; charset=binary": 200, "": 200,
		"multipart/form-data; boundary=x": 400, "application/x-www-form-urlencoded": 400, "text/plain": 400, "application/json": 400,
		"application/vnd.storaged.sparse-2": 400, "application/gzip": 400, "bytes": 400, ";": 400,
	} {
		if status, said := h.answered(http.MethodPut, "v/content", bytes.NewReader(noise(1000)), "Content-Type", given); status != want || want == 400 && !strings.Contains(said, "hint") {
			t.Errorf("%q: %d, not %d: %s", given, status, want, said)
		}
	}
	if status, said := h.answered(http.MethodPut, "v/content", &form, "Content-Type", "application/vnd.storaged.SPARSE"); status != http.StatusOK {
		t.Errorf("the sparse form: %d %s", status, said)
	}
	h.holds("v", 0, noise(1000), record.VolumeReady)
	curl, f := testenv.Tool(t, "curl"), filepath.Join(h.dir, "f")
	h.must(os.WriteFile(f, noise(2000), 0o600))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-T", f}, "200"}, {[]string{"-X", "PUT", "-F", "file=@" + f}, "400"}, {[]string{"-X", "PUT", "--data-binary", "@" + f}, "400"},
		{[]string{"-X", "PUT", "--data-binary", "@" + f, "-H", "Content-Type: application/octet-stream"}, "200"},
	} {
		args := append([]string{"-s", "-o", os.DevNull, "-w", "%{http_code}", "--unix-socket", h.sock, "http://storaged/v1/pools/pool/volumes/v/content"}, c.args...)
		if out, err := exec.CommandContext(h.ctx(), curl, args...).Output(); err != nil || string(out) != c.want {
			t.Errorf("curl %q: %s (%v)", c.args, out, err)
		}
	}
	h.holds("v", 0, noise(2000), record.VolumeReady)
}

// canceled begins an upload and cancels it when some of it is there.
func (h *host) canceled(args ...string) {
	h.t.Helper()
	p, in := h.piped(append([]string{"vol", "upload", "--yes", "--limit", "256K"}, args...)...)
	go func() { _, _ = in.Write(noise(4 * mib)); in.Close() }() // it breaks off with the command
	j := h.newest(record.VolumeUpload)
	h.written(j.ID, 1)
	h.must(p.Process.Signal(syscall.SIGINT))
	if code := p.code(); code != record.ExitCanceled {
		h.t.Fatalf("exit %d: %s", code, p.log.String())
	}
}

// A volume is whole again when all is written that had been begun, though it is
// not all of the volume, and though nobody goes on with the job that began it.
func TestUploadThatIsDoneAgainMakesTheVolumeReady(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := noise(4 * mib)
	file := filepath.Join(h.dir, "content")
	h.must(os.WriteFile(file, content, 0o600))
	for volume, fails := range map[string]func(v string){
		"canceled-file": func(v string) { h.canceled("pool/"+v, file) },
		"canceled-pipe": func(v string) { h.canceled("pool/"+v, "-") },
		"wrong-checksum": func(v string) {
			h.runs(record.ExitMismatch, "has all of it and is incomplete", "vol", "upload", "pool/"+v, file, "--yes", "--checksum", "crc32c:00000000")
		},
		"wrong-checksum-of-a-stream": func(v string) {
			if code, said := h.fed(file, "vol", "upload", "pool/"+v, "-", "--yes", "--checksum", "sha256:"+strings.Repeat("0", 64)); code != record.ExitMismatch {
				t.Fatalf("exit %d: %s", code, said)
			}
		},
		"broken-twice": func(v string) {
			h.breakOff(v, upload{Offset: 2 * mib}, noise(mib))
			h.breakOff(v, upload{}, noise(mib))
		},
	} {
		h.sparse(volume, 8*mib)
		fails(volume)
		h.holds(volume, 0, nil, record.VolumeIncomplete)
		if _, said, code := h.ctl("vol", "upload", "pool/"+volume, file, "--yes"); code != 0 || strings.Contains(said, "stays incomplete") {
			t.Errorf("%s, then again: exit %d: %s", volume, code, said)
		}
		h.holds(volume, 0, append(bytes.Clone(content), make([]byte, 4*mib)...), record.VolumeReady)
	}
}

// What was not written again stays incomplete, and the warning says what that is;
// it may be made good by parts.
func TestUploadThatCoversAPartLeavesTheRestIncomplete(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", 8*mib)
	file := filepath.Join(h.dir, "content")
	h.must(os.WriteFile(file, noise(mib), 0o600))
	first := h.breakOff("v", upload{}, noise(3*mib))
	second := h.breakOff("v", upload{Offset: 6 * mib}, noise(mib))
	for _, c := range []struct {
		offset, says string
		by           int64
	}{
		{"2M", fmt.Sprintf("job %d had begun to change from byte 0 to %d, job %d had begun to change from byte %d to %d,", first.Number, 2*mib, second.Number, 6*mib, 7*mib), first.Number},
		{"0", fmt.Sprintf("job %d had begun to change from byte %d to %d,", first.Number, mib, 2*mib), first.Number},
		{"1M", fmt.Sprintf("job %d had begun to change from byte %d to %d,", second.Number, 6*mib, 7*mib), second.Number},
	} {
		h.runs(0, c.says, "vol", "upload", "pool/v", file, "--yes", "--offset", c.offset)
		if v := h.described("v"); v.State != record.VolumeIncomplete || v.Job == nil || *v.Job != c.by {
			t.Errorf("then it is %s, by %v", v.State, v.Job)
		}
	}
	h.runs(0, "succeeded", "vol", "upload", "pool/v", file, "--yes", "--offset", "6M")
	h.holds("v", 6*mib, noise(mib), record.VolumeReady)
	h.breakOff("v", upload{Offset: mib}, noise(mib)) // nothing is remembered of what was
	h.runs(0, "succeeded", "vol", "upload", "pool/v", file, "--yes", "--offset", "1M")
	h.holds("v", mib, noise(mib), record.VolumeReady)
}

// Of an upload that was killed nobody knows how far it came: all of the content
// may be begun, and of a stream all that there is room for.
func TestUploadThatWasKilledMayHaveChangedAllOfItsContent(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := noise(4 * mib)
	file := filepath.Join(h.dir, "content")
	h.must(os.WriteFile(file, content, 0o600))
	for volume, n := range map[string]*int64{"length-known": new(int64(4 * mib)), "length-unknown": nil} {
		h.sparse(volume, 8*mib)
		up, out := h.sending(volume, upload{Length: n}, content[:2*mib])
		j := h.running(of(up.Job))
		h.must(syscall.Kill(j.Helper.PID, syscall.SIGKILL))
		h.end(of(j), nil)
		out.Close()
		_, said, code := h.ctl("vol", "upload", "pool/"+volume, file, "--yes")
		want := record.VolumeReady
		if n == nil {
			want = record.VolumeIncomplete
		}
		if code != 0 || (n == nil) != strings.Contains(said, fmt.Sprintf("job %d had begun to change from byte %d on", j.Number, 4*mib)) {
			t.Errorf("%s: exit %d: %s", volume, code, said)
		}
		h.holds(volume, 0, content, want)
	}
}

// What goes on with an upload must begin with what is in place of it: nothing is
// written of another content, and the right one goes on all the same.
func TestAnotherContentDoesNotGoOnWithAnUpload(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content, other := noise(4*mib), noise(4*mib + 1)[:4*mib]
	files := map[string]string{}
	for name, b := range map[string][]byte{
		"right": content, "other": other, "longer": noise(5*mib + 2), "short": content[:mib/2], "one": append([]byte{content[0] + 1}, content[1:]...),
	} {
		files[name] = filepath.Join(h.dir, name)
		h.must(os.WriteFile(files[name], b, 0o600))
	}
	h.sparse("v", 8*mib)
	first := h.breakOff("v", upload{}, content[:2*mib])
	for _, c := range []struct {
		file string
		code int
		says string
	}{
		{"short", record.ExitUsage, "in place already"}, {"other", record.ExitBusy, "does not begin with"},
		{"longer", record.ExitBusy, "does not begin with"}, {"one", record.ExitBusy, "does not begin with"},
	} {
		h.runs(c.code, c.says, "vol", "upload", "pool/v", files[c.file], "--resume", "--yes")
		if code, said := h.fed(files[c.file], "vol", "upload", "pool/v", "-", "--resume", "--yes"); code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("a stream of %s: exit %d: %s", c.file, code, said)
		}
		h.holds("v", 0, append(bytes.Clone(content[:first.Progress.Done]), make([]byte, 6*mib)...), record.VolumeIncomplete)
	}
	h.runs(record.ExitUsage, "in place already", "vol", "upload", "pool/v", files["right"], "--resume", "--yes", "--length", "1M")
	h.runs(0, "succeeded", "vol", "upload", "pool/v", files["right"], "--resume", "--yes")
	h.holds("v", 0, append(content, make([]byte, 4*mib)...), record.VolumeReady)
}

// Where nobody knows what the content begins with, that is said.
func TestRestThatCannotBeComparedIsWarnedOf(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := noise(2 * mib)
	digest := sha256.Sum256(content)
	sum := func(b []byte) string {
		return record.ContentChecksum(record.CRC32C, binary.BigEndian.AppendUint32(nil, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
	}
	for volume, c := range map[string]struct {
		beginning, checksum string
		code                record.Code
		warned              bool
	}{
		"nothing":       {"", "", "", true},
		"the-whole":     {"", record.Checksum(digest), "", false},
		"the-beginning": {"right", "", "", false},
		"another":       {sum(content[:7]), "", record.Changed, false},
	} {
		h.sparse(volume, 2*mib)
		rest := h.brokenUpload(volume, content[:mib])
		rest.Beginning, rest.Checksum = c.beginning, c.checksum
		if c.beginning == "right" {
			rest.Beginning = sum(content[:rest.Offset])
		}
		up := h.upload(h.ctx(), volume, bytes.NewReader(content[rest.Offset:]), rest)
		if err := up.Wait(); record.CodeOf(err) != c.code {
			t.Errorf("%s: %v", volume, err)
		}
		j := h.job(of(up.Job))
		if warned := strings.Contains(strings.Join(j.Warnings, "\n"), "begins with what was uploaded"); warned != c.warned {
			t.Errorf("%s: warnings %q", volume, j.Warnings)
		}
	}
	for _, bad := range []upload{{Beginning: sum(nil)}, {Beginning: "crc32c", Continues: "1"}, {Beginning: "md5:00", Continues: "1"}} {
		_, err := h.stream("nothing", bytes.NewReader(content), bad)
		h.refused(err, record.Invalid)
	}
}
