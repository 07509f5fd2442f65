package diskio

import (
	"context"
	"errors"
)

// Discard gives all storage of a content back. It is ErrUnsupported where that
// cannot be.
func Discard(ctx context.Context, p *Pacer, c Content) error {
	size, err := contentSize(c)
	if err != nil {
		return err
	}
	call := func(off, n int64) error { return c.Zero(off, n, true) }
	if d, ok := c.(Discarder); ok {
		call = d.Discard
	}
	dropCache(FileOf(c), 0, 0)
	err = pieces{p: p, c: c, op: "trim", call: call}.run(ctx, 0, size)
	return synced(ctx, p, c, cannotTrim(err))
}

// cannotTrim says of a content that cannot give storage back at all that it cannot
// anywhere.
func cannotTrim(err error) error {
	if errors.Is(err, ErrUnsupported) {
		return ioError("trim", nowhere, ErrUnsupported)
	}
	return err
}
