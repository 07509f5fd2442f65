package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

func inspect(t testing.TB, path string) Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	i, err := Inspect(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func qemuImg(t testing.TB, dir string, args ...string) []byte {
	t.Helper()
	for range 20 {
		cmd := exec.Command(testenv.Tool(t, "qemu-img"), args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err == nil {
			return out
		}
		if !bytes.Contains(out, []byte("accurate CPU usage")) { // it measures how fast keys are derived, which a busy machine spoils
			t.Fatalf("qemu-img %q: %v\n%s", args, err, out)
		}
	}
	t.Fatalf("qemu-img %q: the machine is too busy", args)
	return nil
}

func TestEveryFormatHasItsName(t *testing.T) {
	for _, f := range formats {
		if !slices.Contains(record.Formats, f.name) {
			t.Errorf("format %s is not one that a volume can have", f.name)
		}
	}
}

// creations are what qemu-img is asked to make: FORMAT SIZE NAME and options, or a
// backing image as -b.
func creations() (all [][]string) {
	add := func(format, size string, options ...string) {
		name := fmt.Sprintf("%03d.%s", len(all), format)
		args := []string{"create", "-q", "-f", format}
		for _, o := range options {
			if strings.HasPrefix(o, "-") {
				args = append(args, strings.Fields(o)...)
			} else {
				args = append(args, "-o", o)
			}
		}
		all = append(all, append(args, name, size))
	}
	secret := "--object secret,id=s,data=0123456789abcdef"
	add("raw", "5M")
	add("raw", "0")
	add("raw", "1T")
	add("raw", "5M", "preallocation=full")
	for _, size := range []string{"0", "512", "5M", "1T", "1P"} {
		add("qcow2", size)
		add("qcow2", size, "compat=0.10")
	}
	for size := 512; size <= 2<<20; size *= 2 {
		add("qcow2", "64M", fmt.Sprintf("cluster_size=%d", size))
	}
	for _, o := range []string{
		"preallocation=metadata", "preallocation=falloc", "preallocation=full", "lazy_refcounts=on", "compression_type=zstd", "extended_l2=on",
		"extended_l2=on,cluster_size=16k", "refcount_bits=1", "refcount_bits=64", "data_file=a.raw", "data_file=b.raw,data_file_raw=on,cluster_size=512",
		"extent_size_hint=1M", "nocow=on", "encrypt.format=aes,encrypt.key-secret=s",
		"encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,encrypt.cipher-alg=twofish-256,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256,encrypt.hash-alg=sha512,cluster_size=2M",
	} {
		if strings.Contains(o, "secret") {
			add("qcow2", "1M", secret, o)
		} else {
			add("qcow2", "1M", o)
		}
	}
	for _, o := range []string{"", "preallocation=full"} {
		add("qcow", "5M", "preallocation="+map[bool]string{true: "off", false: "full"}[o == ""])
	}
	add("qcow", "1M", secret, "encrypt.format=aes,encrypt.key-secret=s")
	add("qcow", "1T")
	for _, o := range []string{"cluster_size=4k", "table_size=1", "table_size=16", "cluster_size=64k"} {
		add("qed", "5M", o)
	}
	add("qed", "1T")
	for _, o := range []string{"monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized"} {
		for _, more := range []string{"", ",adapter_type=lsilogic", ",compat6=on", ",zeroed_grain=on", ",hwversion=8,toolsversion=9"} {
			if more != ",zeroed_grain=on" || !strings.HasSuffix(o, "Flat") {
				add("vmdk", "3G", "subformat="+o+more)
			}
		}
		add("vmdk", "0", "subformat="+o)
	}
	for _, o := range []string{"static=on", "static=off"} {
		add("vdi", "5M", o)
	}
	add("vdi", "1000001")
	add("vdi", "1T")
	for _, o := range []string{"subformat=dynamic", "subformat=dynamic,force_size=on", "subformat=fixed", "subformat=fixed,force_size=on"} {
		add("vpc", "5M", o)
		add("vpc", "200G", o)
	}
	for _, o := range []string{"subformat=dynamic", "subformat=fixed", "block_size=1M", "block_size=256M", "log_size=16M", "block_state_zero=off"} {
		add("vhdx", "5M", o)
		add("vhdx", "100M", o)
	}
	add("vhdx", "64T")
	for _, o := range []string{"cipher-alg=twofish-128,cipher-mode=cbc,ivgen-alg=plain64,preallocation=full"} {
		add("luks", "1M", secret, "key-secret=s,iter-time=10,"+o)
	}
	add("parallels", "5M")
	add("parallels", "1T", "cluster_size=2M")
	for _, f := range []string{"qcow2", "qcow", "qed", "vmdk"} {
		backing := map[string]string{"vmdk": "vmdk"}[f]
		if backing == "" {
			backing = "raw"
		}
		for _, name := range []string{"base." + backing, "./base." + backing, "ünüsual, näme." + backing} {
			add(f, "5M", "-F "+backing, "backing_file="+strings.ReplaceAll(name, ",", ",,"))
		}
	}
	add("qcow2", "5M", "-F raw -u -b "+strings.Repeat("x", 1023))
	add("qcow2", "5M", "-F raw -u -b nbd://host/export")
	add("qcow2", "5M", `-F raw -u -b json:{"driver":"raw","file":{"driver":"file","filename":"base.raw"}}`)
	add("qcow2", "5M", "-F raw -b base.raw", "data_file=c.raw")
	add("qcow2", "5M", "-F qcow2 -u -b /etc/shadow", "compat=0.10")
	return all
}

// What qemu-img makes it says the same of as we do.
func TestHeadersAgreeWithQEMU(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"base", "ünüsual, näme"} {
		qemuImg(t, dir, "create", "-q", "-f", "raw", name+".raw", "5M")
		qemuImg(t, dir, "create", "-q", "-f", "vmdk", name+".vmdk", "5M")
	}
	for _, args := range creations() {
		name := args[len(args)-2]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			qemuImg(t, dir, args...)
			compareWithQEMU(t, filepath.Join(dir, name), args)
		})
	}
}

// What qemu-img has written to is as what it has just made.
func TestHeadersOfFilledImagesAgreeWithQEMU(t *testing.T) {
	dir := t.TempDir()
	content := make([]byte, 3<<20)
	copy(content[1<<20:], bytes.Repeat([]byte("storaged"), 100_000))
	copy(content[510:], "\x55\xaaEFI PART") // a disk with a table of partitions
	if err := os.WriteFile(filepath.Join(dir, "content"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, args := range []string{
		"raw", "qcow2", "qcow2 -o compat=0.10", "qcow2 -c", "qcow2 -c -o compression_type=zstd", "qcow2 -o cluster_size=512", "qcow2 -o cluster_size=2M", "qcow2 -o extended_l2=on",
		"qcow2 -o data_file=filled.data,data_file_raw=on", "qcow", "qed", "vmdk", "vmdk -o subformat=streamOptimized", "vmdk -o subformat=monolithicFlat", "vdi",
		"vdi -o static=on", "vpc", "vpc -o subformat=fixed", "vpc -o subformat=fixed,force_size=on", "vhdx", "vhdx -o subformat=fixed", "parallels",
	} {
		words := strings.Fields(args)
		name := fmt.Sprintf("%02d.%s", i, words[0])
		args := append([]string{"convert", "-f", "raw", "-O"}, append(words, "content", name)...)
		qemuImg(t, dir, args...)
		compareWithQEMU(t, filepath.Join(dir, name), args)
	}
	q := filepath.Join(dir, "01.qcow2")
	qemuImg(t, dir, "snapshot", "-c", "one", q)
	qemuImg(t, dir, "snapshot", "-c", "two", q)
	qemuImg(t, dir, "bitmap", "--add", q, "b")
	qemuImg(t, dir, "resize", "-q", q, "10G")
	compareWithQEMU(t, q, nil)
}

// info is what qemu-img info tells.
type info struct {
	Format        string `json:"format"`
	Size          int64  `json:"virtual-size"`
	Backing       string `json:"backing-filename"`
	BackingFormat string `json:"backing-filename-format"`
	Cluster       int64  `json:"cluster-size"`
	Encrypted     bool   `json:"encrypted"`
	Snapshots     []any  `json:"snapshots"`
	Special       struct {
		Data struct {
			Compat      string `json:"compat"`
			DataFile    string `json:"data-file"`
			CreateType  string `json:"create-type"`
			Extents     []struct{ Filename string }
			Lazy        bool   `json:"lazy-refcounts"`
			ExtendedL2  bool   `json:"extended-l2"`
			Compression string `json:"compression-type"`
			Bitmaps     []any  `json:"bitmaps"`
			Encrypt     struct {
				Format string `json:"format"`
			} `json:"encrypt"`
		}
	} `json:"format-specific"`
}

func compareWithQEMU(t *testing.T, path string, made []string) {
	t.Helper()
	args := []string{"info", "--output=json", path}
	got := inspect(t, path)
	if close := scrutinized(t, path, got.Format); close.Problem != "" && got.Problem == "" {
		t.Errorf("%q: %s", made, close.Problem)
	}
	if got.Subformat == fixed { // QEMU has to be told of such
		args = append(args, "-f", "vpc")
	}
	var want info
	out, err := exec.Command(testenv.Tool(t, "qemu-img"), args...).Output()
	if err != nil { // it makes some that it does not open
		if got.Problem == "" {
			t.Errorf("%q: there is no problem, QEMU says %v", made, err)
		}
		return
	}
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]any{
		"problem":        {got.Problem, ""},
		"format":         {got.Format, want.Format},
		"capacity":       {int64(blocks(uint64(got.Capacity), sector) * sector), want.Size},
		"backing":        {got.Backing, want.Backing},
		"backing format": {got.BackingFormat, want.BackingFormat},
		"encrypted":      {got.Encryption != "", want.Encrypted},
		"snapshots":      {got.Snapshots, int64(len(want.Snapshots))},
		"data":           {fmt.Sprintf("%q", got.Data), fmt.Sprintf("%q", want.data(path))},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%q: %s is %v, QEMU says %v", made, what, pair[0], pair[1])
		}
	}
	want.compareDetails(t, got, made)
}

// data are the other files.
func (want info) data(path string) (data []string) {
	if f := want.Special.Data.DataFile; f != "" {
		return []string{f}
	}
	for _, e := range want.Special.Data.Extents {
		if filepath.Base(e.Filename) != filepath.Base(path) {
			data = append(data, filepath.Base(e.Filename))
		}
	}
	return data
}

// compareDetails compares what only some formats have.
func (want info) compareDetails(t *testing.T, got Image, made []string) {
	t.Helper()
	d := want.Special.Data
	if want.Cluster != 0 && want.Cluster != got.ClusterSize && len(got.Data) == 0 {
		t.Errorf("%q: clusters have %d bytes, QEMU says %d", made, got.ClusterSize, want.Cluster)
	}
	if d.CreateType != "" && d.CreateType != got.Subformat {
		t.Errorf("%q: type is %q, QEMU says %q", made, got.Subformat, d.CreateType)
	}
	if want.Format != "qcow2" {
		return
	}
	if d.Compat != got.Compat || d.Encrypt.Format != got.Encryption {
		t.Errorf("%q: compat is %q, encryption %q, QEMU says %q, %q", made, got.Compat, got.Encryption, d.Compat, d.Encrypt.Format)
	}
	for name, is := range map[string]bool{
		"lazy-refcounts": d.Lazy, "extended-l2": d.ExtendedL2, "compression": d.Compression == "zstd", "data-file": d.DataFile != "", "bitmaps": len(d.Bitmaps) > 0,
		"dirty": false, "corrupt": false,
	} {
		if slices.Contains(got.Features, name) != is {
			t.Errorf("%q: features are %q, of which QEMU says of %s: %v", made, got.Features, name, is)
		}
	}
}

// What is no image for QEMU is none for us, and has its capacity.
func TestPlain(t *testing.T) {
	mbr := make([]byte, 100_000)
	copy(mbr[510:], "\x55\xaa")
	gpt := bytes.Clone(mbr)
	copy(gpt[512:], "EFI PART")
	iso := make([]byte, 100_000)
	copy(iso[32769:], "CD001")
	hybrid := bytes.Clone(iso)
	copy(hybrid, mbr[:512])
	large := make([]byte, 100_000)
	copy(large[4096:], "EFI PART")
	luks2 := append([]byte("LUKS\xba\xbe\x00\x02"), make([]byte, 100_000)...)
	for name, c := range map[string]struct {
		content []byte
		want    Image
	}{
		"nothing":              {nil, Image{Format: "raw"}},
		"text":                 {[]byte("raw"), Image{Format: "raw", Capacity: 3}},
		"mbr":                  {mbr, Image{Format: "raw", Capacity: 100_000, Partitions: "mbr"}},
		"gpt":                  {gpt, Image{Format: "raw", Capacity: 100_000, Partitions: "gpt"}},
		"gpt of large sectors": {large, Image{Format: "raw", Capacity: 100_000, Partitions: "gpt"}},
		"iso":                  {iso, Image{Format: "iso", Capacity: 100_000}},
		"hybrid":               {hybrid, Image{Format: "iso", Capacity: 100_000, Partitions: "mbr"}},
		"luks2":                {luks2, Image{Format: "raw", Capacity: 100_008}},
	} {
		got, err := Inspect(bytes.NewReader(c.content), int64(len(c.content)))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

// What a guest writes into a fixed VHD makes it look like another image, and is told
// beside what that is to who knows better.
func TestWhatItLooksLikeBesideIsNamed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.vhd")
	if out, err := exec.Command(testenv.Tool(t, "qemu-img"), "create", "-q", "-f", "vpc", "-o", "subformat=fixed,force_size=on", path, "1M").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, magic := range []struct {
		text string
		at   int
	}{{"", 0}, {"QFI\xfb\x00\x00\x00\x03", 0}, {"CD001", 32769}} {
		looks := append([]byte(nil), b...)
		copy(looks[magic.at:], magic.text)
		i, err := Inspect(bytes.NewReader(looks), int64(len(looks)))
		known, kerr := InspectAs(bytes.NewReader(looks), int64(len(looks)), "vpc")
		if err != nil || kerr != nil || known.Problem != "" || known.Capacity != 1<<20 {
			t.Errorf("%q: %+v, %v, %v", magic.text, known, err, kerr)
		}
		if i.Format == "qcow2" && !slices.Equal(i.Also, []string{"vpc"}) || i.Format == "vpc" && i.Problem != "" {
			t.Errorf("%q: %+v", magic.text, i)
		}
	}
}
