// Package contract is what the service is asked with and what it answers, whatever the
// front end: plain data, and the rules for it that need no catalog. What one kind of
// job is asked with is in package operation.
package contract

import (
	"cmp"
	"encoding/json"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
)

// PoolDefine asks for a pool.
type PoolDefine struct {
	Name      string        `json:"name"`
	UUID      string        `json:"uuid,omitempty"`
	Type      string        `json:"type,omitempty"` // default dir
	Target    record.Target `json:"target"`
	Source    record.Source `json:"source"`
	Autostart *bool         `json:"autostart,omitempty"` // default true
	ExistOK   bool          `json:"exist_ok,omitempty"`  // the same pool is taken for it
	Transient bool          `json:"transient,omitempty"` // it is forgotten when it is not active any more
	operation.JobOptions
}

// Fill puts in what it leaves out.
func (r *PoolDefine) Fill() {
	r.JobOptions.Fill()
	r.Type = cmp.Or(r.Type, "dir")
	if r.Autostart == nil {
		r.Autostart = new(!r.Transient)
	}
}

// SourcesFind asks which storage there is that pools of a type could be made of. Source
// says where to look, as far as the type wants to know it.
type SourcesFind struct {
	Type   string        `json:"type"`
	Source record.Source `json:"source"`
}

// PoolUndefine asks to forget a pool.
type PoolUndefine struct{ operation.Missing }

// Check refuses nothing.
func (*PoolUndefine) Check() error { return nil }

// PoolPatch changes properties of a pool; nil leaves one as it is.
type PoolPatch struct {
	Autostart *bool `json:"autostart,omitempty"`
}

// VolumePatch changes properties of a volume.
type VolumePatch struct {
	Description *string `json:"description,omitempty"`
	Secret      *string `json:"secret,omitempty"` // name of the one that opens its content, "" for none
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

// JobRetry is what may be other for the new job.
type JobRetry struct {
	// Limit is bytes per second, null for none; absent: that of the first job.
	Limit json.RawMessage `json:"limit,omitempty"`
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

// Submit is how a request that changes something was made, beside what it says.
type Submit struct {
	Caller   record.Caller  // by the credentials of the peer
	Key      string         // the same again gives the same job; "": none
	Digest   string         // of all that is asked, to tell a reused key
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
	Warnings  []string         `json:"warnings"`   // that the job would begin with
}

// Started is the answer to a request that starts a job: the job, or with
// Submit.DryRun the plan, or that no job is needed.
type Started struct {
	Job       *record.Job
	Plan      *Plan
	Unchanged *Unchanged
	Known     bool // the job was there already, and has no use for the request's Data
}

// Unchanged is the answer to a request that there is nothing to do for: what it asks
// for is there already, or what it was to take away is gone; then it has neither.
type Unchanged struct {
	Changed bool           `json:"changed"` // never
	Volume  *record.Volume `json:"volume,omitempty"`
	Pool    *record.Pool   `json:"pool,omitempty"`
}

// Status is the daemon as a whole.
type Status struct {
	Version     string            `json:"version"`
	PID         int               `json:"pid"`
	Started     time.Time         `json:"started"`
	UptimeS     float64           `json:"uptime_s"`
	Socket      string            `json:"socket"`
	State       string            `json:"state"` // ready, recovering, draining, state_unwritable
	Drain       record.Drain      `json:"drain"`
	Jobs        map[string]int    `json:"jobs"`  // live ones, by state
	Pools       map[string]int    `json:"pools"` // by state
	Limits      record.Limits     `json:"limits"`
	Recovered   []int64           `json:"recovered"` // jobs found alive or settled at start
	Helpers     []HelperStatus    `json:"helpers"`   // at work
	Warnings    []string          `json:"warnings"`
	Confinement ConfinementStatus `json:"confinement"`
	Paths       map[string]string `json:"paths"`
	LibvirtURI  string            `json:"libvirt_uri"` // by which libvirt's clients reach the daemon; "": they do not
}

// ConfinementStatus is how far helpers can be confined on this host.
type ConfinementStatus struct {
	Host    record.Confinement `json:"host"`    // that a helper without capabilities has
	Minimum string             `json:"minimum"` // below which no job is taken
}

// HelperStatus is a helper at work.
type HelperStatus struct {
	Job      int64       `json:"job"` // its number
	Kind     record.Kind `json:"kind"`
	PID      int         `json:"pid"`      // 0: not known
	Version  string      `json:"version"`  // of its binary
	Foreign  bool        `json:"foreign"`  // the binary is of another build than the daemon
	Confined string      `json:"confined"` // level that it has reached; "": not yet, or it does not tell
	Stuck    string      `json:"stuck"`    // which process a kill does not end; "" for none
}

// Version names the build of the daemon.
type Version struct {
	Version string `json:"version"`
	API     string `json:"api"` // of the front end, "v1"
	Go      string `json:"go"`
}
