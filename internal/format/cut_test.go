package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/testenv"
)

// scrutinized is what both looks at an image say, which must be the same.
func scrutinized(t *testing.T, path, in string) Image {
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
	shallow, err := InspectAs(f, st.Size(), in)
	deep, deepErr := Scrutinize(f, st.Size(), in)
	if err != nil || deepErr != nil {
		t.Fatal(err, deepErr)
	}
	if fmt.Sprint(shallow) != fmt.Sprint(deep) {
		t.Errorf("%s: %+v by a glance, %+v by a close look", path, shallow, deep)
	}
	return deep
}

// scattered is a content with data here and there.
func scattered(t *testing.T, dir string) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{1})
	b := make([]byte, 6<<20)
	for _, at := range []int{0, 1 << 20, 3<<20 + 70<<10, 6<<20 - 100<<10} {
		random.Read(b[at : at+100<<10])
	}
	copy(b[5<<20:], bytes.Repeat([]byte("storaged"), 20_000))
	if err := os.WriteFile(filepath.Join(dir, "content"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// converted makes images of the scattered content, in the formats and with the options
// that are named, and gives their names.
func converted(t *testing.T, dir string, kinds ...string) (names []string) {
	scattered(t, dir)
	for i, kind := range kinds {
		words := strings.Fields(kind)
		name := fmt.Sprintf("%02d.%s", i, words[0])
		qemuImg(t, dir, append(append([]string{"convert", "-f", "raw", "-O"}, words...), "content", name)...)
		names = append(names, name)
	}
	return names
}

// Wherever the file of a qcow2 ends, there is a problem if and only if QEMU's check finds
// one, unless what is lost are the counts of references, which hold no content.
func TestAQcow2ThatIsCutOffIsSeenAsByQEMU(t *testing.T) {
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 1))
	for _, name := range converted(t, dir, "qcow2", "qcow2 -o compat=0.10", "qcow2 -c", "qcow2 -c -o compression_type=zstd", "qcow2 -o cluster_size=4k,refcount_bits=1",
		"qcow2 -o cluster_size=512,refcount_bits=64", "qcow2 -o extended_l2=on,cluster_size=128k", "qcow2 -o preallocation=metadata", "qcow2 -o cluster_size=2M") {
		path := filepath.Join(dir, name)
		sound := scrutinized(t, path, "qcow2")
		b, err := os.ReadFile(path)
		if err != nil || sound.Problem != "" {
			t.Fatalf("%s: %+v, %v", name, sound, err)
		}
		seen := 0
		for range 12 {
			end := random.Int64N(int64(len(b)))
			if random.IntN(3) == 0 {
				end = end / sound.ClusterSize * sound.ClusterSize
			}
			if err := os.WriteFile(path, b[:end], 0o600); err != nil {
				t.Fatal(err)
			}
			got, bad := scrutinized(t, path, "qcow2"), corruptions(t, path) > 0
			if got.Problem == "" && bad || got.Problem != "" && !bad && got.Cut-end >= sound.ClusterSize {
				t.Errorf("%s cut at %d of %d: the problem is %q, and to QEMU it is bad: %v", name, end, len(b), got.Problem, bad)
			}
			if got.Cut > 0 {
				seen++
			}
			if got.Cut > 0 && (got.Cut <= end || got.Cut > int64(len(b))+sound.ClusterSize || !strings.Contains(got.Problem, fmt.Sprintf("ends at %d,", end))) {
				t.Errorf("%s cut at %d of %d: it should have %d: %s", name, end, len(b), got.Cut, got.Problem)
			}
		}
		t.Logf("%s: %d of 12 seen", name, seen)
	}
}

// corruptions is what QEMU's check finds; what it does not open is corrupt.
func corruptions(t *testing.T, path string) int64 {
	t.Helper()
	out, err := exec.Command(testenv.Tool(t, "qemu-img"), "check", "-f", "qcow2", "--output=json", path).Output()
	if e, failed := errors.AsType[*exec.ExitError](err); failed && e.ExitCode() == 1 {
		return 1
	}
	var said struct {
		Corruptions int64 `json:"corruptions"`
		Errors      int64 `json:"check-errors"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return said.Corruptions + said.Errors
}

// Images in other formats that lack their second half have a problem, and before they do
// not.
func TestAnImageThatIsCutOffHasAProblem(t *testing.T) {
	dir := t.TempDir()
	for _, name := range converted(t, dir, "qcow", "vmdk", "vmdk -o subformat=streamOptimized", "vmdk -o compat6=on,zeroed_grain=on", "vdi", "vdi -o static=on", "vpc", "vhdx", "vhdx -o block_size=1M", "parallels",
		"parallels -o cluster_size=64k") {
		path, in := filepath.Join(dir, name), strings.TrimPrefix(filepath.Ext(name), ".")
		if got := scrutinized(t, path, in); got.Problem != "" {
			t.Errorf("%s: %s", name, got.Problem)
		}
		st, err := os.Stat(path)
		if err == nil {
			err = os.Truncate(path, st.Size()/2)
		}
		if err != nil {
			t.Fatal(err)
		}
		got := scrutinized(t, path, in)
		if got.Problem == "" {
			t.Errorf("%s has lost its second half, and there is no problem", name)
		}
		if got.Cut > st.Size() {
			t.Errorf("%s: it had %d, and should have %d", name, st.Size(), got.Cut)
		}
		t.Logf("%s: %s", name, got.Problem)
	}
}

// What QEMU writes is not cut off, at whatever moment somebody looks: it has used all
// kinds of clusters, and the last is short.
func TestWhatQEMUWritesIsNotCutOff(t *testing.T) {
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(2, 1))
	options := []string{"compat=1.1", "compat=0.10", "cluster_size=512", "extended_l2=on", "lazy_refcounts=on", "refcount_bits=1", "preallocation=metadata", "preallocation=falloc", "cluster_size=2M"}
	for _, o := range options {
		path := filepath.Join(dir, "a.qcow2")
		qemuImg(t, dir, "create", "-q", "-f", "qcow2", "-o", o, path, "70003712")
		for range 6 {
			commands := []string{"-f", "qcow2", path}
			for range 1 + random.IntN(8) {
				at, n, what := random.IntN(130_000)*512, (1+random.IntN(200))*512, []string{"write", "write", "write -z", "write -z -u", "discard", "write -c"}[random.IntN(6)]
				if what == "write -c" { // by whole clusters
					at, n = at>>21<<21, 2<<20
				}
				commands = append(commands, "-c", fmt.Sprintf("%s %d %d", what, at, n))
			}
			_ = exec.Command(testenv.Tool(t, "qemu-io"), commands...).Run() // it compresses nothing that is there already
			if o != "refcount_bits=1" {
				qemuImg(t, dir, "snapshot", "-c", "s", path)
			}
			if got := scrutinized(t, path, "qcow2"); got.Problem != "" {
				t.Fatalf("%s after %q: %s", o, commands, got.Problem)
			}
		}
		if o != "compat=0.10" { // which QEMU does not resize
			qemuImg(t, dir, "resize", "-q", "--shrink", path, "70003712")
		}
		if got := scrutinized(t, path, "qcow2"); got.Problem != "" {
			t.Errorf("%s: %s", o, got.Problem)
		}
	}
}
