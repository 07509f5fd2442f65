package image

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// QEMU keeps users of an image apart by locks on single bytes (block/file-posix.c):
// byte 100+i says "I use permission i", byte 200+i "I do not share it". It
// takes read locks and then asks whether somebody holds the opposite byte.
const (
	usesByte     = 100
	unsharedByte = 200
	permissions  = 64 // bytes of each kind that QEMU may use

	consistentRead = 0
	write          = 1
	resize         = 3
)

// virtlockd locks byte 0 of a disk in use, libvirt byte 1 while it relabels it.
const (
	libvirtByte  = 0
	libvirtBytes = 2
)

// InUseError says that somebody else uses an image in a way that excludes ours.
type InUseError struct {
	Holder  string // "pid 812 (qemu-system-x86)", "" where not known
	Release string // how to have it let go, "" where that is not known

	passed bool // it has gone meanwhile
}

func (e *InUseError) Error() string {
	if e.Holder == "" {
		return "in use by another program"
	}
	return "in use by " + e.Holder
}

// LockShared takes the locks of a reader, who lets readers in and keeps
// writers away, without waiting. A writer's presence is an *InUseError, and
// nothing is locked then. The locks belong to f's open file description and
// end when its last descriptor is closed, in whatever process.
func LockShared(f *os.File) error {
	if err := persist(f, read); err != nil {
		return err
	}
	return orRelease(f, unwritten(f))
}

// LockForeign is LockShared for a file that is in no pool. Who has it open for
// writing and takes no locks, the client who gave it maybe, is let in.
func LockForeign(f *os.File) error {
	if err := persist(f, read); err != nil {
		return err
	}
	return orRelease(f, unattached(f))
}

// read takes the locks of a reader.
func read(f *os.File) error {
	if err := permit(f, consistentRead); err != nil {
		return err
	}
	return ask(f, unix.F_RDLCK, span{libvirtByte, libvirtBytes})
}

// permit takes the permission to use the image in one way while nobody writes
// to it or resizes it.
func permit(f *os.File, use int64) error {
	mine := []span{{usesByte + use, 1}, {unsharedByte + write, 1}, {unsharedByte + resize, 1}}
	for _, s := range mine {
		if err := take(f, unix.F_RDLCK, s); err != nil {
			return err
		}
	}
	others := []span{{unsharedByte + use, 1}, {usesByte + write, 1}, {usesByte + resize, 1}}
	for _, s := range others {
		if err := ask(f, unix.F_WRLCK, s); err != nil {
			return err
		}
	}
	return nil
}

// passerBy is how long a lock may be there of somebody who will be refused:
// QEMU takes its locks first, then sees ours and lets go, within milliseconds.
const passerBy = time.Second

// ShareGrowth lets others take LockGrow beside f's LockShared, until KeepSize.
// Writers stay away: that part of the lock is never let go.
func ShareGrowth(f *os.File) error {
	l := span{unsharedByte + resize, 1}.lock(unix.F_UNLCK)
	if err := fcntl(f, unix.F_OFD_SETLK, &l); err != nil {
		return fmt.Errorf("cannot share the growth of the image: %w", err)
	}
	return nil
}

// KeepSize ends ShareGrowth. Somebody who still grows the image is an
// *InUseError, and nothing is locked then.
func KeepSize(f *os.File) error {
	if err := take(f, unix.F_RDLCK, span{unsharedByte + resize, 1}); err != nil {
		return err
	}
	grower := span{usesByte + resize, 1}
	tick := time.NewTicker(passerBy / 100)
	defer tick.Stop()
	for end := time.Now().Add(passerBy); time.Now().Before(end); <-tick.C {
		if l, err := look(f, unix.F_WRLCK, grower); err != nil || l.Type == unix.F_UNLCK {
			return err
		}
	}
	return ask(f, unix.F_WRLCK, grower)
}

// LockGrow takes the locks of somebody who makes the image longer and writes
// nothing into what it has. It lets those in who read and share its growth (so
// do some of QEMU's readers), and keeps everybody else away. It is otherwise
// like LockShared.
func LockGrow(f *os.File) error {
	if err := persist(f, extend); err != nil {
		return err
	}
	return orRelease(f, unwritten(f))
}

// extend takes the locks of somebody who makes the image longer.
func extend(f *os.File) error {
	if err := permit(f, resize); err != nil {
		return err
	}
	return ask(f, unix.F_WRLCK, span{libvirtByte, libvirtBytes})
}

// LockExclusive takes the locks of a writer, who keeps everybody away; f must
// be open for writing. It is otherwise like LockShared.
func LockExclusive(f *os.File) error {
	if err := LockNew(f); err != nil {
		return err
	}
	return orRelease(f, Unused(f))
}

// LockNew is LockExclusive for a file that the caller has just made: what the
// kernel has open is not looked through for it.
func LockNew(f *os.File) error { return persist(f, exclude) }

// exclude takes the locks of a writer.
func exclude(f *os.File) error {
	for _, s := range []span{{usesByte, permissions}, {unsharedByte, permissions}} {
		if err := take(f, unix.F_WRLCK, s); err != nil {
			return err
		}
	}
	return ask(f, unix.F_WRLCK, span{libvirtByte, libvirtBytes})
}

// AskExclusive fails with an *InUseError if somebody has locks that exclude those of
// LockNew, and takes none: f need not be open for writing, and nothing calls udev when it
// is closed.
func AskExclusive(f *os.File) error { return persist(f, excluded) }

// excluded asks for the locks of a writer.
func excluded(f *os.File) error {
	for _, s := range []span{{usesByte, permissions}, {unsharedByte, permissions}, {libvirtByte, libvirtBytes}} {
		if err := ask(f, unix.F_WRLCK, s); err != nil {
			return err
		}
	}
	return nil
}

// AskShared fails as LockShared does, and leaves nothing locked either way: also a child that
// was forked meanwhile, and has the file open until its exec, has no lock of it.
func AskShared(f *os.File) error {
	defer release(f)
	return LockShared(f)
}

// AskGrow is to LockGrow what AskShared is to LockShared.
func AskGrow(f *os.File) error {
	defer release(f)
	return LockGrow(f)
}

// orRelease gives up the locks of f if there is an error after all.
func orRelease(f *os.File, err error) error {
	if err != nil {
		release(f)
	}
	return err
}

// span is a range of bytes.
type span struct{ start, length int64 }

func (s span) lock(kind int16) unix.Flock_t {
	return unix.Flock_t{Type: kind, Start: s.start, Len: s.length}
}

// take locks s; on failure f holds no lock at all.
func take(f *os.File, kind int16, s span) error {
	for range attempts {
		l := s.lock(kind)
		err := fcntl(f, unix.F_OFD_SETLK, &l)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			release(f)
			return fmt.Errorf("cannot lock the image: %w", err)
		}
		if err := ask(f, kind, s); err != nil {
			return err
		}
	}
	release(f)
	return &InUseError{passed: true}
}

// ask fails if somebody holds a lock on s that excludes one of this kind; f
// holds no lock at all then.
func ask(f *os.File, kind int16, s span) error {
	l, err := look(f, kind, s)
	if err == nil && l.Type != unix.F_UNLCK {
		l, err = lookBehindForks(f, kind, s)
	}
	if err == nil && l.Type == unix.F_UNLCK {
		return nil
	}
	release(f) // also since to find the holder lets go of locks
	if err != nil {
		return err
	}
	used := &InUseError{Holder: holder(f, l)}
	now, err := look(f, kind, s)
	used.passed = err == nil && now.Type == unix.F_UNLCK
	return used
}

// lookBehindForks is look, when the children that are being forked have come to their exec:
// until that they have what this process has let go of (fcntl(2): the lock is the open
// file's). Files are closed some instants after a fork is through, which ask allows for.
func lookBehindForks(f *os.File, kind int16, s span) (unix.Flock_t, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return look(f, kind, s)
}

// attempts bounds how often locks are tried that somebody had who has let go meanwhile.
const attempts = 3

// persist takes locks from the first one on again while those who are in the way have gone
// when they are looked for: they looked, or were refused themselves.
func persist(f *os.File, lock func(*os.File) error) (err error) {
	for range attempts {
		err = lock(f)
		if used, ok := errors.AsType[*InUseError](err); !ok || !used.passed {
			return err
		}
	}
	return err
}

// look gives a lock of somebody else on s that excludes one of this kind.
func look(f *os.File, kind int16, s span) (unix.Flock_t, error) {
	l := s.lock(kind)
	if err := fcntl(f, unix.F_OFD_GETLK, &l); err != nil {
		return l, fmt.Errorf("cannot ask for locks of the image: %w", err)
	}
	return l, nil
}

// release gives up every lock of f's description. Unlocking cannot fail in a
// way that anything could be done about; closing the file does the same.
func release(f *os.File) {
	l := unix.Flock_t{Type: unix.F_UNLCK}
	_ = fcntl(f, unix.F_OFD_SETLK, &l)
}

func fcntl(f *os.File, cmd int, l *unix.Flock_t) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var lockErr error
	err = conn.Control(func(fd uintptr) {
		lockErr = unix.FcntlFlock(fd, cmd, l)
		for lockErr == unix.EINTR {
			lockErr = unix.FcntlFlock(fd, cmd, l)
		}
	})
	if err != nil {
		return err
	}
	return lockErr
}
