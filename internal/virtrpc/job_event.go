package virtrpc

import (
	"slices"
	"strings"

	"storaged/internal/record"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// jobEvents are the procedures by which a client asks for events of jobs.
func jobEvents() []procedure {
	return []procedure{
		{wire.JobEventRegister, "virStorageJobEventRegister", reads, with(registerJobEvents)},
		{wire.JobEventDeregister, "virStorageJobEventDeregister", reads, with(deregisterJobEvents)},
	}
}

// jobTopic is events of jobs: of what is named, or of all.
type jobTopic struct {
	events wire.JobEvents
	of     wire.JobRef
}

func registerJobEvents(c *call, a wire.JobRegisterArgs) (xdr.Value, error) {
	if more := a.Events &^ wire.JobEventsAsked; more != 0 || a.Events == 0 {
		return nil, wire.Failf(wire.FromRPC, wire.InternalError, "unsupported storage job events 0x%x", uint32(a.Events))
	}
	topic := jobTopic{events: a.Events}
	if a.Of != nil {
		topic.of = *a.Of // which need not be there yet
	}
	return register(c, &c.events.jobs, topic)
}

func deregisterJobEvents(c *call, id wire.Int) (xdr.Value, error) {
	return deregister(c, &c.events.jobs, id, "storage job")
}

// jobHappened says what has happened to a job.
func (c *connection) jobHappened(e record.Event) {
	c.events.mu.Lock()
	defer c.events.mu.Unlock()
	if len(c.events.jobs) == 0 {
		c.events.phases = nil
		return
	}
	c.sayOfJob(c.events.ofJob(e), e.Job, 0)
}

// ofJob is what an event is to who asked for events of jobs: nothing, if it is of none.
func (s *subscription) ofJob(e record.Event) (is wire.JobEvents) {
	switch {
	case e.Type == lost:
		s.phases = nil
		return wire.JobLostEvent
	case e.Job == nil:
		return 0
	case e.Type == "job.ended":
		delete(s.phases, e.Job.ID)
		return wire.JobStateEvent | wire.JobEndedEvent
	case e.Type == "job.created" || e.Type == "job.state":
		is = wire.JobStateEvent
	case e.Type == "job.progress":
		is = wire.JobProgressEvent
	}
	if p := e.Job.Phase; p != nil && s.phases[e.Job.ID] != p.Index {
		if s.phases == nil {
			s.phases = map[string]int{}
		}
		s.phases[e.Job.ID] = p.Index
		is |= wire.JobPhaseEvent
	}
	return is
}

// startedJob notes the job that the call has started, and says so to a client that asked
// for it.
func (c *call) startedJob(j *record.Job) {
	c.job = j.Number
	c.events.mu.Lock()
	defer c.events.mu.Unlock()
	c.sayOfJob(wire.JobCallEvent, j, c.header.Serial)
}

// sayOfJob sends what is so of a job, nil for none in particular, to the callbacks that ask
// for it. The lock is held.
func (c *connection) sayOfJob(is wire.JobEvents, j *record.Job, serial uint32) {
	v := wire.JobEvent{Serial: serial}
	if is != 0 && j != nil && len(c.events.jobs) > 0 {
		v.Job = *wireJob(j)
		if j.Error != nil && j.State.Terminal() {
			v.Error = new(strings.ReplaceAll(j.Error.Message, "\x00", ""))
		}
	}
	for _, asked := range c.events.jobs {
		v.Callback, v.Events = asked.id, is&(asked.topic.events|wire.JobLostEvent)
		if v.Events == 0 || j != nil && !concerns(asked.topic.of, j) {
			continue
		}
		if err := c.message(wire.JobControl, wire.JobEventMessage, &v); err != nil {
			return // the client is gone
		}
	}
}

// concerns reports whether a job is among those that are named: of a pool all those of its
// volumes are.
func concerns(of wire.JobRef, j *record.Job) bool {
	switch of.By {
	case wire.JobByNumber:
		return uint64(j.Number) == of.Number
	case wire.JobByID:
		return wireUUID("job", j.ID) == of.ID
	case wire.JobOfVolume:
		return slices.ContainsFunc(j.Objects, func(o record.Object) bool { return isOf(o, of) })
	case wire.JobOfPool:
		return slices.ContainsFunc(j.Objects, func(o record.Object) bool { return o.Pool == of.Pool })
	}
	return true
}
