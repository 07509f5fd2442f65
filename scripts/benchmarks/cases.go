package main

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"storaged/internal/api"
)

// benchCase is one kind of work and who does it. The first contender is ours.
type benchCase struct {
	name       string
	title      string
	warmth     []warmth
	prepare    func(ctx context.Context, b *bench) (w work, done func(), err error)
	contenders []contender
}

const (
	gib = 1 << 30
	// sparseSize is the size of the sparse and the empty file.
	sparseSize = 100 * gib
	// extents are how many pieces the data of the sparse file is in.
	extents = 1000
	// reflinkShare is how much larger than the file full of data that file is
	// which shares its blocks.
	reflinkShare = 5
	// holeSize is an empty file for those who read every hole.
	holeSize = 2 * gib
)

// cases are all there is to compare.
func (b *bench) cases() []benchCase {
	both, cold := []warmth{coldSource, warmSource}, []warmth{coldSource}
	half, quarter := b.size/2, b.size/4
	copies := []contender{b.clone(), cp("never"), qemuConvert(), nbdcopy()}
	random := b.filled("random.raw", b.size)
	return []benchCase{
		{"copy", fmt.Sprintf("Copy of %d MiB of random data", b.size>>20), both, random,
			append(copies, dd(), b.libvirt.contender("vol-clone", "--pool", "peers", "FROM", "NAME"))},
		{"sparse", "Copy of 100 GiB with 1 GiB of data in 1000 extents", cold, b.sparse("sparse.raw", gib), copies},
		{"empty", "Copy of 100 GiB without data", cold, b.sparse("empty.raw", 0), copies},
		{"hole", "Copy of 2 GiB without data, against libvirt, which reads it", cold, b.hole(),
			[]contender{b.clone(), b.libvirt.contender("vol-clone", "--pool", "peers", "FROM", "NAME")}},
		{"reflink-xfs", fmt.Sprintf("Reflink of %d MiB on xfs", reflinkShare*b.size>>20), cold, b.onLoop("xfs"), []contender{b.share(), cp("always")}},
		{"reflink-btrfs", fmt.Sprintf("Reflink of %d MiB on btrfs", reflinkShare*b.size>>20), cold, b.onLoop("btrfs"), []contender{b.share(), cp("always")}},
		{"wipe-zero", fmt.Sprintf("Wipe of %d MiB with zeros", quarter>>20), []warmth{noSource}, b.victim(quarter), []contender{
			b.wipe("zero"), shred("-n", "0", "-z"), scrub("fillzero"), b.libvirt.contender("vol-wipe", "--pool", "peers", "NAME")}},
		{"wipe-random", fmt.Sprintf("Wipe of %d MiB with random bytes", quarter>>20), []warmth{noSource}, b.victim(quarter), []contender{
			b.wipe("random"), shred("-n", "1"), scrub("random"), b.libvirt.contender("vol-wipe", "--pool", "peers", "NAME", "--algorithm", "random")}},
		{"upload", fmt.Sprintf("Upload of %d MiB into a volume", half>>20), cold, b.upload(half), []contender{
			b.helper("upload", "--source", "SOURCE", "--target", "TARGET", "--yes"), b.libvirt.contender("vol-upload", "--pool", "peers", "NAME", "SOURCE")}},
		{"download", fmt.Sprintf("Download of %d MiB out of a volume", half>>20), cold, b.filled("random.raw", half), []contender{
			b.helper("download", "--volume", "SOURCE", "--target", "TARGET"), b.libvirt.contender("vol-download", "--pool", "peers", "FROM", "TARGET")}},
		{"overhead", fmt.Sprintf("Copy of %d MiB as a job with progress, limit and checkpoints, against the same copy unwatched", b.size>>20), cold, random,
			[]contender{b.job(), b.bare()}},
		{"direct", fmt.Sprintf("Copy of %d MiB through the page cache, against O_DIRECT", b.size>>20), cold, random,
			[]contender{b.bare(), b.bare("-direct")}},
	}
}

func (b *bench) helper(args ...string) contender {
	return contender{name: "storage-helper " + args[0], argv: append([]string{b.tool("storage-helper")}, args...)}
}

func (b *bench) clone() contender {
	return b.helper("clone", "--source", "SOURCE", "--target", "TARGET", "--reflink", "never")
}

func (b *bench) share() contender {
	return b.helper("clone", "--source", "SOURCE", "--target", "TARGET", "--reflink", "always")
}

func (b *bench) wipe(algorithm string) contender {
	return b.helper("wipe", "--target", "TARGET", "--algorithm", algorithm, "--yes")
}

// unlimited is a limit that nothing reaches, so that only keeping it costs.
const unlimited = "1T"

// job is the copy as the daemon has it done.
func (b *bench) job() contender {
	return contender{
		name: "storagectl vol clone",
		argv: []string{b.tool("storagectl"), "--socket", b.rig.sock, "vol", "clone", "peers/FROM", "peers/NAME",
			"--reflink", "never", "--limit", unlimited, "-o", "json"},
		daemon: func() int { return b.rig.daemon.Process.Pid },
		before: func(ctx context.Context, _ *work) error {
			st, err := b.rig.client.RefreshPool(ctx, api.Submit{}, "peers", api.JobOptions{})
			if err != nil {
				return err
			}
			return b.rig.end(ctx, st)
		},
	}
}

// bare is the copy with nobody watching.
func (b *bench) bare(flags ...string) contender {
	argv := append([]string{b.tool("benchmarks"), b.bin, "copy"}, flags...)
	return contender{name: strings.Join(append([]string{"diskio.Copy"}, flags...), " "), argv: append(argv, "SOURCE", "TARGET")}
}

func cp(reflink string) contender {
	return contender{name: "cp --reflink=" + reflink, argv: []string{"cp", "--reflink=" + reflink, "SOURCE", "TARGET"}}
}

func qemuConvert() contender {
	return contender{name: "qemu-img convert", argv: []string{"qemu-img", "convert", "-f", "raw", "-O", "raw", "SOURCE", "TARGET"}}
}

func nbdcopy() contender {
	return contender{name: "nbdcopy", argv: []string{"nbdcopy", "SOURCE", "TARGET"}}
}

func dd() contender {
	return contender{name: "dd bs=1M conv=fsync", argv: []string{"dd", "if=SOURCE", "of=TARGET", "bs=1M", "conv=fsync", "status=none"}}
}

func shred(flags ...string) contender {
	return contender{name: strings.Join(append([]string{"shred"}, flags...), " "), argv: append(append([]string{"shred", "-x"}, flags...), "TARGET")}
}

func scrub(pattern string) contender {
	return contender{name: "scrub -p " + pattern, argv: []string{"scrub", "-f", "-S", "-p", pattern, "TARGET"}}
}

// prepared is what a case gets from its preparation.
type prepared = func(ctx context.Context, b *bench) (work, func(), error)

// filled is a source full of random data, and a target that each trial makes.
func (b *bench) filled(name string, size int64) prepared {
	return func(context.Context, *bench) (work, func(), error) {
		w := work{source: filepath.Join(b.files(), name), target: filepath.Join(b.files(), "target.raw")}
		return w, func() { _ = os.Remove(w.source) }, noise(w.source, size)
	}
}

// victim is a volume that is overwritten again and again.
func (b *bench) victim(size int64) prepared {
	return func(context.Context, *bench) (work, func(), error) {
		w := work{target: filepath.Join(b.files(), "victim.raw"), keep: true}
		return w, func() { _ = os.Remove(w.target) }, noise(w.target, size)
	}
}

// upload is a file outside the pool and a volume that it goes into.
func (b *bench) upload(size int64) prepared {
	return func(context.Context, *bench) (work, func(), error) {
		w := work{source: filepath.Join(b.dir, "outside.raw"), target: filepath.Join(b.files(), "inside.raw"), keep: true}
		err := noise(w.source, size)
		if err == nil {
			err = noise(w.target, size)
		}
		return w, func() { _, _ = os.Remove(w.source), os.Remove(w.target) }, err
	}
}

// hole is an empty source of a size that can be read.
func (b *bench) hole() prepared { return b.empty("hole.raw", holeSize) }

func (b *bench) empty(name string, size int64) prepared {
	return func(context.Context, *bench) (work, func(), error) {
		w := work{source: filepath.Join(b.files(), name), target: filepath.Join(b.files(), "target.raw")}
		err := os.WriteFile(w.source, nil, 0o600)
		if err == nil {
			err = os.Truncate(w.source, size)
		}
		return w, func() { _ = os.Remove(w.source) }, err
	}
}

// sparse is a large source with so many bytes of data, in extents that are
// scattered over it.
func (b *bench) sparse(name string, data int64) prepared {
	return func(ctx context.Context, b *bench) (work, func(), error) {
		w, done, err := b.empty(name, sparseSize)(ctx, b)
		if err != nil || data == 0 {
			return w, done, err
		}
		f, err := os.OpenFile(w.source, os.O_WRONLY, 0)
		if err != nil {
			return w, done, err
		}
		defer f.Close() // synced below
		piece := make([]byte, data/extents&^4095)
		scattered := mathrand.New(mathrand.NewPCG(1, 2)) // the same in every run
		const room = sparseSize / extents
		for i := range int64(extents) {
			_, _ = rand.Read(piece) // never fails
			off := i*room + scattered.Int64N(room-int64(len(piece)))&^4095
			if _, err := f.WriteAt(piece, off); err != nil {
				return w, done, err
			}
		}
		return w, done, f.Sync()
	}
}

// onLoop is a filled source on a file system of its own.
func (b *bench) onLoop(kind string) prepared {
	return func(ctx context.Context, _ *bench) (work, func(), error) {
		image, mount := filepath.Join(b.dir, kind+".img"), filepath.Join(b.dir, kind)
		undo := func() {
			_ = exec.Command("umount", mount).Run() // fails if it was never mounted
			_ = os.Remove(image)
		}
		steps := [][]string{
			{"truncate", "-s", fmt.Sprint(reflinkShare*b.size + 4*gib), image},
			{"mkfs." + kind, "-q", image},
			{"mkdir", "-p", mount},
			{"mount", "-o", "loop", image, mount},
		}
		for _, s := range steps {
			if out, err := exec.CommandContext(ctx, s[0], s[1:]...).CombinedOutput(); err != nil {
				undo()
				return work{}, nil, fmt.Errorf("%s: %w: %s", s[0], err, out)
			}
		}
		w := work{source: filepath.Join(mount, "source.raw"), target: filepath.Join(mount, "target.raw")}
		return w, undo, noise(w.source, reflinkShare*b.size)
	}
}

// noise writes a file full of random bytes, which repeat after 4 MiB: no file
// system here looks for that.
func noise(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close() // synced below
	block := make([]byte, 4<<20)
	_, _ = rand.Read(block) // never fails
	for off := int64(0); off < size; off += int64(len(block)) {
		if _, err := f.Write(block[:min(int64(len(block)), size-off)]); err != nil {
			return err
		}
	}
	return f.Sync()
}
