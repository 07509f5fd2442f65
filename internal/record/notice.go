package record

import "time"

// Urgency says how much a notice is worth, by the names of syslog's priorities.
type Urgency string

// The urgencies, what needs a person first.
const (
	Broken   Urgency = "err"     // something is damaged or does not work
	Alarming Urgency = "warning" // something went wrong
	Notable  Urgency = "notice"  // something was lost on purpose, or is well again
	Ordinary Urgency = "info"
)

// Types of notices.
const (
	NoticeJob    = "job.ended"
	NoticeHelper = "helper.died"       // without a result; the job goes on, or its end is another notice
	NoticeVolume = "volume.incomplete" // a job that ended has left it so
	NoticePool   = "pool.state"        // it cannot be used any more, or can again
	NoticeState  = "state.trouble"     // the daemon's own records
)

// NoticeTypes lists every type.
func NoticeTypes() []string {
	return []string{NoticeJob, NoticeHelper, NoticeVolume, NoticePool, NoticeState}
}

// Notice is what somebody may want to know who does not look: a line of the log. What does
// not apply is empty.
type Notice struct {
	ID      string            `json:"id"` // the same whenever the same is told again
	Time    time.Time         `json:"time"`
	Type    string            `json:"type"`
	Urgency Urgency           `json:"priority"`
	Message string            `json:"message"` // without what the fields say
	Job     int64             `json:"job,omitempty"`
	Kind    Kind              `json:"kind,omitempty"`
	Object  string            `json:"object,omitempty"`  // POOL or POOL/VOLUME
	Outcome string            `json:"outcome,omitempty"` // state of the job or pool
	Owner   string            `json:"owner,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	TookS   float64           `json:"took_s,omitempty"`
	By      string            `json:"canceled_by,omitempty"`
	Code    Code              `json:"code,omitempty"`
	Error   string            `json:"error,omitempty"`
}

// Recovery reports whether the notice is that something is well again.
func (n *Notice) Recovery() bool {
	return n.Urgency == Notable && (n.Type == NoticePool || n.Type == NoticeState)
}
