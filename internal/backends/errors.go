package backends

import (
	"errors"
	"fmt"
)

// Sentinels by which callers tell failures apart. Drivers wrap them with what
// was being done to which object.
var (
	ErrNotFound    = errors.New("not found")
	ErrExists      = errors.New("exists already")
	ErrNotEmpty    = errors.New("is not empty")
	ErrUnsupported = errors.New("not supported")
	ErrReplaced    = errors.New("is not the one that the pool was started with")
	ErrElsewhere   = errors.New("is on another file system")
	ErrChanged     = errors.New("was changed meanwhile")
	ErrUnsafe      = errors.New("is not safe to open") // link, device node, FIFO, …
)

// UnmadeError is a volume in the making whose unfinished file somebody has removed or
// replaced. It is ErrChanged.
type UnmadeError struct{ Path string }

func (e *UnmadeError) Error() string {
	return fmt.Sprintf("somebody has removed or replaced %q, in which it was made", e.Path)
}

func (e *UnmadeError) Is(target error) bool { return target == ErrChanged }

// BusyError is an object in use by somebody outside of storaged.
type BusyError struct {
	Object string
	Holder string // "pid 812 (qemu-system-x86)" where known
	// Release is how to have the holder let go, "" where that is not known.
	Release string
}

func (e *BusyError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("%q is in use by another program", e.Object)
	}
	return fmt.Sprintf("%q is in use by %s", e.Object, e.Holder)
}

// OccupiedError is storage that carries something already, which is not destroyed unless
// that is asked for. It is ErrExists.
type OccupiedError struct {
	Object  string
	Carries string // what, for people
}

func (e *OccupiedError) Error() string {
	return fmt.Sprintf("%q carries %s already", e.Object, e.Carries)
}

func (e *OccupiedError) Is(target error) bool { return target == ErrExists }

// AwayError is a pool whose target was there once and cannot be looked at now,
// or is another: nothing is known of what it holds. It never wraps ErrNotFound,
// which is a finding.
type AwayError struct {
	Target string
	Err    error
}

func (e *AwayError) Error() string { return e.Err.Error() }
func (e *AwayError) Unwrap() error { return e.Err }

// AbsentError is that something is not there, in words that say so. It is ErrNotFound.
type AbsentError struct {
	Err  error
	Hint string // what to do, "" where that is to make it
}

func (e *AbsentError) Error() string        { return e.Err.Error() }
func (e *AbsentError) Unwrap() error        { return e.Err }
func (e *AbsentError) Is(target error) bool { return target == ErrNotFound }

// MissingError is a volume that is not in its pool, which could be looked at. It
// is ErrNotFound.
type MissingError struct{ Path string }

func (e *MissingError) Error() string        { return fmt.Sprintf("volume %q: %v", e.Path, ErrNotFound) }
func (e *MissingError) Is(target error) bool { return target == ErrNotFound }

// AnotherError is a volume whose name means another than the one that is known
// by it: somebody has replaced it. It is ErrChanged.
type AnotherError struct{ Path string }

func (e *AnotherError) Error() string {
	return fmt.Sprintf("volume %q is another than the one known by that name: somebody has replaced it", e.Path)
}

func (e *AnotherError) Is(target error) bool { return target == ErrChanged }
