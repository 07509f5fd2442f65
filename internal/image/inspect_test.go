package image

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// head reads what Inspect is given of a file.
func head(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b[:min(len(b), HeaderSize)]
}

func qemuImg(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, "qemu-img"), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, out)
	}
	return out
}

func TestEveryFormatHasItsName(t *testing.T) {
	for _, f := range formats {
		if !slices.Contains(record.Formats, f.name) {
			t.Errorf("format %s is not one that a volume can have", f.name)
		}
	}
}

func TestHeadersAgreeWithQEMU(t *testing.T) {
	dir := t.TempDir()
	create := [][]string{
		{"-f", "raw", "base.raw", "5M"},
		{"-f", "qcow", "base.qcow", "5M"},
		{"-f", "qcow2", "base.qcow2", "5M"},
		{"-f", "qcow2", "-o", "compat=0.10", "old.qcow2", "7M"},
		{"-f", "qcow2", "-o", "cluster_size=512", "small.qcow2", "1M"},
		{"-f", "qcow2", "large.qcow2", "1T"},
		{"-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "linked.qcow2"},
		{"-f", "qcow", "-b", "base.raw", "-F", "raw", "linked.qcow"},
		{"-f", "qed", "base.qed", "5M"},
		{"-f", "qed", "-b", "base.raw", "-F", "raw", "linked.qed"},
		{"-f", "vmdk", "base.vmdk", "5M"},
		{"-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", "linked.vmdk"},
		{"-f", "vmdk", "-o", "subformat=streamOptimized", "stream.vmdk", "5M"},
		{"-f", "vmdk", "-o", "subformat=monolithicFlat", "flat.vmdk", "5M"},
		{"-f", "vmdk", "-o", "subformat=twoGbMaxExtentFlat", "flats.vmdk", "3G"},
		{"-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "split.vmdk", "3G"},
		{"-f", "qcow2", "-o", "data_file=data.raw", "outside.qcow2", "5M"},
		{"-f", "qcow2", "-o", "data_file=data2.raw,data_file_raw=on,cluster_size=512", "outside2.qcow2", "1M"},
		{"-f", "qcow2", "-o", "data_file=data3.raw", "-b", "base.qcow2", "-F", "qcow2", "outside3.qcow2", "5M"},
		{"-f", "vdi", "base.vdi", "5M"},
		{"-f", "vpc", "base.vpc", "5M"},
		{"-f", "vhdx", "base.vhdx", "5M"},
	}
	for _, args := range create {
		qemuImg(t, dir, append([]string{"create", "-q"}, args...)...)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil || len(files) <= len(create) { // a flat vmdk is two files
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		if strings.HasPrefix(filepath.Base(path), "split-s0") { // an extent, which QEMU opens only as one
			continue
		}
		compareWithQEMU(t, path)
	}
}

func compareWithQEMU(t *testing.T, path string) {
	t.Helper()
	var want struct {
		Format  string `json:"format"`
		Size    int64  `json:"virtual-size"`
		Backing string `json:"backing-filename"`
		Special struct {
			Data struct {
				DataFile string `json:"data-file"`
				Extents  []struct{ Filename string }
			}
		} `json:"format-specific"`
	}
	if err := json.Unmarshal(qemuImg(t, filepath.Dir(path), "info", "--output=json", path), &want); err != nil {
		t.Fatal(err)
	}
	if want.Format == "raw" || want.Format == "vhdx" { // not in the header
		want.Size = 0
	}
	var data []string
	if f := want.Special.Data.DataFile; f != "" {
		data = []string{f}
	}
	for _, e := range want.Special.Data.Extents {
		if filepath.Base(e.Filename) != filepath.Base(path) {
			data = append(data, filepath.Base(e.Filename))
		}
	}
	got := Inspect(head(t, path))
	if !reflect.DeepEqual(got, Header{want.Format, want.Size, want.Backing, data}) {
		t.Errorf("%s: %+v, QEMU says %+v", filepath.Base(path), got, want)
	}
}

// Little-endian values for put; plain ones are big-endian.
type (
	le32 uint32
	le64 uint64
)

// put makes a header of n bytes with values at offsets.
func put(n int, parts map[int]any) []byte {
	b := make([]byte, n)
	for at, v := range parts {
		switch v := v.(type) {
		case string:
			copy(b[at:], v)
		case uint32:
			binary.BigEndian.PutUint32(b[at:], v)
		case uint64:
			binary.BigEndian.PutUint64(b[at:], v)
		case le32:
			binary.LittleEndian.PutUint32(b[at:], uint32(v))
		case le64:
			binary.LittleEndian.PutUint64(b[at:], uint64(v))
		}
	}
	return b
}

// hostile are headers that QEMU's tools would not make.
var hostile = map[string]struct {
	head []byte
	want Header
}{
	"nothing":                 {nil, Header{Format: "raw"}},
	"zeros":                   {make([]byte, HeaderSize), Header{Format: "raw"}},
	"boot sector":             {put(512, map[int]any{510: "\x55\xaa"}), Header{Format: "raw"}},
	"iso":                     {put(HeaderSize, map[int]any{32769: "CD001"}), Header{Format: "iso"}},
	"iso cut before its mark": {put(32773, map[int]any{32769: "CD00"}), Header{Format: "raw"}},
	"magic alone":             {[]byte("QFI\xfb"), Header{Format: "qcow2"}},
	"magic cut":               {[]byte("QFI"), Header{Format: "raw"}},
	"qcow2 and iso at once":   {put(HeaderSize, map[int]any{0: "QFI\xfb", 32769: "CD001"}), Header{Format: "qcow2"}},
	"qcow2 of 16 EiB":         {put(104, map[int]any{0: "QFI\xfb", 24: ^uint64(0)}), Header{Format: "qcow2"}},
	"qcow2 of the last size that can be": {put(104, map[int]any{0: "QFI\xfb", 24: uint64(1 << 61)}),
		Header{Format: "qcow2", Capacity: 1 << 61}},
	"backing name behind the header": {put(104, map[int]any{0: "QFI\xfb", 8: uint64(1 << 40), 16: uint32(10)}),
		Header{Format: "qcow2", Backing: Unnamed}},
	"backing name across the end": {put(104, map[int]any{0: "QFI\xfb", 8: uint64(100), 16: uint32(5)}),
		Header{Format: "qcow2", Backing: Unnamed}},
	"backing name up to the end": {put(104, map[int]any{0: "QFI\xfb", 8: uint64(100), 16: uint32(4), 100: "/etc"}),
		Header{Format: "qcow2", Backing: "/etc"}},
	"backing offset that overflows": {put(104, map[int]any{0: "QFI\xfb", 8: ^uint64(0), 16: uint32(2)}),
		Header{Format: "qcow2", Backing: Unnamed}},
	"backing name of 4 GiB": {put(104, map[int]any{0: "QFI\xfb", 8: uint64(4), 16: ^uint32(0)}),
		Header{Format: "qcow2", Backing: Unnamed}},
	"backing name of no bytes": {put(104, map[int]any{0: "QFI\xfb", 8: uint64(4)}),
		Header{Format: "qcow2", Backing: Unnamed}},
	"vmdk of too many sectors": {put(512, map[int]any{0: "KDMV", 12: ^uint64(0)}), Header{Format: "vmdk"}},
	"vmdk descriptor behind the header": {put(512, map[int]any{0: "KDMV", 12: le64(8), 28: ^uint64(0)}),
		Header{Format: "vmdk", Capacity: 4096}},
	"vmdk parent without end": {put(1024, map[int]any{0: "KDMV", 28: le64(1), 512: `parentFileNameHint="abc`}),
		Header{Format: "vmdk", Backing: Unnamed}},
	"vmdk of ESX": {put(512, map[int]any{0: "COWD", 12: le32(16)}), Header{Format: "vmdk", Capacity: 8192}},
	"vmdk text with an extent that is no number": {[]byte("# Disk DescriptorFile\nRW 10 FLAT \"a\" 0\nRW x FLAT \"b\" 0\n"),
		Header{Format: "vmdk", Data: []string{"a", "b"}}},
	"vmdk text with several extents": {[]byte("# Disk DescriptorFile\nRW 10 FLAT \"a\" 0\nRDONLY 6 ZERO\nparentFileNameHint=\"/p\"\n"),
		Header{Format: "vmdk", Capacity: 8192, Backing: "/p", Data: []string{"a"}}},
	"vmdk text with an extent without end": {[]byte("# Disk DescriptorFile\nRW 10 FLAT \"a\nRW 2 FLAT \"a b\" 0"),
		Header{Format: "vmdk", Capacity: 6144, Data: []string{Unnamed, "a b"}}},
	"vmdk that is a descriptor and no more": {put(1024, map[int]any{0: "KDMV", 28: le64(1), 512: "RW 4 FLAT \"f\" 0\n"}),
		Header{Format: "vmdk", Capacity: 2048, Data: []string{"f"}}},
	"vmdk with its own extent": {put(1024, map[int]any{0: "KDMV", 12: le64(8), 28: le64(1), 512: "RW 8 SPARSE \"f\"\n"}),
		Header{Format: "vmdk", Capacity: 4096}},
	"qcow2 with a data file": {put(140, map[int]any{0: "QFI\xfb", 4: uint32(3), 72: uint64(4), 100: uint32(104), 104: uint32(7), 108: uint32(1), 120: uint32(0x44415441), 124: uint32(3), 128: "raw"}),
		Header{Format: "qcow2", Data: []string{"raw"}}},
	"qcow2 with a data file that it does not name": {put(140, map[int]any{0: "QFI\xfb", 4: uint32(3), 72: uint64(4), 100: uint32(104)}),
		Header{Format: "qcow2", Data: []string{Unnamed}}},
	"qcow2 with a data file named across the end": {put(132, map[int]any{0: "QFI\xfb", 4: uint32(3), 72: uint64(4), 100: uint32(104), 104: uint32(0x44415441), 108: uint32(99)}),
		Header{Format: "qcow2", Data: []string{Unnamed}}},
	"qcow2 with extensions without end": {put(120, map[int]any{0: "QFI\xfb", 4: uint32(3), 72: uint64(4), 100: uint32(104), 104: uint32(7), 108: ^uint32(0)}),
		Header{Format: "qcow2", Data: []string{Unnamed}}},
	"qcow2 with extensions behind the header": {put(104, map[int]any{0: "QFI\xfb", 4: uint32(3), 72: uint64(4), 100: ^uint32(0)}),
		Header{Format: "qcow2", Data: []string{Unnamed}}},
	"qcow2 of version 2 with what would be a data file": {put(140, map[int]any{0: "QFI\xfb", 4: uint32(2), 72: uint64(4), 104: uint32(0x44415441), 108: uint32(3)}),
		Header{Format: "qcow2"}},
	"vdi difference": {put(512, map[int]any{64: "\x7f\x10\xda\xbe", 76: le32(4), 368: le64(4096)}),
		Header{Format: "vdi", Capacity: 4096, Backing: Unnamed}},
	"vpc difference": {put(512, map[int]any{0: "conectix", 48: uint64(8192), 60: uint32(4)}),
		Header{Format: "vpc", Capacity: 8192, Backing: Unnamed}},
	"qed that denies its backing": {put(512, map[int]any{0: "QED\x00", 48: le64(4096), 56: le32(100), 60: le32(4), 100: "/etc"}),
		Header{Format: "qed", Capacity: 4096}},
}

func TestHostileHeadersAreReadWithinBounds(t *testing.T) {
	for name, c := range hostile {
		if got := Inspect(c.head); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestMoreThanTheHeaderIsNotRead(t *testing.T) {
	b := put(HeaderSize+100, map[int]any{0: "QFI\xfb", 8: uint64(HeaderSize), 16: uint32(4), HeaderSize: "name"})
	if got := Inspect(b).Backing; got != Unnamed {
		t.Errorf("backing %q", got)
	}
}

func FuzzInspect(f *testing.F) {
	for _, c := range hostile {
		f.Add(c.head)
	}
	known := "raw qcow qcow2 qed vmdk vdi vhdx vpc iso"
	f.Fuzz(func(t *testing.T, b []byte) {
		h := Inspect(b)
		if !strings.Contains(known, h.Format) || h.Capacity < 0 || h.Capacity > maxCapacity || len(h.Backing) > maxBacking {
			t.Errorf("%+v", h)
		}
		for _, name := range append(h.Data, h.Backing) {
			if name != Unnamed && (len(name) > maxBacking || !strings.Contains(string(b), name)) {
				t.Errorf("name %q is not in the header", name)
			}
		}
	})
}
