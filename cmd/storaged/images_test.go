package main_test

import (
	"os"
	"os/exec"
	"testing"

	"storaged/internal/api"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// image makes an image by qemu-img in a pool's directory and has the pool read.
func (h *host) image(pool string, args ...string) {
	h.t.Helper()
	qemuImage(h.t, args...)
	if err := h.refresh(pool); err != nil {
		h.t.Fatal(err)
	}
}

func qemuImage(t *testing.T, args ...string) {
	t.Helper()
	args = append([]string{"create", "-q"}, args...)
	if out, err := exec.Command(testenv.Tool(t, "qemu-img"), args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, out)
	}
}

// entry is a volume as the catalogue has it.
func (h *host) entry(pool, name string) record.Volume {
	h.t.Helper()
	v, err := h.client.Volume(h.ctx(), pool, name)
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

func sizeAt(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

func TestWipedImageIsRaw(t *testing.T) {
	h := newHost(t)
	for name, algorithm := range map[string]string{"zeroed": "zero", "random": "random", "trimmed": "trim"} {
		t.Run(name, func(t *testing.T) {
			h.image("pool", "-f", "qcow2", h.path(name), "10M")
			if v := h.entry("pool", name); v.Format != "qcow2" || v.Capacity != 10*mib {
				t.Fatalf("it is found as %+v", v)
			}
			size := sizeAt(t, h.path(name))
			h.succeed(h.client.WipeVolume(h.ctx(), api.Submit{}, "pool", name, api.VolumeWipe{Algorithm: algorithm, AcceptLimits: true}))
			for range 2 {
				if v := h.entry("pool", name); v.Format != record.FormatRaw || v.Capacity != size || v.State != record.VolumeReady {
					t.Errorf("wiped it is %s, %s, of %d bytes; want raw, ready, %d", v.Format, v.State, v.Capacity, size)
				}
				if err := h.refresh("pool"); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
