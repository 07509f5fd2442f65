package testenv

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// libvirtPatience bounds the start of libvirtd, which takes some 100 ms.
const libvirtPatience = 30 * time.Second

// libvirtDriver is the part of libvirtd that has to do with storage.
const libvirtDriver = "libvirt_driver_storage.so"

// Libvirtd starts libvirt's own daemon, with its driver for storage and no other, until
// the end of the test. It has directories of its own in the place of the system's, and
// clients find it by its sockets. It needs root.
func Libvirtd(t testing.TB) (socket, readOnly string) {
	t.Helper()
	Root(t)
	program := Tool(t, "libvirtd")
	dir := t.TempDir()
	own := map[string]string{}
	for _, system := range []string{"/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/run/libvirt"} {
		own[system] = filepath.Join(dir, strings.ReplaceAll(system[1:], "/", "-"))
		makeDir(t, own[system])
	}
	for _, sub := range []string{"drivers", "sock"} {
		makeDir(t, filepath.Join(dir, sub))
	}
	found, err := filepath.Glob("/usr/lib*/*/libvirt/connection-driver/" + libvirtDriver)
	if err != nil {
		t.Fatal(err)
	}
	Need(t, "libvirt's storage driver", len(found) == 1)
	if err := os.Symlink(found[0], filepath.Join(dir, "drivers", libvirtDriver)); err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(dir, "sock")
	config := fmt.Sprintf("unix_sock_dir = %q\nunix_sock_group = \"root\"\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n", sock)
	if err := os.WriteFile(filepath.Join(dir, "libvirtd.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	script := ""
	for system, path := range own {
		script += fmt.Sprintf("mkdir -p %s && mount --bind %s %s && ", system, path, system)
	}
	script += fmt.Sprintf("exec %s -f %s/libvirtd.conf -p %s/pid", program, dir, dir)
	startLibvirtd(t, dir, script)
	return filepath.Join(sock, "libvirt-sock"), filepath.Join(sock, "libvirt-sock-ro")
}

func makeDir(t testing.TB, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

// startLibvirtd runs the script where it can mount, and waits for the daemon to say that
// it is ready (sd_notify(3)).
func startLibvirtd(t testing.TB, dir, script string) {
	t.Helper()
	notify := filepath.Join(dir, "notify")
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	cmd := exec.Command("sh", "-c", script)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env = append(os.Environ(), "LIBVIRT_DRIVER_DIR="+filepath.Join(dir, "drivers"), "NOTIFY_SOCKET="+notify)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // how it ends does not matter
		if t.Failed() && said.Len() > 0 {
			t.Logf("libvirtd said:\n%s", &said)
		}
	})
	if err := ready.SetReadDeadline(time.Now().Add(libvirtPatience)); err != nil {
		t.Fatal(err)
	}
	word := make([]byte, 1024)
	if n, err := ready.Read(word); err != nil || !strings.Contains(string(word[:n]), "READY=1") {
		t.Fatalf("libvirtd is not ready: %q, %v\n%s", word[:n], err, &said)
	}
}
