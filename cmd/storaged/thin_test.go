package main_test

import (
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

// Thin volumes get their storage as they are written, and give it back.
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
	h.thinCopies(content)
	h.lvm("lvremove", "--yes", "group/tp", "group/plain")
	h.must(h.refresh("vg"))
	st, err := h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolStopRequest{})
	h.succeed(st, err)
	st, err = h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolDeleteRequest{})
	h.succeed(st, err)
}

// thinCopies copies "a" into thin volumes, through a linear one too.
func (h *host) thinCopies(content []byte) {
	h.t.Helper()
	h.succeed(h.clone("vg/a", "vg/copy", inThinPool("tp")))
	h.maps("copy", 4)
	h.zeroBehind("/dev/group/copy", content)
	h.asGuest("/dev/group/copy", noise(8*mib))
	h.succeed(h.resize("vg/copy", 4*mib, shrink))
	h.asGuest("/dev/group/copy", content[:4*mib])
	h.succeed(h.resize("vg/copy", 16*mib)) // LVM has kept what was cut off
	h.zeroBehind("/dev/group/copy", content)
}
