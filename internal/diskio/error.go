package diskio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
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
	text := fmt.Sprint(e.Err)
	if n, ok := errors.AsType[unix.Errno](e.Err); ok && ofDevices[n] != "" {
		text = fmt.Sprintf("%s (%v)", ofDevices[n], e.Err)
	}
	if e.Offset == nowhere {
		return fmt.Sprintf("%s: %s", e.Op, text)
	}
	return fmt.Sprintf("%s at byte %d: %s", e.Op, e.Offset, text)
}

// ofDevices are errors that a block device gives where a file system says EIO
// (blk_errors, block/blk-core.c of Linux), and whose own words are about something else.
var ofDevices = map[unix.Errno]string{
	unix.ENODATA: "the device cannot read or write its medium there", unix.EREMOTEIO: "the device reports an error",
	unix.EILSEQ: "the device finds what protects the data wrong", unix.ENOLINK: "the way to the device is lost",
	unix.EBADE: "the device is reserved by another host",
}

// Broken reports whether it is the storage that cannot do what was asked of it.
func (e *IOError) Broken() bool {
	n, ok := errors.AsType[unix.Errno](e.Err)
	return ok && (n == unix.EIO || ofDevices[n] != "")
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
