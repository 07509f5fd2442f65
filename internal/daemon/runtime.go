package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"storaged/internal/record"
	"storaged/internal/store"
)

// ownerName is a link in the runtime directory that names the state directory
// whose jobs run there.
const ownerName = "state"

// claimRuntime makes the runtime directory this daemon's, until the file it
// gives is closed. What runs there without a record of ours is killed at the
// start, so it must not be another daemon's, be that alive or dead.
func claimRuntime(c Config) (io.Closer, error) {
	if c.RuntimeDir == c.StateDir {
		return io.NopCloser(nil), nil // its lock is that of the state
	}
	lock, err := store.LockDir(c.RuntimeDir)
	if err != nil {
		return nil, unopened(fmt.Errorf("cannot take the runtime directory: %w", err))
	}
	if err := takeOver(c); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// takeOver notes whose the directory is. One with jobs of another state is
// refused.
func takeOver(c Config) error {
	link := filepath.Join(c.RuntimeDir, ownerName)
	owner, err := os.Readlink(link)
	if err == nil && owner == c.StateDir {
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot tell whose the runtime directory is: %w", err)
	}
	jobs, rerr := os.ReadDir(filepath.Join(c.RuntimeDir, "jobs"))
	switch {
	case rerr != nil:
		return fmt.Errorf("cannot read the runtime directory: %w", rerr)
	case err == nil && len(jobs) > 0:
		return record.Errorf(record.Busy, "%q has jobs of the daemon whose state is in %q", c.RuntimeDir, owner).
			WithHint("--runtime-dir PATH of its own, or start that daemon again to end them")
	case err == nil:
		err = os.Remove(link)
	default:
		err = nil
	}
	if err == nil {
		err = os.Symlink(c.StateDir, link)
	}
	if err != nil {
		return fmt.Errorf("cannot note whose the runtime directory is: %w", err)
	}
	return nil
}
