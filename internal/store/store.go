// Package store is the durable record of pools, volumes and jobs, in one bbolt
// file. It decides nothing: it keeps what it is given, all or nothing.
//
// bbolt vouches for its two meta pages and for nothing else, so every record
// carries a checksum over its key and its content, and whatever bbolt does
// on a damaged page (panics, faults in the mapping) comes out as a
// *DamageError instead.
package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Store is the open database. Its methods are safe for concurrent use.
type Store struct {
	db   *bolt.DB
	lock *os.File // holds the flock on the state directory

	updates chan *update  // to the writer; never closed
	closing chan struct{} // closed by Close
	stopped chan struct{} // closed by the writer when it has ended
	once    sync.Once     // Close's

	decoded decodings // of what views have read

	commits    atomic.Int64          // transactions made durable
	trouble    atomic.Pointer[error] // of the last attempt to make one durable; nil: it was
	unwritable error                 // the writer's: why no update can be vouched for
}

// Open opens the database at path, and creates it, mode 0600, when there is
// none. The directory must exist and is locked for this process: a second
// daemon gets a *LockedError at once. A file of a newer program is a
// *SchemaError, one whose structure is damaged a *DamageError.
func Open(path string) (*Store, error) {
	lock, err := LockDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("cannot open state: %w", err)
	}
	db, err := openFile(path)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("cannot open state: %w", err)
	}
	s := &Store{
		db:      db,
		lock:    lock,
		updates: make(chan *update),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	go s.write()
	return s, nil
}

// Close ends the store after the commit under way; updates that have not begun
// get ErrClosed. It waits for views. A second call does nothing.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closing)
		<-s.stopped
		err = errors.Join(s.db.Close(), s.lock.Close())
	})
	return err
}

// View runs fn on one consistent state of the store. fn must be short (a long
// one keeps old pages from being reused and can hold up a growing file), must
// not call Update, and must not keep tx.
func (s *Store) View(fn func(*Tx) error) error {
	btx, err := s.db.Begin(false)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	if err != nil {
		return fmt.Errorf("cannot read state: %w", err)
	}
	tx := &Tx{btx: btx, decoded: &s.decoded}
	defer func() {
		tx.btx = nil
		btx.Rollback() // fails only when it is over already
	}()
	return fn(tx)
}

// lockTimeout is how long to wait for bbolt's own lock, for which nobody contends who
// has the directory's: but a process that a dead daemon was starting may have it a
// moment longer than that, since its execve(2) closes one file after the other.
const lockTimeout = orphanTimeout

// openFile opens the file at path, after making it if need be. A new file gets
// its name only when it is complete, so that no crash leaves half of one.
func openFile(path string) (*bolt.DB, error) {
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		err = create(path)
	}
	if err != nil {
		return nil, err
	}
	if err := checkFile(path); err != nil {
		return nil, err
	}
	db, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	if err := checkOpened(db); err != nil {
		db.Close() // the other error says more
		return nil, err
	}
	return db, nil
}

func create(path string) error {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := openBolt(temp)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Update(writeSchema), db.Close()); err != nil {
		return fmt.Errorf("cannot create %q: %w", path, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// openBolt opens a bbolt file. bbolt panics on a damaged free list and faults
// on a cut file; both come out as errors.
func openBolt(path string) (db *bolt.DB, err error) {
	err = guard("", nil, func() error {
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
		if err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
		return nil
	})
	return db, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
