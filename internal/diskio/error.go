package diskio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

var (
	// ErrShrunk says that a file ended before the size it had at the start.
	ErrShrunk = errors.New("the file became shorter while it was read")
	// ErrMismatch says that what was read back is not what was written.
	ErrMismatch = errors.New("content differs from what was written")
	// ErrUnsupported says that the kind of file or algorithm cannot do what was asked.
	ErrUnsupported = errors.New("not supported")
)

// nowhere is the offset of an error that concerns the file as a whole.
const nowhere = -1

// IOError is an operation on a file that failed. It has no file name; the
// caller knows which file it passed. Err is never an *fs.PathError.
type IOError struct {
	Op     string // read, write, write back, fsync, allocate, …
	Offset int64  // bytes; -1 when the file as a whole is concerned
	Err    error
}

func (e *IOError) Error() string {
	if e.Offset == nowhere {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s at byte %d: %v", e.Op, e.Offset, e.Err)
}

func (e *IOError) Unwrap() error { return e.Err }

// Source says that of the two files of a copy it was the source that failed.
func (e *IOError) Source() bool {
	return e.Op == opRead || e.Op == opFlush || e.Op == opFindData
}

// CannotShare says that the two files of a copy cannot share blocks: their file
// system cannot, or they lie on two.
func (e *IOError) CannotShare() bool { return e.Op == opReflink && cannotShare(e.Err) }

// opReflink is the sharing of blocks.
const opReflink = "reflink"

// Operations that only a source has.
const (
	opRead     = "read"
	opFlush    = "flush" // write-back of what somebody else left dirty
	opFindData = "find data"
)

// ioError wraps err, nil for nil, unless that is done already, leaving out the
// name that package os puts in.
func ioError(op string, offset int64, err error) error {
	if err == nil {
		return nil
	}
	if _, said := errors.AsType[*IOError](err); said {
		return err
	}
	if path, ok := err.(*fs.PathError); ok { // one that somebody explains stays as it is
		err = path.Err
	}
	if call, ok := err.(*os.SyscallError); ok {
		err = call.Err
	}
	return &IOError{Op: op, Offset: offset, Err: err}
}
