package diskio

import (
	"context"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/diskio/diskiotest"
	"storaged/internal/testenv"
)

// reservedFile is a file of 20 MiB that has blocks everywhere and 64 KiB of
// data.
func reservedFile(t *testing.T, dir string) *os.File {
	t.Helper()
	f := create(t, dir, "src")
	must(t, unix.Fallocate(int(f.Fd()), 0, 0, 20*mib))
	writeRandom(t, f, 5*mib, 64<<10)
	must(t, f.Sync())
	return f
}

// copyUnread is checkCopy for a source that nobody reads before: what is in the
// page cache counts as data.
func copyUnread(t *testing.T, spec CopySpec) CopyStats {
	t.Helper()
	dropCache(FileOf(spec.Src), 0, 0)
	stats, err := Copy(t.Context(), NewPacer(), spec)
	must(t, err)
	if digest(t, FileOf(spec.Dst)) != digest(t, FileOf(spec.Src)) {
		t.Error("the copy differs from its source")
	}
	dropCache(FileOf(spec.Src), 0, 0)
	return stats
}

func TestCopyKeepsWhatIsReserved(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		src := reservedFile(t, dir)
		for _, reflink := range []Reflink{ReflinkAuto, ReflinkNever} {
			onEachFS(t, func(t *testing.T, to string) {
				stats := copyUnread(t, CopySpec{Dst: file{create(t, to, "there"+string(reflink))}, Src: file{src}, Reflink: reflink, Reserved: true})
				if !stats.Kept || stats.Allocated < 20*mib {
					t.Errorf("%+v", stats)
				}
			})
			dst := create(t, dir, "here"+string(reflink))
			stats := copyUnread(t, CopySpec{Dst: file{dst}, Src: file{src}, Reflink: reflink, Reserved: true})
			if n := occupied(t, dst); !stats.Kept || n < 20*mib {
				t.Errorf("%d bytes are allocated, %+v", n, stats)
			}
		}
	})
}

func TestCopyKeepsWhatIsReservedInPart(t *testing.T) {
	src := create(t, t.TempDir(), "src")
	must(t, src.Truncate(64*mib))
	writeRandom(t, src, 0, mib)
	must(t, unix.Fallocate(int(src.Fd()), 0, 32*mib, 8*mib))
	dst := create(t, t.TempDir(), "dst")
	stats := copyUnread(t, CopySpec{Dst: file{dst}, Src: file{src}, Reserved: true})
	if n := occupied(t, dst); !stats.Kept || n < 9*mib || n > 10*mib {
		t.Errorf("%d bytes are allocated, %+v", n, stats)
	}
}

// What cannot be reserved, or not be seen to be reserved, is said.
func TestCopySaysWhatIsNotReserved(t *testing.T) {
	stats := copyUnread(t, CopySpec{Dst: file{create(t, mountLoop(t, "ext2", 64*mib), "dst")}, Src: file{reservedFile(t, t.TempDir())}, Reserved: true})
	if stats.Kept || stats.Allocated == 0 {
		t.Errorf("without fallocate: %+v", stats)
	}
	src := create(t, mountTmpfs(t, 64*mib), "src")
	must(t, src.Truncate(40*mib))
	writeRandom(t, src, 0, mib)
	must(t, unix.Fallocate(int(src.Fd()), 0, 20*mib, 8*mib))
	stats = copyUnread(t, CopySpec{Dst: file{create(t, t.TempDir(), "dst")}, Src: file{src}, Reserved: true})
	if stats.Kept || stats.Allocated == 0 {
		t.Errorf("from tmpfs: %+v", stats)
	}
	stats = copyUnread(t, CopySpec{Dst: file{create(t, t.TempDir(), "dst")}, Src: file{create(t, mountTmpfs(t, 64*mib), "src")}, Reserved: true})
	if stats.Allocated != 0 {
		t.Errorf("nothing was reserved: %+v", stats)
	}
}

func TestCopyOfAFileThatIsOverwrittenInPlaceIsOne(t *testing.T) {
	dir := testenv.Mount(t, "btrfs")
	src := diskiotest.CreateNoCopyOnWrite(t, dir, "src")
	writeRandom(t, src, 0, 3*mib)
	must(t, src.Sync())
	for _, reflink := range []Reflink{ReflinkAlways, ReflinkAuto, ReflinkNever} {
		dst := create(t, dir, string(reflink))
		stats := copyUnread(t, CopySpec{Dst: file{dst}, Src: file{src}, Reflink: reflink, Reserved: true})
		if Flags(dst)&FlagNoCopyOnWrite == 0 || stats.CopiesOnWrite {
			t.Errorf("%s: the copy is not nocow: %+v", reflink, stats)
		}
		if want := map[bool]string{true: MethodCopy, false: MethodReflink}[reflink == ReflinkNever]; stats.Method != want {
			t.Errorf("%s: copied by %s", reflink, stats.Method)
		}
	}
	stats, err := Copy(context.Background(), NewPacer(), CopySpec{Dst: file{create(t, t.TempDir(), "dst")}, Src: file{src}, Reserved: true})
	must(t, err)
	if stats.CopiesOnWrite {
		t.Error("a file system that overwrites in place is said not to")
	}
}
