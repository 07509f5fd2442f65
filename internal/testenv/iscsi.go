package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Target is an iSCSI target of the kernel of the virtual machine, which this host can log
// in to. What its logical units hold is in files.
type Target struct {
	Name, Portal string
	Files        []string // of the units, by their numbers

	t   testing.TB
	tpg string
}

const (
	lioDir   = "/sys/kernel/config/target"
	lioPort  = "127.0.0.1:3260"
	lioStore = "fileio_0"
)

// NewTarget makes one until the end of the test, with units of these sizes in bytes, which
// can give up storage. It lets in everybody.
func NewTarget(t testing.TB, name string, sizes ...int64) *Target {
	t.Helper()
	VM(t)
	iscsid(t)
	run(t, "modprobe", "-a", "configfs", "target_core_mod", "target_core_file", "iscsi_target_mod", "iscsi_tcp")
	if _, err := os.Stat(filepath.Dir(lioDir)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(lioDir); err != nil {
		run(t, "mount", "-t", "configfs", "configfs", "/sys/kernel/config")
	}
	x := &Target{Name: "iqn.2026-01.test:" + name, Portal: lioPort, t: t}
	x.tpg = filepath.Join(lioDir, "iscsi", x.Name, "tpgt_1")
	x.mkdir(filepath.Join(x.tpg, "np", lioPort))
	for i, size := range sizes {
		x.unit(i, name, size)
	}
	x.set("attrib/generate_node_acls", "1")
	x.set("attrib/demo_mode_write_protect", "0")
	x.set("attrib/authentication", "0")
	x.set("enable", "1")
	t.Cleanup(x.remove)
	return x
}

// unit makes a logical unit.
func (x *Target) unit(lun int, name string, size int64) {
	x.t.Helper()
	store := x.store(name, lun, size)
	x.mkdir(filepath.Dir(x.link(lun)))
	if err := os.Symlink(store, x.link(lun)); err != nil {
		x.t.Fatal(err)
	}
}

// store makes what a unit holds, and gives its directory.
func (x *Target) store(name string, lun int, size int64) string {
	x.t.Helper()
	file := filepath.Join(x.t.TempDir(), fmt.Sprint("unit", lun))
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
		x.t.Fatal(err)
	}
	store := filepath.Join(lioDir, "core", lioStore, fmt.Sprint(name, lun))
	x.mkdir(store)
	x.write(filepath.Join(store, "control"), fmt.Sprintf("fd_dev_name=%s,fd_dev_size=%d", file, size))
	x.write(filepath.Join(store, "wwn/vpd_unit_serial"), fmt.Sprint("serial-", name, lun))
	x.write(filepath.Join(store, "enable"), "1")
	x.write(filepath.Join(store, "attrib/emulate_tpu"), "1")
	x.Files = append(x.Files, file)
	return store
}

// Add adds a unit of a size.
func (x *Target) Add(size int64) {
	x.t.Helper()
	x.unit(len(x.Files), strings.TrimPrefix(x.Name, "iqn.2026-01.test:"), size)
}

// Swap has another unit of a size in the place of one.
func (x *Target) Swap(lun int, size int64) {
	x.t.Helper()
	link := x.link(lun)
	old, err := filepath.EvalSymlinks(link)
	if err != nil {
		x.t.Fatal(err)
	}
	if err := errors.Join(os.Remove(link), os.Symlink(x.store("another", lun, size), link)); err != nil {
		x.t.Fatal(err)
	}
	if err := os.Remove(old); err != nil {
		x.t.Error(err)
	}
}

func (x *Target) link(lun int) string {
	return filepath.Join(x.tpg, "lun", fmt.Sprint("lun_", lun), "unit")
}

func (x *Target) mkdir(dir string) {
	x.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		x.t.Fatal(err)
	}
}

func (x *Target) set(name, value string) { x.t.Helper(); x.write(filepath.Join(x.tpg, name), value) }

func (x *Target) write(path, value string) {
	x.t.Helper()
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		x.t.Fatal(err)
	}
}

// Only has it let in who has the password of a user.
func (x *Target) Only(user, password string) {
	x.t.Helper()
	x.set("attrib/authentication", "1")
	x.set("auth/userid", user)
	x.set("auth/password", password)
}

// Down has it answer nobody, until Up.
func (x *Target) Down() { x.t.Helper(); x.set("enable", "0") }

// Up has it answer again.
func (x *Target) Up() { x.t.Helper(); x.set("enable", "1") }

// remove logs out of it, and takes it apart. What has gone already is no failure.
func (x *Target) remove() {
	if out, err := exec.Command("iscsiadm", "-m", "node", "-T", x.Name, "-u").CombinedOutput(); err == nil {
		x.t.Errorf("it was logged in to: %s", out)
	}
	_ = os.WriteFile(filepath.Join(x.tpg, "enable"), []byte("0"), 0)
	links, _ := filepath.Glob(filepath.Join(x.tpg, "lun/*/unit"))
	for _, link := range links {
		store, _ := filepath.EvalSymlinks(link)
		_ = os.Remove(link)
		_ = os.Remove(filepath.Dir(link))
		_ = os.Remove(store)
	}
	for _, dir := range []string{filepath.Join(x.tpg, "np", lioPort), x.tpg, filepath.Dir(x.tpg)} {
		if err := os.Remove(dir); err != nil {
			x.t.Errorf("the target stays: %v", err)
		}
	}
}

// iscsid starts it for the tests of this process, unless it runs.
func iscsid(t testing.TB) {
	t.Helper()
	const name = "/etc/iscsi/initiatorname.iscsi"
	if b, err := os.ReadFile(name); err != nil || !strings.Contains(string(b), "\nInitiatorName=") && !strings.HasPrefix(string(b), "InitiatorName=") {
		write(t, name, "InitiatorName=iqn.2026-01.test:vm\n")
	}
	if listening() {
		return
	}
	run(t, "iscsid")
	for end := time.Now().Add(Patience(10 * time.Second)); !listening(); {
		if time.Now().After(end) {
			t.Fatal("iscsid does not answer")
		}
	}
}

func listening() bool {
	b, _ := os.ReadFile("/proc/net/unix")
	return strings.Contains(string(b), "@ISCSIADM_ABSTRACT_NAMESPACE")
}
