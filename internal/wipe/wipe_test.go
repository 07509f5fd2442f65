package wipe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/blockdev"
	"storaged/internal/blockdev/blockdevtest"
	"storaged/internal/diskio"
	"storaged/internal/diskio/diskiotest"
	"storaged/internal/testenv"
)

func TestWipeLeavesNothingOnTheDevice(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		for _, algorithm := range []string{Zero, Random, DoD} {
			t.Run(kind+" "+algorithm, func(t *testing.T) { wipeOnDevice(t, kind, algorithm) })
		}
	}
}

func wipeOnDevice(t *testing.T, kind, algorithm string) {
	image := filepath.Join(t.TempDir(), "image")
	sparse(t, image, 320*mib)
	run(t, "mkfs."+kind, "-q", image)
	device := loopDevice(t, image)
	dir := mountAt(t, t.TempDir(), device)
	f := create(t, dir, "f")
	writeCanaries(t, f, 6*mib+100)
	if kind == "ext4" { // old data in allocated, unwritten blocks; xfs would free them, out of anyone's reach
		must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE, mib, 2*mib))
		must(t, f.Sync())
	}
	run(t, "blockdev", "--flushbufs", device)
	if n := canaries(t, image); n < 6*mib/len(diskiotest.Canary)-10 {
		t.Fatalf("only %d canaries on the device before the wipe", n)
	}
	stats, err := Run(context.Background(), diskio.NewPacer(), diskio.FileContent(f), Spec{Algorithm: algorithm, Verify: true})
	must(t, err)
	run(t, "blockdev", "--flushbufs", device)
	if n := canaries(t, image); n != 0 {
		t.Errorf("%d canaries are left on the device", n)
	}
	if sizeOf(t, f) != 6*mib+100 || !stats.Verified || stats.Bytes != 6*mib+100 || stats.Device != device {
		t.Errorf("size %d, %+v", sizeOf(t, f), stats)
	}
	if len(stats.Limits) != 1 || stats.Limits[0].Certain || !strings.Contains(stats.Limits[0].Text, image) {
		t.Errorf("limits are %+v, want one that names the file below the device", stats.Limits)
	}
}

func TestWipeAlgorithms(t *testing.T) {
	const size = mib + 12345
	passes := map[string]int{
		Zero: 1, Random: 1, NNSA: 3, DoD: 3, BSI: 9, Gutmann: 35,
		Schneier: 7, Pfitzner7: 7, Pfitzner33: 33,
	}
	if len(Algorithms()) != len(passes)+1 { // trim has none
		t.Errorf("algorithms: %q", Algorithms())
	}
	for name, n := range passes {
		t.Run(name, func(t *testing.T) {
			f := create(t, t.TempDir(), "f")
			writeCanaries(t, f, size)
			p := diskio.NewPacer()
			stats, err := Run(context.Background(), p, diskio.FileContent(f), Spec{Algorithm: name, Verify: true})
			must(t, err)
			if stats.Passes != n || !stats.Verified || stats.Algorithm != name || stats.Method != MethodOverwrite {
				t.Errorf("stats: %+v", stats)
			}
			c := p.Counts()
			if c.Written != int64(n)*size || c.Read != size || c.Durable != c.Total || c.Total != int64(n+1)*size || c.Work != c.WorkAll {
				t.Errorf("counts: %+v", c)
			}
		})
	}
}

// The tables are long: what must be true of them is counted here.
func TestGutmannPasses(t *testing.T) {
	a := algorithms[Gutmann]
	order, err := a.order(Order(Gutmann))
	must(t, err)
	for i, p := range order {
		if random := i < 4 || i >= 31; random != (p == nil) {
			t.Errorf("pass %d is %x", i+1, []byte(p))
		}
	}
	byBytes := func(x, y pass) int { return bytes.Compare(x, y) }
	table, shuffled := slices.Clone(a.passes), slices.Clone(order)
	slices.SortFunc(table, byBytes)
	slices.SortFunc(shuffled, byBytes)
	if !slices.EqualFunc(table, shuffled, func(x, y pass) bool { return bytes.Equal(x, y) }) {
		t.Error("shuffling changed the passes themselves")
	}
	if slices.EqualFunc(a.passes, order, func(x, y pass) bool { return bytes.Equal(x, y) }) {
		t.Error("the passes were not shuffled") // by chance once in 27!
	}
}

// Each chunk must continue the pattern of the whole file.
func TestPatternsDoNotDependOnChunks(t *testing.T) {
	const size = 3*4096 + 512 + 7
	for _, fill := range []diskio.Pattern{pass{0xa5}.pattern(), pass{1, 2, 3}.pattern(), randomPattern([32]byte{1})} {
		whole, parts := fill(make([]byte, size), 1<<40), []byte(nil)
		for off := 0; off < size; {
			n := min(512+512*(off%3), size-off)
			parts = append(parts, fill(bytes.Repeat([]byte{0xee}, n), 1<<40+int64(off))...)
			off += n
		}
		if !bytes.Equal(whole, parts) {
			t.Error("filling in chunks differs from filling at once")
		}
	}
	one, other := randomPass.pattern()(make([]byte, 64), 0), randomPass.pattern()(make([]byte, 64), 0)
	if bytes.Equal(one, other) || bytes.Equal(one, make([]byte, 64)) {
		t.Error("two random passes are the same")
	}
}

func TestWipeZeroLeavesHolesAndOthersFillThem(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	writeCanaries(t, f, mib)
	must(t, f.Truncate(64*mib))
	before := occupied(t, f)
	p := diskio.NewPacer()
	stats, err := Run(context.Background(), p, diskio.FileContent(f), Spec{Verify: true})
	must(t, err)
	if stats.Bytes != mib || stats.Holes != 63*mib || occupied(t, f) != before {
		t.Errorf("occupies %d after %d: %+v", occupied(t, f), before, stats)
	}
	if c := p.Counts(); c.Durable != c.Total || c.Work != c.WorkAll || c.Holes != 2*63*mib {
		t.Errorf("counts: %+v", c)
	}
	stats, err = Run(context.Background(), diskio.NewPacer(), diskio.FileContent(f), Spec{Algorithm: Random})
	must(t, err)
	if stats.Bytes != 64*mib || stats.Holes != 0 || occupied(t, f) < 64*mib {
		t.Errorf("occupies %d: %+v", occupied(t, f), stats)
	}
}

// A wipe that wrote nothing does not say that it has overwritten.
func TestWipeOfHolesOverwritesNothing(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	must(t, f.Truncate(64*mib))
	p := diskio.NewPacer()
	stats, err := Run(context.Background(), p, diskio.FileContent(f), Spec{})
	must(t, err)
	if stats.Method != MethodNone || stats.Bytes != 0 || stats.Holes != 64*mib || p.Counts().Written != 0 {
		t.Errorf("%+v", stats)
	}
	stats, err = Run(context.Background(), diskio.NewPacer(), diskio.FileContent(f), Spec{Algorithm: Trim})
	must(t, err)
	if stats.Method != MethodPunch {
		t.Errorf("%+v", stats)
	}
}

func TestWipeOfBlockDevice(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	sparse(t, image, 8*mib)
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	writeCanaries(t, f, 8*mib)
	device, err := os.OpenFile(loopDevice(t, image), os.O_RDWR, 0)
	must(t, err)
	defer device.Close()
	stats, err := Run(context.Background(), diskio.NewPacer(), diskio.FileContent(device), Spec{Verify: true})
	must(t, err)
	if n := canaries(t, image); n != 0 || stats.Bytes != 8*mib || !stats.Verified {
		t.Errorf("%d canaries are left: %+v", n, stats)
	}
}

func TestWipeSaysWhatItCannotReach(t *testing.T) {
	for kind, want := range map[string]string{"btrfs": "btrfs writes changed blocks elsewhere", "xfs": "2097152 bytes are shared"} {
		t.Run(kind, func(t *testing.T) {
			dir := testenv.Mount(t, kind)
			f := create(t, dir, "f")
			writeCanaries(t, f, 2*mib)
			_, err := diskio.Copy(context.Background(), diskio.NewPacer(), diskio.CopySpec{Dst: diskio.FileContent(create(t, dir, "other")), Src: diskio.FileContent(f), Reflink: diskio.ReflinkAlways})
			must(t, err)
			foretold, err := Limits(context.Background(), diskio.FileContent(f), Spec{})
			must(t, err)
			stats, err := Run(context.Background(), diskio.NewPacer(), diskio.FileContent(f), Spec{})
			must(t, err)
			if !slices.Equal(foretold, stats.Limits) {
				t.Errorf("limits were %+v, and are %+v", foretold, stats.Limits)
			}
			if !slices.ContainsFunc(stats.Limits, func(l Limit) bool { return l.Certain && strings.HasPrefix(l.Text, want) }) {
				t.Errorf("limits are %+v, want %q", stats.Limits, want)
			}
			if got := canaries(t, filepath.Join(dir, "other")); got == 0 {
				t.Error("the other file was wiped too")
			}
		})
	}
}

func TestWipeRefusesUnknownAlgorithm(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	writeCanaries(t, f, 100)
	for _, name := range []string{"ZERO", "magic"} {
		_, err := Run(context.Background(), diskio.NewPacer(), diskio.FileContent(f), Spec{Algorithm: name})
		if !errors.Is(err, diskio.ErrUnsupported) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	if canaries(t, f.Name()) == 0 {
		t.Error("something was wiped all the same")
	}
}

func TestCanceledWipeLeavesNothingDirty(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	_, err := io.CopyN(io.NewOffsetWriter(f, 0), randomBytes(1), 128*mib)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	p := diskio.NewPacer()
	defer diskiotest.Observe(p.Counts, func(c diskio.Counts) {
		if c.Done > mib {
			cancel()
		}
	})()
	p.SetLimit(64 * mib)
	stats, err := Run(ctx, p, diskio.FileContent(f), Spec{Algorithm: BSI})
	if !errors.Is(err, context.Canceled) || stats.Passes != 0 {
		t.Fatalf("error is %v, %+v", err, stats)
	}
	if n := unwritten(t, f); n != 0 {
		t.Errorf("%d bytes are still dirty", n)
	}
	if sizeOf(t, f) != 128*mib {
		t.Errorf("size is %d", sizeOf(t, f))
	}
}

func TestWipeOfManyExtents(t *testing.T) {
	const extents, step = 3*256 + 5, 16 << 10 // the kernel tells of 256 at once
	f := create(t, t.TempDir(), "f")
	block := bytes.Repeat(diskiotest.Canary, 4096/len(diskiotest.Canary)+1)[:4096]
	for i := range int64(extents) {
		_, err := f.WriteAt(block, i*step)
		must(t, err)
	}
	stats, err := Run(context.Background(), diskio.NewPacer(), diskio.FileContent(f), Spec{Verify: true})
	must(t, err)
	if stats.Bytes != extents*4096 || stats.Holes != (extents-1)*(step-4096) {
		t.Errorf("stats: %+v", stats)
	}
	if n := canaries(t, f.Name()); n != 0 {
		t.Errorf("%d canaries are left", n)
	}
}

// Small chunks of a slow verification are not aligned to such a device's sectors.
func TestSlowVerifyOnLargeSectors(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	sparse(t, image, 64<<10)
	device, err := os.OpenFile(loopDevice(t, image, "--sector-size", "4096"), os.O_RDWR, 0)
	must(t, err)
	defer device.Close()
	p := diskio.NewPacer()
	p.SetLimit(60 << 10)
	stats, err := Run(context.Background(), p, diskio.FileContent(device), Spec{Algorithm: Random, Verify: true})
	must(t, err)
	if !stats.Verified {
		t.Errorf("stats: %+v", stats)
	}
}

func TestFailedWipeSaysWhereAndKeepsTheError(t *testing.T) {
	image := filepath.Join(mountTmpfs(t, 40*mib), "image")
	sparse(t, image, 128*mib)
	device, err := os.OpenFile(loopDevice(t, image), os.O_RDWR, 0)
	must(t, err)
	defer device.Close()
	p := diskio.NewPacer()
	stats, err := Run(context.Background(), p, diskio.FileContent(device), Spec{Algorithm: Random, Verify: true})
	var e *diskio.IOError
	if !errors.As(err, &e) || stats.Passes != 0 || stats.Verified {
		t.Fatalf("error is %v, %+v", err, stats)
	}
	if c := p.Counts(); c.Durable > 40*mib {
		t.Errorf("40 MiB of space, but durable: %+v", c)
	}
}

// A file with the attribute C is overwritten in place on btrfs, unless it is
// shared.
func TestWipeOnBtrfsWithoutCopyOnWrite(t *testing.T) {
	dir := testenv.Mount(t, "btrfs")
	f := create(t, dir, "f")
	must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, diskio.FlagNoCopyOnWrite))
	writeCanaries(t, f, mib)
	limits, err := Limits(context.Background(), diskio.FileContent(f), Spec{})
	must(t, err)
	if slices.ContainsFunc(limits, func(l Limit) bool { return l.Certain }) {
		t.Errorf("limits are %+v", limits)
	}
	_, err = diskio.Copy(context.Background(), diskio.NewPacer(), diskio.CopySpec{Dst: diskio.FileContent(diskiotest.CreateNoCopyOnWrite(t, dir, "other")), Src: diskio.FileContent(f), Reflink: diskio.ReflinkAlways})
	must(t, err)
	limits, err = Limits(context.Background(), diskio.FileContent(f), Spec{})
	must(t, err)
	if !slices.ContainsFunc(limits, func(l Limit) bool { return l.Certain }) {
		t.Errorf("shared, but limits are %+v", limits)
	}
}

func TestTrimGivesBlocksBackAndSaysThatItIsNoOverwrite(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		f := create(t, dir, "f")
		writeCanaries(t, f, 6*mib+100)
		p := diskio.NewPacer()
		stats, err := Run(context.Background(), p, diskio.FileContent(f), Spec{Algorithm: Trim, Verify: true})
		must(t, err)
		layout, err := diskio.LayoutOf(t.Context(), diskio.FileContent(f)) // not counting what a file system allocates ahead behind the end
		must(t, err)
		if n := canaries(t, f.Name()); n != 0 || sizeOf(t, f) != 6*mib+100 || layout.Held > 4096 {
			t.Errorf("%d canaries, %d bytes, %d with blocks", n, sizeOf(t, f), layout.Held)
		}
		if stats.Method != MethodPunch || stats.Passes != 0 || !stats.Verified || !stats.Touched || stats.Bytes != 6*mib+100 {
			t.Errorf("stats: %+v", stats)
		}
		if !strings.HasPrefix(stats.Limits[0].Text, "a trim overwrites nothing") || stats.Limits[0].Certain {
			t.Errorf("limits: %+v", stats.Limits)
		}
		if c := p.Counts(); c.Written != 0 || c.Durable != c.Total || c.Work != c.WorkAll {
			t.Errorf("counts: %+v", c)
		}
	})
}

func TestTrimOfBlockDevice(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	sparse(t, image, 8*mib)
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	writeCanaries(t, f, 8*mib)
	device, err := os.OpenFile(loopDevice(t, image), os.O_RDWR, 0)
	must(t, err)
	defer device.Close()
	stats, err := Run(context.Background(), diskio.NewPacer(), diskio.FileContent(device), Spec{Algorithm: Trim, Verify: true})
	must(t, err)
	if n := canaries(t, image); n != 0 || occupied(t, f) != 0 || stats.Method != MethodDiscard || stats.Device != device.Name() {
		t.Errorf("%d canaries are left, %d bytes with blocks: %+v", n, occupied(t, f), stats)
	}
}

func TestTrimWhereItCannotBe(t *testing.T) {
	testenv.Root(t)
	f := create(t, mountAt(t, t.TempDir(), "-t", "ramfs", "ramfs"), "f")
	writeCanaries(t, f, mib)
	_, err := Run(context.Background(), diskio.NewPacer(), diskio.FileContent(f), Spec{Algorithm: Trim})
	var e *diskio.IOError
	if !errors.As(err, &e) || e.Op != "trim" || !errors.Is(e, diskio.ErrUnsupported) {
		t.Errorf("error is %v", err)
	}
	if canaries(t, f.Name()) == 0 {
		t.Error("something was wiped all the same")
	}
}

// devices are of all the kinds that keep old content.
func devices(t *testing.T) blockdev.Sysfs {
	t.Helper()
	tree := blockdevtest.New(t)
	lvm := func(name, uuid string) blockdevtest.Attributes {
		return blockdevtest.Attributes{"dm/name": name, "dm/uuid": uuid}
	}
	tree.Device("sda", "8:0", blockdevtest.Attributes{"queue/rotational": "0"})
	tree.Device("sda/sda1", "8:1", blockdevtest.Attributes{"partition": "1"})
	tree.Device("sdb", "8:16", blockdevtest.Attributes{"queue/rotational": "1"})
	tree.Device("dm-0", "253:0", lvm("vg-lv", "LVM-abc"), "sda/sda1", "sdb")
	tree.Device("dm-1", "253:1", lvm("vg-pool-tpool", "LVM-abc-tpool"), "sdb")
	tree.Device("dm-2", "253:2", lvm("vg-thin", "LVM-abc"), "dm-1")
	tree.Device("dm-3", "253:3", lvm("vg-lv-real", "LVM-abc-real"), "sdb")
	tree.Device("dm-4", "253:4", lvm("vg-origin", "LVM-abc"), "dm-3")
	tree.Device("zd0", "230:0", blockdevtest.Attributes{"queue/rotational": "0"})
	tree.Device("dm-6", "253:6", lvm("vg-vdo-vpool", "LVM-abc-vpool"), "sdb")
	tree.Device("dm-7", "253:7", lvm("vg-compact", "LVM-abc"), "dm-6")
	tree.Device("dm-5", "253:5", lvm("loops", "LVM-abc"), "dm-5") // cannot be
	return tree.Sysfs()
}

func TestLimitsOfDevices(t *testing.T) {
	sys := devices(t)
	for dev, want := range map[string]struct {
		name    string
		certain bool
		words   []string
	}{
		"8:1":   {"/dev/sda1", false, []string{"no magnetic"}},
		"8:16":  {"/dev/sdb", false, nil},
		"253:0": {"/dev/mapper/vg-lv", false, []string{"no magnetic"}},
		"253:2": {"/dev/mapper/vg-thin", false, []string{"thin"}},
		"253:4": {"/dev/mapper/vg-origin", true, []string{"snapshot"}},
		"253:7": {"/dev/mapper/vg-compact", true, []string{"VDO"}},
		"230:0": {"/dev/zd0", true, []string{"ZFS", "no magnetic"}},
		"253:5": {"/dev/mapper/loops", false, nil},
		"9:9":   {"", false, nil},
		"":      {"", false, nil},
	} {
		got := lookBelow(sys, dev)
		if got.name != want.name || len(got.limits) != len(want.words) {
			t.Errorf("%s is %q with %+v", dev, got.name, got.limits)
			continue
		}
		for i, w := range want.words {
			if !strings.Contains(got.limits[i].Text, w) || i == 0 && got.limits[i].Certain != want.certain {
				t.Errorf("%s has the limit %+v, want one with %q", dev, got.limits[i], w)
			}
		}
	}
}

func certainly(t *testing.T, f *os.File, spec Spec, words string) bool {
	t.Helper()
	limits, err := Limits(t.Context(), diskio.FileContent(f), spec)
	must(t, err)
	return slices.ContainsFunc(limits, func(l Limit) bool { return l.Certain && strings.Contains(l.Text, words) })
}

// What comes from a lower layer stays there, whatever became of the file since.
func TestLimitsOfAnOverlay(t *testing.T) {
	testenv.Root(t)
	base := t.TempDir()
	for _, name := range []string{"lower", "upper", "work"} {
		must(t, os.Mkdir(filepath.Join(base, name), 0o755))
	}
	writeCanaries(t, create(t, filepath.Join(base, "lower"), "old"), mib)
	options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", base)
	dir := mountAt(t, base, "-t", "overlay", "-o", options, "overlay")
	made := create(t, dir, "new")
	writeCanaries(t, made, mib)
	if certainly(t, made, Spec{}, "") {
		t.Error("a file that was made on the overlay has a certain limit")
	}
	old, err := os.OpenFile(filepath.Join(dir, "old"), os.O_RDWR, 0)
	must(t, err)
	defer old.Close()
	must(t, os.Rename(old.Name(), filepath.Join(dir, "renamed")))
	for _, algorithm := range []string{Zero, Trim} {
		if !certainly(t, old, Spec{Algorithm: algorithm}, "lower layer") {
			t.Errorf("%s: a file of a lower layer has no certain limit", algorithm)
		}
	}
	_, err = Run(t.Context(), diskio.NewPacer(), diskio.FileContent(old), Spec{})
	must(t, err)
	if canaries(t, filepath.Join(base, "lower", "old")) == 0 {
		t.Error("the limit is none: the lower layer was overwritten")
	}
}

func TestLimitsOfAJournalWithData(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	for name, c := range map[string]struct {
		mkfs   []string
		mount  string
		flags  int
		expect bool
	}{
		"as a rule":         {mount: "data=ordered"},
		"by option":         {mount: "data=journal", expect: true},
		"one file":          {mount: "data=ordered", flags: journalDataFlag, expect: true},
		"without a journal": {mkfs: []string{"-O", "^has_journal"}, mount: "rw", flags: journalDataFlag},
	} {
		t.Run(name, func(t *testing.T) {
			sparse(t, image, 64*mib)
			run(t, "mkfs.ext4", append(append([]string{"-q", "-F"}, c.mkfs...), image)...)
			run(t, "debugfs", "-w", "-R", "write /dev/null f", image) // chattr +j is not for every root
			run(t, "debugfs", "-w", "-R", fmt.Sprintf("set_inode_field f flags %#x", 0x80000|c.flags), image)
			f, err := os.OpenFile(filepath.Join(mountAt(t, t.TempDir(), "-t", "ext4", "-o", c.mount, loopDevice(t, image)), "f"), os.O_RDWR, 0)
			must(t, err)
			defer f.Close()
			if diskio.Flags(f)&journalDataFlag != uint32(c.flags) {
				t.Fatalf("its flags are %#x", diskio.Flags(f))
			}
			if got := certainly(t, f, Spec{}, "journal"); got != c.expect {
				t.Errorf("certain: %v", got)
			}
		})
	}
}
