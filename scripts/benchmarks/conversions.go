package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// conversions are copies of a content from one format into another.
func (b *bench) conversions() (all []benchCase) {
	for _, pair := range [][2]string{{"raw", "qcow2"}, {"qcow2", "raw"}, {"qcow2", "qcow2"}, {"vmdk", "qcow2"}} {
		from, to := pair[0], pair[1]
		title := "Conversion of %s from " + from + " to " + to
		all = append(all,
			benchCase{"convert-" + from + "-" + to, fmt.Sprintf(title, b.mib("%d MiB of random data", 1)), once,
				b.image(b.filled("random.raw", b.size), from), b.converters(from, to, b.size)},
			benchCase{"convert-sparse-" + from + "-" + to, fmt.Sprintf(title, "100 GiB with 1 GiB of data in 1000 extents"), once,
				b.image(b.sparse("sparse.raw", gib), from), b.converters(from, to, sparseSize)})
	}
	title, half := b.mib("Conversion of %d MiB, compressed to half of that, from ", 0.5), b.size/2
	return append(all,
		benchCase{"convert-streamed", title + "a streamOptimized vmdk to qcow2", once, b.image(b.packable(half), "vmdk", "-o", "subformat=streamOptimized"),
			b.converters("vmdk", "qcow2", half)[:3]},
		benchCase{"convert-compressed", title + "a compressed qcow2 to qcow2", once, b.image(b.packable(half), "qcow2", "-c"),
			b.converters("qcow2", "qcow2", half)[:3]})
}

// converters are all who can do it. The last is nbdcopy.
func (b *bench) converters(from, to string, size int64) []contender {
	ours := b.helper("convert", "--source", "SOURCE", "--format", from, "--target", "TARGET", "--to", to)
	convert := []string{"qemu-img", "convert", "-f", from, "-O", to}
	parallel := append(slices.Clone(convert), "-W", "-m", "8")
	shell := []string{"sh", "-c", nbdcopyScript(from, to, size)}
	return []contender{
		ours.together(),
		contender{name: "qemu-img convert", argv: append(convert, "SOURCE", "TARGET")}.together().bound(1),
		contender{name: "qemu-img convert -W -m 8", argv: append(parallel, "SOURCE", "TARGET")}.together().bound(1),
		contender{name: "nbdcopy, qemu-nbd", argv: shell}.together().bound(1),
	}
}

// nbdcopyScript copies between what it, or qemu-nbd, opens.
func nbdcopyScript(from, to string, size int64) string {
	source, target, made := "SOURCE", "TARGET", ""
	if from != "raw" {
		source = "[ qemu-nbd -r -f " + from + " SOURCE ]"
	}
	if to != "raw" {
		target = "[ qemu-nbd -f " + to + " TARGET ]"
		made = fmt.Sprintf("qemu-img create -q -f %s TARGET %d && ", to, size)
	}
	return made + "nbdcopy -- " + source + " " + target
}

// together counts the memory of all its processes.
func (c contender) together() contender {
	c.all = true
	return c
}

// image makes the source one in another format.
func (b *bench) image(in prepared, format string, options ...string) prepared {
	if format == "raw" {
		return in
	}
	return func(ctx context.Context, b *bench) (work, func(), error) {
		w, done, err := in(ctx, b)
		if err != nil {
			return w, done, err
		}
		raw := w.source
		w.source = filepath.Join(b.files(), "source."+format)
		args := append(append([]string{"convert", "-O", format}, options...), raw, w.source)
		out, err := exec.CommandContext(ctx, "qemu-img", args...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("qemu-img: %w: %s", err, out)
		}
		done() // the raw one
		return w, func() { _ = os.Remove(w.source) }, err
	}
}

// packable is a source that compresses to about half its size.
func (b *bench) packable(size int64) prepared {
	return func(context.Context, *bench) (work, func(), error) {
		w := work{source: filepath.Join(b.files(), "packable.raw"), target: filepath.Join(b.files(), "target.raw")}
		f, err := os.Create(w.source)
		if err != nil {
			return w, func() {}, err
		}
		defer f.Close() // synced below
		block := make([]byte, 4<<20)
		_, _ = rand.Read(block) // never fails
		for i := range block {
			block[i] &= 0x0f
		}
		for off := int64(0); off < size && err == nil; off += int64(len(block)) {
			_, err = f.Write(block)
		}
		if err == nil {
			err = f.Sync()
		}
		return w, func() { _ = os.Remove(w.source) }, err
	}
}

// lookEvery is how often the memory of processes is looked at. They live for longer.
const lookEvery = 5 * time.Millisecond

// watchMemory looks at a process and all that it starts, until stop is called. That
// gives the most that they had together: the sum of the peaks of those that lived at
// the same time.
func watchMemory(pid int) (stop func() float64) {
	quit, most := make(chan struct{}), make(chan float64) // quit is closed by stop
	go func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		at := 0.0
		for {
			sum := 0.0
			for p := range maps.Keys(family(pid)) {
				sum += peak(p)
			}
			at = max(at, sum)
			select {
			case <-tick.C:
			case <-quit:
				most <- at
				return
			}
		}
	}()
	return func() float64 { close(quit); return <-most }
}

// family is a process and all that it started and that live.
func family(pid int) map[int]bool {
	all := map[int]bool{pid: true}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is a good one
	for _, list := range lists {
		b, _ := os.ReadFile(list) // a thread that ended has none
		for _, word := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(word); err == nil {
				maps.Copy(all, family(child))
			}
		}
	}
	return all
}
