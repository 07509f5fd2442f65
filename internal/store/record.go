package store

import (
	"time"

	"storaged/internal/record"
)

// Job is a job's durable record: what people see, and what the daemon needs
// to go on with it after a restart.
type Job struct {
	record.Job

	Argv       []string       `json:"argv"`              // of the helper's task, without the program
	UndoArgv   []string       `json:"undo_argv"`         // of the helper that settles it after a forced death; empty: nothing to undo
	Secrets    []string       `json:"secrets,omitempty"` // names of those that the helper is given
	Params     []byte         `json:"params"`            // the request's body, for retry and for the catalog
	Moves      int64          `json:"moves"`             // bytes, at most; 0: nobody knows
	Key        string         `json:"key,omitempty"`     // idempotency key
	Digest     string         `json:"digest,omitempty"`  // of the request under the key
	Deadline   *time.Time     `json:"deadline"`          // of the waiting
	Boot       string         `json:"boot"`              // boot id under which the helper was started
	StartTicks uint64         `json:"start_ticks"`       // helper's start time, /proc/PID/stat field 22
	Proto      int            `json:"proto,omitempty"`   // version of the protocol that the helper was told to speak; 0: 1, of before it was recorded
	CancelAsk  bool           `json:"cancel_ask"`
	Granted    bool           `json:"granted"`  // locks and slot are held
	Go         bool           `json:"go"`       // GO was or may have been sent
	Fault      *record.Error  `json:"fault"`    // why the helper was stopped after GO, other than by a cancel
	Undo       bool           `json:"undo"`     // a helper with UndoArgv settles it; Error is why
	Settler    *record.Helper `json:"settler"`  // that helper; Helper stays the one that died
	Taken      int64          `json:"taken"`    // bytes that it had blocks for when it ended, or was interrupted
	Advanced   int            `json:"told"`     // items of what it does to many objects that the catalog has
	Destroys   bool           `json:"destroys"` // kept longer in history
	Old        bool           `json:"old"`      // from a copy of the database: the job may have gone further
	Data       bool           `json:"data"`     // its helper needs a descriptor that a client gave

	Resume      record.Resume `json:"resume,omitempty"`      // what becomes of it when its helper is interrupted; empty: never
	From        string        `json:"from,omitempty"`        // uuid of the job whose checkpoint it goes on from
	Same        string        `json:"same,omitempty"`        // names the work, if one that begins may do that of others too
	Anew        bool          `json:"anew,omitempty"`        // it must not go on, but begin at the start
	Interrupted *time.Time    `json:"interrupted,omitempty"` // since when it has no helper and waits to go on
	// Spent is how long helpers that were interrupted were in their phases, as far as a
	// daemon saw it.
	Spent []record.PhaseStats `json:"spent,omitempty"`
}

// Pool is a pool's durable record.
type Pool struct {
	record.Pool

	Identity string `json:"identity,omitempty"` // of the target, as its driver made it when it was last observed; "": not known

	// Built says that a job has made its storage. Until it is started nothing else is known
	// of that.
	Built bool `json:"built,omitempty"`

	// Booked is how many bytes are reserved for live jobs, queued ones too. Taken is
	// what each of them, by number, had blocks for already when the figures were
	// read: they are gone from Available, and not reserved any more.
	Booked  int64           `json:"promised"`
	Taken   map[int64]int64 `json:"taken,omitempty"`
	Defined *Defining       `json:"defined,omitempty"` // by which request, if without a job

	Boot string `json:"boot"` // boot id under which it was last active
	// NotStarted says that it was not active since the host was started.
	NotStarted bool             `json:"not_started,omitempty"`
	Before     record.PoolState `json:"before"` // state to go back to when the job that has the pool ends
	Job        int64            `json:"job"`    // number of that job; 0: none has it
	Unfinished []string         `json:"left"`   // uuids of ended jobs of which something unfinished is in it, for a retry to go on with
	// Lost are the files of volumes that were incomplete when they lost their names in it,
	// the newest last: by whatever name one comes back, it is incomplete.
	Lost []Lost `json:"lost,omitempty"`
}

// Lost is what is known of such a file.
type Lost struct {
	Identity string  `json:"identity"` // as the driver made it when it was last observed
	Format   string  `json:"format"`
	Job      *int64  `json:"job"`    // as of its volume
	Writer   int64   `json:"writer"` // likewise
	Begun    []Begun `json:"begun,omitempty"`
}

// Defining is the request that defined a pool, if it had an idempotency key.
type Defining struct {
	UID    int    `json:"uid"`
	Key    string `json:"key"`
	Digest string `json:"digest"`
}

// Volume is an entry of the catalog.
type Volume struct {
	record.Volume

	Identity string `json:"identity,omitempty"` // as the driver made it when it was last observed; "": not known
	// Arrived is the number of the newest job when the entry came to its name, or
	// its file was replaced: no job up to that number was for this volume. 0: not
	// known, of an earlier version.
	Arrived int64 `json:"arrived,omitempty"`
	// Promised is how many bytes from its start shall have blocks, as whoever
	// made it asked.
	Promised int64 `json:"promised,omitempty"`
	// IterTime is how many ms a try of its secret was to take, as whoever made the
	// key asked; 0: nobody did.
	IterTime int64 `json:"iter_time,omitempty"`
	// Cut says that its problem is only that its file is cut off, as was seen when it was
	// last observed.
	Cut bool `json:"cut,omitempty"`
	// Writer is the number of the last job that began to change the content in
	// place, done or not; 0: none did, or it is not known. It tells who may go on
	// with what he began.
	Writer int64 `json:"writer,omitempty"`
	// Begun are the parts of a volume that is incomplete which jobs have begun to
	// change and not completed. None: it may be all of it.
	Begun []Begun `json:"begun,omitempty"`
	// ChangeNS is when the file was last changed (ctime), as last observed, and
	// SummedNS the same when its checksum was recorded; 0: not known.
	// ModifyNS is when its content was changed (mtime); 0: not known.
	ChangeNS int64 `json:"change_ns,omitempty"`
	ModifyNS int64 `json:"modify_ns,omitempty"`
	SummedNS int64 `json:"summed_ns,omitempty"`
	// References are the files that its header names, as last observed. They are
	// nil for a raw volume, and where an earlier version read it.
	References []Reference `json:"references,omitempty"`
	// Frozen are its snapshots, by name, of which the public record has the names.
	Frozen []Snapshot `json:"frozen,omitempty"`
}

// Snapshot is a snapshot of a volume.
type Snapshot struct {
	record.Snapshot

	Identity   string      `json:"identity,omitempty"` // as the driver made it
	ChangeNS   int64       `json:"change_ns,omitempty"`
	Backing    string      `json:"backing"`
	Problem    string      `json:"problem,omitempty"`    // why it must not be opened as an image
	Internal   int64       `json:"internal,omitempty"`   // snapshots that the image itself has
	References []Reference `json:"references,omitempty"` // files that its header names
	Secret     string      `json:"secret,omitempty"`     // name of the one that opens it: the volume's when it was made or found; "": it is the volume's
}

// Reference is a file that an image names: its backing, or one that holds some of
// its content.
type Reference struct {
	Name     string `json:"name"`             // as the header says
	Format   string `json:"format,omitempty"` // as the header says; "" if it says none, or one that is not known; of data from an earlier version too
	Data     bool   `json:"data,omitempty"`
	Relative bool   `json:"relative,omitempty"` // it means another file where the image is elsewhere
	Path     string `json:"path,omitempty"`     // links followed; "" for what is no local file
	Identity string `json:"identity,omitempty"` // as the driver of the image's pool made it; "": it was not there, or could not be looked at
}

// Begun is a part of a volume that a job has begun to change and not completed.
type Begun struct {
	Job  int64 `json:"job"`
	From int64 `json:"from"` // bytes
	To   int64 `json:"to"`   // behind the last; math.MaxInt64 is the end of the volume
}

// HistoryDeciles is into how many parts of a job's work its history falls.
const HistoryDeciles = 10

// History is what past jobs of one kind of work teach about the next: plain
// data for package supervisor/estimate, newest last.
type History struct {
	Key    string                    `json:"key"`    // operation, source and target class, format
	Rates  []float64                 `json:"rates"`  // work units per second of the data phase
	Errors [HistoryDeciles][]float64 `json:"errors"` // ln(actual/predicted remaining time), by decile of the work done
}
