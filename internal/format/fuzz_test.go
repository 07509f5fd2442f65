package format_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storaged/internal/format"
	"storaged/internal/format/formattest"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// More of TestWhatQEMURefusesHasAProblem is had by these.
var (
	changes = flag.Int("changes", 4, "how often each image is changed and shown to QEMU")
	seed    = flag.Uint64("seed", 1, "of the changes")
)

// part is how much of an image a fuzzer changes at once, bytes: its files are lists
// of parts that are not zeros, each behind its number.
const part = 512

// parts is a file of such.
type parts struct {
	at   map[int64][]byte
	size int64
	read int64
}

// pack gives the parts of a file, the first and the last, as a fuzzer takes them.
func pack(f io.ReaderAt, size int64) (out []byte) {
	const most = 48 << 10 // bytes: small inputs are tried more often
	b := make([]byte, part)
	add := func(i int64) {
		n, _ := f.ReadAt(b, i*part)
		clear(b[n:])
		if len(out) < most && slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
			out = append(binary.LittleEndian.AppendUint32(out, uint32(i)), b...)
		}
	}
	last := (size + part - 1) / part
	add(last - 1)
	for i := range min(last, 8<<20/part) {
		add(i)
	}
	return out
}

func unpack(b []byte, size int64) *parts {
	p := &parts{map[int64][]byte{}, size, 0}
	for ; len(b) > 4; b = b[min(len(b), part+4):] {
		one := make([]byte, part)
		copy(one, b[4:])
		p.at[int64(binary.LittleEndian.Uint32(b))] = one
	}
	return p
}

func (p *parts) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) && off+int64(n) < p.size {
		at := off + int64(n)
		piece := b[n:min(int64(len(b)), int64(n)+part-at%part, p.size-off)]
		clear(piece)
		if one, ok := p.at[at/part]; ok {
			copy(piece, one[at%part:])
		}
		n += len(piece)
	}
	p.read += int64(n)
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// part is the part of that number, for a change.
func (p *parts) part(i int64) []byte {
	if p.at[i] == nil {
		p.at[i] = make([]byte, part)
	}
	return p.at[i]
}

// mend gives what has a checksum the right one: no fuzzer would find it.
func (p *parts) mend() {
	for _, i := range []int64{0, p.size/part - 1} {
		if b := p.at[i]; b != nil && string(b[:8]) == "conectix" {
			sum := uint32(0)
			binary.BigEndian.PutUint32(b[64:], 0)
			for _, c := range b {
				sum += uint32(c)
			}
			binary.BigEndian.PutUint32(b[64:], ^sum)
		}
	}
	for at, n := range map[int64]int{64 << 10: 4 << 10, 128 << 10: 4 << 10, 192 << 10: 64 << 10} {
		b := p.at[at/part]
		if b == nil {
			continue
		}
		binary.LittleEndian.PutUint32(b[4:], 0)
		table := make([]byte, n)
		p.ReadAt(table, at) // never fails but at its end
		binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(table, crc32.MakeTable(crc32.Castagnoli)))
	}
}

// seeds are small images that qemu-img makes.
func seeds(t testing.TB, dir string) (paths []string) {
	for i, args := range []string{
		"qcow2", "qcow2 -o compat=0.10", "qcow2 -o cluster_size=512", "qcow2 -o extended_l2=on,compression_type=zstd", "qcow2 -o data_file=data.raw", "qcow2 -u -F raw -b base",
		"qcow", "qcow -u -F raw -b base", "qed", "qed -u -F raw -b base", "vmdk", "vmdk -o subformat=streamOptimized", "vmdk -o subformat=monolithicFlat", "vmdk -o compat6=on",
		"vdi", "vdi -o static=on", "vpc", "vpc -o subformat=fixed,force_size=on", "vhdx", "vhdx -o subformat=fixed,block_size=1M", "parallels",
		"qcow2 --object secret,id=s,data=x -o encrypt.format=aes,encrypt.key-secret=s",
	} {
		words := strings.Fields(args)
		path := filepath.Join(dir, fmt.Sprintf("%02d.%s", i, words[0]))
		command := append(append([]string{"create", "-q", "-f"}, words...), path, "1M")
		cmd := exec.Command(testenv.Tool(t, "qemu-img"), command...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		paths = append(paths, path)
	}
	return paths
}

// filled are small images with content.
func filled(t testing.TB, dir string) (paths []string) {
	content := filepath.Join(dir, "content")
	if err := os.WriteFile(content, []byte(strings.Repeat("storaged", 3000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, kind := range []string{"qcow2 -o cluster_size=512", "qcow2 -c -o cluster_size=4k", "qcow2 -o cluster_size=16k,extended_l2=on", "qcow2 -o cluster_size=512,refcount_bits=1", "qcow", "vmdk", "vdi", "vhdx", "parallels"} {
		words := strings.Fields(kind)
		path := filepath.Join(dir, fmt.Sprintf("%02d.%s", i, words[0]))
		args := append(append([]string{"convert", "-f", "raw", "-O"}, words...), content, path)
		if out, err := exec.Command(testenv.Tool(t, "qemu-img"), args...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		paths = append(paths, path)
	}
	return paths
}

// packed gives the parts of the file at path, and its size.
func packed(t testing.TB, path string) ([]byte, int64) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return pack(f, st.Size()), st.Size()
}

// FuzzInspect holds what nothing that lies in a file may break.
func FuzzInspect(f *testing.F) {
	for _, path := range seeds(f, f.TempDir()) {
		b, size := packed(f, path)
		f.Add(b, size)
		f.Add(b, size*3/4)
	}
	for _, path := range filled(f, f.TempDir()) {
		b, size := packed(f, path)
		f.Add(b, size)
		f.Add(b, size/2)
	}
	for _, c := range formattest.Corpus(bait) {
		f.Add(pack(c, c.Size), c.Size)
	}
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		if size < 0 || len(b) > 1<<20 {
			return
		}
		p := unpack(b, size)
		p.mend()
		first, err := format.Inspect(p, size)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, p, first, size)
		if again, err := format.Inspect(p, size); err != nil || fmt.Sprint(again) != fmt.Sprint(first) {
			t.Errorf("%+v, then %+v, %v", first, again, err)
		}
		for _, name := range record.Formats {
			p.read = 0
			i, err := format.InspectAs(p, size, name)
			if err != nil || i.Format != name {
				t.Errorf("%s is %+v, %v", name, i, err)
			}
			holds(t, p, i, size)
			p.read = 0
			format.Compressed(p, size, name)
			holds(t, p, i, size)
			p.read = 0
			if i, err = format.Scrutinize(p, size, name); err != nil || p.read > 65<<20 {
				t.Errorf("%s is %+v, %v, by %d bytes", name, i, err, p.read)
			}
			p.read = 0
			holds(t, p, i, size)
		}
		p.read = 0
		head, err := format.Inspect(io.NewSectionReader(p, 0, format.HeadSize), -1)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, p, head, size)
		format.Packed(b[:min(len(b), 512)])
	})
}

// holds fails unless what is said of an image is within bounds.
func holds(t *testing.T, p *parts, i format.Image, size int64) {
	t.Helper()
	if p.read > 17<<20 || p.read > 2<<20 && i.Format != "qcow2" && i.Format != "vdi" {
		t.Errorf("%d bytes were read", p.read)
	}
	if !slices.Contains(record.Formats, i.Format) || i.Capacity < 0 || i.Capacity > 1<<61 && i.Capacity > size || len(i.Problem) > 4096 || len(i.Data) > 2001 || i.ClusterSize < 0 {
		t.Errorf("%+v", i)
	}
	if i.Cut < 0 || i.Cut > 0 && (i.Problem == "" || i.Cut <= size) {
		t.Errorf("it should have %d bytes and has %d: %s", i.Cut, size, i.Problem)
	}
	if record.Plain(i.Format) && (i.Backing != "" || i.Data != nil) {
		t.Errorf("%+v", i)
	}
	for _, name := range append(slices.Clone(i.Data), i.Backing) {
		if len(name) > 1023 || strings.Contains(name, "\x00") {
			t.Errorf("it names %q", name)
		}
		format.Paths(name)
	}
}

// What QEMU does not open has a problem. Images of its own are changed in places
// that count, at random, and both are asked.
func TestWhatQEMURefusesHasAProblem(t *testing.T) {
	dir := t.TempDir()
	paths := seeds(t, dir)
	random := rand.New(rand.NewPCG(*seed, 1))
	refused := 0
	for _, path := range paths {
		b, size := packed(t, path)
		for range *changes {
			p := unpack(b, size)
			change(random, p)
			p.mend()
			refused += compareRefusals(t, path, p)
		}
	}
	t.Logf("QEMU refused %d of %d", refused, *changes*len(paths))
}

// change changes one to three numbers of what is in the file.
func change(random *rand.Rand, p *parts) {
	there := slices.Sorted(maps.Keys(p.at))
	values := []uint64{0, 1, 2, 3, 7, 8, 9, 255, 256, 512, 513, 4096, 1 << 16, 1 << 20, 1 << 31, 1<<32 - 1, 1 << 40, 1 << 62, 1 << 63, ^uint64(0)}
	for range 1 + random.IntN(3) {
		b := p.part(there[min(random.IntN(len(there)), random.IntN(len(there)))])
		at, size := random.IntN(part/2)&^3, 1<<random.IntN(4)
		if random.IntN(2) == 0 {
			at = random.IntN(128) &^ 3 // most headers are small
		}
		number := make([]byte, 8)
		value := values[random.IntN(len(values))] >> (64 - 8*size) << (64 - 8*size)
		if binary.BigEndian.PutUint64(number, value); value == 0 {
			binary.BigEndian.PutUint64(number, values[random.IntN(len(values))]<<(64-8*size))
		}
		if number = number[:size]; random.IntN(2) == 0 {
			slices.Reverse(number)
		}
		copy(b[at:], number)
	}
}

// compareRefusals asks QEMU of the image, and fails if it refuses one that has no
// problem here.
func compareRefusals(t *testing.T, path string, p *parts) (refused int) {
	t.Helper()
	name, _, _ := strings.Cut(strings.TrimPrefix(filepath.Ext(path), "."), " ")
	got, err := format.InspectAs(p, p.size, name)
	if err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(filepath.Dir(path), "changed")
	f, err := os.Create(changed)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(p.size); err != nil {
		t.Fatal(err)
	}
	for i, b := range p.at {
		if _, err := f.WriteAt(b[:max(0, min(part, p.size-i*part))], i*part); err != nil {
			t.Fatal(err)
		}
	}
	if len(got.Data) > 0 { // which QEMU looks for
		return 0
	}
	out, err := exec.Command(testenv.Tool(t, "prlimit"), "--as=2000000000", "--cpu=5", testenv.Tool(t, "qemu-img"), "info", "-f", name, "--output=json", changed).CombinedOutput()
	if err == nil {
		return 0
	}
	if got.Problem == "" {
		t.Errorf("%s of seed %d: nothing is said against it, QEMU says %s", filepath.Base(path), *seed, out)
	}
	return 1
}
