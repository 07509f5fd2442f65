package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Copies of the database are files of their own beside it, named by the time
// of their state. A copy counts only when all of it was read back.
const (
	copiesDir  = "copies"
	copyPrefix = "storaged-"
	copySuffix = ".db"
	copyTime   = "20060102T150405.000000000Z"

	// unfinishedCopy is the name of a copy until it was read back. There is one
	// name for all, so that what a crash leaves is overwritten by the next.
	unfinishedCopy = "new"

	// keepCopies is how many there are: the newest is used, and each was read
	// back; the others are for people, and for a disk that loses a file.
	keepCopies = 3
)

// Copy writes a copy of the store as it is now, durably, reads it back, and
// then removes those that are older than the newest three. It holds nobody up
// but the reuse of old pages. One call at a time.
func (s *Store) Copy() error {
	dir := filepath.Join(filepath.Dir(s.db.Path()), copiesDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make a copy of the state: %w", err)
	}
	path := filepath.Join(dir, copyPrefix+time.Now().UTC().Format(copyTime)+copySuffix)
	if err := s.copyTo(path); err != nil {
		return fmt.Errorf("cannot make a copy of the state: %w", errors.Join(err, removed(path)))
	}
	return thinOut(dir)
}

func (s *Store) copyTo(path string) error {
	btx, err := s.db.Begin(false)
	if err != nil {
		return err
	}
	defer btx.Rollback() // fails only when it is over already
	temp := filepath.Join(filepath.Dir(path), unfinishedCopy)
	if err := writeCopy(btx, temp); err != nil {
		return errors.Join(err, removed(temp))
	}
	if err := checkFile(temp); err != nil {
		return errors.Join(err, removed(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func writeCopy(btx *bolt.Tx, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = guard("", nil, func() error {
		_, err := btx.WriteTo(f)
		return err
	})
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// removed takes a file away that may not be there.
func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// copies lists the copies in a directory, oldest first.
func copies(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if _, ok := copiedAt(e.Name()); ok {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(found) // names sort as their times do
	return found, nil
}

// copiedAt reads the time in a copy's name.
func copiedAt(name string) (time.Time, bool) {
	stamp, ok1 := strings.CutPrefix(filepath.Base(name), copyPrefix)
	stamp, ok2 := strings.CutSuffix(stamp, copySuffix)
	at, err := time.Parse(copyTime, stamp)
	return at, ok1 && ok2 && err == nil
}

// thinOut removes all but the newest copies.
func thinOut(dir string) error {
	all, err := copies(dir)
	if err != nil {
		return err
	}
	for len(all) > keepCopies {
		if err := removed(all[0]); err != nil {
			return fmt.Errorf("cannot remove an old copy of the state: %w", err)
		}
		all = all[1:]
	}
	return nil
}
