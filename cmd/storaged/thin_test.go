package main_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// inThinPool has a volume made in a thin pool.
func inThinPool(name string) option { return options(record.OptionThinPool + "=" + name) }

// mapped is how much storage a thin volume has, in MiB, as LVM has it, and its kind and pool.
func (h *host) mapped(lv string) string {
	h.t.Helper()
	is := strings.Fields(h.lvm("lvs", "--noheadings", "--options", "lv_attr,pool_lv,lv_size,data_percent", "--units", "m", "--nosuffix", lv))
	if len(is) < 4 {
		return fmt.Sprint(is)
	}
	size, _ := strconv.ParseFloat(is[2], 64)
	part, _ := strconv.ParseFloat(is[3], 64)
	return fmt.Sprintf("%c %s %.0f", is[0][0], is[1], size*part/100)
}

// maps fails unless a volume is a thin one with so many MiB of storage.
func (h *host) maps(lv string, mibs int) {
	h.t.Helper()
	if is, want := h.mapped("group/"+lv), fmt.Sprintf("V tp %d", mibs); is != want {
		h.t.Errorf("%s is %q, not %q", lv, is, want)
	}
}

// Thin volumes get their storage as they are written, give it back, and share it with their
// clones and snapshots.
func TestThinVolumes(t *testing.T) {
	testenv.VM(t)
	h := newHost(t)
	h.onGroup()
	h.lvm("lvcreate", "--yes", "--type", "thin-pool", "--name", "tp", "--size", "64m", "--chunksize", "64k", "group")
	h.lvm("lvcreate", "--yes", "--name", "plain", "--size", "4m", "group")
	h.must(h.refresh("vg"))
	for _, c := range []struct {
		pool string
		code record.Code
		says string
	}{{"none", record.NotFound, "no thin pool"}, {"plain", record.Invalid, "no thin pool"}, {"-x", record.Invalid, "dash"}} {
		h.denied(c.code, c.says)(h.create("vg/bad", mib, inThinPool(c.pool)))
	}
	h.runs(record.ExitUsage, "nothing can be reserved", "vol", "create", "vg/bad", "8M", "--allocation", "full", "-O", "thin_pool=tp")
	h.runs(record.ExitUnsupported, "type logical", "vol", "create", "pool/bad", "8M", "-O", "thin_pool=tp")
	h.runs(record.ExitDone, "", "vol", "create", "vg/a", "1G", "--option", "thin_pool=tp")
	h.maps("a", 0)
	if v := h.is("vg/a", record.Volume{State: record.VolumeReady}); v.Capacity != 1024*mib || v.Allocation != 0 {
		t.Errorf("the volume is %s", shown(v))
	}
	h.succeed(h.resize("vg/a", 16*mib, shrink))
	content := append(noise(4*mib), make([]byte, 4*mib)...)
	file := h.outside("x")
	h.must(os.WriteFile(file.Name(), content, 0o600))
	h.succeed(h.hand("vg/a", file))
	h.zeroBehind("/dev/group/a", content)
	h.succeed(h.trim("vg/a"))
	h.maps("a", 4)
	h.must(h.refresh("vg"))
	if v := h.entry("vg/a"); v.Allocation != 4*mib {
		t.Errorf("the volume is %s", shown(v))
	}
	h.thinClones(content)
	h.thinSnapshots(content)
	h.thinAnywhere(content)
	st, err := h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolStopRequest{})
	h.succeed(st, err)
	st, err = h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolStartRequest{})
	h.succeed(st, err)
	h.zeroBehind("/dev/group/a", content)
	h.lvm("lvremove", "--yes", "group/tp", "group/plain")
	h.must(h.refresh("vg"))
	st, err = h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolStopRequest{})
	h.succeed(st, err)
	st, err = h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolDeleteRequest{})
	h.succeed(st, err)
}

// thinClones makes clones of "a", which share its storage or have their own.
func (h *host) thinClones(content []byte) {
	h.t.Helper()
	if j := h.succeed(h.clone("vg/a", "vg/b")); j.Result.Method != "snapshot" {
		h.t.Errorf("the clone is made by %s", j.Result.Method)
	}
	h.maps("b", 4)
	h.zeroBehind("/dev/group/b", content)
	h.asGuest("/dev/group/b", noise(mib))
	h.zeroBehind("/dev/group/a", content)
	h.runs(record.ExitDone, "", "vol", "clone", "vg/a", "vg/c", "--reflink", "always", "--size", "24M")
	if v := h.entry("vg/c"); v.Capacity != 24*mib {
		h.t.Errorf("the larger clone is %s", shown(v))
	}
	h.zeroBehind("/dev/group/c", content)
	written := noise(8 * mib)
	h.asGuest("/dev/group/c", written)
	h.succeed(h.resize("vg/c", 4*mib, shrink))
	h.succeed(h.resize("vg/c", 16*mib)) // LVM has kept what was cut off
	h.zeroBehind("/dev/group/c", written[:4*mib])
	h.runs(record.ExitDone, "", "vol", "clone", "vg/a", "vg/copy", "--reflink", "never", "-O", "thin_pool=tp")
	h.maps("copy", 4)
	h.zeroBehind("/dev/group/copy", content)
	h.runs(record.ExitDone, "", "vol", "clone", "vg/a", "vg/linear", "--reflink", "never")
	h.zeroBehind("/dev/group/linear", content)
	h.runs(record.ExitUnsupported, "no thin one", "vol", "clone", "vg/linear", "vg/bad", "--reflink", "always")
	h.runs(record.ExitDone, "", "vol", "clone", "vg/linear", "vg/thinned", "-O", "thin_pool=tp")
	h.maps("thinned", 4)
	for _, name := range []string{"b", "c", "copy", "linear", "thinned"} {
		h.succeed(h.remove("vg/" + name))
	}
}

// thinSnapshots makes a snapshot of "a", and restores it.
func (h *host) thinSnapshots(content []byte) {
	h.t.Helper()
	h.runs(record.ExitUnsupported, "no thin one", "vol", "snapshot", "create", "vg/plain@s")
	h.runs(record.ExitUsage, "letters", "vol", "snapshot", "create", "vg/a@x y")
	h.runs(record.ExitDone, "", "vol", "snapshot", "create", "vg/a@s+1")
	h.runs(record.ExitExists, "already", "vol", "snapshot", "create", "vg/a@s+1")
	h.asGuest("/dev/group/a", noise(2*mib))
	h.must(h.refresh("vg"))
	if v := h.entry("vg/a"); fmt.Sprint(v.Snapshots) != "[s+1]" {
		h.t.Errorf("it has snapshots %q", v.Snapshots)
	}
	h.runs(record.ExitDone, "", "vol", "snapshot", "clone", "vg/a@s+1", "vg/was")
	h.zeroBehind("/dev/group/was", content)
	used, err := os.Open("/dev/group/a")
	h.must(err)
	h.runs(record.ExitBusy, fmt.Sprint("pid ", os.Getpid()), "vol", "snapshot", "restore", "vg/a@s+1", "--yes")
	used.Close()
	h.runs(record.ExitDone, "", "vol", "snapshot", "restore", "vg/a@s+1", "--yes")
	h.zeroBehind("/dev/group/a", content)
	h.runs(record.ExitBusy, "snapshots", "vol", "delete", "vg/a", "--yes")
	h.kill()
	h.start()
	h.runs(record.ExitDone, "s+1", "vol", "snapshot", "list", "vg/a")
	h.runs(record.ExitDone, "", "vol", "snapshot", "delete", "vg/a@s+1", "--yes")
	h.runs(record.ExitDone, "", "vol", "snapshot", "create", "vg/was@s")
	h.runs(record.ExitDone, "", "vol", "delete", "vg/was", "--with-snapshots", "--yes")
	if is := h.logical(); is != "a plain tp" {
		h.t.Errorf("the group has %s", is)
	}
}

// thinAnywhere does with "a" what can be done to every volume.
func (h *host) thinAnywhere(content []byte) {
	h.t.Helper()
	h.succeed(h.verify("vg/a"))
	down, err := os.Create(h.outside("down").Name())
	h.must(err)
	defer down.Close()
	h.succeed(h.handDown("vg/a", down))
	h.zeroBehind(down.Name(), content)
	h.succeed(h.move("vg/a", "vg/moved"))
	h.runs(record.ExitDone, "", "vol", "create", "vg/filled", "--from", down.Name(), "-O", "thin_pool=tp")
	h.maps("filled", 4)
	h.zeroBehind("/dev/group/filled", content)
	h.succeed(h.wipe("vg/filled", acceptLimits))
	h.zeroBehind("/dev/group/filled", nil)
	h.succeed(h.evacuatePool("vg", "pool", only("[mf]*")))
	h.zeroBehind(h.path("moved"), content)
	h.succeed(h.clone("moved", "vg/a", inThinPool("tp")))
	h.maps("a", 4)
	if b, err := os.ReadFile("/dev/group/a"); err != nil || !bytes.HasPrefix(b, content) {
		h.t.Errorf("what came back differs (%v)", err)
	}
}
