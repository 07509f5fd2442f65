package diskio

import (
	"context"
	"errors"
	"fmt"
)

// ErrMap says that a content gave extents that cannot be: such as overlap, run
// backwards, or lie beyond the end.
var ErrMap = errors.New("the storage gives a map of its extents that cannot be")

// extents gives the first extents from off to end, if they can be.
func extents(c Content, list []Extent, off, end int64) ([]Extent, error) {
	n, err := c.Extents(list, off, end)
	if err == nil && (n <= 0 || n > len(list)) {
		err = fmt.Errorf("%w: %d extents", ErrMap, n)
	}
	if err != nil {
		return nil, ioError(opFindData, off, err)
	}
	at := off
	for _, x := range list[:n] {
		if x.Off != at || x.Len <= 0 || x.Len > end-at || x.Kind > Hole {
			return nil, ioError(opFindData, at, fmt.Errorf("%w: %d bytes of kind %d at byte %d of what ends at byte %d", ErrMap, x.Len, x.Kind, x.Off, end))
		}
		at = x.End()
	}
	return list[:n], nil
}

// walk calls visit for each extent of a part of a content, in order and without
// a gap.
func walk(ctx context.Context, c Content, part Extent, visit func(Extent) error) error {
	var room [16]Extent // as many as are asked for at a time
	for at := part.Off; at < part.End(); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		list, err := extents(c, room[:], at, part.End())
		if err != nil {
			return err
		}
		for _, x := range list {
			if err := visit(x); err != nil {
				return err
			}
			at = x.End()
		}
	}
	return nil
}

// walkAll is walk over the first size bytes.
func walkAll(ctx context.Context, c Content, size int64, visit func(Extent) error) error {
	return walk(ctx, c, Extent{Len: size}, visit)
}

// measure gives how much of a part is of a kind before another: before Zero is what
// has to be moved, before Hole what has storage.
func measure(ctx context.Context, c Content, part Extent, before Kind) (n int64, err error) {
	err = walk(ctx, c, part, func(x Extent) error {
		if x.Kind < before {
			n += x.Len
		}
		return nil
	})
	return n, err
}
