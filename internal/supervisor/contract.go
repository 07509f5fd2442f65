package supervisor

import (
	"errors"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Config is what a Supervisor needs to know of its surroundings.
type Config struct {
	RuntimeDir string // holds jobs/<id>/ with FIFOs and lock; lives until reboot
	StateDir   string // holds jobs/<id>/ with result, commit, checkpoint, log
	Helper     string // absolute path of the storage-helper binary
	Limits     record.Limits
	Retention  Retention
	Replay     bool // the database was put together from an older copy: see replay.go
	Attempts   int  // how often a job goes on by itself at most
	// Secret opens a secret for a helper. It is asked for what Request.Secrets names;
	// the supervisor closes what it gets.
	Secret   func(name string) (*os.File, error)
	Observer Observer // nil: nobody wants to know
	Log      hclog.Logger
	Times    Times // zero: DefaultTimes

	clock func() time.Time // nil: time.Now; for the ages of records

	speaks ipc.Versions // with helpers; zero: ipc.Known
}

// Request is a job as the daemon asks for it: resolved, authorised, validated.
type Request struct {
	Kind      record.Kind
	Class     record.Class
	Objects   []record.Object
	Argv      []string // of the helper's task, without the program
	UndoArgv  []string // of the helper that settles it after a forced death
	Secrets   []string // names of those that the helper is given, as ipc.SecretFD and so on
	Params    []byte   // kept with the job for the Catalog and for retry
	Owner     record.Owner
	Key       string // idempotency key
	Digest    string // of the request under the key
	LockWait  *time.Duration
	Limit     *int64
	Priority  record.Priority
	Labels    map[string]string
	OnFailure record.OnFailure
	RetryOf   *int64
	Reserved  int64 // shown with the job
	Moves     int64 // bytes that it moves at most; 0: nobody knows
	Destroys  bool
	Warnings  []string // kept with the job
	Resume    record.Resume
	From      string            // uuid of the job whose checkpoint this one goes on from
	RetryFrom *record.Resumable // how far that is
	// Same names the work: of waiting jobs with the same name, one that begins does
	// the work of all. Empty: nobody else's will do.
	Same string

	// Also is made durable together with the job, or neither is: its refusal
	// is that of the request. It is a function for store.Store's Update; nil is
	// nothing.
	Also func(*store.Tx) error
	// Data is given to the helper as descriptor ipc.DataFD; nil: it needs
	// none. It stays the caller's: Submit makes a copy of it. A job with one
	// cannot be started by a later daemon.
	Data *os.File
	// Known, unless nil, is called when the job was there already, under the
	// same key: Data is of no use to it.
	Known func()
}

// ErrNotYet is wrapped by the Catalog's refusal that will not last: the job lets go
// of its locks, and asks again in a moment.
var ErrNotYet = errors.New("not yet")

// SoonError is the Catalog's refusal that ends when Ready is closed: the job keeps
// its locks and its slot until then, and asks again.
type SoonError struct{ Ready <-chan struct{} }

func (*SoonError) Error() string { return "something is found out before the job begins" }

// The helper's flags that are the supervisor's to set.
const (
	flagResume    = "--resume"    // go on where an earlier helper of the job was interrupted
	flagResumable = "--resumable" // settle, and leave what a retry can go on with
)

// Catalog is what jobs change when they are granted, advance and end. Its methods
// run inside the transaction that records the job's change of state, so that both
// are durable or neither; they may be run again and must not block or do I/O of
// their own.
type Catalog interface {
	// Granted is called when the job holds its locks and is about to start, or to
	// go on after an interruption (job.Resumed is not 0). An error (a
	// *record.Error) ends the job as failed, with nothing touched.
	Granted(tx *store.Tx, job *store.Job) error
	// Advanced is called with what a job over many objects has done further, in
	// order, before others may visit them. job.Advanced counts what came before.
	Advanced(tx *store.Tx, job *store.Job, items []ipc.Item) error
	// Ended is called when the job has ended; job.State, Error and Result are
	// set. report is what the helper said, nil when nothing is known. An error
	// that is not the disk's (store.ErrUnwritable) would be the same the next
	// time: the job ends as failed without it.
	Ended(tx *store.Tx, job *store.Job, report *ipc.Report) error
}
