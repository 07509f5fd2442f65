package rest_test

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"storaged/internal/events"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest"
	"storaged/internal/rest/apitest"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const jobID = "0199a0b4-3c5d-7e6f-8a9b-0c1d2e3f4a5b"

// fake is a service that knows one pool, one volume and one job, answers
// everything with them, and remembers what it was asked.
type fake struct {
	mu        sync.Mutex
	calls     []string
	last      asked
	err       error         // answer of every call
	panics    any           // what every call panics with
	running   chan struct{} // WaitJob: until it is closed the job runs
	waits     chan struct{} // gets one when a WaitJob begins to wait
	ended     chan struct{} // gets one when a subscription ends
	log       io.Reader
	hub       *events.Hub
	owner     int                 // uid of the job's; 0 is 1000
	freshened []string            // by the last Freshen
	full      bool                // answer with every field set
	same      *contract.Unchanged // answer that there is nothing to do
}

// asked is what a call was given.
type asked struct {
	caller  record.Caller
	submit  contract.Submit
	names   []string
	request any
}

func (f *fake) enter(call string, a asked) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.last = append(f.calls, call), a
	if f.panics != nil {
		panic(f.panics)
	}
	return f.err
}

// took gives the calls since it was last asked, and what the last was given.
func (f *fake) took() ([]string, asked) {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls, f.last
}

func (f *fake) set(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

var now = time.Date(2026, 1, 31, 9, 12, 0, 123456789, time.UTC)

func ptr[T any](v T) *T { return &v }

func (f *fake) pool() record.Pool {
	p := record.Pool{Name: "images", UUID: jobID, Type: "dir", State: record.PoolActive, Since: now, Generation: 7}
	if f.full {
		p.Target.Path, p.Observed = "/srv/images", &now
		p.Devices = []string{"8:0"}
		p.Source = record.Source{Devices: []string{"/dev/sdb"}, Name: "n", Hosts: []string{"h"}, Path: "/p", Format: "ext4", Initiator: "i", Options: map[string]string{"o": "v"}}
	}
	return p
}

func (f *fake) vol() record.Volume {
	v := record.Volume{Pool: "images", Name: "base.raw", State: record.VolumeReady, Origin: record.Made, Generation: 3, Observed: now}
	if f.full {
		v.Children, v.Job, v.CreatedBy = []string{"images/x"}, ptr(int64(4)), ptr(int64(2))
	}
	return v
}

func (f *fake) job(state record.State) record.Job {
	j := record.Job{
		ID: jobID, Number: 412, Kind: record.VolumeClone, Class: record.Async, State: state, Created: now,
		Owner: record.Owner{UID: cmp.Or(f.owner, 1000), User: "alice", Via: "rest"}, Priority: record.NormalPriority,
		OnFailure: record.RollbackOnFailure, Rollback: record.RollbackNone,
	}
	if f.full {
		f.fill(&j)
	}
	return j
}

func (f *fake) fill(j *record.Job) {
	blocker := record.Blocker{
		For: "lock", Device: "8:0", Object: &record.Object{Pool: "images", Volume: "base.raw", Mode: "R"}, Mode: "W", Position: 2, Since: now,
		Holder:      &record.Holder{Number: 410, ID: jobID, Kind: record.VolumeWipe, Mode: "W", Owner: &j.Owner, External: "qemu pid 812"},
		ExpectedEnd: &now, NextWindow: &now,
	}
	failure := &record.Error{Code: record.IO, Message: "m", Hint: record.Hintf("h, or %s", record.Do("job.cancel", 1).With("now")), Holders: []record.Blocker{blocker}, Path: "/p", Offset: ptr(int64(0))}
	j.Objects = []record.Object{{Pool: "images", Mode: "M"}, {Pool: "images", Volume: "base.raw", Mode: "R"}}
	j.Phase = &record.Phase{Index: 1, Count: 3, Name: "copy"}
	j.Progress = record.Progress{Unit: "bytes", Done: 5, Total: 10, Percent: ptr(34.2), RateBytes: 9, Bounded: true}
	j.Estimate = record.Estimate{RemainingS: ptr(2.5), End: &now, EndEarly: &now, EndLate: &now, StalledSince: &now}
	j.Started, j.Ended, j.Limit, j.RetryOf = &now, &now, ptr(int64(1<<20)), ptr(int64(400))
	j.AnsweredBy = ptr(int64(401))
	j.RetryFrom = &record.Resumable{Done: 3, Total: 10}
	j.Resumed, j.Resumable = 2, &record.Resumable{Done: 5, Total: 10}
	j.WaitingOn, j.Interruptible, j.PauseReasons = []record.Blocker{blocker}, []record.Mode{"Q"}, []string{"user"}
	j.CanceledBy, j.Helper = &j.Owner, &record.Helper{PID: 4, Argv: []string{"storage-helper"}, Version: "1", Confinement: &record.Confinement{Level: "partial", Landlock: 2, Seccomp: true, Capabilities: []string{"chown"}, Anywhere: true, Lacks: []string{"l"}}}
	j.Changes = []record.Change{
		{Time: now, What: record.ChangeLimit, Limit: ptr(int64(5)), By: j.Owner}, {Time: now, What: record.ChangePause, Reason: record.PauseAdmin, By: j.Owner},
		{Time: now, What: record.ChangePriority, Priority: record.NormalPriority, By: j.Owner},
	}
	j.Labels, j.Warnings, j.Error = map[string]string{"a": "b"}, []string{"w"}, failure
	j.Result = &record.Result{
		Pool: "p", Volume: "v", Key: "k", Path: "/p", Capacity: 1, Allocation: 1, Format: "qcow2", From: "raw", Method: "copy", Algorithm: "zero", Passes: 1,
		Bytes: 1, Verified: ptr(true), Limits: []string{"l"}, Device: "8:0", Checksum: "sha256:0",
		Items: []record.Item{{Volume: "v", State: "failed", Checksum: "c", Error: failure}},
	}
	j.Stats = &record.Stats{BytesRead: new(int64(1)), Phases: []record.PhaseStats{{Name: "copy", Seconds: 1.5}}, CPUS: new(0.5), MaxRSSBytes: new(int64(1))}
}

func (f *fake) started(s contract.Submit) contract.Started {
	if f.same != nil {
		return contract.Started{Unchanged: f.same}
	}
	if s.DryRun {
		return contract.Started{Plan: &contract.Plan{Kind: record.VolumeClone, Class: record.Async}}
	}
	return contract.Started{Job: ptr(f.job(record.Queued))}
}

func (f *fake) begin(call string, s contract.Submit, r any, names ...string) (contract.Started, error) {
	if err := f.enter(call, asked{s.Caller, s, names, r}); err != nil {
		return contract.Started{}, err
	}
	return f.started(s), nil
}

func (f *fake) Pools(context.Context) ([]record.Pool, error) {
	return []record.Pool{f.pool()}, f.enter("Pools", asked{})
}

func (f *fake) Pool(_ context.Context, pool string) (record.Pool, error) {
	return f.pool(), f.enter("Pool", asked{names: []string{pool}})
}

func (f *fake) DefinePool(_ context.Context, s contract.Submit, r contract.PoolDefine, build, start bool) (record.Pool, contract.Started, error) {
	err := f.enter("DefinePool", asked{s.Caller, s, nil, r})
	if err != nil || !build && !start && f.same == nil {
		return f.pool(), contract.Started{}, err
	}
	return f.pool(), f.started(s), nil
}

func (f *fake) ReplacePool(_ context.Context, s contract.Submit, pool string, r contract.PoolDefine) (record.Pool, error) {
	return f.pool(), f.enter("ReplacePool", asked{s.Caller, s, []string{pool}, r})
}

func (f *fake) PatchPool(_ context.Context, s contract.Submit, pool string, r contract.PoolPatch) (record.Pool, error) {
	return f.pool(), f.enter("PatchPool", asked{s.Caller, s, []string{pool}, r})
}

func (f *fake) UndefinePool(_ context.Context, s contract.Submit, pool string, r contract.PoolUndefine) (bool, error) {
	return !r.MissingOK, f.enter("UndefinePool", asked{s.Caller, s, []string{pool}, r})
}

func (f *fake) Volumes(_ context.Context, v contract.VolumeFilter) ([]record.Volume, error) {
	return []record.Volume{f.vol()}, f.enter("Volumes", asked{request: v})
}

func (f *fake) Volume(_ context.Context, pool, volume string) (record.Volume, error) {
	return f.vol(), f.enter("Volume", asked{names: []string{pool, volume}})
}

func (f *fake) snap() record.Snapshot {
	s := record.Snapshot{Pool: "images", Volume: "base.raw", Name: "s1", Path: "/i/.base.raw@s1.storaged", Format: "raw"}
	if f.full {
		s.Capacity, s.Allocation, s.Created, s.CreatedBy, s.Children = 1, 1, &now, ptr(int64(7)), []string{"images/x"}
	}
	return s
}

func (f *fake) Snapshots(_ context.Context, pool, volume string) ([]record.Snapshot, error) {
	return []record.Snapshot{f.snap()}, f.enter("Snapshots", asked{names: []string{pool, volume}})
}

func (f *fake) Snapshot(_ context.Context, pool, volume, name string) (record.Snapshot, error) {
	return f.snap(), f.enter("Snapshot", asked{names: []string{pool, volume, name}})
}

func (f *fake) PatchVolume(_ context.Context, s contract.Submit, pool, volume string, r contract.VolumePatch) (record.Volume, error) {
	return f.vol(), f.enter("PatchVolume", asked{s.Caller, s, []string{pool, volume}, r})
}

// deed names what a job of a kind does: CloneVolume of volume.clone.
func deed(k record.Kind) string {
	about, verb, _ := strings.Cut(string(k), ".")
	return strings.ToUpper(verb[:1]) + verb[1:] + strings.ToUpper(about[:1]) + about[1:]
}

// Start is entered by what the job does, with the names that it is asked for.
func (f *fake) Start(_ context.Context, s contract.Submit, pool, volume string, r operation.Request) (contract.Started, error) {
	names := []string{pool}
	if volume != "" {
		names = append(names, volume)
	}
	does := deed(operation.KindOf(r))
	switch r := r.(type) { // the data are those of this connection
	case *operation.UploadRequest:
		r.Data, does = operation.Data{}, "UploadVolume" // also into a new one
	case *operation.DownloadRequest:
		r.Data = operation.Data{}
	}
	return f.begin(does, s, reflect.ValueOf(r).Elem().Interface(), names...)
}

func (f *fake) Jobs(_ context.Context, j contract.JobFilter, p contract.Page) (contract.List[record.Job], error) {
	l := contract.List[record.Job]{Items: []record.Job{f.job(record.Running)}, Next: ptr("more")}
	return l, f.enter("Jobs", asked{request: struct {
		contract.JobFilter
		contract.Page
	}{j, p}})
}

func (f *fake) Job(_ context.Context, job string) (record.Job, error) {
	return f.job(record.Running), f.enter("Job", asked{names: []string{job}})
}

func (f *fake) WaitJob(ctx context.Context, job string, timeout time.Duration) (record.Job, error) {
	if err := f.enter("WaitJob", asked{names: []string{job}, request: timeout}); err != nil {
		return record.Job{}, err
	}
	over := time.NewTimer(timeout)
	defer over.Stop()
	f.waits <- struct{}{}
	select {
	case <-f.running:
		return f.job(record.Succeeded), nil
	case <-over.C:
		return f.job(record.Running), nil
	case <-ctx.Done():
		return record.Job{}, ctx.Err()
	}
}

func (f *fake) PatchJob(_ context.Context, c record.Caller, job string, r contract.JobPatch) (record.Job, error) {
	return f.job(record.Running), f.enter("PatchJob", asked{caller: c, names: []string{job}, request: r})
}

func (f *fake) ForgetJob(_ context.Context, c record.Caller, job string) (*record.Job, error) {
	err := f.enter("ForgetJob", asked{caller: c, names: []string{job}})
	if !f.full {
		return nil, err
	}
	return ptr(f.job(record.Succeeded)), err
}

func (f *fake) CancelJob(_ context.Context, c record.Caller, job string, r contract.JobCancel) (record.Job, error) {
	return f.job(record.Canceling), f.enter("CancelJob", asked{caller: c, names: []string{job}, request: r})
}

func (f *fake) FailJob(_ context.Context, job string, _ *record.Error) error {
	return f.enter("FailJob", asked{names: []string{job}})
}

func (f *fake) PauseJob(_ context.Context, c record.Caller, job string) (record.Job, error) {
	return f.job(record.Paused), f.enter("PauseJob", asked{caller: c, names: []string{job}})
}

func (f *fake) ResumeJob(_ context.Context, c record.Caller, job string) (record.Job, error) {
	return f.job(record.Running), f.enter("ResumeJob", asked{caller: c, names: []string{job}})
}

func (f *fake) EachJob(ctx context.Context, sel contract.Selection, do func(context.Context, string) error) (contract.Bulk, error) {
	if err := f.enter("EachJob", asked{request: sel}); err != nil || sel.DryRun {
		return contract.Bulk{Selected: 1, Refusals: []contract.Refusal{}}, err
	}
	return contract.Bulk{Selected: 1, Done: 1, Refusals: []contract.Refusal{}}, do(ctx, "412")
}

func (f *fake) RetryJob(_ context.Context, s contract.Submit, job string, r contract.JobRetry) (contract.Started, error) {
	return f.begin("RetryJob", s, r, job)
}

func (f *fake) JobLog(_ context.Context, job string) (io.ReadCloser, error) {
	if err := f.enter("JobLog", asked{names: []string{job}}); err != nil {
		return nil, err
	}
	return io.NopCloser(f.log), nil
}

func (f *fake) Version() contract.Version {
	_ = f.enter("Version", asked{})
	return contract.Version{Version: "0.1", API: "v1", Go: "go1.26"}
}

func (f *fake) Status(context.Context) (contract.Status, error) {
	confinement := contract.ConfinementStatus{Host: record.Confinement{Level: record.ConfinedFully, Landlock: 7, Seccomp: true}, Minimum: record.NotConfined}
	return contract.Status{Version: "0.1", PID: 1, Started: now, State: "ready", Confinement: confinement}, f.enter("Status", asked{})
}

func (f *fake) Capabilities() []record.Capabilities {
	_ = f.enter("Capabilities", asked{})
	return []record.Capabilities{{Type: "dir", Formats: []string{"raw"}}}
}

func (f *fake) FindSources(_ context.Context, c record.Caller, r contract.SourcesFind) ([]record.Source, error) {
	return []record.Source{{Hosts: []string{"h"}, Path: "/e", Format: "nfs"}}, f.enter("FindSources", asked{caller: c, request: r})
}

func (f *fake) Limits(context.Context) (record.Limits, error) {
	return record.Limits{Running: 4, Rate: ptr(int64(5))}, f.enter("Limits", asked{})
}

func (f *fake) PatchLimits(_ context.Context, r contract.LimitsPatch) (record.Limits, error) {
	return record.Limits{Running: 4}, f.enter("PatchLimits", asked{request: r})
}

func (f *fake) Drain(_ context.Context, c record.Caller, on bool) (record.Drain, error) {
	return record.Drain{On: on, Since: &now, By: &c.Owner, Running: []int64{412}}, f.enter("Drain", asked{caller: c, request: on})
}

func (f *fake) Secrets(context.Context) ([]record.Secret, error) {
	return []record.Secret{{Name: "disks", Set: now, UsedBy: []string{"images/base.raw"}, Uses: 1}}, f.enter("Secrets", asked{})
}

func (f *fake) SetSecret(_ context.Context, s contract.Submit, name string, value []byte) (record.Secret, error) {
	return record.Secret{Name: name, Set: now}, f.enter("SetSecret", asked{s.Caller, s, []string{name}, string(value)})
}

func (f *fake) DeleteSecret(_ context.Context, s contract.Submit, name string) error {
	return f.enter("DeleteSecret", asked{caller: s.Caller, submit: s, names: []string{name}})
}

func (f *fake) Metrics() ([]byte, error) {
	return []byte("storaged_jobs 1\n"), f.enter("Metrics", asked{})
}

func (f *fake) Freshen(_ context.Context, pools ...string) error {
	f.set(func(f *fake) { f.freshened = pools })
	return f.enter("Freshen", asked{names: pools})
}

func (f *fake) Subscribe(ctx context.Context, after int64) (<-chan record.Event, error) {
	if err := f.enter("Subscribe", asked{request: after}); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { f.ended <- struct{}{} })
	return f.hub.Subscribe(ctx, after), nil
}

var _ rest.Service = (*fake)(nil)

// host is a server on two real sockets, in front of a fake.
type host struct {
	svc      *fake
	srv      *rest.Server
	main, ro string // sockets
	check    *apitest.Checker
	log      *lines
	served   sync.WaitGroup
}

// newHost starts a server that the test's end shuts down. prepare may be nil.
func newHost(t *testing.T, prepare func(*rest.Server)) *host {
	t.Helper()
	f := newFake()
	return hostOf(t, f, f, prepare)
}

func newFake() *fake {
	return &fake{
		running: make(chan struct{}), waits: make(chan struct{}, 100), ended: make(chan struct{}, 100),
		hub: events.New(64), log: strings.NewReader("a line\n"),
	}
}

// hostOf starts a server for svc, which is f or something around it.
func hostOf(t *testing.T, svc rest.Service, f *fake, prepare func(*rest.Server)) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "api") // a short path, which other users may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h := &host{
		svc: f, main: filepath.Join(dir, "main.sock"), ro: filepath.Join(dir, "ro.sock"),
		check: apitest.New(t), log: &lines{},
	}
	log := hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: h.log})
	h.srv = rest.NewServer(svc, rest.ServerConfig{Log: log, Socket: h.main})
	if prepare != nil {
		prepare(h.srv)
	}
	for path, readOnly := range map[string]bool{h.main: false, h.ro: true} {
		h.serve(t, path, readOnly)
	}
	t.Cleanup(h.stop)
	return h
}

func (h *host) serve(t *testing.T, path string, readOnly bool) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	h.served.Go(func() {
		if err := h.srv.Serve(l, readOnly); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// stop shuts the server down; connections of clients that are still there
// after a while are broken.
func (h *host) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = h.srv.Shutdown(ctx) // a test that means it asks itself
	h.served.Wait()
	h.svc.hub.Close()
}

// client gives a client whose traffic is checked.
func (h *host) client(t *testing.T, socket string) *client.Client {
	t.Helper()
	c := client.Dial(socket)
	c.Wrap(h.check.Transport)
	t.Cleanup(c.Close)
	return c
}

// transport connects to a socket for requests that no client of ours makes.
func (h *host) transport(t *testing.T, socket string) http.RoundTripper {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return h.check.Transport(tr)
}

// request makes a request of raw parts; target is what stands in the request
// line, not cleaned.
func request(t *testing.T, method, target, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, "http://storaged/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Opaque = target
	if path, query, ok := strings.Cut(target, "?"); ok {
		r.URL.Opaque, r.URL.RawQuery = path, query
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	} else {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	return r
}

// lines is a log that a test reads while others write.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// with gives the lines that contain all words.
func (l *lines) with(words ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for line := range strings.SplitSeq(l.buf.String(), "\n") {
		if containsAll(line, words) {
			out = append(out, line)
		}
	}
	return out
}

func containsAll(s string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(s, w) {
			return false
		}
	}
	return true
}
