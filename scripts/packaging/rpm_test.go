package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/testenv"
)

// throwaway is a root that is gone with the test. What is written to it lies in
// memory, over the container's.
type throwaway struct {
	t   *testing.T
	dir string
}

// newThrowaway is as a root of which an image is made: no systemd runs in it, and
// no /proc is mounted.
func newThrowaway(t *testing.T) throwaway {
	t.Helper()
	testenv.Root(t)
	top := t.TempDir()
	r := throwaway{t, filepath.Join(top, "root")}
	r.mount("tmpfs", top, "")
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.mount("overlay", r.dir, "lowerdir="+base(t)+",upperdir="+top+"/upper,workdir="+top+"/work")
	return r
}

func (r throwaway) mount(kind, dir, options string) {
	r.t.Helper()
	err := unix.Mount(kind, dir, kind, 0, options)
	testenv.Need(r.t, "mounts of "+kind, err == nil)
	r.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// withSystemctl is one in which systemd seems to run: its systemctl notes what it
// is told, in the file systemctl.
func withSystemctl(t *testing.T) throwaway {
	t.Helper()
	r := newThrowaway(t)
	r.mount("proc", r.dir+"/proc", "")
	r.sh(`rm -f /usr/bin/systemctl
		printf '#!/bin/sh\necho "$*" >>/systemctl\n' >/usr/bin/systemctl
		chmod 755 /usr/bin/systemctl
		mkdir -p /run/systemd/system`)
	return r
}

func (r throwaway) run(name string, args ...string) string {
	r.t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		r.t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, stderr(err))
	}
	return strings.TrimSpace(string(out))
}

// rpm runs rpm on the root.
func (r throwaway) rpm(args ...string) string {
	r.t.Helper()
	return r.run("rpm", append([]string{"--root", r.dir, "--nosignature"}, args...)...)
}

// sh runs a shell script in the root.
func (r throwaway) sh(script string) string {
	r.t.Helper()
	return r.run("chroot", r.dir, "sh", "-ec", script)
}

// told compares what systemctl was told since the last time.
func (r throwaway) told(what string, want ...string) {
	r.t.Helper()
	if got := r.sh("cat /systemctl && rm /systemctl"); got != strings.Join(want, "\n") {
		r.t.Errorf("%s tells systemctl\n%s\nnot\n%s", what, got, strings.Join(want, "\n"))
	}
}

// The .rpm is installed, upgraded and removed by rpm itself, with its scripts;
// of systemd it sees systemctl alone.
func rpmLives(t *testing.T, first, second string) {
	t.Parallel()
	testenv.Tool(t, "rpm")
	r := withSystemctl(t)
	const alone = "--nodeps" // rpm knows no other package of the root
	r.rpm("--install", alone, first)
	if out := r.rpm("--verify", alone, "storaged"); out != "" {
		t.Errorf("rpm --verify: %s", out)
	}
	if files := r.rpm("--query", "--configfiles", "storaged"); files != "/etc/storaged/storaged.toml" {
		t.Errorf("settings are %q", files)
	}
	got := r.sh(`stat --format='%A %U:%G %n' /usr/sbin/storaged /etc/storaged/storaged.toml /var/lib/storaged /run/storaged; getent group storaged | cut -d: -f1`)
	want := "-rwxr-xr-x root:root /usr/sbin/storaged\n-rw-r--r-- root:root /etc/storaged/storaged.toml\n" +
		"drwx------ root:root /var/lib/storaged\ndrwxr-xr-x root:root /run/storaged\nstoraged"
	if got != want {
		t.Errorf("there are\n%s\nnot\n%s", got, want)
	}
	const units = "storaged.socket storaged-ro.socket storaged-libvirt.socket storaged-libvirt-ro.socket"
	r.told("an installation", "enable storaged.service "+units, "daemon-reload", "start "+units)

	r.sh("echo '# mine' >>/etc/storaged/storaged.toml; touch /var/lib/storaged/storaged.db")
	r.rpm("--upgrade", alone, second)
	if version := r.sh("storaged --version"); !strings.Contains(version, "1.1.0") {
		t.Errorf("version is %q", version)
	}
	r.sh("grep -q '# mine' /etc/storaged/storaged.toml && test -e /usr/lib/systemd/system/storaged.service")
	interrupt := "kill --kill-who=main --signal=INT storaged.service"
	r.told("an upgrade", "daemon-reload", "is-active --quiet storaged.service", interrupt, "restart storaged.service", "daemon-reload")

	r.rpm("--erase", alone, "storaged")
	if left := r.rpm("--query", "--all"); left != "" {
		t.Errorf("installed still: %s", left)
	}
	all := units + " storaged-takeover.socket storaged-takeover-ro.socket storaged.service"
	r.told("a removal", interrupt, "stop "+all, "--no-reload disable "+all, "daemon-reload")
	r.sh(`test ! -e /usr/sbin/storaged && test ! -e /usr/lib/systemd/system/storaged.service
		test -e /var/lib/storaged/storaged.db && grep -q '# mine' /etc/storaged/storaged.toml.rpmsave`)
}
