package testenv

import (
	"bytes"
	"context"
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
const libvirtPatience = 2 * time.Minute

// System is where programs of libvirt are: the root directory of another system that was
// unpacked there, "" for this one.
type System string

// driver gives the path of one of libvirt's drivers in the system.
func (s System) driver(t testing.TB, name string) string {
	t.Helper()
	found, err := filepath.Glob(string(s) + "/usr/lib*/*/libvirt/connection-driver/libvirt_driver_" + name + ".so")
	if err != nil {
		t.Fatal(err)
	}
	Need(t, "libvirt's driver for "+name, len(found) == 1)
	return strings.TrimPrefix(found[0], string(s))
}

// enter is how a shell that has mounts of its own becomes one of the system's programs,
// which has our devices, processes and directories of tests.
func (s System) enter(t testing.TB, program string) string {
	t.Helper()
	if s == "" {
		return "exec " + Tool(t, program)
	}
	return fmt.Sprintf("for d in /dev /proc %s; do mkdir -p %[2]s$d && mount --rbind $d %[2]s$d || exit; done && exec chroot %[2]s %s", os.TempDir(), s, program)
}

// Command is one that runs a program of the system. For one of another it needs root.
func (s System) Command(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	if s == "" {
		return exec.CommandContext(t.Context(), Tool(t, program), args...)
	}
	return Mounting(t.Context(), t, s.enter(t, program)+` "$@"`, args...)
}

// Libvirtd starts libvirt's own daemon, with its driver for storage and no other, until
// the end of the test. It has directories of its own in the place of the system's, and
// clients find it by its sockets. It needs root.
func Libvirtd(t testing.TB) (socket, readOnly string) { return System("").Libvirtd(t) }

// Libvirtd is the system's libvirtd.
func (s System) Libvirtd(t testing.TB) (socket, readOnly string) {
	t.Helper()
	return s.libvirtd(t, "none")
}

// LibvirtdAsking is Libvirtd that asks the polkit of a bus about its clients, which may be
// anybody's.
func LibvirtdAsking(t testing.TB, bus string) (socket, readOnly string) {
	t.Helper()
	return System("").libvirtd(t, "polkit", "DBUS_SYSTEM_BUS_ADDRESS="+bus)
}

func (s System) libvirtd(t testing.TB, auth string, env ...string) (socket, readOnly string) {
	t.Helper()
	Root(t)
	dir := Shared(t)
	own := map[string]string{}
	for _, system := range []string{"/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/run/libvirt"} {
		own[system] = filepath.Join(dir, strings.ReplaceAll(system[1:], "/", "-"))
		makeDir(t, own[system])
	}
	for _, sub := range []string{"drivers", "sock"} {
		makeDir(t, filepath.Join(dir, sub))
	}
	driver := s.driver(t, "storage")
	if err := os.Symlink(driver, filepath.Join(dir, "drivers", filepath.Base(driver))); err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(dir, "sock")
	config := fmt.Sprintf("unix_sock_dir = %q\nunix_sock_group = \"root\"\nunix_sock_ro_perms = \"0777\"\nunix_sock_rw_perms = \"0777\"\nauth_unix_rw = %q\nauth_unix_ro = %[2]q\n", sock, auth)
	if err := os.WriteFile(filepath.Join(dir, "libvirtd.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	script := ""
	for system, path := range own {
		script += fmt.Sprintf("mkdir -p %[1]s%[2]s && mount --bind %[3]s %[1]s%[2]s && ", s, system, path)
	}
	script += fmt.Sprintf("%s -f %s/libvirtd.conf -p %[2]s/pid", s.enter(t, "libvirtd"), dir)
	startLibvirtd(t, dir, script, env)
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
func startLibvirtd(t testing.TB, dir, script string, env []string) {
	t.Helper()
	notify := filepath.Join(dir, "notify")
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	cmd := Mounting(context.Background(), t, script)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env = append(append(os.Environ(), env...), "LIBVIRT_DRIVER_DIR="+filepath.Join(dir, "drivers"), "NOTIFY_SOCKET="+notify)
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

// qemuConfig has libvirt's driver for QEMU run machines as we are, without what only the
// system's own has.
const qemuConfig = `user = "root"
group = "root"
security_driver = "none"
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
`

// LibvirtQEMU runs commands of virsh with libvirt's driver for QEMU and no other. It is in
// virsh's own process, and asks for storage the daemon whose sockets are in runDir, in the
// place of the system's. It gives what virsh writes, failures too. It needs root.
func LibvirtQEMU(t testing.TB, runDir string, commands ...string) string {
	t.Helper()
	Root(t)
	Tool(t, "qemu-system-x86_64")
	System("").driver(t, "qemu")
	dir := t.TempDir()
	makeDir(t, filepath.Join(dir, "etc"))
	write(t, filepath.Join(dir, "etc", "qemu.conf"), qemuConfig)
	script := fmt.Sprintf("mkdir -p /run/libvirt && mount --bind %s /run/libvirt && ", runDir)
	// Users that the driver asks for, whoever it runs machines as.
	for file, lines := range map[string]string{"passwd": "libvirt-qemu:x:64055:64055::/:/bin/false\n", "group": "libvirt-qemu:x:64055:\nkvm:x:64056:\n"} {
		known, err := os.ReadFile("/etc/" + file)
		if err != nil {
			t.Fatal(err)
		}
		own := filepath.Join(dir, file)
		write(t, own, string(known)+lines)
		script += fmt.Sprintf("mount --bind %s /etc/%s && ", own, file)
	}
	cmd := Mounting(t.Context(), t, script+"exec "+Tool(t, "virsh")+" -q -c qemu:///embed?root="+dir)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("virsh: %v\n%s", err, out)
	}
	return string(out)
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
