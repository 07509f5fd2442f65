package backendtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/diskio"
)

// directoryCases are what a pool that is a directory owes beside the contract.
var directoryCases = []testCase{
	{"build makes what is missing and leaves what is there", dirBuild},
	{"modes do not depend on the umask", dirModes},
	{"a target that is no directory is refused", dirTarget},
	{"another directory than the one meant is left alone", dirReplaced},
	{"a pool that was opened stays the directory that it was", dirOpened},
	{"a link to the directory is followed and shown", dirLinked},
}

// fileCases are what a pool owes beside whose volumes are files.
var fileCases = []testCase{
	{"delete counts what is in the way", dirDeleteCounts},
	{"a volume lies where it is said to lie", dirPaths},
	{"volumes of others are found with their formats", dirFound},
	{"any harmless name is one of a volume", dirNames},
	{"a huge directory is found whole", dirHuge},
	{"refresh changes nothing", dirUnchanged},
}

// describe is one entry of a directory as a line.
func describe(t *testing.T, dir, name string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%q mode %o, %d links, %d bytes, inode %d, changed %v\n", name, st.Mode, st.Nlink, st.Size, st.Ino, st.Ctim)
}

// put makes a file in the pool as others would.
func (r *rig) put(name string, content []byte) {
	r.Helper()
	r.must(os.WriteFile(filepath.Join(r.p.Target, name), content, 0o644))
}

func dirBuild(r *rig) {
	deep := r.p
	deep.Target = filepath.Join(r.p.Target, "x/y/z")
	r.must(r.builder().Build(r.Context(), deep, false))
	r.must(r.b.Start(r.Context(), deep))
	r.must(os.WriteFile(filepath.Join(deep.Target, "kept"), nil, 0o600))
	r.must(os.Chmod(deep.Target, 0o750))
	before := r.tree(filepath.Dir(deep.Target))
	r.must(r.builder().Build(r.Context(), deep, false))
	r.must(r.builder().Build(r.Context(), deep, true))
	if after := r.tree(filepath.Dir(deep.Target)); after != before {
		r.Errorf("was\n%sis\n%s", before, after)
	}
}

// dirModes does not run beside other tests: the umask is the process's.
func dirModes(r *rig) {
	defer syscall.Umask(syscall.Umask(0))
	for _, mask := range []int{0, 0o022, 0o077, 0o277} {
		syscall.Umask(mask)
		p := r.p
		p.Target = filepath.Join(r.p.Target, fmt.Sprintf("umask-%03o", mask), "pool")
		r.must(r.builder().Build(r.Context(), p, false))
		d, err := r.creator().Create(r.Context(), p, small("a", "job"))
		r.must(err)
		r.mode(diskio.FileOf(d.Content()).Name(), 0o600)
		r.must(d.Commit(r.Context(), keepNothing))
		r.must(d.Close())
		r.mode(filepath.Join(p.Target, "a"), 0o600)
		r.mode(p.Target, 0o711)
		r.mode(filepath.Dir(p.Target), 0o755)
	}
}

func (r *rig) mode(path string, want os.FileMode) {
	r.Helper()
	info, err := os.Stat(path)
	r.must(err)
	if got := info.Mode().Perm(); got != want {
		r.Errorf("%s has mode %o, want %o", filepath.Base(path), got, want)
	}
}

func dirTarget(r *rig) {
	r.must(os.WriteFile(r.p.Target, []byte("file"), 0o600))
	below := r.p
	below.Target = filepath.Join(r.p.Target, "below")
	fifo := r.p
	fifo.Target = r.p.Target + "-fifo"
	r.must(unix.Mkfifo(fifo.Target, 0o600))
	dangling := r.p
	dangling.Target = r.p.Target + "-link"
	r.must(os.Symlink("/nowhere/at/all", dangling.Target))
	for _, p := range []backends.Pool{r.p, below, fifo, dangling, {Type: "dir"}, {Target: "relative"}, {Target: "/a/../b"}, {Target: "/"}} {
		r.unblocked(func() {
			for what, err := range map[string]error{
				"build": r.builder().Build(r.Context(), p, true), "start": r.b.Start(r.Context(), p), "remove": r.remove(r.Context(), p, "a"),
			} {
				if err == nil {
					r.Errorf("%s of a pool at %q went well", what, p.Target)
				}
			}
		})
	}
	if got, err := os.ReadFile(r.p.Target); string(got) != "file" {
		r.Errorf("the file holds %q (%v)", got, err)
	}
}

func dirReplaced(r *rig) {
	r.started().made("a", []byte("a"))
	ctx := r.Context()
	info, err := r.b.Refresh(ctx, r.p, func(backends.VolumeInfo) error { return nil })
	r.must(err)
	r.p.ID = info.ID
	r.has("a")
	away := r.p.Target + "-away"
	r.must(os.Rename(r.p.Target, away))
	r.must(os.Mkdir(r.p.Target, 0o755))
	r.must(os.WriteFile(filepath.Join(r.p.Target, "a"), []byte("theirs"), 0o600))
	before := r.tree(r.p.Target)
	for _, id := range []backends.Identity{r.p.ID, r.b.Lasting(r.p.ID)} {
		r.p.ID = id
		r.replaced(r.p)
	}
	if after := r.tree(r.p.Target); after != before {
		r.Errorf("before\n%s\nafter\n%s", before, after)
	}
	r.p.ID = "" // which is how another directory is accepted
	r.must(r.b.Start(ctx, r.p))
	r.p.ID = r.b.Lasting(info.ID) // a reboot may change the device
	r.must(os.RemoveAll(r.p.Target))
	r.away(r.b.Start(ctx, r.p))
	_, look := r.b.Look(ctx, r.p, "a")
	for _, err := range []error{look, r.remove(ctx, r.p, "a"), r.deleter().Delete(ctx, r.p, true)} { // nobody knows of a volume what became of it
		r.away(err)
	}
	r.must(os.Rename(away, r.p.Target))
	r.has("a")
}

func dirOpened(r *rig) {
	ctx := r.Context()
	r.started().made("a", []byte("a"))
	opener, ok := r.b.(backends.Opener)
	if !ok {
		r.Fatal("it cannot be opened")
	}
	p, err := opener.OpenPool(ctx, r.p)
	r.must(err)
	away := r.p.Target + " away"
	r.must(os.Rename(r.p.Target, away))
	r.must(os.Mkdir(r.p.Target, 0o700))
	r.put("a", []byte("another"))
	for range 2 { // who reads the directory begins at its start
		var names []string
		_, err = r.b.Refresh(ctx, p, func(v backends.VolumeInfo) error {
			names = append(names, v.Name)
			return nil
		})
		if r.must(err); len(names) != 1 {
			r.Errorf("it has %q", names)
		}
	}
	v, err := r.b.Open(ctx, p, "a", backends.ReadShared)
	r.must(err)
	if info, err := v.Info(); err != nil || info.Size != 1 {
		r.Errorf("%+v, %v", info, err)
	}
	r.must(v.Close())
	d, err := r.creator().Create(ctx, p, small("b", "job"))
	r.must(err)
	r.must(d.Commit(ctx, func([]byte) error { return nil }))
	r.must(d.Close())
	r.must(p.Opened.Close())
	if _, err := os.Stat(filepath.Join(away, "b")); err != nil {
		r.Error(err)
	}
	if _, err := os.Stat(filepath.Join(r.p.Target, "b")); err == nil {
		r.Error("it was made where the directory was")
	}
}

func dirLinked(r *rig) {
	r.started().made("a", []byte("a"))
	real := r.p.Target
	r.p.Target = real + "-link"
	r.must(os.Symlink(real, r.p.Target))
	r.must(r.builder().Build(r.Context(), r.p, false))
	r.must(r.b.Start(r.Context(), r.p))
	info, err := r.b.Refresh(r.Context(), r.p, func(backends.VolumeInfo) error { return nil })
	r.must(err)
	if want, err := filepath.EvalSymlinks(real); info.Path != want {
		r.Errorf("path is %q, want %q (%v)", info.Path, want, err)
	}
	if r.deleter().Delete(r.Context(), r.p, true) == nil {
		r.Error("delete followed the link")
	}
	r.holds("a", []byte("a"))
}

func dirDeleteCounts(r *rig) {
	r.started()
	for i := range 3 {
		r.put(numbered(i), nil)
	}
	err := r.deleter().Delete(r.Context(), r.p, false)
	r.is(err, backends.ErrNotEmpty)
	if !strings.Contains(fmt.Sprint(err), "3 ") {
		r.Errorf("%v does not say how many", err)
	}
}

func dirPaths(r *rig) {
	r.started().made("a", []byte("content"))
	v := r.list()["a"]
	if v.Path != filepath.Join(r.p.Target, "a") || v.Key != v.Path || v.Type != "file" || v.Change.IsZero() || v.Modify.IsZero() {
		r.Errorf("found %+v", v)
	}
	var st unix.Stat_t
	r.must(unix.Stat(v.Path, &st))
	if !strings.HasPrefix(string(v.ID), fmt.Sprintf("%d:%d", st.Dev, st.Ino)) || v.Size != st.Size || v.Allocation != st.Blocks*512 {
		r.Errorf("found %+v, stat %+v", v, st)
	}
}

func dirFound(r *rig) {
	r.started()
	qcow := make([]byte, 512)
	copy(qcow, "QFI\xfb\x00\x00\x00\x03")
	qcow[15], qcow[19], qcow[29] = 104, 5, 0x10 // 1 MiB, backing name at 104
	copy(qcow[104:], "a\nb\x1bc")
	iso := make([]byte, 40960)
	copy(iso[32769:], "CD001")
	r.put("empty", nil)
	r.put("raw", []byte("raw"))
	r.put("qcow2", qcow)
	r.put("iso", iso)
	found := r.list()
	for name, want := range map[string]backends.VolumeInfo{
		"empty": {Format: "raw"},
		"raw":   {Format: "raw", Capacity: 3, Size: 3},
		"qcow2": {Format: "qcow2", Capacity: 1 << 20, Size: 512, Backing: `a\nb\x1bc`},
		"iso":   {Format: "iso", Capacity: 40960, Size: 40960},
	} {
		got := found[name]
		if got.Format != want.Format || got.Capacity != want.Capacity || got.Size != want.Size || got.Backing != want.Backing {
			r.Errorf("%s: found %+v", name, got)
		}
	}
}

func dirNames(r *rig) {
	if names := r.goodNames(); len(names) != len(GoodNames()) {
		r.Errorf("of %q only %q are", GoodNames(), names)
	}
}

func dirHuge(r *rig) {
	r.started()
	const count = 1000 // several batches of any driver
	for i := range count {
		r.put(numbered(i), nil)
	}
	if got := len(r.list()); got != count {
		r.Errorf("%d are found of %d", got, count)
	}
}

func dirUnchanged(r *rig) {
	r.started().made("a", []byte("a"))
	r.draft("b", "job", []byte("b"))
	r.plant(filepath.Join(r.T.TempDir(), "canary"))
	before := r.tree(r.p.Target)
	r.has("a")
	if after := r.tree(r.p.Target); after != before {
		r.Errorf("was\n%sis\n%s", before, after)
	}
}
