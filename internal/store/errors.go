package store

import (
	"errors"
	"fmt"

	"storaged/internal/record"
)

// ErrNotFound is a record that is not there.
var ErrNotFound = errors.New("no such record")

// ErrClosed is a use of the store after Close.
var ErrClosed = errors.New("store is closed")

// ErrUnwritable is in the chain of every error that says that an update could
// not be made durable (disk full, read-only, I/O error). Nothing of the update
// is visible, except when the disk failed at the very last write: the store
// then refuses all further updates until it is opened again, because only
// reading the file anew shows which of the two it is.
var ErrUnwritable error = record.Errorf(record.StateUnwritable, "state cannot be written")

// LockedError says that another process has the state directory.
type LockedError struct {
	Path string // of the lock file
	PID  int    // of the holder; 0: not known
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("another storaged has locked %q", e.Path)
	}
	return fmt.Sprintf("another storaged (pid %d) has locked %q", e.PID, e.Path)
}

// SchemaError says that the file is of a newer program.
type SchemaError struct {
	Path         string
	Found, Known int
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("%q was written by a newer storaged (schema %d, this one knows %d)", e.Path, e.Found, e.Known)
}

// DamageError is a record, or with an empty Bucket the file itself, that is
// not what was written. Nothing of it has been used.
type DamageError struct {
	Bucket string
	Key    string // as people read it, quoted where it is binary
	Cause  string
}

func (e *DamageError) Error() string {
	if e.Bucket == "" {
		return "state file is damaged: " + e.Cause
	}
	return fmt.Sprintf("record %s of %q is damaged: %s", e.Key, e.Bucket, e.Cause)
}
