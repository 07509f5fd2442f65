package diskio

import (
	"context"
	"errors"
)

// Layout is how a content is stored. Sizes are bytes.
type Layout struct {
	Size    int64
	Regular bool  // a file, no device
	Held    int64 // of Size: has blocks, as all of a device has
	Holes   int64 // of Size: has none
	Exact   bool  // false: Holes may have blocks that nothing was written to
	Shared  int64 // of Held: with other files or snapshots, as far as is known
	Encoded int64 // of Held: stored compressed or encrypted, as far as is known
}

// LayoutOf looks how c is stored, and waits for what of it is dirty.
func LayoutOf(ctx context.Context, c Content) (Layout, error) {
	size, err := contentSize(c)
	if err != nil {
		return Layout{}, err
	}
	f := regularOf(c)
	l := Layout{Size: size, Regular: f != nil, Exact: true}
	switch {
	case f == nil && FileOf(c) != nil: // a device
		l.Held = size
	case f == nil:
		l.Held, err = measure(ctx, c, Extent{Len: size}, Hole)
	default:
		err = walkBlocks(ctx, f, func(x fiemapExtent) error {
			l.add(x)
			return nil
		})
	}
	if errors.Is(err, ErrUnsupported) {
		l.Exact = false
		l.Held, err = measure(ctx, c, Extent{Len: size}, Zero)
	}
	l.Holes = size - l.Held
	return l, err
}

// add counts an extent that has blocks, as far as it lies within the file.
func (l *Layout) add(x fiemapExtent) {
	n := min(int64(x.length), max(l.Size-int64(x.logical), 0))
	l.Held += n
	if x.flags&fiemapShared != 0 {
		l.Shared += n
	}
	if x.flags&fiemapEncoded != 0 {
		l.Encoded += n
	}
}
