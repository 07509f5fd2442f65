package helper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/sparse"
	"storaged/internal/tool"
)

// Fault is the one place where errors of drivers, of diskio and of the system
// become data.
func Fault(err error, t Task) *ipc.Error {
	if known, ok := errors.AsType[*ipc.Error](err); ok {
		return known
	}
	code := codeOf(err)
	e := ipc.Errorf(code, "cannot %s: %s", t.Doing, cause(t.Doing, err))
	e.Hint = hints[code]
	addObject(e, err)
	if code == record.NoSpace {
		e.Hint = t.withoutRoom(err)
	}
	addFigures(e, err, t)
	return e
}

// cause is an error behind the words of what was being done: an object that is the only one
// in those is not named again.
func cause(doing string, err error) string {
	text := err.Error()
	if parts := strings.Split(doing, `"`); len(parts) == 3 {
		if rest, again := strings.CutPrefix(text, `"`+parts[1]+`" `); again {
			return "it " + rest
		}
	}
	return text
}

// withoutRoom says what to do about a want of room, which may have come in the middle.
func (t Task) withoutRoom(err error) string {
	hint := t.Room
	if hint == "" {
		hint = shortage(err, t.Writes)
	}
	if _, before := errors.AsType[*diskio.NoRoomError](err); !before && t.Short != "" {
		hint += "; " + t.Short
	}
	return hint
}

// addObject adds to a fault which object the error of a driver or of a program is about, and
// what that says to do.
func addObject(e *ipc.Error, err error) {
	if busy, ok := errors.AsType[*backends.BusyError](err); ok {
		e.Path, e.Holder, e.Hint = busy.Object, busy.Holder, cmp.Or(busy.Release, releases(busy.Holder))
	}
	if occupied, ok := errors.AsType[*backends.OccupiedError](err); ok {
		e.Path, e.Hint = occupied.Object, "to destroy that: --overwrite"
	}
	if away, ok := errors.AsType[*backends.AwayError](err); ok {
		e.Path = away.Target
	}
	if absent, ok := errors.AsType[*backends.AbsentError](err); ok {
		e.Hint = cmp.Or(absent.Hint, e.Hint)
	}
	if refused, ok := errors.AsType[*record.Error](err); ok {
		e.Hint = cmp.Or(refused.Hint.String(), e.Hint)
	}
	if missing, ok := errors.AsType[*tool.MissingError](err); ok {
		e.Hint = missing.Hint()
	}
	if another, ok := errors.AsType[*backends.AnotherError](err); ok {
		e.Path, e.Hint = another.Path, "look at what has the name now, and ask again if that is meant"
	}
	if missing, ok := errors.AsType[*backends.MissingError](err); ok {
		e.Path = missing.Path
	}
	if _, ok := errors.AsType[*backends.UnmadeError](err); ok {
		e.Hint = "ask again; files with names of the form .*.storaged are volumes in the making, and nobody else's to remove"
	}
	if errors.Is(err, backends.ErrUnsafe) {
		e.Hint = "a volume is a regular file that has one name; find / -xdev -samefile FILE lists the names of one"
	}
}

// releases says how to have a program let go of an object.
func releases(holder string) string {
	if holder == "" {
		return "stop what uses it, a virtual machine maybe, here or on another host that has the pool too, or wait until that has ended"
	}
	return "stop that process, with its own tool where it is a virtual machine, or wait until it has ended"
}

// addFigures adds what is known of a fault in figures.
func addFigures(e *ipc.Error, err error, t Task) {
	if bounded, ok := errors.AsType[*fileSizeError](err); ok {
		e.Message = fmt.Sprintf("cannot %s: a file of this file system has %s at most", t.Doing, quantity.FormatBoth(bounded.most))
	}
	if short, ok := errors.AsType[*diskio.NoRoomError](err); ok {
		e.Message = fmt.Sprintf("cannot %s: no space: %s more are needed, and %s are available; nothing was written", t.Doing, quantity.FormatBoth(short.Needed), quantity.FormatBoth(short.Available))
	}
	if bad, ok := errors.AsType[*diskio.IOError](err); ok {
		e.Path, e.Offset = t.Writes, bad.Offset
		if bad.Op == "read" {
			e.Path = t.Reads
		}
		if bad.CannotShare() {
			e.Code, e.Hint = string(record.Unsupported), "the file system cannot share blocks, or source and target lie on different ones; --reflink auto copies then"
		}
	}
}

// codes gives the code of each error that can be told apart. The first match
// counts: the words of drivers and diskio before the system's.
var codes = []struct {
	is   error
	code record.Code
}{
	{context.Canceled, record.CanceledCode},
	{backends.ErrNotFound, record.NotFound},
	{backends.ErrExists, record.Exists},
	{backends.ErrNotEmpty, record.HasChildren},
	{backends.ErrUnsupported, record.Unsupported},
	{backends.ErrUnsafe, record.WrongState},
	{backends.ErrChanged, record.Changed},
	{diskio.ErrUnsupported, record.Unsupported},
	{diskio.ErrMismatch, record.Mismatch},
	{diskio.ErrShrunk, record.IO},
	{diskio.ErrTooLong, record.TooLarge},
	{diskio.ErrTooShort, record.Invalid},
	{sparse.ErrTorn, record.Interrupted},
	{sparse.ErrForm, record.Invalid},
	{syscall.EPIPE, record.Interrupted},
	{syscall.ENOSPC, record.NoSpace},
	{syscall.EDQUOT, record.NoSpace},
	{syscall.EIO, record.IO},
	{syscall.EFBIG, record.TooLarge},
	{syscall.EBUSY, record.Busy},
	{syscall.ETXTBSY, record.Busy},
	{syscall.EROFS, record.Denied},
	{fs.ErrPermission, record.Denied},
	{fs.ErrNotExist, record.NotFound},
	{fs.ErrExist, record.Exists},
	{errors.ErrUnsupported, record.Unsupported},
}

func codeOf(err error) record.Code {
	if bad, ok := errors.AsType[*diskio.IOError](err); ok && bad.Broken() {
		return record.IO
	}
	if _, ok := errors.AsType[*backends.BusyError](err); ok {
		return record.Busy
	}
	if _, ok := errors.AsType[*backends.AwayError](err); ok {
		return record.WrongState
	}
	if refused, ok := errors.AsType[*record.Error](err); ok {
		return refused.Code
	}
	if _, ok := errors.AsType[*tool.MissingError](err); ok {
		return record.Unsupported
	}
	if end, ok := errors.AsType[*tool.EndError](err); ok { // what broke with it says nothing more
		if end.Exit < 0 && end.Limit == "" {
			return record.Killed
		}
		return record.FailedCode
	}
	for _, c := range codes {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return record.FailedCode
}

// fileSizeError is that a file would be larger than its file system lets files be.
type fileSizeError struct {
	most int64 // bytes
	err  error
}

func (e *fileSizeError) Error() string { return e.err.Error() }
func (e *fileSizeError) Unwrap() error { return e.err }

// bounded adds to the error that a file of that content would be too large how large it
// may be. No call tells that; it is tried, and so the file must be one to be thrown away.
func bounded(err error, c diskio.Content) error {
	f := diskio.FileOf(c)
	if f == nil || !errors.Is(err, syscall.EFBIG) {
		return err
	}
	taken := int64(0)
	for step := int64(1) << 62; step > 0; step >>= 1 {
		if f.Truncate(taken+step) == nil {
			taken += step
		}
	}
	return &fileSizeError{taken, err}
}

// shortage says what to do about a want of room for a path: more than one thing
// can run out.
func shortage(err error, path string) string {
	_, inFile := errors.AsType[*diskio.IOError](err) // which needs no inode any more
	var fs syscall.Statfs_t
	switch {
	case errors.Is(err, syscall.EDQUOT):
		return "a quota is used up, not the file system: raise it, or delete what counts in it"
	case inFile || syscall.Statfs(filepath.Dir(path), &fs) != nil || fs.Files == 0 || fs.Ffree > 0 || fs.Bavail == 0:
		return hints[record.NoSpace]
	}
	return fmt.Sprintf("the file system has no inodes left, all its %d are used: delete files there, small ones too; room alone does not help", fs.Files)
}

// hints say what can be done about a code, where there is something.
var hints = map[record.Code]string{
	record.Exists:      "choose another name, or delete what has it",
	record.NoSpace:     "make room where the pool lies",
	record.WrongState:  "bring back or mount what belongs there, then refresh the pool",
	record.HasChildren: "delete what is in it first",
}
