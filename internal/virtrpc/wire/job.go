package wire

import (
	"errors"

	"storaged/internal/virtrpc/xdr"
)

// Procedures of JobControl, whose number libvirt does not have: it is among those that
// RFC 5531 gives to users, as libvirt's are, far from where libvirt goes on counting, and
// is " job" in a dump of a packet.
const (
	JobList            Procedure = 1
	JobGetInfo         Procedure = 2
	JobGetStats        Procedure = 3
	JobWait            Procedure = 4
	JobAbort           Procedure = 5
	JobPause           Procedure = 6
	JobResume          Procedure = 7
	JobSetLimit        Procedure = 8
	JobEventRegister   Procedure = 9
	JobEventDeregister Procedure = 10
	JobEventMessage    Procedure = 11 // a message
)

const (
	// MaxJobs bounds a page of a list of jobs.
	MaxJobs = 1000

	// MaxJobParams bounds what is said of one job.
	MaxJobParams = 256
)

// JobBy says how a job is named.
type JobBy int32

const (
	JobByNumber JobBy = iota + 1
	JobByID
	JobOfVolume // the one that works on it now
	JobOfPool   // likewise, on the pool itself
)

// JobRef names a job, or an object of which it is one.
type JobRef struct {
	By     JobBy
	Number uint64
	ID     UUID
	Pool   string
	Volume string
}

var errJobBy = errors.New("a job is named in a way that there is not")

// XDR is of xdr.Value.
func (v *JobRef) XDR(s xdr.Stream) {
	s.Int32((*int32)(&v.By))
	switch v.By {
	case JobByNumber:
		s.Uint64(&v.Number)
	case JobByID:
		v.ID.XDR(s)
	case JobOfVolume:
		s.String(&v.Pool)
		s.String(&v.Volume)
	case JobOfPool:
		s.String(&v.Pool)
	default:
		s.Refuse(errJobBy)
	}
}

// JobType is how it stands with a job: virDomainJobType.
type JobType int32

const (
	NoJob JobType = iota
	JobBounded
	JobUnbounded
	JobCompleted
	JobFailed
	JobCancelled
)

// JobInfo is what libvirt says of the job of a domain: virDomainJobInfo. Times are
// milliseconds, data and files are bytes.
type JobInfo struct {
	Type                                    JobType
	TimeElapsed, TimeRemaining              uint64
	DataTotal, DataProcessed, DataRemaining uint64
	MemTotal, MemProcessed, MemRemaining    uint64
	FileTotal, FileProcessed, FileRemaining uint64
}

// XDR is of xdr.Value.
func (v *JobInfo) XDR(s xdr.Stream) {
	s.Int32((*int32)(&v.Type))
	for _, n := range []*uint64{
		&v.TimeElapsed, &v.TimeRemaining, &v.DataTotal, &v.DataProcessed, &v.DataRemaining,
		&v.MemTotal, &v.MemProcessed, &v.MemRemaining, &v.FileTotal, &v.FileProcessed, &v.FileRemaining,
	} {
		s.Uint64(n)
	}
}

// Job is a job. Without one its type is NoJob, and there is nothing else. JobInfo comes
// first, so that what reads the answer for a domain's job reads this one too.
type Job struct {
	JobInfo
	Number uint64
	ID     UUID
	Kind   string // as volume.wipe
	State  string // as running
	Pool   string // of the object that it is about
	Volume string // "": the pool itself
	Phase  string // "": none yet
	Owner  string
}

// XDR is of xdr.Value.
func (v *Job) XDR(s xdr.Stream) {
	v.JobInfo.XDR(s)
	s.Uint64(&v.Number)
	v.ID.XDR(s)
	for _, text := range []*string{&v.Kind, &v.State, &v.Pool, &v.Volume, &v.Phase, &v.Owner} {
		s.String(text)
	}
}

// Flags of JobListArgs: jobs that have not ended, and those that have. Neither is both.
const (
	JobListLive  Flags = 1
	JobListEnded Flags = 2
)

// JobListArgs ask for a page of all jobs for which everything holds that is not nil. After
// is where the page before has ended. Most is 0 for as many as is usual.
type JobListArgs struct {
	Flags                     Flags
	Kind, Pool, Volume, Owner *string
	Most                      uint32
	After                     *string
}

// XDR is of xdr.Value.
func (v *JobListArgs) XDR(s xdr.Stream) {
	v.Flags.XDR(s)
	for _, text := range []**string{&v.Kind, &v.Pool, &v.Volume, &v.Owner} {
		xdr.OptionalString(s, text)
	}
	s.Uint32(&v.Most)
	xdr.OptionalString(s, &v.After)
}

// Jobs answers JobListArgs, newest first. Next is nil at the end of the list.
type Jobs struct {
	Jobs []Job
	Next *string
}

// XDR is of xdr.Value.
func (v *Jobs) XDR(s xdr.Stream) {
	xdr.List(s, &v.Jobs, MaxJobs, func(s xdr.Stream, j *Job) { j.XDR(s) })
	xdr.OptionalString(s, &v.Next)
}

// JobFlags are arguments of what is asked about a job, or done to it.
type JobFlags struct {
	Job   JobRef
	Flags Flags
}

const (
	// JobStatsCompleted is a flag of JobGetInfo and JobGetStats: of an object, the job
	// that ended last is asked for. VIR_DOMAIN_JOB_STATS_COMPLETED.
	JobStatsCompleted Flags = 1

	// JobAbortNow is a flag of JobAbort: the job is not waited for.
	JobAbortNow Flags = 1
)

// XDR is of xdr.Value.
func (v *JobFlags) XDR(s xdr.Stream) {
	v.Job.XDR(s)
	v.Flags.XDR(s)
}

// JobStats answer JobGetStats. A name may be there more than once.
type JobStats struct {
	Type   JobType
	Params []Param
}

// XDR is of xdr.Value.
func (v *JobStats) XDR(s xdr.Stream) {
	s.Int32((*int32)(&v.Type))
	xdr.List(s, &v.Params, MaxJobParams, func(s xdr.Stream, p *Param) { p.XDR(s) })
}

// JobNumberArgs are of JobWait, with a number of milliseconds, and of JobSetLimit, with one
// of bytes per second. 0 is without bound.
type JobNumberArgs struct {
	Job   JobRef
	N     uint64
	Flags Flags
}

// XDR is of xdr.Value.
func (v *JobNumberArgs) XDR(s xdr.Stream) {
	v.Job.XDR(s)
	s.Uint64(&v.N)
	v.Flags.XDR(s)
}

// JobEvents are what may be said of jobs.
type JobEvents uint32

const (
	JobStateEvent    JobEvents = 1 << iota // the job is new, or has another state; its end too
	JobPhaseEvent                          // another phase
	JobProgressEvent                       // it has come further, or waits for something else
	JobEndedEvent                          // its end
	JobCallEvent                           // a call on this connection has started it
	JobLostEvent                           // there are events that the client did not get, and will not
)

// JobEventsAsked are those that can be asked for. JobLostEvent comes unasked.
const JobEventsAsked = JobLostEvent - 1

// JobRegisterArgs ask for events of one job, of those of a volume, of those of a pool and its
// volumes, or, nil, of all.
type JobRegisterArgs struct {
	Events JobEvents
	Of     *JobRef
}

// XDR is of xdr.Value.
func (v *JobRegisterArgs) XDR(s xdr.Stream) {
	s.Uint32((*uint32)(&v.Events))
	xdr.Optional(s, &v.Of, func(s xdr.Stream, r *JobRef) { r.XDR(s) })
}

// JobEvent is the message that something was so of a job. Events are those that were asked
// for. Serial is that of the call of JobCallEvent.
type JobEvent struct {
	Callback int32
	Events   JobEvents
	Serial   uint32
	Job      Job
	Error    *string // of one that has failed
}

// XDR is of xdr.Value.
func (v *JobEvent) XDR(s xdr.Stream) {
	s.Int32(&v.Callback)
	s.Uint32((*uint32)(&v.Events))
	s.Uint32(&v.Serial)
	v.Job.XDR(s)
	xdr.OptionalString(s, &v.Error)
}
