// Package wipe erases contents in place, and says what of them it cannot reach. The writing itself is diskio's.
package wipe

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"storaged/internal/diskio"
)

// Methods of a wipe. Nothing that the file system or the device could do by
// noting that a range is zero, and leaving it at that, counts as an overwrite.
const (
	MethodOverwrite = "overwrite"          // every pass is written
	MethodPunch     = diskio.MethodPunch   // trim of a file: holes, fallocate(2)
	MethodDiscard   = diskio.MethodDiscard // trim of a device: BLKDISCARD
	MethodNone      = diskio.MethodNone    // there was nothing to overwrite, only holes
)

// Spec says how a content is to be wiped.
type Spec struct {
	Algorithm string // zero if empty; see Algorithms
	// Verify reads the last pass back from the device and compares it. The
	// algorithms whose definition asks for it do so anyway.
	Verify bool
	// Order is one that the function of this name gave; nil makes one. Who
	// continues a wipe needs the one that it had.
	Order []int
	// Stored overwrites nothing but what has storage, by every algorithm: of an
	// image, filling its holes reaches no old content, and makes its file grow.
	Stored bool
	// File is where the content is stored, if that is an image: what cannot be
	// reached of it cannot of the content. nil: the content is no image's.
	File diskio.Content
	// Beside is what else of the content cannot be reached, as who opened the image
	// knows it.
	Beside []Limit
	// Checkpoints count through all rounds, the reading back too. A random pass
	// that was interrupted goes on under another key, for the first one is kept
	// nowhere; if it is the one to be read back, it is begun anew.
	diskio.Checkpoints
}

// Rounds is how often the wipe goes over the whole file, which makes the total
// of its phase: the passes, and the reading back.
func (s Spec) Rounds() int {
	return algorithms[cmp.Or(s.Algorithm, Zero)].rounds(s.Verify)
}

// Stats is what a wipe did. Sizes are bytes.
type Stats struct {
	Algorithm string
	Method    string
	Passes    int   // completed
	From      int64 // where it began, of all rounds
	Bytes     int64 // overwritten by each pass, or given back
	Holes     int64 // not overwritten: no storage, so no old content (zero, and Stored, only)
	Verified  bool
	Touched   bool // content was changed, or may have been
	Limits    []Limit
	Device    string // path of the block device that was written to, "" if there is none
}

// Run overwrites all of a content in place, durably, and never changes its size.
// Every pass is on the device before the next begins. zero leaves holes alone; all others fill them; trim
// gives the blocks back instead, so that they are not reserved any more. After an
// error or a cancel some of it is overwritten, and nothing of ours is dirty any more.
func Run(ctx context.Context, p *diskio.Pacer, c diskio.Content, spec Spec) (Stats, error) {
	w, err := newWiping(ctx, p, c, spec)
	if err != nil {
		return w.stats, err
	}
	if err := w.expect(ctx); err != nil {
		return w.stats, err
	}
	before := p.Counts().Written
	err = w.work(ctx)
	w.stats.Touched = w.algorithm.trim || p.Counts().Written > before
	if err != nil || !w.verify {
		return w.stats, err
	}
	err = diskio.ReadBack(ctx, p, c, w.round(w.last))
	w.stats.Verified = err == nil
	return w.stats, err
}

type wiping struct {
	p         *diskio.Pacer
	c         diskio.Content
	layout    diskio.Layout
	spec      Spec
	algorithm algorithm
	verify    bool
	order     []pass
	keep      diskio.Checkpoints
	last      diskio.Pattern // of the pass begun last
	stats     Stats
}

// newWiping looks what there is to overwrite and what cannot be reached.
func newWiping(ctx context.Context, p *diskio.Pacer, c diskio.Content, spec Spec) (*wiping, error) {
	spec.Algorithm = cmp.Or(spec.Algorithm, Zero)
	w := &wiping{p: p, c: c, spec: spec, keep: spec.Checkpoints, stats: Stats{Algorithm: spec.Algorithm}}
	var ok bool
	if w.algorithm, ok = algorithms[spec.Algorithm]; !ok {
		return w, fmt.Errorf("wipe algorithm %q: %w (there are %s)",
			spec.Algorithm, diskio.ErrUnsupported, strings.Join(Algorithms(), ", "))
	}
	w.verify = spec.Verify || w.algorithm.verify
	if spec.Order == nil {
		spec.Order = Order(spec.Algorithm)
	}
	var err error
	if w.order, err = w.algorithm.order(spec.Order); err != nil {
		return w, err
	}
	if w.layout, err = diskio.LayoutOf(ctx, c); err != nil {
		return w, err
	}
	w.begin()
	w.survey()
	return w, w.limits(ctx)
}

// begin says where the wipe begins. What is to be read back must have been
// written by this one, unless anybody knows what it wrote.
func (w *wiping) begin() {
	if w.algorithm.trim { // quick enough to be done again
		w.keep = diskio.Checkpoints{}
		return
	}
	last := len(w.algorithm.passes) - 1
	if w.verify && w.algorithm.passes[last] == nil {
		w.keep.From = min(w.keep.From, int64(last)*w.layout.Size)
	}
	w.keep.From = max(w.keep.From, 0)
	w.stats.From = w.keep.From
}

// skipsHoles reports whether what has no storage is left alone.
func (w *wiping) skipsHoles() bool {
	return w.layout.Holes > 0 && (w.stats.Algorithm == Zero || w.spec.Stored)
}

// survey says what is overwritten, and how.
func (w *wiping) survey() {
	w.stats.Bytes = w.layout.Size
	if w.skipsHoles() {
		w.stats.Bytes, w.stats.Holes = w.layout.Held, w.layout.Holes
	}
	switch {
	case w.stats.Bytes == 0:
		w.stats.Method = MethodNone
	case w.algorithm.trim && w.layout.Regular:
		w.stats.Method = MethodPunch
	case w.algorithm.trim:
		w.stats.Method = MethodDiscard
	default:
		w.stats.Method = MethodOverwrite
	}
}

// expect says how much is to come, if there is room for it.
func (w *wiping) expect(ctx context.Context) error {
	rounds := int64(w.algorithm.rounds(w.verify))
	light := w.stats.Holes * rounds
	if w.algorithm.trim {
		light = w.layout.Size
	} else if err := diskio.RoomToOverwrite(ctx, w.c, w.layout.Size, w.stats.Holes); err != nil {
		return err
	}
	w.p.Expect(w.layout.Size*rounds, light)
	return nil
}

// work makes the passes, or gives the blocks back.
func (w *wiping) work(ctx context.Context) error {
	if w.algorithm.trim {
		w.last = pass{0x00}.pattern() // what a verification looks for
		return diskio.Discard(ctx, w.p, w.c)
	}
	for _, pass := range w.order {
		w.last = pass.pattern()
		if err := diskio.Overwrite(ctx, w.p, w.c, w.round(w.last)); err != nil {
			return err
		}
		w.stats.Passes++
	}
	return nil
}

// round is the one that follows the passes that are complete.
func (w *wiping) round(pattern diskio.Pattern) diskio.Round {
	return diskio.Round{
		Pattern: pattern, Size: w.layout.Size, SkipHoles: w.skipsHoles(),
		Before: int64(w.stats.Passes) * w.layout.Size, Checkpoints: w.keep,
	}
}
