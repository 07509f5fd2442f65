package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// faraway is a host as another one sees it, through ssh and a server of that. What carries
// the bytes between the two is a pair of pipes, which can be cut.
type faraway struct {
	*host
	dir, address string
}

const (
	sshdConfig = `HostKey %[1]s/hostkey
AuthorizedKeysFile %[1]s/key.pub
StrictModes no
UsePAM no
PidFile none
SetEnv PATH=%[2]s:/usr/bin:/bin
ForceCommand echo 'a shell that says something'; exec sh -c "$SSH_ORIGINAL_COMMAND"
`
	sshConfig = `Host there empty
  User root
  IdentityFile %[1]s/key
  UserKnownHostsFile %[1]s/known
  StrictHostKeyChecking no
  ProxyCommand %[1]s/link
Host empty
  SetEnv PATH=/nowhere
Host nobody
  ProxyCommand false
Host silent
  ProxyCommand sh -c 'echo $$ >%[1]s/silence.new; mv %[1]s/silence.new %[1]s/silence; cat >/dev/null'
`
	// A server has a session of its own. It gets the pid of the script.
	linkScript = "#!/bin/sh\n: >%[1]s/links/$$\nexec setsid %[2]s -i -f %[1]s/sshd_config 2>>%[1]s/log\n"
	// ssh finds its settings in the home of the account, whatever HOME is.
	sshScript = "#!/bin/sh\nexec %[2]s -F %[1]s/ssh_config \"$@\"\n"
)

// far sees a host from elsewhere.
func (h *host) far() *faraway {
	h.t.Helper()
	testenv.Root(h.t)
	sshd, ssh, keygen := testenv.Tool(h.t, "sshd"), testenv.Tool(h.t, "ssh"), testenv.Tool(h.t, "ssh-keygen")
	f := &faraway{host: h, dir: h.t.TempDir(), address: "ssh://there" + h.sock}
	h.must(os.MkdirAll("/run/sshd", 0o755)) // where sshd(8) wants to be able to be locked in
	h.must(os.Mkdir(filepath.Join(f.dir, "links"), 0o700))
	for _, key := range []string{"hostkey", "key"} {
		if out, err := exec.CommandContext(h.ctx(), keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(f.dir, key)).CombinedOutput(); err != nil {
			h.t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	for name, text := range map[string]string{
		"sshd_config": fmt.Sprintf(sshdConfig, f.dir, h.bin), "ssh_config": fmt.Sprintf(sshConfig, f.dir),
		"link": fmt.Sprintf(linkScript, f.dir, sshd), "ssh": fmt.Sprintf(sshScript, f.dir, ssh),
	} {
		h.must(os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o700))
	}
	h.t.Cleanup(func() {
		if log, _ := os.ReadFile(filepath.Join(f.dir, "log")); h.t.Failed() {
			h.t.Logf("sshd: %s", log)
		}
	})
	return f
}

// start starts storagedctl elsewhere, with a process group as a shell gives it one. What it
// writes goes to out, if there is one.
func (f *faraway) start(out *strings.Builder, args ...string) *program {
	f.t.Helper()
	return f.spawn(func(c *exec.Cmd) {
		c.Args = append([]string{c.Args[0], "--host", f.address}, args...)
		c.Env = append(os.Environ(), "PATH="+f.dir+":"+os.Getenv("PATH"))
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if out != nil {
			c.Stdout = out
		}
	}, args...)
}

// does runs it to its end, which must have the code, and say that.
func (f *faraway) does(code int, says string, args ...string) {
	f.t.Helper()
	var out strings.Builder
	p := f.start(&out, args...)
	if got := p.code(); got != code || !strings.Contains(out.String()+p.log.String(), says) {
		f.t.Errorf("%q: exit code %d, not %d, or it does not say %q:\n%s%s", args, got, code, says, out.String(), p.log.String())
	}
}

// cut cuts every link that there is.
func (f *faraway) cut() {
	f.t.Helper()
	all := must(os.ReadDir(filepath.Join(f.dir, "links")))(f.t)
	for _, l := range all {
		pid, err := strconv.Atoi(l.Name())
		f.must(err)
		if strings.Contains(commandOf(pid), "sshd") { // it may have ended, and its number be another's
			f.must(syscall.Kill(pid, syscall.SIGKILL))
		}
		f.must(os.Remove(filepath.Join(f.dir, "links", l.Name())))
	}
}

// Everything works from elsewhere as it does here, files and their holes too.
func TestDaemonOfAnotherHost(t *testing.T) {
	t.Parallel()
	f := newHost(t).far()
	src, content := f.given("src", 8*mib)
	to := filepath.Join(f.host.dir, "to")
	f.does(0, "active", "pool", "list")
	f.does(0, "succeeded", "vol", "create", "pool/v", "--from", src.Name())
	f.holds("v", 0, content, record.VolumeReady)
	f.hasHoles(f.path("v"))
	f.does(0, "succeeded", "vol", "download", "pool/v", to)
	f.file(to, content)
	f.hasHoles(to)
	f.does(0, "succeeded", "vol", "upload", "pool/v", src.Name(), "--yes", "--checksum", "sha256:"+hashOf(t, src.Name()))
	f.does(0, "succeeded", "vol", "download", "pool/v", to, "--offset", "1M", "--length", "5M")
	f.file(to, content[mib:6*mib])
	f.does(0, "succeeded", "vol", "upload", "pool/v", src.Name(), "--yes", "--length", "1M", "--offset", "7M")
	f.holds("v", 7*mib, content[:mib], record.VolumeReady)
	f.does(0, "succeeded", "vol", "create", "pool/sized", "8M", "--from", src.Name())
	f.holds("sized", 0, content, record.VolumeReady)
	f.hasHoles(f.path("sized"))
	f.does(record.ExitUsage, "nothing grows by an upload", "vol", "upload", "pool/v", src.Name(), "--yes", "--offset", "1M")
	f.does(record.ExitUsage, "--detach", "vol", "upload", "pool/v", src.Name(), "--yes", "--detach")
	f.does(record.ExitUsage, "absolute", "pool", "define", "q", "--target", "images")
}

// hasHoles fails if a file with holes has none any more.
func (f *faraway) hasHoles(path string) {
	f.t.Helper()
	st := must(os.Stat(path))(f.t)
	if allocated := st.Sys().(*syscall.Stat_t).Blocks * 512; allocated >= st.Size() {
		f.t.Errorf("%s allocates %d bytes of %d", path, allocated, st.Size())
	}
}

// Why a host cannot be reached is said by who knows it.
func TestHostThatCannotBeReached(t *testing.T) {
	t.Parallel()
	f := newHost(t).far()
	for address, says := range map[string]string{
		"ssh://there/":       "no daemon at \"/run/storaged/",
		"nobody":             `cannot reach the daemon of host "nobody"`,
		"ssh://there/no/one": `on host "there": no daemon at "/no/one": there is no such socket`,
		"ssh://there/a'b c":  `on host "there": no daemon at "/a'b c"`,
	} {
		f.address = address
		f.does(record.ExitUnreachable, says, "status")
	}
	for _, address := range []string{"http://there", "ssh://", "ssh://a:b@there", "there?x", "ssh://-oProxyCommand=x", "ssh://-x@there", "ssh://there:x"} {
		f.address = address
		f.does(record.ExitUsage, "--host", "status")
	}
}

// Ctrl-C is for the job. The connection outlives it, though a terminal sends it to all.
func TestCtrlCCancelsAJobOfAnotherHost(t *testing.T) {
	t.Parallel()
	f := newHost(t).far()
	f.random("v", 8*mib)
	p := f.start(nil, "vol", "wipe", "pool/v", "--yes", "--limit", "64K")
	j := f.running(of(f.newest(record.VolumeWipe)))
	f.must(syscall.Kill(-p.Process.Pid, syscall.SIGINT))
	if code := p.code(); code != record.ExitCanceled {
		t.Errorf("exit %d: %s", code, p.log.String())
	}
	f.jobIs(f.end(of(j), nil), record.Job{State: record.Canceled})
}

// Whoever gives up while a host does not answer is free at once, and ssh is gone too.
func TestHostThatDoesNotAnswerIsGivenUp(t *testing.T) {
	t.Parallel()
	f := newHost(t).far()
	f.address = "silent"
	p := f.start(nil, "job", "wait", "1")
	pidFile := filepath.Join(f.dir, "silence")
	f.await("a link that says nothing", func() bool { _, err := os.Stat(pidFile); return err == nil })
	f.must(syscall.Kill(-p.Process.Pid, syscall.SIGINT))
	if code := p.code(); code == 0 {
		t.Errorf("exit %d: %s", code, p.log.String())
	}
	pid := must(strconv.Atoi(strings.TrimSpace(string(must(os.ReadFile(pidFile))(t)))))(t)
	f.await("the end of the link", func() bool { return syscall.Kill(pid, 0) != nil })
}

// A link that is cut is made anew by who waits, and an upload goes on where it broke off.
func TestLinkToAnotherHostIsCut(t *testing.T) {
	t.Parallel()
	f := newHost(t).far()
	f.random("w", 4*mib)
	p := f.start(nil, "vol", "wipe", "pool/w", "--yes", "--limit", "512K")
	j := f.running(of(f.newest(record.VolumeWipe)))
	f.cut()
	f.limitless(j)
	if code := p.code(); code != 0 || !strings.Contains(p.log.String(), "succeeded") {
		t.Errorf("who waits ends with %d: %s", code, p.log.String())
	}
	src, content := f.given("src", 8*mib)
	f.sparse("v", 8*mib)
	args := []string{"vol", "upload", "pool/v", src.Name(), "--yes"}
	for range 3 {
		p := f.start(nil, append(args, "--limit", "1M")...)
		j := f.running(of(f.newest(record.VolumeUpload)))
		f.cut()
		if code := p.code(); code == 0 {
			t.Errorf("an upload that was cut ends with 0: %s", p.log.String())
		}
		f.end(of(j), nil)
		if len(args) == 5 {
			args = append(args, "--resume")
		}
	}
	f.does(0, "succeeded", args...)
	f.holds("v", 0, content, record.VolumeReady)
}

// limitless lifts the limit of a job.
func (f *faraway) limitless(j record.Job) {
	f.t.Helper()
	f.runs(0, "", "job", "limit", fmt.Sprint(j.Number), "none")
}
