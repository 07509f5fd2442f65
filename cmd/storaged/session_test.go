package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// nobody is a user without rights; the number needs no entry in passwd.
const nobody = 65534

func TestSessionModeNeedsNoRoot(t *testing.T) {
	t.Parallel()
	testenv.Root(t) // to become somebody else
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(home, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	ready := listenNotify(t, filepath.Join(dir, "notify"))
	cmd := exec.Command(filepath.Join(bin, "storaged"))
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "NOTIFY_SOCKET=" + filepath.Join(dir, "notify"), "GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready.await(t, "READY=1")

	sock := filepath.Join(home, ".local/state/storaged/run/storaged/storaged.sock")
	if st, err := os.Stat(sock); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", st, err)
	}
	h := &host{t: t, dir: home, sock: sock, pool: filepath.Join(home, "pool"), daemon: cmd, client: checkedClient(t, sock)}
	h.define("pool", h.pool)
	h.sparse("v", mib)
	h.succeed(h.clone("v", "w"))
	h.succeed(h.wipe("w"))
	if j := h.succeed(h.remove("w")); j.Owner.UID != 0 || j.Owner.User != "root" {
		t.Errorf("the owner is %s, the test runs as root", shown(j.Owner))
	}
	h.must(cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("daemon: %v", err)
	}
}

// TestForbiddenStateIsExit6 starts a daemon as a user whom the state directory
// is closed to.
func TestForbiddenStateIsExit6(t *testing.T) {
	t.Parallel()
	testenv.Root(t) // to become somebody else
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "storaged"), "--config", "/dev/null", "--state-dir", filepath.Join(closed, "state"))
	cmd.Env = []string{"HOME=" + closed, "GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != record.ExitDenied || !strings.Contains(string(out), "hint: another --state-dir") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestReadOnlySocketReadsAndNothingElse(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	ro := checkedClient(t, filepath.Join(h.dir, "storaged-ro.sock"))
	if _, err := ro.Pools(h.ctx()); err != nil {
		t.Errorf("reading: %v", err)
	}
	_, err := ro.Start(h.ctx(), contract.Submit{}, "pool", "v", &operation.WipeRequest{})
	if record.CodeOf(err) != record.Denied {
		t.Errorf("wiping: %v", err)
	}
	for path, want := range map[string]os.FileMode{h.sock: 0o660, filepath.Join(h.dir, "storaged-ro.sock"): 0o666} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %v", path, st.Mode(), err, want)
		}
	}
}
