package qemu

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"storaged/internal/diskio"
	"storaged/internal/record"
	"storaged/internal/testenv"
	"storaged/internal/tool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// qemuIMG runs qemu-img, which knows the paths.
func qemuIMG(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(testenv.Tool(t, "qemu-img"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// file makes an open file.
func file(t testing.TB, name string) *os.File {
	t.Helper()
	testenv.Tool(t, tool.StorageDaemon.Name)
	f, err := os.OpenFile(filepath.Join(t.TempDir(), name), os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// made makes an image.
func made(t testing.TB, n New) *os.File {
	t.Helper()
	f := file(t, n.Format)
	must(t, Create(t.Context(), f, n))
	return f
}

// pattern is a content that is not like itself anywhere else.
func pattern(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

func opened(t testing.TB, top Layer, o Options) *Image {
	t.Helper()
	i, err := Open(t.Context(), top, o)
	must(t, err)
	t.Cleanup(func() { i.Close() })
	return i
}

// content is all that a guest would see.
func content(t testing.TB, i *Image) []byte {
	t.Helper()
	size, err := i.Size()
	must(t, err)
	b := make([]byte, size)
	for off := 0; off < len(b); off += mib {
		if _, err := i.ReadAt(b[off:min(len(b), off+mib)], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// converted is what qemu-img makes of the image at a path.
func converted(t testing.TB, format, path string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	qemuIMG(t, "convert", "-f", format, "-O", "raw", path, out)
	b, err := os.ReadFile(out)
	must(t, err)
	return b
}

// creations are images of every format with every option.
var creations = []New{
	{Format: "raw"},
	{Format: "qcow"},
	{Format: "qcow2"},
	{Format: "qcow2", Options: map[string]string{"compat": "0.10", "cluster_size": "4096"}},
	{Format: "qcow2", Options: map[string]string{"compat": "1.1", "lazy_refcounts": "on", "refcount_bits": "64", "compression": "zstd"}},
	{Format: "qcow2", Options: map[string]string{"extended_l2": "on", "cluster_size": "131072"}},
	{Format: "qcow2", Options: map[string]string{"preallocation": "metadata"}},
	{Format: "qcow2", Options: map[string]string{"preallocation": "falloc"}},
	{Format: "qcow2", Options: map[string]string{"preallocation": "full"}},
	{Format: "qed", Options: map[string]string{"cluster_size": "65536", "table_size": "2"}},
	{Format: "vmdk"},
	{Format: "vmdk", Options: map[string]string{"adapter_type": "lsilogic", "zeroed_grain": "on", "subformat": "monolithicSparse"}},
	{Format: "vdi"},
	{Format: "vdi", Options: map[string]string{"static": "on"}},
	{Format: "vpc"},
	{Format: "vpc", Options: map[string]string{"subformat": "fixed"}},
	{Format: "vhdx", Options: map[string]string{"block_size": "1048576", "log_size": "1048576"}},
	{Format: "vhdx", Options: map[string]string{"subformat": "fixed"}},
	{Format: "parallels"},
}

// checks are the formats that qemu-img checks.
var checks = []string{"qcow2", "qed", "vdi", "vhdx", "vmdk", "parallels"}

func TestImageOfEveryFormatHasWhatWasWritten(t *testing.T) {
	for _, n := range creations {
		n.Capacity = 20 * mib
		t.Run(fmt.Sprint(n.Format, n.Options), func(t *testing.T) {
			f := made(t, n)
			i := opened(t, Layer{File: f, Format: n.Format}, Options{Writable: true})
			want := make([]byte, n.Capacity)
			copy(want[3*mib+512:], pattern(1, 2*mib))
			if _, err := i.WriteAt(want[3*mib:4*mib], 3*mib); err != nil {
				t.Fatal(err)
			}
			if _, err := i.WriteAt(want[4*mib:6*mib], 4*mib); err != nil {
				t.Fatal(err)
			}
			must(t, i.Flush())
			must(t, i.Close())
			if !bytes.Equal(converted(t, n.Format, f.Name()), want) {
				t.Error("qemu-img reads another content")
			}
			again := opened(t, Layer{File: f, Format: n.Format}, Options{})
			if !bytes.Equal(content(t, again), want) {
				t.Error("another content is read")
			}
			must(t, again.Close())
			info := qemuIMG(t, "info", "-f", n.Format, f.Name())
			if strings.Contains(info, "corrupt: true") || strings.Contains(info, "dirty") || strings.Contains(info, "proc/self") {
				t.Errorf("it says %s", info)
			}
			sound(t, f, n.Format)
		})
	}
}

// sound holds our check of an image against that of qemu-img.
func sound(t testing.TB, f *os.File, format string) {
	t.Helper()
	checked, err := Check(t.Context(), Layer{File: f, Format: format}, RepairNothing, Child{})
	if !slices.Contains(checks, format) {
		if e, ok := errors.AsType[*record.Error](err); !ok || e.Code != record.Unsupported {
			t.Errorf("a check: %v", err)
		}
		return
	}
	qemuIMG(t, "check", "-f", format, f.Name())
	if err != nil || checked.Bad() || checked.Leaks > 0 {
		t.Errorf("%+v, %v", checked, err)
	}
}

func TestEncryptedImagesNeedTheirSecret(t *testing.T) {
	for _, format := range encrypted {
		t.Run(format, func(t *testing.T) {
			l := locked(t, format)
			i := opened(t, l, Options{Writable: true})
			if all := seen(t); !strings.Contains(all, "qemu-storage-daemon") || strings.Contains(all, "kkk") {
				t.Errorf("others see %q", all)
			}
			want := pattern(2, mib)
			if _, err := i.WriteAt(want, 0); err != nil {
				t.Fatal(err)
			}
			must(t, i.Close())
			i = opened(t, l, Options{})
			if !bytes.Equal(content(t, i), want) {
				t.Error("another content is read")
			}
			must(t, i.Close())
			if format == "luks" {
				must(t, Resize(t.Context(), l, mib/2, Child{}))
			}
			if format == "qcow2" {
				if checked, err := Check(t.Context(), l, RepairAll, Child{}); err != nil || checked.Bad() {
					t.Errorf("%+v, %v", checked, err)
				}
			}
			stored, err := os.ReadFile(l.File.Name())
			must(t, err)
			if bytes.Contains(stored, want[:512]) || bytes.Contains(stored, passphrase) {
				t.Error("it is not encrypted")
			}
			for _, secret := range [][]byte{nil, []byte("unheard-of")} {
				if i, err := Open(t.Context(), Layer{File: l.File, Format: format, Secret: secret}, Options{}); err == nil {
					i.Close()
					t.Errorf("it opens with %q", secret)
				} else if secret != nil && strings.Contains(err.Error(), string(secret)) {
					t.Errorf("the error has the secret: %v", err)
				} else if !strings.Contains(err.Error(), "secret") {
					t.Errorf("with %q: %v", secret, err)
				}
			}
		})
	}
}

// A chain of encrypted layers is opened by a secret each.
func TestAChainOfEncryptedLayers(t *testing.T) {
	below := locked(t, "luks")
	top := locked(t, "qcow2")
	top.Backing = &below
	i := opened(t, top, Options{})
	content(t, i)
	must(t, i.Close())
	wrong := below
	wrong.Secret = []byte("unheard-of")
	top.Backing = &wrong
	if _, err := Open(t.Context(), top, Options{}); record.CodeOf(err) != record.Denied {
		t.Errorf("by a wrong secret below: %v", err)
	}
}

// chain makes images that stand on each other, of those formats from the bottom up,
// each of which has a MiB of its own and names what is not there.
func chain(t testing.TB, formats ...string) (top *Layer, want []byte) {
	t.Helper()
	want = make([]byte, 8*mib)
	for k, format := range formats {
		n := New{Format: format, Capacity: 8 * mib}
		if k > 0 {
			n.BackingName, n.BackingFormat = "/etc/shadow", "raw"
		}
		f := made(t, n)
		top = &Layer{File: f, Format: format, Backing: top}
		i := opened(t, *top, Options{Writable: true})
		part := want[k*mib : (k+1)*mib]
		copy(part, pattern(uint64(k), mib))
		if _, err := i.WriteAt(part, int64(k)*mib); err != nil {
			t.Fatal(err)
		}
		must(t, i.Close())
	}
	return top, want
}

func TestChainsAreWhatTheCallerSays(t *testing.T) {
	for _, formats := range [][]string{{"raw", "qcow2"}, {"qcow2", "qcow2"}, {"raw", "qcow2", "qcow2", "qcow2"}, {"vdi", "qed"}, {"raw", "qcow"}} {
		t.Run(strings.Join(formats, "-"), func(t *testing.T) {
			top, want := chain(t, formats...)
			i := opened(t, *top, Options{})
			if !bytes.Equal(content(t, i), want) {
				t.Error("the chain has another content")
			}
			must(t, i.Close())
			alone := *top
			alone.Backing = nil
			i = opened(t, alone, Options{})
			own := make([]byte, len(want))
			from := (len(formats) - 1) * mib
			copy(own[from:], want[from:from+mib])
			if !bytes.Equal(content(t, i), own) {
				t.Error("alone it does not stand on nothing")
			}
			must(t, i.Close())
		})
	}
}

// As many layers as an operation may have, and the image.
func TestADeepChainIsOpened(t *testing.T) {
	base := &Layer{File: made(t, New{Format: "qcow2", Capacity: mib}), Format: "qcow2"}
	top := base
	for range 64 { // which may all be the same file where nobody writes
		top = &Layer{File: base.File, Format: "qcow2", Backing: top}
	}
	i := opened(t, *top, Options{})
	if got := content(t, i); !bytes.Equal(got, make([]byte, mib)) {
		t.Error("it has a content")
	}
	must(t, i.Close())
}

func TestADataFileIsWhatTheCallerGives(t *testing.T) {
	dir := t.TempDir()
	testenv.Tool(t, tool.StorageDaemon.Name)
	path := filepath.Join(dir, "image")
	qemuIMG(t, "create", "-q", "-f", "qcow2", "-o", "data_file="+filepath.Join(dir, "data"), path, "4M")
	must(t, os.Rename(filepath.Join(dir, "data"), filepath.Join(dir, "moved")))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	data, err := os.OpenFile(filepath.Join(dir, "moved"), os.O_RDWR, 0)
	must(t, err)
	defer data.Close()
	i := opened(t, Layer{File: f, Format: "qcow2", Data: data}, Options{Writable: true})
	want := pattern(3, 4*mib)
	if _, err := i.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	must(t, i.Close())
	if got, err := os.ReadFile(data.Name()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the data file has another content (%v)", err)
	}
	if checked, err := Check(t.Context(), Layer{File: f, Format: "qcow2", Data: data}, RepairNothing, Child{}); err != nil || checked.Bad() {
		t.Errorf("%+v, %v", checked, err)
	}
}

func TestResizeKeepsTheContent(t *testing.T) {
	for _, c := range []struct {
		format string
		to     int64
		works  bool
	}{
		{"qcow2", 40 * mib, true}, {"qcow2", 8 * mib, true}, {"qed", 40 * mib, true}, {"qed", 8 * mib, false}, {"vdi", 40 * mib, false},
	} {
		f := made(t, New{Format: c.format, Capacity: 20 * mib})
		l := Layer{File: f, Format: c.format}
		i := opened(t, l, Options{Writable: true})
		want := pattern(4, mib)
		if _, err := i.WriteAt(want, mib); err != nil {
			t.Fatal(err)
		}
		must(t, i.Close())
		err := Resize(t.Context(), l, c.to, Child{})
		if (err == nil) != c.works {
			t.Errorf("%s to %d: %v", c.format, c.to, err)
		}
		i = opened(t, l, Options{})
		got := content(t, i)
		if c.works && int64(len(got)) != c.to || !bytes.Equal(got[mib:2*mib], want) {
			t.Errorf("%s to %d: %d bytes, or another content", c.format, c.to, len(got))
		}
		must(t, i.Close())
	}
}

func TestAChildThatDiesIsAnErrorThatSaysSo(t *testing.T) {
	f := made(t, New{Format: "qcow2", Capacity: 64 * mib})
	i := opened(t, Layer{File: f, Format: "qcow2"}, Options{Writable: true})
	must(t, i.daemon.Signal(os.Kill))
	_, err := i.WriteAt(make([]byte, mib), 0)
	if err == nil || !strings.Contains(err.Error(), "qemu-storage-daemon was killed") {
		t.Errorf("a write: %v", err)
	}
	_, err = diskio.Copy(t.Context(), diskio.NewPacer(), diskio.CopySpec{Dst: diskio.FileContent(file(t, "copy")), Src: i})
	if err == nil || !strings.Contains(err.Error(), "qemu-storage-daemon was killed") {
		t.Errorf("a copy: %v", err)
	}
	if err := i.Close(); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("the close: %v", err)
	}
}

// A bomb takes no more than its limit, which is named.
func TestTablesWithoutEndMeetTheLimit(t *testing.T) {
	f := made(t, New{Format: "vdi", Capacity: mib})
	blocks := []byte{0x80, 0xff, 0xff, 0x1f}
	_, err := f.WriteAt(blocks, 384)
	must(t, err)
	_, err = f.WriteAt([]byte{0, 0, 0, 0xf8, 0xff, 0xff, 1, 0}, 368) // its capacity
	must(t, err)
	must(t, f.Truncate(3<<30))
	i, err := Open(t.Context(), Layer{File: f, Format: "vdi"}, Options{})
	if err == nil {
		i.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "limit") || !strings.Contains(err.Error(), "1610612736 bytes of address space") {
		t.Errorf("%v", err)
	}
}

// A table that has content far behind the end makes no file without end.
func TestAFileGrowsNoFurtherThanItsCapacityNeeds(t *testing.T) {
	f := made(t, New{Format: "qcow2", Capacity: mib})
	i := opened(t, Layer{File: f, Format: "qcow2"}, Options{Writable: true, Capacity: mib})
	if _, err := i.WriteAt(pattern(7, 65536), 0); err != nil {
		t.Fatal(err)
	}
	must(t, i.Close())
	at := func(off int64) int64 {
		var b [8]byte
		_, err := f.ReadAt(b[:], off)
		must(t, err)
		return int64(binary.BigEndian.Uint64(b[:]) & 0x00fffffffffffe00)
	}
	_, err := f.WriteAt(binary.BigEndian.AppendUint64(nil, 1<<63|8<<30), at(at(40)))
	must(t, err)
	i = opened(t, Layer{File: f, Format: "qcow2"}, Options{Writable: true, Capacity: mib})
	if _, err := i.WriteAt(pattern(7, 65536), 0); err == nil {
		t.Error("it is written")
	} else {
		t.Log(err)
	}
	if err := i.Close(); err == nil || !strings.Contains(err.Error(), "bytes in a file") {
		t.Errorf("%v", err)
	}
	if fi, err := f.Stat(); err != nil || fi.Size() > 4<<30 {
		t.Errorf("%d bytes, %v", fi.Size(), err)
	}
}

// A vmdk that is read is opened for each connection, which all have the same content.
func TestAVMDKIsOpenedForEachConnection(t *testing.T) {
	f := made(t, New{Format: "vmdk", Capacity: 8 * mib})
	i := opened(t, Layer{File: f, Format: "vmdk"}, Options{Writable: true})
	want := pattern(3, 8*mib)
	for off := 0; off < len(want); off += mib {
		_, err := i.WriteAt(want[off:off+mib], int64(off))
		must(t, err)
	}
	must(t, i.Close())
	i = opened(t, Layer{File: f, Format: "vmdk"}, Options{})
	got := make([]byte, mib)
	for off := 0; off < len(want); off += mib {
		_, err := i.ReadAt(got, int64(off))
		must(t, err)
		if !bytes.Equal(got, want[off:off+mib]) {
			t.Errorf("another content at %d", off)
		}
	}
	if n := len(i.graph.exported()); n != Connections {
		t.Errorf("it is opened %d times", n)
	}
	must(t, i.Close())
}

// A draft is flushed by us, and allocated ahead where QEMU can; in the end it is as any
// other image.
func TestADraftIsAnImageInTheEnd(t *testing.T) {
	for _, kind := range []string{"qcow2", "vmdk", "vdi", "vhdx", "qed"} {
		var ahead bool
		f := made(t, New{Format: kind, Capacity: 64 * mib, Ahead: &ahead})
		if !ahead {
			t.Error("this QEMU cannot allocate ahead")
		}
		grown := int64(0)
		for _, ahead := range []bool{true, false} {
			i := opened(t, Layer{File: f, Format: kind}, Options{Writable: true, Draft: true, Ahead: ahead, Capacity: 64 * mib})
			for off := int64(mib); off < 20*mib; off += 3 * mib {
				if _, err := i.WriteAt(pattern(uint64(off/mib), 2*mib), off); err != nil {
					t.Fatal(err)
				}
			}
			must(t, i.Flush())
			grown = max(grown, sizeOf(f))
			must(t, i.Close())
		}
		if size := sizeOf(f); size > 40*mib || (grown >= aheadBytes) != (kind == aheadFormat) {
			t.Errorf("%s: %d bytes, and %d before it was closed", kind, size, grown)
		}
		if got := converted(t, kind, f.Name()); !bytes.Equal(got[19*mib:21*mib], pattern(19, 2*mib)) || !bytes.Equal(got[21*mib:], make([]byte, 43*mib)) {
			t.Errorf("%s: another content", kind)
		}
		if kind != "vmdk" {
			sound(t, f, kind)
		}
	}
}

// What several write at a time is there, in every format, also where that allocates.
func TestNothingIsLostThatIsWrittenAtOnce(t *testing.T) {
	for _, format := range []string{"qcow2", "vdi", "vhdx", "vmdk", "vpc"} {
		t.Run(format, func(t *testing.T) {
			for round := range uint64(6) {
				ahead := false
				f := made(t, New{Format: format, Capacity: 32 * mib, Ahead: &ahead})
				i := opened(t, Layer{File: f, Format: format}, Options{Writable: true, Draft: true, Ahead: ahead, Capacity: 32 * mib})
				var group sync.WaitGroup
				places := []int64{0, 3 * mib, 7 * mib, 8 * mib, 15 * mib, 16 * mib, 31 * mib}
				for n, at := range places {
					group.Go(func() {
						if _, err := i.WriteAt(pattern(round*100+uint64(n), mib), at); err != nil {
							t.Error(err)
						}
					})
				}
				group.Wait()
				must(t, i.Close())
				if format != "vpc" { // which has no check
					qemuIMG(t, "check", "-q", "-f", format, f.Name())
				}
				got := opened(t, Layer{File: f, Format: format}, Options{})
				for n, at := range places {
					b := make([]byte, mib)
					_, err := got.ReadAt(b, at)
					must(t, err)
					if !bytes.Equal(b, pattern(round*100+uint64(n), mib)) {
						t.Errorf("what was written at %d is gone", at)
					}
				}
				must(t, got.Close())
			}
		})
	}
}

func TestCompressedClustersAreSmaller(t *testing.T) {
	for _, kind := range []string{"zlib", "zstd"} {
		f := made(t, New{Format: "qcow2", Capacity: 8 * mib, Options: map[string]string{"compression": kind}})
		i := opened(t, Layer{File: f, Format: "qcow2"}, Options{Writable: true, Compress: true})
		want := bytes.Repeat([]byte("compressible "), 8*mib/13+1)[:8*mib]
		for off := 0; off < len(want); off += mib {
			if _, err := i.WriteAt(want[off:off+mib], int64(off)); err != nil {
				t.Fatal(err)
			}
		}
		must(t, i.Close())
		if fi, err := f.Stat(); err != nil || fi.Size() > 2*mib {
			t.Errorf("%s: %d bytes, %v", kind, fi.Size(), err)
		}
		if !bytes.Equal(converted(t, "qcow2", f.Name()), want) {
			t.Errorf("%s: another content", kind)
		}
		sound(t, f, "qcow2")
	}
}

// leaking makes an image with clusters that nobody uses, or, if corrupt, with such
// that are not marked as used.
func leaking(t *testing.T, corrupt bool) *os.File {
	t.Helper()
	f := made(t, New{Format: "qcow2", Capacity: 64 * mib})
	i := opened(t, Layer{File: f, Format: "qcow2"}, Options{Writable: true})
	if _, err := i.WriteAt(pattern(5, mib), 0); err != nil {
		t.Fatal(err)
	}
	must(t, i.Close())
	var b [8]byte
	_, err := f.ReadAt(b[:], 48) // where the table of reference counts is
	must(t, err)
	table := int64(b[4])<<24 | int64(b[5])<<16 | int64(b[6])<<8 | int64(b[7])
	_, err = f.ReadAt(b[:], table)
	must(t, err)
	block := int64(b[4])<<24 | int64(b[5])<<16 | int64(b[6])<<8 | int64(b[7])
	fi, err := f.Stat()
	must(t, err)
	end := fi.Size() / 65536
	must(t, f.Truncate((end+1)*65536))
	at, count := block+2*end, []byte{0, 1} // a cluster behind all
	if corrupt {
		at, count = block+2*(end-1), []byte{0, 0}
	}
	_, err = f.WriteAt(count, at)
	must(t, err)
	return f
}

func TestCheckFindsAndRepairs(t *testing.T) {
	for _, c := range []struct {
		corrupt     bool
		repair      Repair
		leaks, bad  int64
		given, made int64
	}{
		{false, RepairNothing, 1, 0, 0, 0}, {false, RepairLeaks, 0, 0, 1, 0}, {false, RepairAll, 0, 0, 1, 0},
		{true, RepairNothing, 0, 2, 0, 0}, {true, RepairAll, 0, 0, 0, 1},
	} {
		f := leaking(t, c.corrupt)
		got, err := Check(t.Context(), Layer{File: f, Format: "qcow2"}, c.repair, Child{})
		must(t, err)
		if got.Leaks != c.leaks || got.Corruptions != c.bad || got.FixedLeaks != c.given || got.FixedCorrupt != c.made || got.Bad() != (c.bad > 0) {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	if _, err := Check(t.Context(), Layer{File: leaking(t, true), Format: "qcow2"}, RepairLeaks, Child{}); err == nil || !strings.Contains(err.Error(), "refcount=0") {
		t.Errorf("the leaks of a corrupt image: %v", err)
	}
	f := file(t, "nothing")
	must(t, f.Truncate(mib))
	if _, err := Check(t.Context(), Layer{File: f, Format: "qcow2"}, RepairNothing, Child{}); err == nil {
		t.Error("what is no image passes")
	}
}

func TestWhatCannotBeMadeIsRefused(t *testing.T) {
	for _, n := range []New{
		{Format: "nonsense"}, {Format: "qcow2", Options: map[string]string{"backing_file": "/etc/shadow"}},
		{Format: "qcow2", Options: map[string]string{"compat": "2.0"}}, {Format: "vdi", BackingName: "x"}, {Format: "vdi", Secret: []byte("x")},
		{Format: "vmdk", Options: map[string]string{"subformat": "monolithicFlat"}},
	} {
		f := file(t, "f")
		n.Capacity = mib
		err := Create(t.Context(), f, n)
		if fi, _ := f.Stat(); err == nil || fi.Size() != 0 {
			t.Errorf("%+v: %v", n, err)
		}
	}
}

func TestACancelEndsWhatIsMade(t *testing.T) {
	f := file(t, "f")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Create(ctx, f, New{Format: "qcow2", Capacity: mib}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestABlockDeviceHasImagesToo(t *testing.T) {
	testenv.Loop(t)
	backing := file(t, "disk")
	must(t, backing.Truncate(64*mib))
	dev, err := exec.Command("losetup", "--find", "--show", backing.Name()).Output()
	must(t, err)
	path := strings.TrimSpace(string(dev))
	t.Cleanup(func() { must(t, exec.Command("losetup", "--detach", path).Run()) })
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, Create(t.Context(), f, New{Format: "qcow2", Capacity: 32 * mib}))
	i := opened(t, Layer{File: f, Format: "qcow2"}, Options{Writable: true})
	want := pattern(6, 32*mib)
	for off := 0; off < len(want); off += mib {
		if _, err := i.WriteAt(want[off:off+mib], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	must(t, i.Close())
	if !bytes.Equal(converted(t, "qcow2", path), want) {
		t.Error("another content")
	}
}

func TestReportOfACheckIsReadWithinBounds(t *testing.T) {
	for _, said := range []string{"", "{", `{"leaks": 1e99}`, `{"leaks": "1"}`, `[]`} {
		if _, err := parseCheck([]byte(said)); err == nil {
			t.Errorf("%q is read", said)
		}
	}
	all, err := json.Marshal(map[string]int{"check-errors": 1})
	must(t, err)
	if c, err := parseCheck(all); err != nil || !c.Bad() {
		t.Errorf("%+v, %v", c, err)
	}
}
