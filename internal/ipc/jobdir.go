package ipc

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Names of the environment variables that say to a helper which
// job it runs. They are no secrets; argv stays what a person would type.
const (
	EnvJob     = "STORAGED_JOB"         // the job's uuid
	EnvRuntime = "STORAGED_JOB_RUNTIME" // the job's runtime directory
	EnvState   = "STORAGED_JOB_STATE"   // the job's state directory
)

// LockFD is the descriptor by which a helper inherits the job's lock. As long
// as any process holds it, somebody may still write.
const LockFD = 3

// DataFD is the descriptor through which the content of an upload comes, or
// that of a download goes, in a job that has one.
const DataFD = 4

// SecretFD is the first of the descriptors through which secrets come: files in memory
// that cannot be changed, in the order in which --secret-file names them.
const SecretFD = 5

// JobDir names a job's files. Runtime lives until the next boot, State as long
// as the job's record.
type JobDir struct {
	Job     string
	Runtime string
	State   string
}

// Frames is the FIFO from helper to daemon.
func (d JobDir) Frames() string { return filepath.Join(d.Runtime, "frames") }

// Control is the FIFO from daemon to helper.
func (d JobDir) Control() string { return filepath.Join(d.Runtime, "control") }

// Lock is the file whose flock says that a process of the job is alive.
func (d JobDir) Lock() string { return filepath.Join(d.Runtime, "lock") }

// Result is the result file.
func (d JobDir) Result() string { return filepath.Join(d.State, "result") }

// Commit holds the identity of the volume that is about to get its name, in
// its driver's own form.
func (d JobDir) Commit() string { return filepath.Join(d.State, "commit") }

// Items holds what a job over many objects is done with so far.
func (d JobDir) Items() string { return filepath.Join(d.State, "items") }

// Checkpoint holds the last durable checkpoint.
func (d JobDir) Checkpoint() string { return filepath.Join(d.State, "checkpoint") }

// Record is the daemon's own copy of the job's record, from when the helper was
// let go. It is read only when the database was damaged.
func (d JobDir) Record() string { return filepath.Join(d.State, "record") }

// Log is stderr of the helper and its tools.
func (d JobDir) Log() string { return filepath.Join(d.State, "log") }

// JobDirFromEnv gives the job a helper was started for; ok is false for a
// helper that a person started.
func JobDirFromEnv() (d JobDir, ok bool) {
	d = JobDir{os.Getenv(EnvJob), os.Getenv(EnvRuntime), os.Getenv(EnvState)}
	return d, d.Job != "" && d.Runtime != "" && d.State != ""
}

// SaveDurable writes a file so that after a crash it is there complete or not at
// all: temporary name, fsync, rename, fsync of the directory. One writer per
// path at a time. After an error nobody knows whether a crash would keep the
// old or the new content.
func SaveDurable(path string, data []byte) (err error) {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("cannot save %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			os.Remove(tmp) // a leftover of ours, whatever state it is in
		}
	}()
	_, werr := f.Write(data)
	if werr == nil {
		werr = f.Sync()
	}
	if cerr := f.Close(); werr == nil {
		werr = cerr
	}
	if werr != nil {
		return fmt.Errorf("cannot save %s: %w", path, werr)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("cannot save %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot sync directory %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("cannot sync directory %s: %w", dir, err)
	}
	return nil
}
