package virtrpc_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/uuid"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
	"storaged/internal/virtrpc"
	"storaged/internal/virtrpc/virtrpctest"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// jobHost is a server with a real service, whose pool p has the volumes a and b.
type jobHost struct {
	*virtrpctest.Host
	t *testing.T
	c *virtrpctest.Client
}

func newJobHost(t *testing.T) *jobHost {
	t.Helper()
	h := &jobHost{Host: virtrpctest.NewHost(t), t: t}
	dir := filepath.Join(h.Dir, "p")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{
		{"pool-create-as", "p", "dir", "--target", dir}, {"vol-create-as", "p", "a", "64M"}, {"vol-create-as", "p", "b", "64M", "--allocation", "0"},
	} {
		if out, ok := virtrpctest.Virsh(t, h.URI(), command...); !ok {
			t.Fatal(out)
		}
	}
	h.c = virtrpctest.Open(t, h.Socket)
	return h
}

// wipe starts a wipe of a volume that takes a minute, and gives it when it is at work.
func (h *jobHost) wipe(volume string) record.Job {
	h.t.Helper()
	r := &operation.WipeRequest{Algorithm: "zero"}
	r.Fill()
	r.Limit = new(int64(1 << 20))
	caller := record.Caller{Owner: record.Owner{User: "root", Via: "test"}, Role: record.RootRole}
	st, err := h.Service.Start(h.t.Context(), contract.Submit{Caller: caller}, "p", volume, r)
	if err != nil {
		h.t.Fatal(err)
	}
	all, err := h.Service.Subscribe(h.t.Context(), 1) // of all that are remembered
	if err != nil {
		h.t.Fatal(err)
	}
	j := *st.Job
	for ; j.State != record.Running || j.Phase == nil || !j.Progress.Bounded; j, err = h.Service.Job(h.t.Context(), j.ID) {
		if err != nil || j.State.Terminal() {
			h.t.Fatalf("%+v, %v", j, err)
		}
		<-all
	}
	h.t.Cleanup(func() { h.end(j.ID) })
	return j
}

// end ends a job, if nobody has.
func (h *jobHost) end(job string) {
	if _, err := h.Service.CancelJob(context.Background(), record.Caller{Role: record.RootRole}, job, contract.JobCancel{}); record.CodeOf(err) != record.WrongState && err != nil {
		h.t.Error(err)
	}
	if _, err := h.Service.WaitJob(context.Background(), job, virtrpctest.Patience); err != nil {
		h.t.Error(err)
	}
}

// is asks for a job by a procedure that answers with one.
func (h *jobHost) is(p wire.Procedure, ref wire.JobRef, flags wire.Flags) (j wire.Job) {
	h.t.Helper()
	if err := h.c.CallJob(p, &wire.JobFlags{Job: ref, Flags: flags}, &j); err != nil {
		h.t.Fatalf("procedure %d: %v", p, err)
	}
	return j
}

// refusal is why a call about jobs is refused, by our own name for it too.
func (h *jobHost) refusal(err error, code wire.Code, reason record.Code, says string) {
	h.t.Helper()
	refused(h.t, err, code, says)
	var f *wire.Failure
	if errors.As(err, &f) && f.Reason != string(reason) {
		h.t.Errorf("the reason is %q, not %q", f.Reason, reason)
	}
}

func byNumber(j record.Job) wire.JobRef {
	return wire.JobRef{By: wire.JobByNumber, Number: uint64(j.Number)}
}

func ofVolume(name string) wire.JobRef {
	return wire.JobRef{By: wire.JobOfVolume, Pool: "p", Volume: name}
}

// A job is found by whatever names it, and shown as that of a domain is.
func TestJobsAreShownAsThoseOfDomains(t *testing.T) {
	h := newJobHost(t)
	begun := h.wipe("a")
	for _, ref := range []wire.JobRef{byNumber(begun), {By: wire.JobByID, ID: wire.UUID(uuid.MustParse(begun.ID))}, ofVolume("a")} {
		j := h.is(wire.JobGetInfo, ref, 0)
		if j.Type != wire.JobBounded || j.DataTotal != 64<<20 || j.DataProcessed+j.DataRemaining != j.DataTotal || j.FileTotal != j.DataTotal || j.MemTotal != 0 ||
			j.Number != uint64(begun.Number) || j.ID != wire.UUID(uuid.MustParse(begun.ID)) || j.Kind != "volume.wipe" || j.State != "running" || j.Pool != "p" || j.Volume != "a" || j.Owner != "root" {
			t.Errorf("by %+v it is %+v", ref, j)
		}
	}
	for _, ref := range []wire.JobRef{ofVolume("b"), {By: wire.JobOfPool, Pool: "p"}} {
		if j := h.is(wire.JobGetInfo, ref, 0); j != (wire.Job{}) {
			t.Errorf("the job of %+v is %+v", ref, j)
		}
	}
	if j := h.is(wire.JobGetInfo, wire.JobRef{By: wire.JobOfPool, Pool: "p"}, wire.JobStatsCompleted); j.Type != wire.JobCompleted || j.Kind != "pool.start" || j.Volume != "" {
		t.Errorf("the last job of the pool was %+v", j)
	}
	stats := h.stats(ofVolume("a"))
	for name, want := range map[string]string{
		"number": strconv.FormatInt(begun.Number, 10), "id": begun.ID, "kind": "volume.wipe", "object": "p/a", "state": "running", "owner": "root", "owner_via": "test",
		"data_total": "67108864", "limit": "1048576", "priority": "normal", "cancelable": "1",
	} {
		if stats[name] != want {
			t.Errorf("%s is %q, not %q", name, stats[name], want)
		}
	}
	for _, name := range []string{"phase", "progress", "time_elapsed", "started", "owner_uid"} {
		if stats[name] == "" {
			t.Errorf("nothing is said of %s: %v", name, stats)
		}
	}
	h.refusal(h.c.CallJob(wire.JobGetInfo, &wire.JobFlags{Job: wire.JobRef{By: wire.JobByNumber, Number: 4711}}, nil), wire.OperationFailed, record.NotFound, "4711")
	h.refusal(h.c.CallJob(wire.JobGetStats, &wire.JobFlags{Job: ofVolume("c")}, nil), wire.NoStorageVol, "", "no storage vol with matching name 'c'")
	h.refusal(h.c.CallJob(wire.JobGetInfo, &wire.JobFlags{Flags: 2, Job: ofVolume("a")}, nil), wire.InvalidArg, "", "unsupported flags (0x2) in function storageJobGetInfo")
}

// stats gives the parameters of a job as text.
func (h *jobHost) stats(ref wire.JobRef) map[string]string {
	h.t.Helper()
	var s wire.JobStats
	if err := h.c.CallJob(wire.JobGetStats, &wire.JobFlags{Job: ref}, &s); err != nil {
		h.t.Fatal(err)
	}
	all := map[string]string{}
	for _, p := range s.Params {
		switch p.Type {
		case wire.ParamString:
			all[p.Field] = p.Text
		case wire.ParamDouble:
			all[p.Field] = strconv.FormatFloat(math.Float64frombits(p.Number), 'f', -1, 64)
		default:
			all[p.Field] = strconv.FormatUint(p.Number, 10)
		}
	}
	return all
}

// What storagedctl does to jobs libvirt's clients do too.
func TestJobsAreChanged(t *testing.T) {
	h := newJobHost(t)
	begun := h.wipe("a")
	if j := h.is(wire.JobPause, ofVolume("a"), 0); j.State != "paused" {
		t.Errorf("paused it is %+v", j)
	}
	if by := h.stats(byNumber(begun))["paused_by"]; by != "user" {
		t.Errorf("it is paused by %q", by)
	}
	for _, rate := range []uint64{2 << 20, 0} {
		if err := h.c.CallJob(wire.JobSetLimit, &wire.JobNumberArgs{Job: byNumber(begun), N: rate}, nil); err != nil {
			t.Error(err)
		}
		if j, err := h.Service.Job(t.Context(), begun.ID); err != nil || (j.Limit == nil) != (rate == 0) || rate != 0 && uint64(*j.Limit) != rate {
			t.Errorf("the limit is %v, not %d; %v", j.Limit, rate, err)
		}
	}
	h.refusal(h.c.CallJob(wire.JobSetLimit, &wire.JobNumberArgs{Job: byNumber(begun), N: 1 << 63}, nil), wire.InvalidArg, record.Invalid, "limit")
	h.c.Do(wire.ConnectSupportsFeature, new(wire.Int(wire.JobControl)), nil)
	waits := h.c.BeginJob(wire.JobWait, &wire.JobNumberArgs{Job: ofVolume("a")})
	other := *h
	other.c = virtrpctest.Open(t, h.Socket)
	if j := other.is(wire.JobAbort, ofVolume("a"), 0); j.Number != uint64(begun.Number) {
		t.Errorf("aborted is %+v", j)
	}
	var j wire.Job
	if err := h.c.Answer(waits, &j); err != nil || j.Type != wire.JobCancelled || j.Number != uint64(begun.Number) {
		t.Errorf("in the end it is %+v, %v", j, err)
	}
	h.refusal(h.c.CallJob(wire.JobAbort, &wire.JobFlags{Job: ofVolume("a")}, nil), wire.OperationInvalid, "", "no job is active on p/a")
	h.refusal(h.c.CallJob(wire.JobResume, &wire.JobFlags{Job: byNumber(begun)}, nil), wire.OperationInvalid, record.WrongState, "has ended")
	if j := h.is(wire.JobGetInfo, ofVolume("a"), wire.JobStatsCompleted); j.Type != wire.JobCancelled || j.Number != uint64(begun.Number) {
		t.Errorf("the last job of the volume was %+v", j)
	}
	if s := h.stats(byNumber(begun)); s["success"] != "0" || s["rollback"] == "" || s["ended"] == "" {
		t.Errorf("of its end is said %v", s)
	}
}

// A list comes in pages, of the jobs that the filters select.
func TestJobsAreListed(t *testing.T) {
	h := newJobHost(t)
	begun := h.wipe("b")
	for _, c := range []struct {
		args wire.JobListArgs
		want int
	}{
		{wire.JobListArgs{}, 4}, {wire.JobListArgs{Flags: wire.JobListLive}, 1}, {wire.JobListArgs{Flags: wire.JobListEnded}, 3}, {wire.JobListArgs{Flags: wire.JobListEnded | wire.JobListLive}, 4},
		{wire.JobListArgs{Pool: new("p"), Volume: new("b")}, 2}, {wire.JobListArgs{Pool: new("q")}, 0}, {wire.JobListArgs{Kind: new("volume.create")}, 2},
		{wire.JobListArgs{Owner: new("root"), Volume: new("p/b"), Kind: new("volume.wipe")}, 1}, {wire.JobListArgs{Owner: new("somebody")}, 0},
	} {
		var got wire.Jobs
		if err := h.c.CallJob(wire.JobList, &c.args, &got); err != nil || len(got.Jobs) != c.want || got.Next != nil {
			t.Errorf("%+v: %+v, %v", c.args, got, err)
		}
	}
	var seen []uint64
	for after := (*string)(nil); ; {
		var page wire.Jobs
		if err := h.c.CallJob(wire.JobList, &wire.JobListArgs{Most: 3, After: after}, &page); err != nil {
			t.Fatal(err)
		}
		for _, j := range page.Jobs {
			seen = append(seen, j.Number)
		}
		if after = page.Next; after == nil {
			break
		}
	}
	if len(seen) != 4 || seen[0] != uint64(begun.Number) {
		t.Errorf("in pages there are jobs %v", seen)
	}
	h.refusal(h.c.CallJob(wire.JobList, &wire.JobListArgs{Most: 1001}, nil), wire.InvalidArg, record.Invalid, "1000")
	h.refusal(h.c.CallJob(wire.JobList, &wire.JobListArgs{After: new("x")}, nil), wire.InvalidArg, record.Invalid, "cursor")
	h.refusal(h.c.CallJob(wire.JobList, &wire.JobListArgs{Flags: 4}, nil), wire.InvalidArg, "", "unsupported flags")
}

// Who waits for a job keeps nobody waiting, not even on the same connection, and has an
// answer in time.
func TestWaitForAJobIsBesideOtherCalls(t *testing.T) {
	h := newHost(t, nil)
	c := virtrpctest.Open(t, h.main)
	args := &wire.JobNumberArgs{Job: wire.JobRef{By: wire.JobByNumber, Number: 412}}
	const waiting = 500
	for range waiting {
		c.BeginJob(wire.JobWait, args)
	}
	for range waiting {
		<-h.svc.waits
	}
	works(t, c)
	c.Send(ping, nil)
	if p, err := c.Next(); err != nil || p.Program != wire.Keepalive || p.Procedure != wire.Pong {
		t.Errorf("a ping is answered by %+v, %v", p, err)
	}
	short := virtrpctest.Open(t, h.main)
	var j wire.Job
	if err := short.CallJob(wire.JobWait, &wire.JobNumberArgs{Job: args.Job, N: 1}, &j); err != nil || j.State != "running" {
		t.Errorf("after a millisecond it is %+v, %v", j, err)
	}
	close(h.svc.end)
	for range waiting {
		p, err := c.Next()
		if err == nil {
			err = p.Decode(&j)
		}
		if err != nil || p.Program != wire.JobControl || p.Procedure != wire.JobWait || j.State != "succeeded" {
			t.Fatalf("%+v, %v", p, err)
		}
	}
}

// A wait that the daemon does not live to end is answered: the job goes on.
func TestStopAnswersWhoWaitsForAJob(t *testing.T) {
	h := newHost(t, nil)
	c := virtrpctest.Open(t, h.main)
	call := c.BeginJob(wire.JobWait, &wire.JobNumberArgs{Job: wire.JobRef{By: wire.JobByNumber, Number: 412}})
	<-h.svc.waits
	h.stop(t)
	refused(t, c.Answer(call, nil), wire.OperationFailed, "job 412 goes on")
	ends(t, c)
}

// What there is not of the program is refused as libvirt's daemon does, and a client finds
// out beforehand which version there is.
func TestProgramOfJobsIsNegotiated(t *testing.T) {
	h := newHost(t, nil)
	c := virtrpctest.Open(t, h.main)
	var version wire.Int
	if c.Do(wire.ConnectSupportsFeature, new(wire.Int(wire.JobControl)), &version); version != 1 {
		t.Errorf("the version is %d", version)
	}
	for _, procedure := range []wire.Procedure{0, 99, wire.StoragePoolLookupByName, wire.JobEventMessage} {
		refused(t, c.CallJob(procedure, nil, nil), wire.RPCError, "unknown procedure: "+strconv.Itoa(int(procedure)))
	}
	call := c.Header(wire.JobList)
	call.Program, call.Version = wire.JobControl, 2
	c.Send(call, nil)
	refused(t, c.Answer(call, nil), wire.RPCError, "Cannot find program 543846242 version 2")
	refused(t, c.CallJob(wire.JobGetInfo, &wire.JobFlags{Job: wire.JobRef{By: 1}}, nil), wire.OperationFailed, "no job 0")
	refused(t, c.CallJob(wire.JobGetInfo, nil, nil), wire.RPCError, "Unable to decode message payload")
	early := virtrpctest.Dial(t, h.main)
	early.Do(wire.AuthList, nil, nil)
	refused(t, early.CallJob(wire.JobList, &wire.JobListArgs{}, nil), wire.InternalError, "connection not open")
	works(t, c)
}

// A user who is in no group of ours changes jobs of their own, and nothing else.
func TestUsersChangeJobsOfTheirOwnOnly(t *testing.T) {
	h := newHost(t, func(c *virtrpc.Config) { c.Group = new(4711) })
	var c *virtrpctest.Client
	testenv.AsUser(t, nobody, func() { c = virtrpctest.Dial(t, h.main) })
	c.Do(wire.AuthList, nil, nil)
	c.Do(wire.ConnectOpen, &wire.OpenArgs{}, nil)
	roots, own := &wire.JobFlags{Job: byNumber(record.Job{Number: 412})}, &wire.JobFlags{Job: byNumber(record.Job{Number: nobodysJob})}
	for _, procedure := range []wire.Procedure{wire.JobAbort, wire.JobPause, wire.JobResume, wire.JobSetLimit} {
		of := func(a *wire.JobFlags) xdr.Value {
			if procedure == wire.JobSetLimit {
				return &wire.JobNumberArgs{Job: a.Job}
			}
			return a
		}
		if err := c.CallJob(procedure, of(own), nil); err != nil {
			t.Errorf("procedure %d: %v", procedure, err)
		}
		refused(t, c.CallJob(procedure, of(roots), nil), wire.AccessDenied, "job 412 is that of")
	}
	if err := c.CallJob(wire.JobGetInfo, roots, nil); err != nil {
		t.Error(err)
	}
	refused(t, c.Call(wire.StorageVolWipe, &wire.VolFlags{Vol: wire.Vol{Pool: "images", Name: "base.raw"}}, nil), wire.AccessDenied, "")
}
