// Package packaging_test tests the packages: what is in them, and how they
// behave on a machine with systemd.
package packaging_test

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
)

// build runs scripts/package and gives the directory of what it made.
func build(t *testing.T, version, formats string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("../package", dir)
	cmd.Env = append(os.Environ(), "VERSION="+version, "FORMATS="+formats, "GOFLAGS=") // no race detector in packages
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("scripts/package: %v\n%s", err, out)
	}
	return dir
}

// only gives the one file that matches.
func only(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q (%v)", pattern, found, err)
	}
	return found[0]
}

// debFiles lists the files of a .deb: mode, owner, path and digest.
func debFiles(t *testing.T, deb string) (files []string) {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, "dpkg-deb"), "--fsys-tarfile", deb)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for in := tar.NewReader(out); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, in); err != nil {
			t.Fatal(err)
		}
		files = append(files, fmt.Sprintf("%04o %s:%s %s %s", h.Mode, h.Uname, h.Gname, strings.TrimPrefix(h.Name, "."), hex.EncodeToString(sum.Sum(nil))))
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return files
}

func rpmFiles(t *testing.T, rpm string) []string {
	t.Helper()
	out, err := exec.Command(testenv.Tool(t, "rpm"), "--query", "--package", "--nosignature", "--queryformat",
		`[%{FILEMODES:octal} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILENAMES} %{FILEDIGESTS}\n]`, rpm).Output()
	if err != nil {
		t.Fatalf("rpm: %v\n%s", err, stderr(err))
	}
	var files []string
	for line := range strings.Lines(string(out)) {
		if mode, rest, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(mode, "0100") || strings.HasPrefix(mode, "100") {
			files = append(files, mode[len(mode)-4:]+" "+rest)
		}
	}
	return files
}

func TestPackages(t *testing.T) {
	dir, upgrade := build(t, "1.0.0", "deb rpm"), build(t, "1.1.0", "deb rpm")
	t.Run("both hold the same", func(t *testing.T) { holdTheSame(t, dir) })
	t.Run("same tree, same bytes", func(t *testing.T) {
		t.Parallel() // what follows waits for clocks most of the time
		again := build(t, "1.0.0", "deb")
		if digest(t, only(t, dir+"/*.deb")) != digest(t, only(t, again+"/*.deb")) {
			t.Error("the same tree gives another .deb the second time")
		}
	})
	t.Run("rpm", func(t *testing.T) { rpmLives(t, only(t, dir+"/*.rpm"), only(t, upgrade+"/*.rpm")) })
	t.Run("into an image", func(t *testing.T) { intoAnImage(t, only(t, dir+"/*.deb"), only(t, upgrade+"/*.deb")) })
	t.Run("from the old name", func(t *testing.T) { fromTheOldName(t, only(t, dir+"/*.deb")) })
	t.Run("under systemd", func(t *testing.T) {
		t.Parallel()
		underSystemd(t, only(t, dir+"/*.deb"), only(t, upgrade+"/*.deb"))
	})
}

func holdTheSame(t *testing.T, dir string) {
	deb, rpm := debFiles(t, only(t, dir+"/*.deb")), rpmFiles(t, only(t, dir+"/*.rpm"))
	for i, f := range deb {
		deb[i] = strings.Replace(f, "/zsh/vendor-completions/", "/zsh/site-functions/", 1)
	}
	slices.Sort(deb)
	slices.Sort(rpm)
	if !slices.Equal(deb, rpm) {
		t.Errorf("the .deb holds\n%s\nthe .rpm\n%s", strings.Join(deb, "\n"), strings.Join(rpm, "\n"))
	}
	for _, want := range []string{
		"0755 root:root /usr/sbin/storaged ", "0755 root:root /usr/bin/storagedctl ", "0755 root:root /usr/libexec/storaged/storage-helper ",
		"0644 root:root /etc/storaged/storaged.toml ", "0644 root:root /usr/lib/systemd/system/storaged.service ",
		"0644 root:root /usr/share/man/man8/storagedctl.8.gz ", "0644 root:root /usr/share/man/man5/storaged.toml.5.gz ", "0644 root:root /usr/share/polkit-1/actions/org.storaged.policy ",
		"0644 root:root /usr/share/doc/storaged/examples/prometheus/storaged.rules.yml ", "0755 root:root /usr/share/doc/storaged/examples/prometheus/storaged-textfile ",
		"0644 root:root /usr/share/doc/storaged/examples/grafana/storaged.json ", "0644 root:root /usr/share/doc/storaged/openapi.yaml ",
	} {
		if !slices.ContainsFunc(deb, func(f string) bool { return strings.HasPrefix(f, want) }) {
			t.Errorf("no %q in\n%s", want, strings.Join(deb, "\n"))
		}
	}
}

// Polkit knows every action that the daemon asks about, and no other.
func TestPolkitKnowsTheActions(t *testing.T) {
	content, err := os.ReadFile("org.storaged.policy")
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Actions []struct {
			ID record.Action `xml:"id,attr"`
		} `xml:"action"`
	}
	if err := xml.Unmarshal(content, &policy); err != nil {
		t.Fatal(err)
	}
	var known []record.Action
	for _, a := range policy.Actions {
		known = append(known, a.ID)
	}
	if !slices.Equal(known, record.Actions()) {
		t.Errorf("it knows %q", known)
	}
}

func digest(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

// unit is the service storaged on a machine, with a slow clone under way.
type unit struct {
	*machine
	job string // the clone's number
}

func (s *unit) status() (st contract.Status) {
	s.t.Helper()
	s.ask(&st, "status")
	return st
}

// clone gives the clone as it is now.
func (s *unit) clone() (j record.Job) {
	s.t.Helper()
	s.ask(&j, "job", "show", s.job)
	return j
}

// survives does something to the daemon that ends it, and sees that another
// one takes up the helper, which works on.
func (s *unit) survives(what func()) {
	s.t.Helper()
	before, main := s.clone(), s.property("MainPID")
	what()
	s.until("another daemon is ready", func() bool {
		return s.property("ActiveState") == "active" && s.property("MainPID") != main
	})
	st := s.status()
	if !slices.Contains(st.Recovered, before.Number) {
		s.t.Errorf("recovered are %v, not %d", st.Recovered, before.Number)
	}
	s.until("the clone goes on", func() bool {
		j := s.clone()
		if j.Helper == nil || j.Helper.PID != before.Helper.PID {
			s.t.Fatalf("the helper was %v, is %v (%s, %v)", before.Helper, j.Helper, j.State, j.Error)
		}
		return j.State == record.Running && j.Progress.Done > before.Progress.Done
	})
}

// The steps follow each other on one machine, as in the life of a host.
func underSystemd(t *testing.T, first, upgrade string) {
	packages := t.TempDir()
	if err := errors.Join(os.Link(first, packages+"/first.deb"), os.Link(upgrade, packages+"/upgrade.deb")); err != nil {
		t.Fatal(err)
	}
	s := &unit{machine: boot(t, packages)}
	s.follow(t, []step{
		{"install", (*unit).install},
		{"start by libvirt's client", (*unit).startByVirsh},
		{"start by socket", (*unit).startBySocket},
		{"cgroups", (*unit).cgroups},
		{"restart", (*unit).restart},
		{"killed", (*unit).mainKilled},
		{"reload", (*unit).reload},
		{"upgrade", (*unit).upgrade},
		{"stop", (*unit).stop},
		{"watchdog", (*unit).watchdog},
		{"drain", (*unit).drain},
		{"libvirt's sockets", (*unit).libvirtSockets},
		{"remove and purge", (*unit).remove},
	})
}

// step is one of those that follow each other on one machine.
type step struct {
	name string
	do   func(*unit)
}

func (s *unit) follow(t *testing.T, steps []step) {
	for _, step := range steps {
		ok := t.Run(step.name, func(t *testing.T) {
			s.t = t
			step.do(s)
		})
		if !ok {
			break // what follows builds on it
		}
	}
	s.t = t
}

func (s *unit) restart() { s.survives(func() { s.run("systemctl", "restart", "storaged") }) }

func (s *unit) mainKilled() {
	s.survives(func() { s.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", "storaged") })
}

func (s *unit) install() {
	s.run("dpkg", "--install", "/packages/first.deb")
	got := s.sh(`stat --format='%A %U:%G %n' /run/storaged/storaged.sock /run/storaged/storaged-ro.sock /run/storaged/libvirt.sock /run/storaged/libvirt-ro.sock /var/lib/storaged /run/storaged`)
	want := "srw-rw---- root:storaged /run/storaged/storaged.sock\nsrw-rw-rw- root:root /run/storaged/storaged-ro.sock\n" +
		"srw-rw-rw- root:storaged /run/storaged/libvirt.sock\nsrw-rw-rw- root:root /run/storaged/libvirt-ro.sock\n" +
		"drwx------ root:root /var/lib/storaged\ndrwxr-xr-x root:root /run/storaged"
	if got != want {
		s.t.Errorf("there are\n%s\nnot\n%s", got, want)
	}
	if state := s.property("ActiveState"); state != "inactive" {
		s.t.Errorf("before anybody has asked anything the service is %s", state)
	}
	if out, err := s.try("sh", "-c", "systemd-analyze verify --man=no /usr/lib/systemd/system/storaged*"); err != nil || out != "" {
		s.t.Errorf("systemd-analyze verify: %s %v", out, err)
	}
}

// virsh runs libvirt's own client, which reaches a socket in the machine from the host.
func (s *unit) virsh(socket string, argv ...string) string {
	s.t.Helper()
	out, ok := virtrpctest.Virsh(s.t, virtrpctest.URI("/proc/"+s.leader+"/root"+socket), argv...)
	if !ok {
		s.t.Fatalf("virsh %q at %s: %s", argv, socket, out)
	}
	return out
}

// The first that libvirt's client asks starts the daemon.
func (s *unit) startByVirsh() {
	for _, socket := range []string{"/run/storaged/libvirt.sock", "/run/storaged/libvirt-ro.sock"} {
		s.virsh(socket, "pool-list", "--all")
		if state := s.property("ActiveState"); state != "active" {
			s.t.Errorf("after a connection to %s the service is %s", socket, state)
		}
		s.run("systemctl", "stop", "storaged.service")
	}
}

// libvirtSocket names the socket for libvirt's clients as long as it stays the same.
func (s *unit) libvirtSocket() string {
	s.t.Helper()
	return s.run("stat", "--format=%i %z", "/run/storaged/libvirt.sock")
}

// The units of libvirt's sockets say where its clients are answered.
func (s *unit) libvirtSockets() {
	change := func(how, units string) {
		s.sh("systemctl stop storaged.service && systemctl " + how + " --now " + units + " 2>/dev/null && systemctl start storaged.service")
	}
	uri := func(want string) {
		s.t.Helper()
		if got, err := s.try("storagedctl", "libvirt", "uri"); got != want || (err == nil) != (want != "") {
			s.t.Errorf("the URI is %q, %v, not %q", got, err, want)
		}
	}
	uri("storage:///system?socket=/run/storaged/libvirt.sock")
	change("disable", "storaged-libvirt.socket storaged-libvirt-ro.socket")
	s.sh("test ! -e /run/storaged/libvirt.sock && test ! -e /run/storaged/libvirt-ro.sock")
	uri("")
	s.sh(`cd /run/systemd/system
		printf '[Socket]\nListenStream=/run/libvirt/virtstoraged-sock\n' >virtstoraged.socket
		printf '[Service]\nExecStart=/bin/sleep infinity\n' >virtstoraged.service
		systemctl daemon-reload
		systemctl start virtstoraged.socket virtstoraged.service`)
	change("enable", "storaged-takeover.socket storaged-takeover-ro.socket")
	s.sh("! systemctl is-active --quiet virtstoraged.socket && ! systemctl is-active --quiet virtstoraged.service")
	uri("storage:///system")
	for _, socket := range []string{"/run/libvirt/virtstoraged-sock", "/run/libvirt/virtstoraged-sock-ro"} {
		if out := s.virsh(socket, "vol-list", "mine"); !strings.Contains(out, "kept.raw") {
			s.t.Errorf("at %s: %s", socket, out)
		}
	}
	if pid := s.run("cat", "/run/libvirt/storage/driver.pid"); pid != s.property("MainPID") {
		s.t.Errorf("libvirt's storage driver is %s's", pid)
	}
	change("disable", "storaged-takeover.socket storaged-takeover-ro.socket")
	s.sh("test ! -e /run/libvirt/virtstoraged-sock && test ! -e /run/libvirt/storage/driver.pid")
	change("enable", "storaged-libvirt.socket storaged-libvirt-ro.socket")
	s.virsh("/run/storaged/libvirt.sock", "vol-list", "mine")
}

func (s *unit) startBySocket() {
	if st := s.status(); st.Version != "1.0.0" || st.State != "ready" {
		s.t.Errorf("version %s is %s", st.Version, st.State)
	}
	if state := s.property("ActiveState"); state != "active" {
		s.t.Errorf("the service is %s", state)
	}
	s.sh(`storagedctl --socket /run/storaged/storaged-ro.sock status >/dev/null
		mkdir -p /srv/pool /var/lib/storaged/mine
		storagedctl pool create images --target /srv/pool
		storagedctl pool create mine --target /var/lib/storaged/mine
		storagedctl vol create mine/kept.raw 1M
		storagedctl vol create images/base.raw 192M --allocation none
		dd if=/dev/urandom of=/srv/pool/base.raw bs=1M count=192 conv=notrunc status=none`)
	s.job = s.run("storagedctl", "vol", "clone", "images/base.raw", "images/copy.raw", "--reflink", "never", "--limit", "256K", "--detach")
	s.until("the clone has begun", func() bool { return s.clone().Progress.Done > 0 })
	s.until("systemctl status tells of it", func() bool { return strings.HasPrefix(s.property("StatusText"), "1 jobs running") })
}

// The daemon and each helper are in leaves of the tree below the service, in
// which no controller is enabled.
func (s *unit) cgroups() {
	j := s.clone()
	own := s.property("ControlGroup")
	for pid, want := range map[string]string{
		s.property("MainPID"):    own + "/daemon",
		fmt.Sprint(j.Helper.PID): own + "/jobs/" + j.ID,
	} {
		if got := s.sh(`sed -n 's/^0:://p' /proc/` + pid + `/cgroup`); got != want {
			s.t.Errorf("process %s is in %q, not %q", pid, got, want)
		}
	}
	if got := s.sh(`cd /sys/fs/cgroup` + own + ` && cat cgroup.procs cgroup.subtree_control jobs/cgroup.procs jobs/cgroup.subtree_control`); got != "" {
		s.t.Errorf("inner nodes hold processes or enable controllers: %q", got)
	}
}

func (s *unit) reload() {
	s.sh(`sed -i 's/^#running  .*/running = 9/' /etc/storaged/storaged.toml && systemctl reload storaged`)
	s.until("the limit is that of the file", func() bool { return s.status().Limits.Running == 9 })
	if !strings.Contains(s.property("StatusText"), "settings read again") {
		s.t.Errorf("the service's text is %q", s.property("StatusText"))
	}
	s.sh(`printf '[limits]\nrunning = 8\nruning_pool = 3\n' >/etc/storaged/storaged.toml.d/10-wrong.toml`)
	if out, err := s.try("systemctl", "reload", "storaged"); err == nil || s.status().Limits.Running != 9 {
		s.t.Errorf("settings that are wrong are read again: %s", out)
	}
	s.sh(`systemctl is-active --quiet storaged.service
		journalctl --sync
		journalctl --unit=storaged --output=cat | grep -qF '/etc/storaged/storaged.toml.d/10-wrong.toml:3: unknown key "limits.runing_pool"'
		rm /etc/storaged/storaged.toml.d/10-wrong.toml
		systemctl reload storaged`)
}

func (s *unit) upgrade() {
	socket := s.libvirtSocket()
	s.survives(func() { s.run("dpkg", "--install", "/packages/upgrade.deb") })
	if now := s.libvirtSocket(); now != socket {
		s.t.Errorf("the socket for libvirt's clients was %s and is %s", socket, now)
	}
	s.virsh("/run/storaged/libvirt.sock", "vol-list", "mine")
	st := s.status()
	i := slices.IndexFunc(st.Helpers, func(h contract.HelperStatus) bool { return fmt.Sprint(h.Job) == s.job })
	if st.Version != "1.1.0" || st.Limits.Running != 9 || i < 0 || st.Helpers[i].Version != "1.0.0" || !st.Helpers[i].Foreign {
		s.t.Errorf("version %s, %d may run, helpers are %v", st.Version, st.Limits.Running, st.Helpers)
	}
	if text := s.run("storagedctl", "status"); !strings.Contains(text, "runs 1.0.0") {
		s.t.Errorf("nobody is told that the helper is older:\n%s", text)
	}
}

func (s *unit) stop() {
	pid := fmt.Sprint(s.clone().Helper.PID)
	s.survives(func() {
		s.run("systemctl", "stop", "storaged.socket", "storaged-ro.socket", "storaged.service")
		s.run("test", "-d", "/proc/"+pid)
		if out, err := s.try("storagedctl", "status"); err == nil {
			s.t.Errorf("the stopped daemon answers: %s", out)
		}
		s.run("systemctl", "start", "storaged.socket", "storaged-ro.socket", "storaged.service")
	})
}

func (s *unit) watchdog() {
	s.sh(`mkdir -p /run/systemd/system/storaged.service.d
		printf '[Service]\nWatchdogSec=6\n' >/run/systemd/system/storaged.service.d/test.conf
		systemctl daemon-reload`)
	s.survives(func() { s.run("systemctl", "restart", "storaged") })
	s.survives(func() { s.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", "storaged") })
	s.sh(`journalctl --unit=storaged --output=cat | grep -q 'Watchdog timeout'
		rm /run/systemd/system/storaged.service.d/test.conf
		systemctl daemon-reload`)
	s.survives(func() { s.run("systemctl", "restart", "storaged") })
}

func (s *unit) drain() {
	s.sh(`sed -i 's/^#drain .*/drain = "10m"/' /etc/storaged/storaged.toml && systemctl reload storaged`)
	s.until("the settings are read", func() bool { return strings.Contains(s.property("StatusText"), "settings read again") })
	s.run("systemctl", "stop", "--no-block", "storaged.service")
	s.until("the daemon drains", func() bool { return s.status().State == "draining" })
	if state := s.property("ActiveState"); state != "deactivating" {
		s.t.Errorf("the service is %s", state)
	}
	s.run("storagedctl", "job", "limit", s.job, "none")
	s.until("the daemon has left", func() bool { return s.property("ActiveState") == "inactive" })
	if j := s.clone(); j.State != record.Succeeded { // starts it again
		s.t.Errorf("the clone is %s (%v)", j.State, j.Error)
	}
	s.sh(`journalctl --unit=storaged --priority=info..info --output=cat | grep -q 'job ended: job=` + s.job + ` kind=volume.clone object=images/copy.raw outcome=succeeded'`)
	s.run("cmp", "/srv/pool/base.raw", "/srv/pool/copy.raw")
}

func (s *unit) remove() {
	s.run("dpkg", "--remove", "storaged")
	s.sh(`test -e /var/lib/storaged/storaged.db && test -e /etc/storaged/storaged.toml && test ! -e /usr/sbin/storaged`)
	if state := s.property("LoadState"); state != "not-found" {
		s.t.Errorf("the service is %s", state)
	}
	s.run("dpkg", "--purge", "storaged")
	s.sh(`test ! -e /var/lib/storaged/storaged.db && test ! -e /var/lib/storaged/jobs && test ! -e /etc/storaged && test ! -e /run/storaged`)
	s.run("cmp", "/srv/pool/base.raw", "/srv/pool/copy.raw")
	s.run("test", "-e", "/var/lib/storaged/mine/kept.raw")
}
