package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/record"
	"storaged/internal/tool"
)

// Source opens a device that the storage of a pool comes from, which is none of another
// pool.
func Source(p backends.Pool, path string) (*blockdev.Node, error) {
	dev, err := blockdev.OpenNode(path)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO):
		return nil, noDevice(p, path)
	case errors.Is(err, unix.ENOTBLK):
		return nil, record.Errorf(record.Invalid, "%q is no block device", path)
	case err != nil:
		return nil, fmt.Errorf("cannot open device %q: %w", path, err)
	}
	for _, other := range p.Spared {
		if dev.Overlaps(other) {
			dev.Close()
			return nil, &backends.BusyError{
				Object: path, Holder: fmt.Sprintf("another pool, whose source device %q is the same, or on the same disk", other),
				Release: "undefine the pool that is not meant",
			}
		}
	}
	return dev, nil
}

// noDevice says that a device is missing. A pool that has never been on it may name it wrongly;
// nothing that can be built makes one.
func noDevice(p backends.Pool, path string) error {
	err := Lacking(p, fmt.Errorf("device %q is not there", path))
	if absent, ok := errors.AsType[*backends.AbsentError](err); ok {
		absent.Hint = "look whether its name is right, or attach it: lsblk --paths names the devices of this host"
	}
	return err
}

// Lacking says that what a pool stands on is missing: of one that was there before, nothing
// is known then of what it holds.
func Lacking(p backends.Pool, why error) error {
	if p.ID == "" {
		return &backends.AbsentError{Err: why}
	}
	return &backends.AwayError{Target: p.Target, Err: why}
}

// InUse is the error of a device that others use in the words of package backends.
func InUse(err error) error {
	if used, ok := errors.AsType[*blockdev.UsedError](err); ok {
		return &backends.BusyError{Object: used.Path, Holder: used.Holder, Release: used.Release}
	}
	return err
}

// Types are those of the signatures that a device carries, each once.
func Types(ctx context.Context, device *os.File) (types []string, err error) {
	signatures, err := tool.Signatures(ctx, device)
	for _, s := range signatures {
		if t := record.Escape(s.Type); !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	return types, err
}

// Named lists what a device carries, for people.
func Named(types []string) string { return strings.Join(types, ", ") }

// Vacate makes a device one that carries nothing, for a program that makes something of
// it. One that carries anything stays as it is unless overwrite is set, and one that
// somebody uses in any case. It is open, but not claimed any more: the program does that.
func Vacate(ctx context.Context, seen *blockdev.Node, overwrite bool) (*blockdev.Node, error) {
	claimed, err := blockdev.Claim(seen.Path)
	if err != nil {
		return nil, InUse(err)
	}
	if err := vacate(ctx, seen, claimed, overwrite); err != nil {
		claimed.Close()
		return nil, err
	}
	return claimed, nil
}

func vacate(ctx context.Context, seen, claimed *blockdev.Node, overwrite bool) error {
	types, err := Types(ctx, claimed.File)
	if err == nil && len(types) == 0 {
		types, err = ofParts(ctx, claimed)
	}
	if err != nil {
		return fmt.Errorf("cannot tell what device %q carries: %w", seen.Path, err)
	}
	if len(types) > 0 && !overwrite {
		return &backends.OccupiedError{Object: seen.Path, Carries: Named(types)}
	}
	if err := Erase(ctx, seen, claimed); err != nil {
		return err
	}
	return claimed.Yield()
}

// ofParts are signatures in partitions that the kernel has of a device without a table:
// that was lost, or the kernel was told of them otherwise.
func ofParts(ctx context.Context, dev *blockdev.Node) (all []string, err error) {
	for number, part := range parts(dev) {
		n, err := blockdev.OpenNode(part.Node())
		if err != nil {
			return nil, err
		}
		types, err := Types(ctx, n.File)
		n.Close() // it was only looked at
		if err != nil {
			return nil, err
		}
		for _, t := range types {
			all = append(all, fmt.Sprintf("%s in partition %d", t, number))
		}
	}
	return all, nil
}
