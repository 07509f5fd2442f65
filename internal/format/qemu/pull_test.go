package qemu

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"storaged/internal/diskio"
)

// filled makes a qcow2 of 64 MiB with data here and there.
func filled(t *testing.T, options map[string]string, seed uint64) *os.File {
	t.Helper()
	f := made(t, New{Format: "qcow2", Capacity: 64 * mib, Options: options})
	i := opened(t, Layer{File: f, Format: "qcow2"}, Options{Writable: true})
	for n, at := range []int64{0, 5*mib + 4096, 9 * mib, 33*mib - 512, 64*mib - 700*512} {
		_, err := i.WriteAt(pattern(seed+uint64(n), 700*512), at)
		must(t, err)
	}
	must(t, i.Close())
	return f
}

// pullAll pulls all that is data.
func pullAll(t *testing.T, to, from *Image) error {
	t.Helper()
	var data []diskio.Extent
	for off := int64(0); off < 64*mib; {
		var list [8]diskio.Extent
		n, err := from.Extents(list[:], off, 64*mib)
		must(t, err)
		for _, x := range list[:n] {
			if x.Kind == diskio.Data {
				data = append(data, x)
			}
			off = x.End()
		}
	}
	half := len(data) / 2
	if err := to.Pull(data[:half]); err != nil {
		return err
	}
	return to.Pull(data[half:])
}

func TestAnImagePullsFromAnother(t *testing.T) {
	below := filled(t, nil, 100)
	sources := map[string]Layer{
		"qcow2":    {File: filled(t, nil, 1), Format: "qcow2"},
		"of 512 B": {File: filled(t, map[string]string{"cluster_size": "512"}, 2), Format: "qcow2"},
		"a chain":  {File: made(t, New{Format: "qcow2", Capacity: 64 * mib}), Format: "qcow2", Backing: &Layer{File: below, Format: "qcow2"}},
	}
	for name, source := range sources {
		for _, cluster := range []string{"4096", "65536", "2097152"} {
			t.Run(name+" into clusters of "+cluster, func(t *testing.T) {
				from := opened(t, source, Options{})
				f := made(t, New{Format: "qcow2", Capacity: 64 * mib, Options: map[string]string{"cluster_size": cluster}})
				to := opened(t, Layer{File: f, Format: "qcow2"}, Options{Writable: true, Draft: true, Capacity: 64 * mib, Source: &Source{source, 64 * mib}})
				if !to.Pulls() {
					t.Fatal("it does not pull")
				}
				must(t, pullAll(t, to, from))
				must(t, to.Close())
				got := opened(t, Layer{File: f, Format: "qcow2"}, Options{})
				if !bytes.Equal(content(t, got), content(t, from)) {
					t.Error("the content is another")
				}
				if st, err := f.Stat(); err != nil || st.Size() > 13*2*mib {
					t.Errorf("holes are stored: %d bytes, %v", st.Size(), err)
				}
			})
		}
	}
}

// damage has the first entry of the first table lead to no cluster.
func damage(t *testing.T, f *os.File) {
	t.Helper()
	at := func(off int64) int64 {
		var b [8]byte
		_, err := f.ReadAt(b[:], off)
		must(t, err)
		return int64(binary.BigEndian.Uint64(b[:]) &^ (1 << 63))
	}
	const header = 40 // of the offset of the table of tables
	_, err := f.WriteAt(binary.BigEndian.AppendUint64(nil, 1<<63|0x10200), at(at(header)))
	must(t, err)
}

// What cannot be pulled is an error that leaves the image one that can be written to.
func TestAPullThatFailsIsAnError(t *testing.T) {
	source := Layer{File: filled(t, nil, 1), Format: "qcow2"}
	damage(t, source.File)
	f := made(t, New{Format: "qcow2", Capacity: 64 * mib})
	to := opened(t, Layer{File: f, Format: "qcow2"}, Options{Writable: true, Draft: true, Capacity: 64 * mib, Source: &Source{source, 64 * mib}})
	for range 2 {
		if err := to.Pull([]diskio.Extent{{Len: mib}}); err == nil {
			t.Error("what cannot be read was pulled")
		}
	}
	_, err := to.WriteAt(pattern(7, mib), mib)
	must(t, err)
	must(t, to.Close())
}

func TestAVMDKIsNotPulledFrom(t *testing.T) {
	source := Layer{File: made(t, New{Format: "vmdk", Capacity: 64 * mib}), Format: "vmdk"}
	f := made(t, New{Format: "qcow2", Capacity: 64 * mib})
	to := opened(t, Layer{File: f, Format: "qcow2"}, Options{Writable: true, Source: &Source{source, 64 * mib}})
	if to.Pulls() {
		t.Error("it is")
	}
}
