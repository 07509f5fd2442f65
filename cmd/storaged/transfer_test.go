package main_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// program is storagedctl at work.
type program struct {
	*exec.Cmd
	h   *host
	log bytes.Buffer // standard error, to be read after the end
}

// spawn starts storagedctl; prepare may change the command first.
func (h *host) spawn(prepare func(*exec.Cmd), args ...string) *program {
	h.t.Helper()
	p := &program{h: h, Cmd: exec.CommandContext(h.ctx(), filepath.Join(bin, "storagedctl"), append([]string{"--socket", h.sock}, args...)...)}
	p.Stderr = &p.log
	if prepare != nil {
		prepare(p.Cmd)
	}
	h.must(p.Start())
	h.t.Cleanup(func() {
		_ = p.Process.Kill() // it has ended in most tests
		_ = p.Wait()
	})
	return p
}

// code waits for the end and gives the exit code, -1 after a signal.
func (p *program) code() int {
	p.h.t.Helper()
	if err := p.Wait(); err != nil && p.ProcessState == nil {
		p.h.t.Fatal(err)
	}
	return p.ProcessState.ExitCode()
}

// piped starts storagedctl with a pipe that the test writes to as its input.
func (h *host) piped(args ...string) (*program, io.WriteCloser) {
	h.t.Helper()
	var in io.WriteCloser
	p := h.spawn(func(c *exec.Cmd) {
		var err error
		in, err = c.StdinPipe()
		h.must(err)
	}, args...)
	h.t.Cleanup(func() { in.Close() })
	return p, in
}

// newest waits for a live job of that kind, and gives the newest.
func (h *host) newest(kind record.Kind) (j record.Job) {
	h.t.Helper()
	h.await("a live "+string(kind), func() bool {
		l := must(h.client.Jobs(h.ctx(), contract.JobFilter{Kinds: []string{string(kind)}, States: []string{"live"}}, contract.Page{Limit: 1}))(h.t)
		if len(l.Items) > 0 {
			j = l.Items[0]
		}
		return len(l.Items) > 0
	})
	return j
}

// file fails unless a file has the content, or is absent where that is nil, and
// nothing unfinished is beside it.
func (h *host) file(path string, content []byte) {
	h.t.Helper()
	got, err := os.ReadFile(path)
	if content == nil && !os.IsNotExist(err) || content != nil && (err != nil || !bytes.Equal(got, content)) {
		h.t.Errorf("%s has %d bytes (%v), which are not the %d that it should have", path, len(got), err, len(content))
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*.part")); len(left) > 0 {
		h.t.Errorf("%v is left", left)
	}
}

// sparseForm downloads a volume in the sparse form, of so many bytes at most,
// and gives the file.
func (h *host) sparseForm(volume string, most int64) (path string) {
	h.t.Helper()
	path = filepath.Join(h.dir, "stream")
	stream := must(os.Create(path))(h.t)
	defer stream.Close() // the program has written it
	p := h.spawn(func(c *exec.Cmd) { c.Stdout = stream }, "vol", "download", volume, "-", "--sparse")
	if code := p.code(); code != 0 {
		h.t.Errorf("to the sparse form: exit %d: %s", code, p.log.String())
	}
	st := must(stream.Stat())(h.t)
	if st.Size() > most {
		h.t.Errorf("%d bytes in the sparse form", st.Size())
	}
	return path
}

// What storagedctl takes from a file, a pipe by its name or its standard input
// comes back as it was, to a file or its standard output.
func TestStoragedctlMovesContents(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const size = 8 * mib
	f, content := h.given("src", size)
	fifo := filepath.Join(h.dir, "fifo")
	h.must(unix.Mkfifo(fifo, 0o600))
	for i, c := range []struct {
		from, to string
		sparse   bool
	}{{f.Name(), "file", false}, {"-", "-", false}, {fifo, "file", false}, {"-", "-", true}} {
		volume := fmt.Sprintf("v%d", i)
		h.sparse(volume, size)
		form := []string{}
		from := f.Name()
		if c.sparse {
			form = []string{"--sparse"}
			from = h.sparseForm("pool/v0", size*3/4+64<<10)
		}
		switch args := append([]string{"vol", "upload", "pool/" + volume, c.from, "--yes"}, form...); c.from {
		case f.Name():
			h.runs(0, "succeeded", args...)
		default: // cat is the producer
			cat := exec.CommandContext(h.ctx(), "cat", from)
			if c.from == fifo {
				cat = exec.CommandContext(h.ctx(), "cp", from, fifo)
			}
			p := h.spawn(func(c *exec.Cmd) { c.Stdin = h.output(cat) }, args...)
			if code := p.code(); code != 0 {
				t.Errorf("from %s: exit %d: %s", c.from, code, p.log.String())
			}
		}
		h.holds(volume, 0, content, record.VolumeReady)
		to := filepath.Join(h.dir, volume)
		if c.to == "file" {
			h.runs(0, "succeeded", "vol", "download", "pool/"+volume, to)
			h.file(to, content)
			if st, err := os.Stat(to); err != nil || c.from == f.Name() && st.Sys().(*syscall.Stat_t).Blocks*512 > size*3/4+64<<10 {
				t.Errorf("from %s: holes were written (%v)", c.from, err)
			}
		} else if out := h.runs(0, "", "vol", "download", "pool/"+volume, "-"); out != string(content) {
			t.Errorf("to %s: %d bytes came, which are others", c.to, len(out))
		}
	}
}

// output starts a command and gives what it writes, as a pipe.
func (h *host) output(c *exec.Cmd) *os.File {
	h.t.Helper()
	r, w, err := os.Pipe()
	h.must(err)
	c.Stdout = w
	h.must(c.Start())
	w.Close() // the command has its own
	h.t.Cleanup(func() { r.Close(); _ = c.Wait() })
	return r
}

// An upload goes on by --resume, from a file or a stream, when its client or the
// daemon was killed.
func TestStoragedctlResumesAnUpload(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	f, content := h.given("src", 8*mib)
	for volume, kill := range map[string]func(p *program){
		"client": func(p *program) { h.must(p.Process.Kill()) },
		"daemon": func(*program) { h.kill(); h.start() },
	} {
		for _, from := range []string{f.Name(), "-"} {
			h.sparse(volume, 8*mib)
			p, in := h.piped("vol", "upload", "pool/"+volume, "-", "--yes")
			_, err := in.Write(content[:3*mib])
			h.must(err)
			j := h.newest(record.VolumeUpload)
			h.written(j.ID, 2*mib)
			kill(p)
			if j = h.end(of(j), nil); j.Code() != record.Interrupted {
				t.Fatalf("%s killed: %s", volume, outcome(j))
			}
			in.Close()
			if code := p.code(); code == 0 {
				t.Errorf("%s killed: exit 0: %s", volume, p.log.String())
			}
			if j.Progress.Done == 0 {
				t.Errorf("%s killed: nothing is in place", volume)
			}
			h.holds(volume, 0, content[:j.Progress.Done], record.VolumeIncomplete)
			_, err = f.Seek(0, io.SeekStart)
			h.must(err)
			rest := h.spawn(func(c *exec.Cmd) { c.Stdin = f }, "vol", "upload", "pool/"+volume, from, "--resume", "--yes")
			if code := rest.code(); code != 0 || !strings.Contains(rest.log.String(), fmt.Sprintf("going on with job %d", j.Number)) {
				t.Errorf("%s killed: resuming from %s: exit %d: %s", volume, from, code, rest.log.String())
			}
			h.holds(volume, 0, content, record.VolumeReady)
			h.runs(0, "", "vol", "delete", "pool/"+volume, "--yes")
		}
	}
}

// Whatever goes wrong has its exit code, and nobody takes what is there for a
// whole content.
func TestStoragedctlTransfersThatFail(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	f, content := h.given("src", mib)
	h.sparse("v", mib)
	h.runs(record.ExitMismatch, "has checksum", "vol", "upload", "pool/v", f.Name(), "--yes", "--checksum", "crc32c:00000000")
	h.holds("v", 0, content, record.VolumeIncomplete)
	h.runs(0, "succeeded", "vol", "upload", "pool/v", f.Name(), "--yes", "--checksum", "sha256:"+hashOf(t, f.Name()))
	h.holds("v", 0, content, record.VolumeReady)

	to := filepath.Join(h.dir, "to")
	h.runs(record.ExitMismatch, "has checksum", "vol", "download", "pool/v", to, "--checksum", "crc32c:00000000")
	h.file(to, nil)
	old := []byte("what was there")
	h.must(os.WriteFile(to, old, 0o600))
	h.runs(record.ExitMismatch, "has checksum", "vol", "download", "pool/v", to, "--checksum", "crc32c:00000000")
	h.file(to, old)
	h.runs(0, "succeeded", "vol", "download", "pool/v", to)
	h.file(to, content)
	h.runs(record.ExitMismatch, "has checksum", "vol", "download", "pool/v", "-", "--checksum", "crc32c:00000000")
}

func TestDownloadToAFullFileSystem(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 4*mib)
	dir := testenv.Mount(t, "tmpfs")
	h.ballast(dir, mib)
	to := filepath.Join(dir, "to")
	_, said, code := h.ctl("vol", "download", "pool/v", to)
	if code != record.ExitNoSpace || !strings.Contains(said, fmt.Sprintf("to %q: ", to)) || !strings.Contains(said, "no space") || strings.Contains(said, "where the pool lies") {
		t.Errorf("exit %d: %s", code, said)
	}
	h.file(to, nil)
	h.random("small", 1000) // all of it is on its way before anybody finds out
	for _, volume := range []string{"pool/v", "pool/small"} {
		h.runs(record.ExitNoSpace, `cannot write the content to "/dev/full": no space`, "vol", "download", volume, "/dev/full")
		h.runs(record.ExitNoSpace, "no space", "vol", "download", volume, "/dev/full", "--sparse")
	}
	full := must(os.Create(to))(t)
	defer full.Close()
	p := h.spawn(func(c *exec.Cmd) { c.Stdout = full }, "vol", "download", "pool/v", "-")
	if code := p.code(); code != record.ExitNoSpace || !strings.Contains(p.log.String(), fmt.Sprintf("standard output (%q): no space", to)) {
		t.Errorf("to standard output: exit %d: %s", code, p.log.String())
	}
}

func TestCtrlCCancelsATransfer(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 8*mib)
	f, _ := h.given("src", 8*mib)
	to := filepath.Join(h.dir, "to")
	for _, c := range []struct {
		kind record.Kind
		args []string
	}{
		{record.VolumeDownload, []string{"vol", "download", "pool/v", to, "--limit", "64K"}},
		{record.VolumeUpload, []string{"vol", "upload", "pool/v", f.Name(), "--yes", "--limit", "64K"}},
	} {
		p := h.spawn(nil, c.args...)
		j := h.running(of(h.newest(c.kind)))
		h.must(p.Process.Signal(syscall.SIGINT))
		if code := p.code(); code != record.ExitCanceled {
			t.Errorf("%s: exit %d: %s", c.kind, code, p.log.String())
		}
		h.jobIs(h.end(of(j), nil), record.Job{State: record.Canceled})
	}
	h.file(to, nil)
	h.holds("v", 0, nil, record.VolumeIncomplete)
}

// An image is put as it is, in the format that it is declared to have, and its
// header tells the capacity.
func TestStoragedctlMakesAVolumeOfAnImage(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	qemu := testenv.Tool(t, "qemu-img")
	image, over, plain := filepath.Join(h.dir, "i.qcow2"), filepath.Join(h.dir, "over.qcow2"), filepath.Join(h.dir, "plain")
	h.must(os.WriteFile(plain, noise(mib), 0o600))
	for _, args := range [][]string{
		{"convert", "-f", "raw", "-O", "qcow2", plain, image}, {"resize", "-q", image, "32M"},
		{"create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", over},
	} {
		if out, err := exec.CommandContext(h.ctx(), qemu, args...).CombinedOutput(); err != nil {
			t.Fatalf("qemu-img %v: %v\n%s", args, err, out)
		}
	}
	content := must(os.ReadFile(image))(t)
	for _, refused := range [][]string{
		{image}, {plain, "--format", "qcow2"}, {image, "--format", "vmdk"}, {image, "--format", "qcow3"}, {image, "64M", "--format", "qcow2"},
	} {
		args := []string{"vol", "create", "pool/i"}
		if len(refused) == 4 {
			args, refused = append(args, refused[1]), append(refused[:1:1], refused[2:]...)
		}
		h.runs(record.ExitUsage, "storagedctl: error:", append(append(args, "--from"), refused...)...)
		h.absent("i")
	}
	h.runs(0, "succeeded", "vol", "create", "pool/i", "--from", image, "--format", "qcow2")
	h.runs(0, "", "vol", "create", "pool/i", "--from", image, "--format", "qcow2", "--exist-ok")
	h.runs(record.ExitExists, "differs", "vol", "create", "pool/i", "--from", plain, "--exist-ok", "--format", "raw")
	p := h.spawn(func(c *exec.Cmd) { c.Stdin = h.output(exec.CommandContext(h.ctx(), "cat", image)) }, "vol", "create", "pool/s", "--from", "-", "--format", "qcow2")
	if code := p.code(); code != 0 {
		t.Errorf("from a stream: exit %d: %s", code, p.log.String())
	}
	h.must(h.refresh("pool"))
	for _, name := range []string{"i", "s"} {
		h.holds(name, 0, content, record.VolumeReady)
		v, err := h.client.Volume(h.ctx(), "pool", name)
		if err != nil || v.Format != "qcow2" || v.Capacity != 32*mib || v.Backing != "" {
			t.Errorf("%s (%v)", shown(v), err)
		}
		if out, err := exec.CommandContext(h.ctx(), qemu, "compare", "-f", "qcow2", "-F", "qcow2", image, h.path(name)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	h.runs(record.ExitUnsupported, "no volume of a pool", "vol", "create", "pool/over", "--from", over, "--format", "qcow2")
	h.absent("over")
	if out, err := exec.CommandContext(h.ctx(), qemu, "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", h.path("i"), over).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	h.runs(0, "succeeded", "vol", "create", "pool/over", "--from", over, "--format", "qcow2")
	h.is("over", record.Volume{Backing: h.path("i")})
}

// A daemon that dies takes the stream with it that passes through it: who sends it
// is told so, and how to go on.
func TestStreamBreaksOffWithTheDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", 8*mib)
	f, content := h.given("content", 8*mib)
	p, in := h.piped("vol", "upload", "pool/v", "-", "--yes")
	_, err := in.Write(content[:5*mib])
	h.must(err)
	h.written(h.newest(record.VolumeUpload).ID, 4*mib)
	h.kill()
	h.start()
	code := p.code()
	for _, text := range []string{"(volume.upload pool/v) ends unfinished, as its stream breaks off", "hint: storagedctl vol upload pool/v FILE --resume goes on where it broke off"} {
		if code != record.ExitFailed || !strings.Contains(p.log.String(), text) {
			t.Errorf("exit %d, not %q: %s", code, text, p.log.String())
		}
	}
	if code, said := h.fed(f.Name(), "vol", "upload", "pool/v", "-", "--resume", "--yes"); code != 0 {
		t.Errorf("exit %d: %s", code, said)
	}
	h.holds("v", 0, content, record.VolumeReady)
}

// Who leaves with the stream in hand leaves no job that goes on.
func TestWhoLeavesEndsTheStream(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", 8*mib)
	p, in := h.piped("vol", "upload", "pool/v", "-", "--yes")
	_, err := in.Write(make([]byte, 5*mib))
	h.must(err)
	j := h.newest(record.VolumeUpload)
	h.written(j.ID, 4*mib)
	h.must(p.Process.Signal(syscall.SIGQUIT))
	if code := p.code(); code != record.ExitCanceled || !strings.Contains(p.log.String(), "ends unfinished, as its stream breaks off") {
		t.Errorf("exit %d: %s", code, p.log.String())
	}
	if j = h.end(of(j), nil); j.State == record.Succeeded {
		t.Errorf("the job is %s", j.State)
	}
}

// A device that never ends does not fill a file system.
func TestEndlessSourceNeedsALength(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	zero := must(os.Open("/dev/zero"))(t)
	defer zero.Close()
	for _, args := range [][]string{{"vol", "create", "pool/x", "--from", "/dev/zero"}, {"vol", "upload", "pool/v", "/dev/zero", "--yes"}, {"vol", "upload", "pool/v", "-", "--yes"}} {
		p := h.spawn(func(c *exec.Cmd) { c.Stdin = zero }, args...)
		if code := p.code(); code != record.ExitUsage || !strings.Contains(p.log.String(), "may never end") {
			t.Errorf("%q: exit %d, %s", args, code, p.log.String())
		}
	}
	h.runs(0, "", "vol", "create", "pool/x", "2M", "--from", "/dev/zero")
	h.holds("x", 0, make([]byte, 2*mib), record.VolumeReady)
	h.runs(0, "", "vol", "upload", "pool/v", "/dev/zero", "--yes", "--length", "1M")
}
