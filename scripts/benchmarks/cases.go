package main

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"storaged/internal/operation"
	"storaged/internal/service/contract"
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
	// extents are how many pieces a GiB of data in a sparse file is in.
	extents = 1000
	// reflinkShare is how much larger than the file full of data that file is
	// which shares its blocks.
	reflinkShare = 5
	// holeSize is an empty file for those who read every hole.
	holeSize = 2 * gib
)

// What ours may take of the time of virsh: it is to be so many times as fast.
const (
	virshCopyShare   = 1 / 1.3
	virshStreamShare = 1 / 1.5
)

// instant is what a clone without data to move may take, in seconds.
const instant = 0.05

// Most cases are measured once, those of which it matters with a warm cache too.
var once, both = []warmth{cold}, []warmth{cold, warm}

// cases are all there is to compare.
func (b *bench) cases() []benchCase {
	return slices.Concat(b.copies(), b.conversions(), b.reflinks(), b.wipes(), b.streams(), b.clients(), b.costs())
}

func (b *bench) copies() []benchCase {
	tools := []contender{b.clone(), cp("--reflink=never").bound(1), qemuConvert().bound(1), nbdcopy().bound(1)}
	sparse := cp("--reflink=never", "--sparse=always")
	virsh := b.libvirt.contender("vol-clone", "--pool", peersPool, "FROM", "NAME").bound(virshCopyShare)
	return []benchCase{
		{"copy", b.mib("Copy of %d MiB of random data", 1), both, b.filled("random.raw", b.size), append(tools, dd(), virsh)},
		{"sparse", "Copy of 100 GiB with 1 GiB of data in 1000 extents", once, b.sparse("sparse.raw", gib), []contender{b.clone(), sparse.bound(1), qemuConvert(), nbdcopy()}},
		{"empty", "Copy of 100 GiB without data", once, b.sparse("empty.raw", 0), []contender{b.clone().in(instant), sparse, qemuConvert(), nbdcopy()}},
		{"hole", "Copy of 2 GiB without data, against libvirt, which reads it", once, b.hole(), []contender{b.clone(), virsh}},
	}
}

func (b *bench) reflinks() []benchCase {
	all := []contender{b.helper("clone", "--source", "SOURCE", "--target", "TARGET", "--reflink", "always").in(instant), cp("--reflink=always")}
	return []benchCase{
		{"reflink-xfs", b.mib("Reflink of %d MiB on xfs", reflinkShare), once, b.onLoop("xfs"), all},
		{"reflink-btrfs", b.mib("Reflink of %d MiB on btrfs", reflinkShare), once, b.onLoop("btrfs"), all},
	}
}

func (b *bench) wipes() []benchCase {
	zero, random, victim := b.wipe("zero"), b.wipe("random"), b.victim(b.size/4)
	return []benchCase{
		{"wipe-zero", b.mib("Wipe of %d MiB with zeros", 0.25), both, victim, []contender{
			zero, b.zeros(b.size / 4).bound(1), shred("-n", "0", "-z"), scrub("fillzero"),
			b.libvirt.contender("vol-wipe", "--pool", peersPool, "NAME")}},
		{"wipe-random", b.mib("Wipe of %d MiB with random bytes", 0.25), both, victim, []contender{
			random, zero.named("storage-helper wipe --algorithm zero").bound(1.3), shred("-n", "1"), scrub("random").bound(0.2),
			b.libvirt.contender("vol-wipe", "--pool", peersPool, "NAME", "--algorithm", "random")}},
	}
}

// streams go through the daemons' sockets, as people use them.
func (b *bench) streams() []benchCase {
	up, down := []string{"vol-upload", "--pool", peersPool, "NAME", "SOURCE"}, []string{"vol-download", "--pool", peersPool, "FROM", "TARGET"}
	return []benchCase{
		{"upload", b.mib("Upload of %d MiB into a volume", 1), once, b.upload(b.size), []contender{
			b.ctl("vol", "upload", "peers/NAME", "SOURCE", "--yes"), b.libvirt.contender(up...).bound(virshStreamShare)}},
		{"download", b.mib("Download of %d MiB out of a volume", 1), once, outside(b.filled("random.raw", b.size)), []contender{
			b.ctl("vol", "download", "peers/FROM", "TARGET"), b.libvirt.contender(down...).bound(virshStreamShare)}},
		{"upload-sparse", "A new volume from 100 GiB with 1 GiB of data in 1000 extents", once, b.besides(gib / 2), []contender{
			b.ctl("vol", "create", "peers/NAME", "--from", "SOURCE"),
			b.ctl("vol", "create", "peers/NAME", "--from", "BESIDES").named("the same, from 512 MiB in 500 extents").bound(proportional)}},
		{"download-sparse", "Download of 100 GiB with 1 GiB of data in 1000 extents", once, outside(b.besides(gib / 2)), []contender{
			b.ctl("vol", "download", "peers/FROM", "TARGET"),
			b.ctl("vol", "download", "peers/BESIDES-NAME", "TARGET").named("the same, of 512 MiB in 500 extents").bound(proportional),
			b.libvirt.contender(append(down, "--sparse")...)}},
	}
}

// clients are libvirt's, against both daemons.
func (b *bench) clients() []benchCase {
	sides := func(before func(*work) []string, args ...string) []contender {
		return []contender{b.virsh(before, args...), b.libvirt.prepared(before, args...).bound(1)}
	}
	up, down := []string{"vol-upload", "--pool", peersPool, "NAME", "SOURCE"}, []string{"vol-download", "--pool", peersPool, "FROM", "TARGET"}
	const sparse = "100 GiB with 1 GiB of data in 1000 extents through virsh"
	return []benchCase{
		{"virsh-upload", b.mib("Upload of %d MiB through virsh", 1), once, b.upload(b.size), sides(refreshed, up...)},
		{"virsh-download", b.mib("Download of %d MiB through virsh", 1), once, outside(b.filled("random.raw", b.size)), sides(refreshed, down...)},
		{"virsh-upload-sparse", "Upload of " + sparse, once, b.sparse("sparse.raw", gib), sides(newSparse, append(up, "--sparse")...)},
		{"virsh-download-sparse", "Download of " + sparse, once, outside(b.sparse("sparse.raw", gib)), sides(refreshed, append(down, "--sparse")...)},
		{"virsh-look", fmt.Sprintf("%d loops at a time, of %d times five commands of virsh that look", loops, loopRounds), once, b.victim(mib), b.loops("look")},
		{"virsh-make", fmt.Sprintf("%d loops at a time, of %d times five commands of virsh that make a volume, look and delete it", loops, loopRounds), once, b.victim(mib), b.loops("make")},
	}
}

// refreshed has a daemon look at its pool.
func refreshed(*work) []string { return []string{"pool-refresh", peersPool} }

// newSparse has it make the volume that a sparse content goes into.
func newSparse(w *work) []string {
	return []string{"vol-create-as", peersPool, filepath.Base(w.target), fmt.Sprint(sparseSize), "--allocation", "0"}
}

// virsh is a command of libvirt's client with our daemon, after another that is not
// measured.
func (b *bench) virsh(before func(*work) []string, args ...string) contender {
	uri := libvirtURI(b.rig.libvirtSocket())
	return contender{
		name:   "virsh " + args[0] + ", storaged",
		argv:   append([]string{"virsh", "-q", "-c", uri}, args...),
		daemon: func() int { return b.rig.daemon.Process.Pid },
		before: func(ctx context.Context, w *work) error { return virsh(ctx, uri, before(w)...) },
	}
}

// loops are those of virsh with both daemons.
func (b *bench) loops(what string) []contender {
	ours, theirs := b.virsh(refreshed, "in loops"), b.libvirt.prepared(refreshed, "in loops").bound(1)
	for c, socket := range map[*contender]string{&ours: b.rig.libvirtSocket(), &theirs: b.libvirt.socket} {
		c.argv = []string{b.tool("benchmarks"), b.bin, "loop", libvirtURI(socket), peersPool, "NAME", what}
	}
	return []contender{ours, theirs}
}

// proportional is what twice the data in twice the extents may take at most.
const proportional = 2.1

// costs are what the daemon and the way of copying take.
func (b *bench) costs() []benchCase {
	random := b.filled("random.raw", b.size)
	job, bare := b.ctl("vol", "clone", "peers/FROM", "peers/NAME", "--reflink", "never", "--limit", unlimited), b.bare()
	job.inner, bare.inner = phaseTime, secondsPrinted
	return []benchCase{
		{"overhead", b.mib("The phases of a copy of %d MiB as a job with progress, limit and checkpoints, against the same copy unwatched", 1), once, random,
			[]contender{job, bare.bound(1.02)}},
		{"direct", b.mib("Copy of %d MiB through the page cache, against O_DIRECT", 1), once, random,
			[]contender{b.bare(), b.bare("-direct")}},
	}
}

// mib is a title with a share of the size of a full file.
func (b *bench) mib(title string, share float64) string {
	return fmt.Sprintf(title, int64(share*float64(b.size))>>20)
}

func (b *bench) helper(args ...string) contender {
	return contender{name: "storage-helper " + args[0], argv: append([]string{b.tool("storage-helper")}, args...)}
}

func (b *bench) clone() contender {
	return b.helper("clone", "--source", "SOURCE", "--target", "TARGET", "--reflink", "never")
}

func (b *bench) wipe(algorithm string) contender {
	return b.helper("wipe", "--target", "TARGET", "--algorithm", algorithm, "--yes")
}

// unlimited is a limit that nothing reaches, so that only keeping it costs.
const unlimited = "1T"

// ctl is a command of the daemon's client, after the pool was looked at.
func (b *bench) ctl(args ...string) contender {
	return contender{
		name:   "storagedctl " + strings.Join(args[:2], " "),
		argv:   append([]string{b.tool("storagedctl"), "--socket", b.rig.sock, "-o", "json"}, args...),
		daemon: func() int { return b.rig.daemon.Process.Pid },
		before: func(ctx context.Context, _ *work) error {
			st, err := b.rig.client.Start(ctx, contract.Submit{}, peersPool, "", &operation.PoolRefreshRequest{})
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

func cp(flags ...string) contender {
	return contender{name: "cp " + strings.Join(flags, " "), argv: append(append([]string{"cp"}, flags...), "SOURCE", "TARGET")}
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

// zeros writes them over the target with dd.
func (b *bench) zeros(size int64) contender {
	return contender{name: "dd bs=1M conv=fsync", argv: []string{
		"dd", "if=/dev/zero", "of=TARGET", "bs=1M", fmt.Sprintf("count=%d", size>>20), "conv=notrunc,fsync", "status=none"}}
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

// outside lets the target be made outside the pool.
func outside(in prepared) prepared {
	return func(ctx context.Context, b *bench) (work, func(), error) {
		w, done, err := in(ctx, b)
		w.target = filepath.Join(b.dir, filepath.Base(w.target))
		return w, done, err
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
		piece := make([]byte, gib/extents&^4095)
		scattered := mathrand.New(mathrand.NewPCG(1, 2)) // the same in every run
		pieces := data * extents / gib
		room := sparseSize / pieces
		for i := range pieces {
			_, _ = rand.Read(piece) // never fails
			off := i*room + scattered.Int64N(room-int64(len(piece)))&^4095
			if _, err := f.WriteAt(piece, off); err != nil {
				return w, done, err
			}
		}
		return w, done, f.Sync()
	}
}

// besides is the sparse source, and beside it one with as much data as said.
func (b *bench) besides(data int64) prepared {
	return func(ctx context.Context, b *bench) (work, func(), error) {
		w, done, err := b.sparse("sparse.raw", gib)(ctx, b)
		if err != nil {
			return w, done, err
		}
		less, lessDone, err := b.sparse("besides.raw", data)(ctx, b)
		w.besides = less.source
		return w, func() { done(); lessDone() }, err
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
