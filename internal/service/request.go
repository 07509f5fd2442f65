package service

import (
	"cmp"
	"encoding/json"
	"os"
	"time"

	"storaged/internal/record"
)

// JobOptions are what every request that starts a job may say about the job.
// In a body the fields stand beside the request's own.
type JobOptions struct {
	Limit     *int64            `json:"limit,omitempty"` // bytes per second
	Priority  record.Priority   `json:"priority,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	OnFailure record.OnFailure  `json:"on_failure,omitempty"`
}

// Fill puts in what a request leaves out. Every kind of request that has more
// defaults than these has a Fill of its own.
func (o *JobOptions) Fill() {
	o.Priority = cmp.Or(o.Priority, record.NormalPriority)
	o.OnFailure = cmp.Or(o.OnFailure, record.RollbackOnFailure)
}

// Allocation is "full", "none" or a number of bytes.
type Allocation struct {
	Full  bool
	Bytes int64 // when not Full; 0 is none
}

// PoolDefine asks for a pool.
type PoolDefine struct {
	Name      string        `json:"name"`
	UUID      string        `json:"uuid,omitempty"`
	Type      string        `json:"type,omitempty"` // default dir
	Target    record.Target `json:"target"`
	Source    record.Source `json:"source"`
	Autostart *bool         `json:"autostart,omitempty"` // default true
	JobOptions
}

// Fill puts in what it leaves out.
func (r *PoolDefine) Fill() {
	r.JobOptions.Fill()
	r.Type = cmp.Or(r.Type, "dir")
	if r.Autostart == nil {
		r.Autostart = new(true)
	}
}

// PoolBuild asks to make a pool's storage.
type PoolBuild struct {
	Overwrite bool `json:"overwrite,omitempty"`
	JobOptions
}

// PoolStop asks to stop a pool. Force cancels the jobs that are in the way.
type PoolStop struct {
	Force bool `json:"force,omitempty"`
	JobOptions
}

// PoolDelete asks to destroy a pool's storage.
type PoolDelete struct {
	WithVolumes bool `json:"with_volumes,omitempty"`
	JobOptions
}

// PoolEvacuate asks to move the volumes of a pool to another, To.
type PoolEvacuate struct {
	To         string `json:"to"`
	Only       string `json:"only,omitempty"` // pattern of names; empty is any
	SkipBusy   bool   `json:"skip_busy,omitempty"`
	KeepSource bool   `json:"keep_source,omitempty"` // clone instead of moving
	OnError    string `json:"on_error,omitempty"`    // continue (default), stop
	JobOptions
}

// Fill puts in what it leaves out.
func (r *PoolEvacuate) Fill() {
	r.JobOptions.Fill()
	r.OnError = cmp.Or(r.OnError, "continue")
}

// PoolPatch changes properties of a pool; nil leaves one as it is.
type PoolPatch struct {
	Autostart *bool `json:"autostart,omitempty"`
}

// VolumeCreate asks for a volume.
type VolumeCreate struct {
	Name       string            `json:"name"`
	Capacity   int64             `json:"capacity"`
	Allocation *Allocation       `json:"allocation,omitempty"` // default full for raw, none else
	Format     string            `json:"format,omitempty"`     // default raw
	Backing    string            `json:"backing,omitempty"`
	From       string            `json:"from,omitempty"`
	Options    map[string]string `json:"options,omitempty"`
	JobOptions
}

// Fill puts in what it leaves out: all of a raw volume is allocated, as libvirt
// does it, and nothing of another.
func (r *VolumeCreate) Fill() {
	r.JobOptions.Fill()
	r.Format = cmp.Or(r.Format, record.FormatRaw)
	if r.Allocation == nil {
		r.Allocation = &Allocation{Full: r.Format == record.FormatRaw}
	}
}

// VolumeClone asks for a copy of a volume under another name. Pool is the
// target's, default the source's.
type VolumeClone struct {
	Name    string `json:"name"`
	Pool    string `json:"pool,omitempty"`
	Format  string `json:"format,omitempty"`
	Size    int64  `json:"size,omitempty"` // default the source's capacity
	Linked  bool   `json:"linked,omitempty"`
	Reflink string `json:"reflink,omitempty"` // auto, always, never
	Sparse  bool   `json:"sparse,omitempty"`  // leave out blocks of zeros, and reserve none
	JobOptions
}

// Fill puts in what it leaves out.
func (r *VolumeClone) Fill() {
	r.JobOptions.Fill()
	r.Reflink = cmp.Or(r.Reflink, "auto")
}

// VolumeMove asks for another name for a volume, in Pool, default its own. An
// empty Name is the one that it has.
type VolumeMove struct {
	Pool string `json:"pool,omitempty"`
	Name string `json:"name,omitempty"`
	JobOptions
}

// VolumeResize asks for another capacity in bytes.
type VolumeResize struct {
	Capacity int64 `json:"capacity"`
	Shrink   bool  `json:"shrink,omitempty"`
	Allocate bool  `json:"allocate,omitempty"`
	JobOptions
}

// VolumeWipe asks to overwrite a volume's content.
type VolumeWipe struct {
	Algorithm    string `json:"algorithm,omitempty"` // default zero
	Verify       bool   `json:"verify,omitempty"`
	AcceptLimits bool   `json:"accept_limits,omitempty"`
	JobOptions
}

// Fill puts in what it leaves out.
func (r *VolumeWipe) Fill() {
	r.JobOptions.Fill()
	r.Algorithm = cmp.Or(r.Algorithm, "zero")
}

// VolumeTrim asks to give back the blocks of what reads as zeros.
type VolumeTrim struct {
	GiveUpAllocation bool `json:"give_up_allocation,omitempty"`
	JobOptions
}

// Data is what a content comes from or goes to: an open file, or one end of a
// pipe. It stays the caller's.
type Data struct {
	File *os.File
	Form string // FileData, RawData or SparseData
	// Dense says that a stream comes without holes, in whatever form.
	Dense bool
}

// Forms of Data.
const (
	FileData   = "file"   // a client's own regular file
	RawData    = "raw"    // a stream of bytes
	SparseData = "sparse" // a stream as package sparse has it
)

// VolumeUpload asks to write a content into a volume, or, with Create, into a
// new one.
type VolumeUpload struct {
	Offset      int64  // bytes of the volume before it
	Length      *int64 // bytes; nil: as many as come
	Continues   string // job that uploaded what lies before Offset, and ended unfinished
	Beginning   string // checksum of what lies before Offset, as the sender has it; "" is not known
	Checksum    string // sha256 or crc32c, with :HEX what it must be; "" is crc32c
	AsFormat    string // what it is taken for, "" for the volume's format
	DetectZeros bool
	Create      *VolumeCreate // Name is the volume's; Capacity 0: that of the content
	Data        Data
	JobOptions
}

// VolumeDownload asks for the content of a volume.
type VolumeDownload struct {
	Offset   int64
	Length   *int64 // bytes; nil: up to the end
	Checksum string // as in VolumeUpload
	Data     Data
	JobOptions
}

// VolumeVerify asks to read a volume and give its checksum. Checksum is the
// algorithm, sha256 or crc32c, alone, or with a colon and hexadecimal digits
// that the content must have. Empty, the checksum must be the recorded one, if
// there is one that is not out of date.
type VolumeVerify struct {
	Checksum string `json:"checksum,omitempty"`
	JobOptions
}

// VolumeDelete asks to delete a volume; it comes as the query of a DELETE.
type VolumeDelete struct {
	Wipe         string `json:"wipe,omitempty"`          // algorithm to wipe with first
	AcceptLimits bool   `json:"accept_limits,omitempty"` // of the wipe
	JobOptions
}

// VolumePatch changes properties of a volume.
type VolumePatch struct {
	Description *string `json:"description,omitempty"`
}

// JobPatch changes properties of a job, by merge-patch. Limit is absent, null
// (none) or bytes per second; of Labels only those named change, and a nil
// value removes one.
type JobPatch struct {
	Limit    json.RawMessage    `json:"limit,omitempty"`
	Priority *record.Priority   `json:"priority,omitempty"`
	Pinned   *bool              `json:"pinned,omitempty"`
	Labels   map[string]*string `json:"labels,omitempty"`
}

// LimitsPatch changes limits of the scheduler, by merge-patch: nil leaves one
// as it is. Rate is absent, null (none) or bytes per second; of a map only the
// keys named change, and a nil value removes one.
type LimitsPatch struct {
	Running       *int              `json:"running,omitempty"`
	RunningPool   *int              `json:"running_pool,omitempty"`
	RunningDevice *int              `json:"running_device,omitempty"`
	Queued        *int              `json:"queued,omitempty"`
	Rate          json.RawMessage   `json:"rate,omitempty"`
	PoolRates     map[string]*int64 `json:"pool_rates,omitempty"`
	PoolRunning   map[string]*int   `json:"pool_running,omitempty"`
	DeviceRates   map[string]*int64 `json:"device_rates,omitempty"`
	DeviceRunning map[string]*int   `json:"device_running,omitempty"`
}

// DrainSet begins a drain or takes it back.
type DrainSet struct {
	On *bool `json:"on"`
}

// JobCancel asks to cancel a job. Now skips the ladder's patience.
type JobCancel struct {
	Now bool `json:"now,omitempty"`
}

// JobFilter selects jobs; a nil or empty field selects all. Values of one
// field are alternatives, fields must all hold. States may contain the groups
// "live" and "ended".
type JobFilter struct {
	States         []string
	Kinds          []string
	Pools          []string
	Volumes        []string
	Owners         []string
	Labels         []string // "key=value"
	IdempotencyKey string
	Since          time.Time // created at or after
	Until          time.Time // created before
}

// Selection is the jobs of a change of many, all that the filter selects. DryRun
// only counts them.
type Selection struct {
	JobFilter
	DryRun bool
}

// Bulk is what became of a change of many jobs. Of those that refused it the
// first ones are named.
type Bulk struct {
	Selected int       `json:"selected"`
	Done     int       `json:"done"`
	Refused  int       `json:"refused"`
	Refusals []Refusal `json:"refusals"`
}

// Refusal is why a job of many was not changed.
type Refusal struct {
	Job   int64         `json:"job"` // its number
	Error *record.Error `json:"error"`
}

// VolumeFilter selects volumes.
type VolumeFilter struct {
	Pools   []string
	Paths   []string
	Keys    []string
	Formats []string
	States  []string
}

// Page asks for a part of a list, newest first. Limit 0 is the default of 100.
type Page struct {
	Limit  int
	Cursor string
}

// List is one page. Next is the cursor of the following page, nil at the end.
type List[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"`
}

// Submit is how a request that changes something was made, beside its body.
type Submit struct {
	Caller   record.Caller  // set by the server from the peer's credentials
	Key      string         // Idempotency-Key, "" without
	Digest   string         // of method, path and body, to tell a reused key
	LockWait *time.Duration // nil: the kind's default; 0: refuse at once; <0: for ever
	DryRun   bool
	IfMatch  int64 // generation, 0 without
}

// Plan is the answer to a dry run: what the job would hold and do.
type Plan struct {
	Kind      record.Kind      `json:"kind"`
	Class     record.Class     `json:"class"`
	Objects   []record.Object  `json:"objects"`
	Argv      []string         `json:"argv"`
	Destroys  bool             `json:"destroys"` // or moves: a person is to be asked before
	Bytes     int64            `json:"bytes"`    // to be moved at most
	EstimateS *float64         `json:"estimate_s"`
	WaitingOn []record.Blocker `json:"waiting_on"` // who would be in the way now
}

// Started is the answer to a request that starts a job: the job, or with
// Submit.DryRun the plan.
type Started struct {
	Job   *record.Job
	Plan  *Plan
	Known bool // the job was there already, and has no use for the request's Data
}

// Status is the daemon as a whole.
type Status struct {
	Version   string            `json:"version"`
	PID       int               `json:"pid"`
	Started   time.Time         `json:"started"`
	UptimeS   float64           `json:"uptime_s"`
	Socket    string            `json:"socket"`
	State     string            `json:"state"` // ready, recovering, draining, state_unwritable
	Drain     record.Drain      `json:"drain"`
	Jobs      map[string]int    `json:"jobs"`  // live ones, by state
	Pools     map[string]int    `json:"pools"` // by state
	Limits    record.Limits     `json:"limits"`
	Recovered []int64           `json:"recovered"` // jobs found alive or settled at start
	Helpers   []HelperStatus    `json:"helpers"`   // at work
	Warnings  []string          `json:"warnings"`
	Paths     map[string]string `json:"paths"`
}

// HelperStatus is a helper at work.
type HelperStatus struct {
	Job     int64       `json:"job"` // its number
	Kind    record.Kind `json:"kind"`
	PID     int         `json:"pid"`     // 0: not known
	Version string      `json:"version"` // of its binary
	Foreign bool        `json:"foreign"` // the binary is of another build than the daemon
	Stuck   string      `json:"stuck"`   // which process a kill does not end; "" for none
}

// Version is the answer to GET /v1/version.
type Version struct {
	Version string `json:"version"`
	API     string `json:"api"` // "v1"
	Go      string `json:"go"`
}
