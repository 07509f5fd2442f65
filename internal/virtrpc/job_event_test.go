package virtrpc_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc"
	"storaged/internal/virtrpc/virtrpctest"
	"storaged/internal/virtrpc/wire"
)

// jobEvent gives the next event of jobs, behind whatever else comes.
func jobEvent(t *testing.T, c *virtrpctest.Client) (e wire.JobEvent) {
	t.Helper()
	for {
		var p virtrpctest.Packet
		if len(c.Events) > 0 {
			p, c.Events = c.Events[0], c.Events[1:]
		} else {
			var err error
			if p, err = c.Next(); err != nil {
				t.Fatal(err)
			}
		}
		if p.Program != wire.JobControl || p.Type != wire.Message {
			continue
		}
		if err := p.Decode(&e); err != nil || p.Procedure != wire.JobEventMessage || p.Serial != 1 {
			t.Fatalf("%+v, %v", p, err)
		}
		return e
	}
}

// askJobs asks for events of jobs.
func askJobs(t *testing.T, c *virtrpctest.Client, events wire.JobEvents, of *wire.JobRef) (id wire.Int) {
	t.Helper()
	if err := c.CallJob(wire.JobEventRegister, &wire.JobRegisterArgs{Events: events, Of: of}, &id); err != nil {
		t.Fatal(err)
	}
	return id
}

// A client hears which job its call has started, and what becomes of it; another one
// cancels it meanwhile.
func TestClientHearsOfTheJobThatItHasStarted(t *testing.T) {
	h := newJobHost(t)
	id := askJobs(t, h.c, wire.JobEventsAsked, nil)
	if _, err := h.Service.PatchLimits(t.Context(), contract.LimitsPatch{Rate: json.RawMessage("1048576")}); err != nil {
		t.Fatal(err)
	}
	call := h.c.Begin(wire.StorageVolWipe, &wire.VolFlags{Vol: wire.Vol{Pool: "p", Name: "a"}})
	var started wire.JobEvent
	seen := wire.JobEvents(0)
	for all := wire.JobStateEvent | wire.JobPhaseEvent | wire.JobProgressEvent | wire.JobCallEvent; seen&all != all; {
		e := jobEvent(t, h.c)
		if e.Callback != int32(id) || e.Job.Kind != "volume.wipe" || e.Job.Volume != "a" || e.Events&wire.JobPhaseEvent != 0 && e.Job.Phase == "" {
			t.Errorf("the event is %+v", e)
		}
		if seen |= e.Events; e.Events&wire.JobCallEvent != 0 {
			started = e
		}
	}
	if started.Serial != call.Serial {
		t.Errorf("call %d has started it, not %d", started.Serial, call.Serial)
	}
	other := *h
	other.c = virtrpctest.Open(t, h.Socket)
	other.is(wire.JobAbort, wire.JobRef{By: wire.JobByNumber, Number: started.Job.Number}, 0)
	refused(t, h.c.Answer(call, nil), wire.OperationAborted, fmt.Sprintf("(job %d)", started.Job.Number))
	for {
		if e := jobEvent(t, h.c); e.Events&wire.JobEndedEvent != 0 {
			if e.Job.Type != wire.JobCancelled || e.Events != wire.JobEndedEvent|wire.JobStateEvent {
				t.Errorf("the end is %+v", e)
			}
			return
		}
	}
}

// Events come of what they were asked for, until they are not wanted any more.
func TestEventsOfJobsComeToWhoAskedForThem(t *testing.T) {
	h := newHost(t, nil)
	c := virtrpctest.Open(t, h.main)
	ended := func(number int64, volume string, why *record.Error) {
		j := &record.Job{ID: uuid.NewString(), Number: number, Kind: record.VolumeWipe, State: record.Succeeded, Objects: []record.Object{{Pool: "p", Volume: volume, Mode: record.ModeWrite}}, Error: why}
		if why != nil {
			j.State = record.Failed
		}
		h.svc.hub.Publish(record.Event{Type: "job.ended", Job: j})
	}
	one := askJobs(t, c, wire.JobEndedEvent, &wire.JobRef{By: wire.JobByNumber, Number: 5})
	volume := askJobs(t, c, wire.JobEndedEvent, &wire.JobRef{By: wire.JobOfVolume, Pool: "p", Volume: "b"})
	pool := askJobs(t, c, wire.JobStateEvent, &wire.JobRef{By: wire.JobOfPool, Pool: "p"})
	askJobs(t, c, wire.JobEndedEvent, &wire.JobRef{By: wire.JobOfPool, Pool: "q"})
	askJobs(t, c, wire.JobProgressEvent|wire.JobPhaseEvent|wire.JobCallEvent, nil)
	expect := func(number uint64, callbacks ...wire.Int) {
		t.Helper()
		for _, id := range callbacks {
			if e := jobEvent(t, c); e.Callback != int32(id) || e.Job.Number != number {
				t.Errorf("%+v is not of callback %d and job %d", e, id, number)
			}
		}
	}
	ended(5, "a", nil)
	ended(6, "b", nil)
	expect(5, one, pool)
	expect(6, volume, pool)
	if err := c.CallJob(wire.JobEventDeregister, &pool, nil); err != nil {
		t.Error(err)
	}
	ended(7, "c", nil)
	ended(5, "c", record.Errorf(record.IO, "the disk\x00 is broken"))
	if e := jobEvent(t, c); e.Callback != int32(one) || e.Job.Type != wire.JobFailed || e.Error == nil || *e.Error != "the disk is broken" {
		t.Errorf("the end is %+v", e)
	}
	refused(t, c.CallJob(wire.JobEventDeregister, &pool, nil), wire.InternalError, "storage job event callback 2 not registered")
	refused(t, c.CallJob(wire.JobEventRegister, &wire.JobRegisterArgs{Events: wire.JobEndedEvent, Of: &wire.JobRef{By: wire.JobByNumber, Number: 5}}, nil), wire.InvalidArg, "event callback already tracked")
	for _, events := range []wire.JobEvents{0, wire.JobLostEvent} {
		refused(t, c.CallJob(wire.JobEventRegister, &wire.JobRegisterArgs{Events: events}, nil), wire.InternalError, "unsupported storage job events")
	}
}

// A client that takes events more slowly than they come hears that, and gets those that
// follow.
func TestClientThatIsBehindHearsThatEventsAreLost(t *testing.T) {
	h := newHost(t, nil)
	c := virtrpctest.Open(t, h.main)
	askJobs(t, c, wire.JobStateEvent, nil)
	j := &record.Job{ID: uuid.NewString(), Number: 5, State: record.Running}
	for e := (wire.JobEvent{}); e.Events&wire.JobLostEvent == 0; e = jobEvent(t, c) {
		for range 100 * hubSize {
			h.svc.hub.Publish(record.Event{Type: "job.state", Job: j})
		}
	}
	last := record.Event{Type: "job.ended", Job: &record.Job{ID: j.ID, Number: 6, State: record.Canceled}}
	h.svc.hub.Publish(last)
	for e := jobEvent(t, c); e.Job.Number != 6; e = jobEvent(t, c) {
		if e.Events&wire.JobLostEvent != 0 { // it may be among them
			h.svc.hub.Publish(last)
		}
	}
}

// A client that asks for events and takes none is let go, and costs little until then.
func TestClientThatTakesNoEventsIsLetGo(t *testing.T) {
	h := newHost(t, nil)
	virtrpc.Hurry(h.srv, 200*time.Millisecond, time.Hour)
	c, other := virtrpctest.Open(t, h.main), virtrpctest.Open(t, h.main)
	for number := range uint64(100) {
		askJobs(t, c, wire.JobEventsAsked, &wire.JobRef{By: wire.JobByNumber, Number: number})
	}
	askJobs(t, c, wire.JobEventsAsked, nil)
	heap := grown(func() {
		j := &record.Job{ID: uuid.NewString(), Number: 5, State: record.Running}
		for err := error(nil); err == nil; { // until it is closed
			for range hubSize {
				h.svc.hub.Publish(record.Event{Type: "job.state", Job: j})
			}
			_ = c.Conn.SetWriteDeadline(time.Now().Add(virtrpctest.Patience))
			_, err = c.Conn.Write(ping.Append(nil, 0))
		}
	})
	if heap > 16<<20 {
		t.Errorf("%d MiB of memory", heap>>20)
	}
	works(t, other)
}

// What a connection asks for is bounded.
func TestCallbacksAreBounded(t *testing.T) {
	h := newHost(t, nil)
	c := virtrpctest.Open(t, h.main)
	for number := range uint64(virtrpc.MaxCallbacks) {
		askJobs(t, c, wire.JobStateEvent, &wire.JobRef{By: wire.JobByNumber, Number: number})
	}
	refused(t, c.CallJob(wire.JobEventRegister, &wire.JobRegisterArgs{Events: wire.JobStateEvent}, nil), wire.ResourceBusy, "at most 4096 callbacks")
	works(t, c)
}
