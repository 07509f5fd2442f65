package record

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind names what a job does, for example "volume.clone".
type Kind string

const (
	VolumeCreate   Kind = "volume.create"
	VolumeClone    Kind = "volume.clone"
	VolumeResize   Kind = "volume.resize"
	VolumeWipe     Kind = "volume.wipe"
	VolumeTrim     Kind = "volume.trim"
	VolumeCheck    Kind = "volume.check"
	VolumeRekey    Kind = "volume.rekey"
	VolumeUpload   Kind = "volume.upload"
	VolumeDownload Kind = "volume.download"
	VolumeDelete   Kind = "volume.delete"
	VolumeVerify   Kind = "volume.verify"
	VolumeMove     Kind = "volume.move"

	VolumeFlatten   Kind = "volume.flatten"
	VolumeRebase    Kind = "volume.rebase"
	SnapshotCreate  Kind = "snapshot.create"
	SnapshotRestore Kind = "snapshot.restore"
	SnapshotDelete  Kind = "snapshot.delete"
	SnapshotClone   Kind = "snapshot.clone"

	PoolBuild    Kind = "pool.build"
	PoolStart    Kind = "pool.start"
	PoolStop     Kind = "pool.stop"
	PoolRefresh  Kind = "pool.refresh"
	PoolDelete   Kind = "pool.delete"
	PoolVerify   Kind = "pool.verify"
	PoolEvacuate Kind = "pool.evacuate"
)

// Kinds lists every kind.
func Kinds() []Kind {
	return []Kind{
		VolumeCreate, VolumeClone, VolumeResize, VolumeWipe, VolumeTrim, VolumeRekey, VolumeUpload, VolumeDownload, VolumeDelete, VolumeVerify, VolumeCheck, VolumeMove,
		VolumeFlatten, VolumeRebase, SnapshotCreate, SnapshotRestore, SnapshotDelete, SnapshotClone,
		PoolBuild, PoolStart, PoolStop, PoolRefresh, PoolDelete, PoolVerify, PoolEvacuate,
	}
}

// Class says how a job meets others: an async job queues by default and may
// open windows for visitors; a normal job waits a bounded time for its locks.
type Class string

const (
	Normal Class = "normal"
	Async  Class = "async"
)

// State is where a job is in its life. The legal moves are one table in
// package supervisor.
type State string

const (
	Queued      State = "queued"
	Starting    State = "starting"
	Running     State = "running"
	Paused      State = "paused"
	Finalizing  State = "finalizing"
	Canceling   State = "canceling"
	RollingBack State = "rolling_back"
	Recovering  State = "recovering"
	Succeeded   State = "succeeded"
	Failed      State = "failed"
	Canceled    State = "canceled"
)

// States lists every state, in the order of a job's life.
func States() []State {
	return []State{Queued, Starting, Running, Paused, Finalizing, Canceling, RollingBack, Recovering, Succeeded, Failed, Canceled}
}

// Terminal reports whether no move leads out of the state.
func (s State) Terminal() bool { return s == Succeeded || s == Failed || s == Canceled }

// Mode is how a job holds an object. The compatibility matrix is in package
// supervisor/locks.
type Mode string

const (
	ModeQuery  Mode = "Q" // look only; compatible with everything
	ModeRead   Mode = "R" // shared read of the content
	ModeMeta   Mode = "M" // change of metadata
	ModeGrow   Mode = "G" // grow without touching present content
	ModeWrite  Mode = "W" // exclusive write of the content
	ModeDelete Mode = "D" // delete or rename
)

// Object is one thing a job holds: a volume of a pool, or, with an empty
// Volume, the pool itself. Where it is only named, it has no mode.
type Object struct {
	Pool   string `json:"pool"`
	Volume string `json:"volume,omitempty"`
	Mode   Mode   `json:"mode,omitempty"`
}

// String gives POOL or POOL/NAME, as people write it.
func (o Object) String() string {
	if o.Volume == "" {
		return o.Pool
	}
	return o.Pool + "/" + o.Volume
}

// Job is the public record of a job, as openapi.yaml has it. It is a value: a
// copy handed out is never changed afterwards.
type Job struct {
	ID            string            `json:"id"`
	Number        int64             `json:"number"`
	Kind          Kind              `json:"kind"`
	Class         Class             `json:"class"`
	State         State             `json:"state"`
	Objects       []Object          `json:"objects"`
	Phase         *Phase            `json:"phase"`
	Progress      Progress          `json:"progress"`
	Estimate      Estimate          `json:"estimate"`
	Created       time.Time         `json:"created"`
	Started       *time.Time        `json:"started"`
	Ended         *time.Time        `json:"ended"`
	ElapsedS      float64           `json:"elapsed_s"` // since started, pauses included, queueing not
	PausedS       float64           `json:"paused_s"`
	WaitingOn     []Blocker         `json:"waiting_on"`
	Interruptible []Mode            `json:"interruptible"`
	Cancelable    bool              `json:"cancelable"`
	CanceledBy    *Owner            `json:"canceled_by"`
	PauseReasons  []string          `json:"pause_reasons"` // PauseUser and the like
	Changes       []Change          `json:"changes"`       // the newest that people made, oldest first
	Owner         Owner             `json:"owner"`
	Helper        *Helper           `json:"helper"`
	Limit         *int64            `json:"limit"`    // bytes per second; nil is no limit
	Reserved      int64             `json:"reserved"` // bytes of its pool that are reserved for it; 0 when it has ended
	Priority      Priority          `json:"priority"`
	Labels        map[string]string `json:"labels"`
	Pinned        bool              `json:"pinned"`
	Forgotten     bool              `json:"forgotten"` // the rest of the record was removed
	OnFailure     OnFailure         `json:"on_failure"`
	Rollback      Rollback          `json:"rollback"`
	RetryOf       *int64            `json:"retry_of"`
	AnsweredBy    *int64            `json:"answered_by"` // number of the job that did the work of this one too; nil: it did its own
	RetryFrom     *Resumable        `json:"retry_from"`  // checkpoint of that job from which this one is to go on; nil: from the start
	Resumed       int               `json:"resumed"`     // how often it went on after an interruption
	Resumable     *Resumable        `json:"resumable"`   // of an ended job: where a retry goes on; nil: at the start
	Warnings      []string          `json:"warnings"`
	Error         *Error            `json:"error"`
	Result        *Result           `json:"result"`
	Stats         *Stats            `json:"stats"`
}

// Phase is one step of a job's plan. Index counts from 1.
type Phase struct {
	Index int    `json:"index"`
	Count int    `json:"count"`
	Name  string `json:"name"`
}

// Progress is how far a job is. Done counts durable units of the data phase;
// Percent is weighted over the whole job, never falls, is nil while the work
// is unbounded and stays at most 99.9 before the result.
type Progress struct {
	Unit      string   `json:"unit"`
	Done      int64    `json:"done"`
	Total     int64    `json:"total"`
	Percent   *float64 `json:"percent"`
	RateBytes int64    `json:"rate_bytes_s"`
	Bounded   bool     `json:"bounded"`
}

// Estimate is the predicted end, with a p10 to p90 band. While a job is stalled
// there is none.
type Estimate struct {
	RemainingS   *float64   `json:"remaining_s"`
	End          *time.Time `json:"end"`
	EndEarly     *time.Time `json:"end_early"`
	EndLate      *time.Time `json:"end_late"`
	StalledSince *time.Time `json:"stalled_since"`
	// StalledOn says which process of a stalled job waits in the kernel, and for what, as
	// far as the kernel tells; "" where none does.
	StalledOn string `json:"stalled_on"`
}

// Owner is who asked for a job, and through what.
type Owner struct {
	UID       int    `json:"uid"` // NoUID of who is not known
	User      string `json:"user"`
	LoginUser string `json:"login_user"`
	PID       int    `json:"pid"`
	Command   string `json:"command"`
	Via       string `json:"via"` // rest, libvirt, daemon, signal
}

// Reasons to pause. A job runs on when none is left.
const (
	PauseUser     = "user"     // its owner asked for it
	PauseAdmin    = "admin"    // somebody else did
	PauseSpace    = "space"    // its helper waits for room, as WaitingOn says, and goes on by itself
	PauseRestored = "restored" // it waited when the database was copied that was put back, and may have been canceled since
)

// Kinds of changes.
const (
	ChangeLimit    = "limit"
	ChangePriority = "priority"
	ChangePause    = "pause"
	ChangeResume   = "resume"
)

// Change is something that was asked of a job while it lived, by whom and when.
type Change struct {
	Time     time.Time `json:"time"`
	What     string    `json:"what"`               // limit, priority, pause, resume
	Limit    *int64    `json:"limit,omitempty"`    // of a limit, bytes per second; absent is none
	Priority Priority  `json:"priority,omitempty"` // of a priority
	Reason   string    `json:"reason,omitempty"`   // of a pause
	By       Owner     `json:"by"`
}

// ViaSignal is how a job was canceled past the daemon: somebody sent its helper
// a signal. User is empty then, UID is NoUID, and PID is the sender's where
// that is known.
const ViaSignal = "signal"

// NoUID stands for a user who is not known.
const NoUID = -1

// Helper is the process that runs a job.
type Helper struct {
	PID     int      `json:"pid"`
	Argv    []string `json:"argv"`
	Version string   `json:"version,omitempty"`

	Confinement *Confinement `json:"confinement"` // nil: it has not come that far, or is of an older build
}

// Confinement is how far a helper has given up what it could do.
type Confinement struct {
	Level        string   `json:"level"`        // ConfinedFully and the like
	Landlock     int      `json:"landlock"`     // ABI of the kernel whose rights were taken; 0: files are open to it
	Seccomp      bool     `json:"seccomp"`      // system calls are filtered
	Capabilities []string `json:"capabilities"` // that it keeps
	Anywhere     bool     `json:"anywhere"`     // files stay open to it, for its task makes or removes the directories of pools
	Lacks        []string `json:"lacks"`        // what the kernel leaves open, and why
}

// Levels of a Confinement.
const (
	ConfinedFully  = "full"    // as far as the task allows
	ConfinedPartly = "partial" // as far as the kernel can
	NotConfined    = "none"
)

// String is the confinement in words.
func (c Confinement) String() string {
	parts := []string{c.Level + ":"}
	switch {
	case c.Landlock > 0:
		parts = append(parts, fmt.Sprintf("landlock %d,", c.Landlock))
	case c.Anywhere:
		parts = append(parts, "files anywhere,")
	}
	if c.Seccomp {
		parts = append(parts, "seccomp,")
	}
	kept := "no capabilities"
	if len(c.Capabilities) > 0 {
		kept = "keeps " + strings.Join(c.Capabilities, " ")
	}
	parts = append(parts, kept)
	for _, l := range c.Lacks {
		parts = append(parts, "("+l+")")
	}
	return strings.Join(parts, " ")
}

// Priority is a job's class in the scheduler.
type Priority string

const (
	Interactive    Priority = "interactive"
	NormalPriority Priority = "normal"
	Background     Priority = "background"
)

// Ageing is what a job of a class waits at most longer than one of the next
// better class that came at the same time.
const Ageing = 5 * time.Minute

// Turn is the time by which those that wait get their turns, of a job that waits
// since then.
func (p Priority) Turn(since time.Time, ageing time.Duration) time.Time {
	switch p {
	case Interactive:
		return since
	case Background:
		return since.Add(2 * ageing)
	}
	return since.Add(ageing)
}

// OnFailure says what becomes of a target that was not completed.
type OnFailure string

const (
	RollbackOnFailure OnFailure = "rollback"
	KeepOnFailure     OnFailure = "keep"
)

// Resume says what becomes of a job whose helper was interrupted: it died by no
// fault of its own, or the host was restarted.
type Resume string

const (
	ResumeNever Resume = "never" // it fails, and a retry begins at the start
	ResumeKeep  Resume = "keep"  // it fails, and a retry goes on from its checkpoint
	ResumeAuto  Resume = "auto"  // it goes on by itself; after some attempts it is kept
)

// Resumable is the checkpoint of a job that ended, in the unit of its phase.
type Resumable struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// Rollback says what became of it.
type Rollback string

const (
	RollbackNone   Rollback = "none"
	RollbackDone   Rollback = "done"
	RollbackKept   Rollback = "kept_partial"
	RollbackFailed Rollback = "failed"
)

// Blocker is one reason why a job waits or a request was refused, given by
// the same function that would have granted it.
type Blocker struct {
	For         string     `json:"for"` // lock, slot, device, hold, drain, space; helper: a cancel waits for it to answer, until ExpectedEnd
	Object      *Object    `json:"object,omitempty"`
	Device      string     `json:"device,omitempty"` // major:minor: the slot is of this device
	Mode        Mode       `json:"mode,omitempty"`   // the mode asked for
	Position    int        `json:"position,omitempty"`
	Short       bool       `json:"short,omitempty"` // the slot is one of those for short work
	Since       time.Time  `json:"since"`           // of a lock or a visit: since when the holder is as it is; else since when the job waits
	Holder      *Holder    `json:"holder,omitempty"`
	ExpectedEnd *time.Time `json:"expected_end,omitempty"`
	NextWindow  *time.Time `json:"next_window,omitempty"`
	More        int        `json:"more,omitempty"` // of the last one named: how many more are in the way like it
}

// String says in words for what is waited: "waits for job 410".
func (b Blocker) String() string {
	text := "waits for a " + b.For
	switch h := b.Holder; {
	case h != nil && h.Number != 0:
		text = fmt.Sprintf("waits for job %d", h.Number)
	case h != nil && h.External != "" && (b.For == "hold" || b.For == "space"):
		text = "waits: " + h.External // why it cannot start yet
	case h != nil && h.External != "":
		text = "waits for " + h.External
	case b.For == "slot" && b.Device != "":
		text = "waits for " + b.slot() + " on device " + b.Device
	case b.For == "slot" && b.Object != nil:
		text = "waits for " + b.slot() + " in pool " + b.Object.Pool
	case b.For == "slot":
		text = "waits for " + b.slot()
	case b.For == "drain":
		text = "waits for the end of the drain"
	case b.For == "space":
		text = "waits for space"
	}
	return text
}

func (b Blocker) slot() string {
	if b.Short {
		return "a place for short work"
	}
	return "a place"
}

// MaxHolders is how many of those in the way are named at most.
const MaxHolders = 16

// Holder is who is in the way: a job, or something outside of storaged.
type Holder struct {
	Number   int64  `json:"number,omitempty"`
	ID       string `json:"id,omitempty"`
	Kind     Kind   `json:"kind,omitempty"`
	Mode     Mode   `json:"mode,omitempty"`
	Owner    *Owner `json:"owner,omitempty"`
	External string `json:"external,omitempty"` // "qemu pid 812"
}

// Result is what an ended job produced: the object, and the figures of its
// kind. Fields that do not apply are left out of the JSON.
type Result struct {
	Pool       string   `json:"pool,omitempty"`
	Volume     string   `json:"volume,omitempty"`
	Key        string   `json:"key,omitempty"`
	Path       string   `json:"path,omitempty"`
	Capacity   int64    `json:"capacity,omitempty"`
	Allocation int64    `json:"allocation,omitempty"`
	Format     string   `json:"format,omitempty"` // of the volume
	From       string   `json:"from,omitempty"`   // format of what it was made of
	Method     string   `json:"method,omitempty"` // reflink, snapshot, copy, rename, fallocate, write, sparse, overwrite, punch, discard
	Algorithm  string   `json:"algorithm,omitempty"`
	Passes     int      `json:"passes,omitempty"`
	Bytes      int64    `json:"bytes,omitempty"`
	Verified   *bool    `json:"verified,omitempty"`
	Unchanged  bool     `json:"unchanged,omitempty"` // it was so already
	Limits     []string `json:"limits,omitempty"`
	Device     string   `json:"device,omitempty"`
	Checksum   string   `json:"checksum,omitempty"` // "sha256:…"
	Check      *Tables  `json:"check,omitempty"`    // of a check of an image
	Items      []Item   `json:"items,omitempty"`
}

// Item is the part of a job over many objects that concerns one of them.
type Item struct {
	Volume   string `json:"volume"`
	State    string `json:"state"` // succeeded, failed, skipped
	Checksum string `json:"checksum,omitempty"`
	Error    *Error `json:"error,omitempty"`
}

// Stats are measured after the end. What nobody could measure is nil: the
// helper was killed, or nobody watched its end. The bytes of a helper that was
// killed are those that it had told, and may be a little less than the truth.
type Stats struct {
	BytesRead    *int64       `json:"bytes_read"`
	BytesWritten *int64       `json:"bytes_written"`
	BytesHoles   *int64       `json:"bytes_holes"`
	Phases       []PhaseStats `json:"phases"`
	CPUS         *float64     `json:"cpu_s"`
	MaxRSSBytes  *int64       `json:"max_rss_bytes"`
}

// PhaseStats is the time one phase took.
type PhaseStats struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// About is the object the job is about: the one it writes, or the first; without
// objects it is none.
func (j *Job) About() (o Object) {
	i := slices.IndexFunc(j.Objects, func(o Object) bool { return o.Mode == ModeWrite || o.Mode == ModeDelete })
	switch {
	case i >= 0:
		return j.Objects[i]
	case len(j.Objects) > 0:
		return j.Objects[0]
	}
	return o
}

// Subject names that object in messages.
func (j *Job) Subject() string {
	if len(j.Objects) == 0 {
		return strings.SplitN(string(j.Kind), ".", 2)[0]
	}
	return j.About().String()
}

// Code is the code of the job's error, "" without one.
func (j *Job) Code() Code {
	if j.Error == nil {
		return ""
	}
	return j.Error.Code
}

// What a job is refused with, and nothing of the storage: who asked has to ask for something
// else. The second are of the storage when they come up in the middle of the work.
var (
	refusals    = []Code{Invalid, Busy, HasChildren, Exists, TooLarge, RangeUnsat}
	notYetBegun = []Code{NotFound, WrongState, Unsupported}
)

// OnlyRefused reports whether a job has failed, and that needs nobody but who asked for it:
// its error is about what was asked for, or it is a download whose reader went away, and it
// left nothing that is half done. What the daemon itself had asked for nobody has heard.
func (j *Job) OnlyRefused() bool {
	if j.State != Failed || j.Owner.Via == "daemon" || j.Resumable != nil || j.Rollback == RollbackKept || j.Rollback == RollbackFailed {
		return false
	}
	code := j.Code()
	return slices.Contains(refusals, code) || j.Started == nil && slices.Contains(notYetBegun, code) ||
		j.Kind == VolumeDownload && code == Interrupted
}

// Priorities are those that a job can have, the first to be served first.
func Priorities() []Priority { return []Priority{Interactive, NormalPriority, Background} }
