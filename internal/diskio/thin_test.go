package diskio

import (
	"bytes"
	"context"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/testenv"
)

// thinDevice is a device that gets and gives storage as a thin volume does, and what it lies on.
func thinDevice(t *testing.T, unit int64) (c Content, device, back *os.File) {
	testenv.Root(t)
	back = create(t, mountAt(t, t.TempDir(), "-t", "tmpfs", "tmpfs"), "back")
	must(t, back.Truncate(16*mib))
	device, err := os.OpenFile(loopDevice(t, back.Name()), os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { device.Close() })
	return ThinContent(device, unit), device, back
}

func blocksOf(t *testing.T, f *os.File) int64 {
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	return st.Blocks * 512
}

// What is made zeros of a thin device is given back by whole units, of any size, and nothing
// else is touched.
func TestThinDeviceGivesUnitsBack(t *testing.T) {
	const unit = 192 << 10
	c, device, back := thinDevice(t, unit)
	writeRandom(t, device, 0, 8*mib)
	must(t, device.Sync())
	want := make([]byte, 16*mib)
	readAll := func() []byte {
		b := make([]byte, 16*mib)
		_, err := device.ReadAt(b, 0)
		must(t, err)
		return b
	}
	copy(want, readAll())
	for _, x := range []struct{ off, n int64 }{{0, unit}, {unit + 4096, 4096}, {3*unit - 4096, 2*unit + 8192}, {8*mib - 4096, 4 * mib}} {
		must(t, c.Zero(x.off, x.n, true))
		clear(want[x.off : x.off+x.n])
		if !bytes.Equal(readAll(), want) {
			t.Errorf("%d bytes at %d are not zeros, or others are", x.n, x.off)
		}
	}
	must(t, device.Sync())
	if is := blocksOf(t, back); is > 8*mib-2*unit { // what lies beside is written by whole folios
		t.Errorf("it has %d bytes still", is)
	}
	if err := c.Zero(0, unit, false); err != ErrUnsupported {
		t.Errorf("to keep the storage of what is made zeros: %v", err)
	}
}

// Zeros are not written to a new thin device, whatever they come from.
func TestZerosTakeNothingOfAThinDevice(t *testing.T) {
	src := create(t, t.TempDir(), "src")
	writeRandom(t, src, 0, mib)
	_, err := src.WriteAt(make([]byte, 4*mib), mib)
	must(t, err)
	for name, do := range map[string]func(c Content) error{
		"copy": func(c Content) error {
			_, err := Copy(context.Background(), NewPacer(), CopySpec{Dst: c, Src: file{src}, Clean: true})
			return err
		},
		"place": func(c Content) error {
			_, err := Place(context.Background(), NewPacer(), PlaceSpec{Dst: c, Src: file{src}, Len: 5 * mib, Clean: true})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, device, back := thinDevice(t, 64<<10)
			must(t, do(c))
			must(t, device.Sync())
			if is := blocksOf(t, back); is != mib {
				t.Errorf("it has %d bytes, not %d", is, int64(mib))
			}
		})
	}
}
