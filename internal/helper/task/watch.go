package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/image"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// sourceWatch is a content that is read and must stay as it is meanwhile: of one
// that is written to, the copy is a content that the file never had. Locks keep away
// who takes them; of others the file's size and times tell. What is written through
// a mapping shows in them too, for diskio flushes a file before it reads it. Pipes,
// sockets and devices tell nothing.
type sourceWatch struct {
	run     *helper.Run
	content diskio.Content
	name    string            // for people
	was     *helper.Footprint // nil: it cannot tell
}

// grain is longer than the clock by which most file systems tell the time stands
// still: two changes may have the same time if no more than that lies between
// them.
const grain = 20 * time.Millisecond

// watch begins to watch a file that is about to be read. A change just before
// could not be told from one just after, so that it is waited until the clock
// has gone on.
func watch(ctx context.Context, r *helper.Run, c diskio.Content, name string) (*sourceWatch, error) {
	s := &sourceWatch{run: r, content: c, name: name}
	was, err := helper.FootprintOf(c)
	if err != nil {
		return nil, err
	}
	if age := since(was); age < grain {
		select {
		case <-time.After(grain - max(age, 0)):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		was, err = helper.FootprintOf(c)
	}
	s.was = was
	return s, err
}

// since is how long ago a file was changed; one that cannot tell has always been
// as it is.
func since(l *helper.Footprint) time.Duration {
	if l == nil {
		return grain
	}
	return time.Since(time.Unix(0, l.ChangedNS))
}

// ended is how the reading ended, err being what it ended with itself: a file
// that has become shorter was changed, whatever that did to the reading.
func (s *sourceWatch) ended(err error) error {
	if err != nil && !errors.Is(err, diskio.ErrShrunk) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return cmp.Or(s.changed(), err)
}

// changed fails if the file was changed since it was looked at.
func (s *sourceWatch) changed() error {
	if s.was == nil {
		return nil
	}
	now, err := helper.FootprintOf(s.content)
	if err != nil {
		return err
	}
	why := s.was.Unchanged(now)
	switch {
	case why == "":
		return nil
	case s.was.Rewritten(now):
		return s.fault(why)
	}
	s.run.Warn("%s got another owner, other permissions or another name meanwhile; its content was not written to", s.name)
	return nil
}

func (s *sourceWatch) fault(why string) error {
	return ipc.Errorf(record.Changed, "%s was changed while it was read: %s", s.name, why).
		WithHint("do it again when nobody writes to it")
}

// lockSource takes the locks of a reader on a file beyond the pools, as a volume
// that is read has them. Somebody who writes to it is a *BusyError. On a file
// system that has no locks nobody can be told by them, and that is no error.
//
// The locks are those of an opening of our own, nil if there cannot be one: the
// file may be open in the client too, and locks that it has are not ours to
// give up.
func lockSource(f *os.File, name string) (locked *os.File, err error) {
	own, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil // a server of NFS may refuse root what it lets the client have
	}
	used, ok := errors.AsType[*image.InUseError](image.LockForeign(own))
	if !ok {
		return own, nil
	}
	own.Close()
	return nil, &backends.BusyError{Object: name, Holder: used.Holder, Release: used.Release}
}
