package diskio

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/testenv"
)

func TestReflinkWhereTheFileSystemCan(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			dir := testenv.Mount(t, kind)
			src := create(t, dir, "src")
			writeRandom(t, src, 0, 5*mib+99) // dirty, and of unaligned size
			for reflink, want := range map[Reflink]string{
				"": MethodReflink, ReflinkAuto: MethodReflink, ReflinkAlways: MethodReflink, ReflinkNever: MethodCopy,
			} {
				dst := create(t, dir, "dst "+string(reflink))
				stats := checkCopy(t, CopySpec{Dst: file{dst}, Src: file{src}, Reflink: reflink, Size: 5*mib + 99})
				if stats.Method != want {
					t.Errorf("reflink %q: method is %s", reflink, stats.Method)
				}
				layout, err := LayoutOf(context.Background(), file{dst})
				must(t, err)
				if (layout.Shared > 0) != (want == MethodReflink) {
					t.Errorf("reflink %q: %d bytes are shared", reflink, layout.Shared)
				}
			}
		})
	}
}

func TestReflinkIntoLargerTarget(t *testing.T) {
	dir := testenv.Mount(t, "xfs")
	src, dst := create(t, dir, "src"), create(t, dir, "dst")
	writeRandom(t, src, 0, mib+1)
	p := NewPacer()
	_, err := Copy(context.Background(), p, CopySpec{Dst: file{dst}, Src: file{src}, Size: 3 * mib})
	must(t, err)
	if sizeOf(t, dst) != 3*mib || digestOf(t, dst, mib+1) != digest(t, src) {
		t.Error("wrong content or size")
	}
	if c := p.Counts(); c.Durable != 3*mib || c.Work != c.WorkAll {
		t.Errorf("counts: %+v", c)
	}
}

func TestReflinkWhereItCannotBe(t *testing.T) {
	dir := testenv.Mount(t, "ext4")
	src := create(t, dir, "src")
	writeRandom(t, src, 0, mib)
	_, err := Copy(context.Background(), NewPacer(), CopySpec{Dst: file{create(t, dir, "always")}, Src: file{src}, Reflink: ReflinkAlways})
	checkIOError(t, err, "reflink", unix.EOPNOTSUPP)
	used := create(t, dir, "used")
	writeRandom(t, used, 0, 10)
	_, err = Copy(context.Background(), NewPacer(), CopySpec{Dst: file{used}, Src: file{src}, Reflink: ReflinkAlways})
	checkIOError(t, err, "reflink", errNotEmpty)
	stats := checkCopy(t, CopySpec{Dst: file{create(t, dir, "auto")}, Src: file{src}})
	if stats.Method != MethodCopy {
		t.Errorf("method is %s", stats.Method)
	}
}
