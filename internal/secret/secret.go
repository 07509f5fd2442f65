// Package secret keeps secrets: passphrases and keys by name, each a file that only the
// daemon's user can read. What is in them is never read back but into the memory of a
// helper.
package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
)

// Store is a directory of secrets. It is safe for concurrent use.
type Store struct {
	dir   string
	write sync.Mutex // held while files are changed

	mu    sync.Mutex           // guards names
	names map[string]time.Time // since when each is as it is
}

// temporary is the name of a secret that is not whole. No secret can be called so.
var temporary = record.DraftName("secret")

// Open reads which secrets a directory has; one that is not there has none.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir, names: map[string]time.Time{}}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read secrets: %w", err)
	}
	for _, e := range entries {
		if e.Name() == temporary {
			continue // of a daemon that died; the next Set writes it anew
		}
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("cannot read secrets: %w", err)
		}
		s.names[e.Name()] = info.ModTime().UTC()
	}
	return s, nil
}

// CheckName refuses what is no name of a secret. The rule is that of volumes.
func CheckName(name string) error { return record.CheckNameOf("secret", name) }

// CheckValue refuses what nobody takes for a secret: QEMU takes passphrases of UTF-8 without
// a zero byte only, and CHAP less than that.
func CheckValue(name string, value []byte) error {
	if utf8.Valid(value) && bytes.IndexByte(value, 0) < 0 {
		return nil
	}
	return record.Errorf(record.Unsupported, "secret %q is no text: nothing can be opened by bytes that are not UTF-8, or zero", name).
		WithHint("a key of random bytes is taken as text: base64 --wrap=0 KEYFILE > FILE")
}

// All gives the names, and since when each is as it is.
func (s *Store) All() map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]time.Time, len(s.names))
	for name, at := range s.names {
		all[name] = at
	}
	return all
}

// Known reports whether there is a secret. It does no I/O.
func (s *Store) Known(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.names[name]
	return known
}

// Withdraw makes a secret unknown, so that nobody begins to use it, and leaves its file;
// Set and Delete decide what becomes of that. It does no I/O.
func (s *Store) Withdraw(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.names, name)
}

// look makes a secret known as its file is.
func (s *Store) look(name string) error {
	info, err := os.Stat(s.path(name))
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.names[name] = info.ModTime().UTC()
	case errors.Is(err, fs.ErrNotExist):
		delete(s.names, name)
	default:
		return fmt.Errorf("cannot look at secret %q: %w", name, err)
	}
	return nil
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// Is reports whether a secret has that value. One that is not there has none.
func (s *Store) Is(name string, value []byte) (bool, error) {
	has, err := os.ReadFile(s.path(name))
	defer clear(has)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot compare secret %q: %w", name, err)
	}
	return bytes.Equal(has, value), nil
}

// Set makes a secret durable, in place of the one that had the name.
func (s *Store) Set(name string, value []byte) error {
	s.write.Lock()
	defer s.write.Unlock()
	err := s.save(name, value)
	return errors.Join(err, s.look(name))
}

func (s *Store) save(name string, value []byte) (err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("cannot keep secret %q: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot keep secret %q: %w", name, err)
			os.Remove(s.path(temporary)) // what is in it is nobody's
		}
	}()
	f, err := os.OpenFile(s.path(temporary), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(value)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(s.path(temporary), s.path(name)); err != nil {
		return err
	}
	return s.sync()
}

// sync makes the names durable: that of the directory too, which may be new.
func (s *Store) sync() error {
	for _, dir := range []string{s.dir, filepath.Dir(s.dir)} {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		err = d.Sync()
		if err = errors.Join(err, d.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes a secret durably. What was on the disk may be there still.
func (s *Store) Delete(name string) error {
	s.write.Lock()
	defer s.write.Unlock()
	err := os.Remove(s.path(name))
	if err == nil {
		err = s.sync()
	}
	if err = errors.Join(err, s.look(name)); err != nil {
		return fmt.Errorf("cannot delete secret %q: %w", name, err)
	}
	return nil
}

// Memory gives a secret as a file that is memory, for a helper to inherit, and cannot
// be changed any more. The kernel copies it: it never is in memory of ours. The caller
// closes it.
func (s *Store) Memory(name string) (_ *os.File, err error) {
	from, err := os.Open(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, record.Errorf(record.NotFound, "there is no secret %q", name).WithHint("%s puts it back", record.Do("secret.set", name).With("file", "FILE"))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read secret %q: %w", name, err)
	}
	defer from.Close() // it was only read
	fd, err := unix.MemfdCreate("secret", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("cannot hand secret %q to a helper: %w", name, err)
	}
	to := os.NewFile(uintptr(fd), "secret")
	if err := fill(to, from); err != nil {
		to.Close()
		return nil, fmt.Errorf("cannot hand secret %q to a helper: %w", name, err)
	}
	return to, nil
}

// fill copies a file into memory, and seals that.
func fill(to, from *os.File) error {
	for {
		switch n, err := unix.Sendfile(int(to.Fd()), int(from.Fd()), nil, record.MaxSecret); {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			_, err := unix.FcntlInt(to.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
			return err
		}
	}
}

// Read gives what is in a file that a helper was handed, or that a person names, and
// wipes nothing: who gets it does. More than a secret may be is an error.
func Read(f *os.File) ([]byte, error) {
	b := make([]byte, record.MaxSecret+1)
	n, err := io.ReadFull(io.NewSectionReader(f, 0, int64(len(b))), b)
	switch {
	case err == nil:
		clear(b)
		return nil, record.Errorf(record.Invalid, "the secret is longer than %d bytes", record.MaxSecret)
	case n == 0 && errors.Is(err, io.EOF):
		return nil, record.Errorf(record.Invalid, "the secret is empty")
	case !errors.Is(err, io.ErrUnexpectedEOF):
		clear(b)
		return nil, fmt.Errorf("cannot read a secret: %w", err)
	}
	return b[:n], nil
}
