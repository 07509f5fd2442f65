package main_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
)

// The system's daemon answers libvirt's clients on sockets of their own beside its main
// one, until it ends.
func TestDaemonAnswersLibvirtsClients(t *testing.T) {
	t.Parallel()
	testenv.Root(t)
	h := unbegun(t)
	h.env = []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + filepath.Join(h.dir, "none")} // without polkit
	h.begin()
	h.sparse("disk", mib)
	for socket, mode := range map[string]os.FileMode{"libvirt.sock": 0o660, "libvirt-ro.sock": 0o666} {
		path := filepath.Join(filepath.Dir(h.sock), socket)
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", socket, st, err)
		}
		if out, ok := virtrpctest.Virsh(t, virtrpctest.URI(path), "vol-list", "pool"); !ok || !strings.Contains(out, h.path("disk")) {
			t.Errorf("%s: %s", socket, out)
		}
	}
	h.stop()
	if left, err := filepath.Glob(filepath.Join(h.dir, "libvirt*")); err != nil || len(left) > 0 {
		t.Errorf("of the sockets are left %q, %v", left, err)
	}
	h.start()
}

// Where the host has polkit, that decides about everybody's clients, unless it is not to.
func TestDaemonHasPolkitDecideAboutLibvirtsClients(t *testing.T) {
	t.Parallel()
	const rules = `polkit.addRule(function(action, subject) { if (subject.user == "daemon" && action.id == "org.libvirt.unix.manage") return polkit.Result.YES; });`
	bus, _ := testenv.Polkit(t, rules, "../../scripts/packaging/org.storaged.policy", "../../scripts/packaging/org.storaged.libvirt.policy")
	h := unbegunIn(t, testenv.Shared(t))
	h.env = []string{"DBUS_SYSTEM_BUS_ADDRESS=" + bus}
	h.config = filepath.Join(h.dir, "config")
	h.must(os.WriteFile(h.config, nil, 0o600))
	h.begin()
	socket := filepath.Join(filepath.Dir(h.sock), "libvirt.sock")
	create := func(name string) (string, bool) {
		return virtrpctest.VirshAs(t, 1, virtrpctest.URI(socket), "vol-create-as", "pool", name, "1M") // 1 is daemon, everywhere
	}
	if out, ok := create("one"); !ok || h.entry("pool/one").Capacity != mib {
		t.Errorf("virsh as daemon: %s", out)
	}
	if out, ok := virtrpctest.VirshAs(t, 2, virtrpctest.URI(socket), "pool-list"); ok || !strings.Contains(out, "authentication unavailable: no polkit agent available") {
		t.Errorf("virsh as bin: %s", out)
	}
	h.stop()
	h.must(os.WriteFile(h.config, []byte("[libvirt]\nauth = \"none\"\n"), 0o600))
	h.start()
	if out, ok := create("two"); ok || !strings.Contains(out, "Permission denied") {
		t.Errorf("virsh as daemon without polkit: %s", out)
	}
}

// The daemon stands where libvirt's clients look for its own, and not beside it.
func TestDaemonTakesThePlaceOfLibvirts(t *testing.T) {
	t.Parallel()
	h, run := takenOver(t)
	h.sparse("disk", mib)
	script := fmt.Sprintf("mount -t tmpfs test /run && mkdir /run/libvirt && mount --bind %s /run/libvirt && virsh -c storage:///system vol-list pool && virsh -r -c storage:///system vol-list pool", run)
	if out, err := testenv.Mounting(t.Context(), t, script).CombinedOutput(); err != nil || strings.Count(string(out), h.path("disk")) != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	h.stop()
	if left, err := filepath.Glob(run + "/virtstoraged*"); err != nil || len(left) > 0 {
		t.Errorf("of the sockets are left %q, %v", left, err)
	}
	h.start()
}

// takenOver is newHost with a daemon that has taken the place of libvirt's own for
// storage in a run directory.
func takenOver(t *testing.T) (h *host, run string) {
	t.Helper()
	testenv.Root(t)
	h = unbegun(t)
	run = filepath.Join(h.dir, "libvirt")
	h.config = filepath.Join(h.dir, "config")
	h.must(os.WriteFile(h.config, fmt.Appendf(nil, "[libvirt]\ntakeover = true\nrun_dir = %q\n", run), 0o600))
	h.begin()
	return h, run
}

// manualsClient is the client of the manual, in Python.
const manualsClient = "../../docs/examples/jobs.py"

// python runs it, to its end.
func (h *host) python(args ...string) string {
	h.t.Helper()
	args = append([]string{manualsClient, filepath.Join(h.dir, "libvirt.sock")}, args...)
	out, err := exec.CommandContext(h.ctx(), testenv.Tool(h.t, "/usr/bin/python3"), args...).CombinedOutput()
	if err != nil {
		h.t.Errorf("%v\n%s", err, out)
	}
	return string(out)
}

// Jobs are the same to storagedctl and to libvirt's clients, whoever has started them: both
// list them, hear of them and end them.
func TestJobsAreTheSameToAllClients(t *testing.T) {
	t.Parallel()
	testenv.Root(t)
	h := newHost(t)
	h.succeed(h.create("disk", 64*mib)) // not sparse: a wipe writes all of it
	h.succeed(h.create("other", 64*mib))
	h.runs(0, "", "limits", "set", "--pool", "pool", "--rate", "1M")
	watch := exec.CommandContext(h.ctx(), testenv.Tool(t, "/usr/bin/python3"), manualsClient, filepath.Join(h.dir, "libvirt.sock"), "watch")
	lines := bufio.NewScanner(must(watch.StdoutPipe())(t))
	h.must(watch.Start())
	var virsh sync.WaitGroup
	virsh.Go(func() {
		if out, ok := virtrpctest.Virsh(t, virtrpctest.URI(filepath.Join(h.dir, "libvirt.sock")), "vol-wipe", "disk", "--pool", "pool"); ok || !strings.Contains(out, "(job ") {
			t.Errorf("virsh: %s", out)
		}
	})
	h.runs(0, "", "vol", "wipe", "pool/other", "--yes", "--detach")
	heard := map[string]bool{}
	for running := regexp.MustCompile(`^progress (\d+) .* volume\.wipe pool/.*: running`); len(heard) < 2 && lines.Scan(); {
		if m := running.FindStringSubmatch(lines.Text()); m != nil {
			heard[m[1]] = true
		}
	}
	for _, list := range []string{h.python("list", "live"), h.runs(0, "", "list", "-o", "name")} {
		for number := range heard {
			if !slices.ContainsFunc(strings.Split(list, "\n"), func(line string) bool { return strings.HasPrefix(line+" ", number+" ") }) {
				t.Errorf("job %s is not in the list:\n%s", number, list)
			}
		}
	}
	h.python("abort", "pool/other")
	_, number, _ := strings.Cut(h.python("stats", "pool/disk"), "\nnumber: ")
	number, _, _ = strings.Cut(number, "\n")
	h.runs(0, "", "kill", number)
	virsh.Wait()
	for ended := 0; ended < 2 && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "state,ended ") && strings.Contains(lines.Text(), ": canceled (cancelled, ") {
			ended++
		}
	}
	h.must(watch.Process.Kill())
	_ = watch.Wait() // it was killed
	for _, volume := range []string{"disk", "other"} {
		h.runs(0, "canceled", "list", "--volume", "pool/"+volume, "--state", "ended", "--kind", "volume.wipe")
	}
}
