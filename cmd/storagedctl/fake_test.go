package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/events"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest"
	"storaged/internal/service/contract"
)

// fake is a daemon's service without storage. Its jobs end at once, unless
// they are held: then the test ends them, or cancels do.
type fake struct {
	hub *events.Hub

	mu       sync.Mutex
	pools    map[string]record.Pool
	volumes  map[string]record.Volume // by POOL/NAME
	jobs     []record.Job
	keys     map[string]int // index of a job by idempotency key
	submits  []contract.Submit
	requests []any
	held     bool                     // jobs run until somebody ends them
	stubborn bool                     // and cancel only asks
	well     bool                     // the daemon has nothing to warn of
	refuse   map[string]*record.Error // by object
	fate     func(*record.Job)        // what becomes of a job that is not held
	created  chan record.Job          // gets each new job
	answer   chan struct{}            // when not nil, starts wait for it
	asked    chan struct{}            // gets one for each start, before that
	changed  chan struct{}            // gets one for each cancel asked
	reply    chan struct{}            // when not nil, cancels and pauses wait for it
	nextLog  map[int64]string         // logs by number

	patched   contract.LimitsPatch // the last
	drain     record.Drain
	freshened []string // pools, since the start
}

// day lies in the past, so that its times are shown with their date.
var day = time.Date(2025, 11, 21, 9, 12, 0, 0, time.UTC)

func newFake() *fake {
	f := &fake{
		hub: events.New(1000), pools: map[string]record.Pool{}, volumes: map[string]record.Volume{}, keys: map[string]int{},
		refuse: map[string]*record.Error{}, created: make(chan record.Job, 100), changed: make(chan struct{}, 100), asked: make(chan struct{}, 100), nextLog: map[int64]string{},
	}
	for _, name := range []string{"images", "isos"} {
		f.pools[name] = record.Pool{
			Name: name, UUID: "0199a0b4-3c5d-7e6f-8a9b-0c1d2e3f4a5b", Type: "dir", State: record.PoolActive, Since: day, Persistent: true, Autostart: true,
			Target: record.Target{Path: "/srv/" + name}, Capacity: 100 << 30, Allocation: 40 << 30, Available: 60 << 30, Observed: &day,
		}
	}
	f.addVolume("images", "base.raw", 10<<30)
	f.addVolume("images", "vm1.raw", 5<<30)
	f.addVolume("isos", "evil\u202egpj.iso", 700<<20)
	return f
}

func (f *fake) addVolume(pool, name string, capacity int64) {
	f.volumes[pool+"/"+name] = record.Volume{
		Pool: pool, Name: name, Key: "/srv/" + pool + "/" + name, Path: "/srv/" + pool + "/" + name, Type: "file", Format: "raw",
		Capacity: capacity, Allocation: capacity / 2, Children: []string{}, State: record.VolumeReady, Generation: 3, Origin: record.Found, Observed: day,
	}
}

// locked gives f to a test for a moment.
func (f *fake) locked(do func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do(f)
}

// start makes a job of a request, or gives the one of its key.
func (f *fake) start(s contract.Submit, r any, kind record.Kind, objects ...record.Object) (contract.Started, error) {
	f.mu.Lock()
	answer := f.answer
	f.mu.Unlock()
	f.asked <- struct{}{}
	if answer != nil {
		<-answer
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.submits, f.requests = append(f.submits, s), append(f.requests, r)
	for _, o := range objects {
		if e := f.refuse[o.String()]; e != nil {
			return contract.Started{}, e
		}
	}
	if s.DryRun {
		estimate := 12.5
		return contract.Started{Plan: &contract.Plan{
			Kind: kind, Class: record.Async, Objects: objects, Argv: []string{"clone", "--source", "/srv/o'clock disks/a"}, Bytes: 2 << 30, EstimateS: &estimate,
			Destroys: slices.Contains([]record.Kind{record.VolumeWipe, record.VolumeDelete, record.PoolDelete, record.PoolEvacuate}, kind),
		}}, nil
	}
	if i, ok := f.keys[s.Key]; ok {
		return contract.Started{Job: ptr(f.jobs[i])}, nil
	}
	n := int64(len(f.jobs) + 410)
	j := record.Job{
		ID: fmt.Sprintf("0199a0b4-3c5d-7e6f-8a9b-%012d", n), Number: n, Kind: kind, Class: record.Async, State: record.Queued,
		Objects: objects, Progress: record.Progress{Unit: "bytes", Bounded: true}, Created: day, Cancelable: true, Owner: record.Owner{
			UID: 1000, User: "alice", LoginUser: "alice", PID: 4711, Command: "storagedctl", Via: "rest"}, Priority: record.NormalPriority,
	}
	f.keys[s.Key] = len(f.jobs)
	f.jobs = append(f.jobs, j)
	f.hub.Publish(record.Event{Type: "job.created", Job: &j})
	answered := j
	if f.held {
		f.change(n, running(34.2))
	} else {
		f.change(n, f.ends())
	}
	f.created <- j
	return contract.Started{Job: &answered}, nil
}

func (f *fake) ends() func(*record.Job) {
	if f.fate != nil {
		return f.fate
	}
	return succeeded
}

func ptr[T any](v T) *T { return &v }

func running(percent float64) func(*record.Job) {
	return func(j *record.Job) {
		j.State, j.Started, j.ElapsedS = record.Running, &day, 1.4
		j.Phase = &record.Phase{Index: 1, Count: 3, Name: "copy"}
		j.Progress = record.Progress{Unit: "bytes", Done: 734003200, Total: 2 << 30, Percent: &percent, RateBytes: 512000000, Bounded: true}
		j.Estimate.RemainingS = ptr(2.8)
		j.Helper = &record.Helper{PID: 4712, Argv: []string{"storage-helper", "clone", "--source", "/srv/my images/base.raw"}, Confinement: &record.Confinement{Level: record.ConfinedFully, Landlock: 7, Seccomp: true, Capabilities: []string{"chown", "fowner"}}}
	}
}

func succeeded(j *record.Job) {
	ended := day.Add(4 * time.Second)
	j.State, j.Ended, j.ElapsedS = record.Succeeded, &ended, 4
	j.Progress.Percent, j.Progress.RateBytes, j.Estimate = ptr(100.0), 0, record.Estimate{}
	j.Result = &record.Result{Pool: "images", Method: "copy", Bytes: 2 << 30}
	if j.Kind == record.VolumeVerify {
		j.Result = &record.Result{Pool: "images", Volume: j.Objects[0].Volume, Bytes: 2 << 30, Checksum: "sha256:" + strings.Repeat("0a", 32)}
	}
	if j.Kind == record.PoolVerify {
		j.Result = &record.Result{Pool: "images", Bytes: 2 << 30, Items: []record.Item{
			{Volume: "base.raw", State: "succeeded", Checksum: "sha256:" + strings.Repeat("0b", 32)},
			{Volume: "gone.raw", State: "skipped", Error: record.Errorf(record.NotFound, "cannot verify %q: not found", "/srv/images/gone.raw")},
		}}
	}
	j.Stats = &record.Stats{BytesRead: new(int64(2 << 30)), BytesWritten: new(int64(2 << 30)), BytesHoles: new(int64(0)), CPUS: new(0.5), MaxRSSBytes: new(int64(12 << 20)), Phases: []record.PhaseStats{{Name: "copy", Seconds: 3.5}}}
}

func failed(code record.Code) func(*record.Job) {
	return func(j *record.Job) {
		succeeded(j)
		j.State, j.Result, j.Rollback = record.Failed, nil, record.RollbackDone
		j.Error = record.Errorf(code, "write to %q: it went wrong", "/srv/images/x")
	}
}

func canceledByAlice(j *record.Job) {
	succeeded(j)
	j.State, j.Result, j.Rollback = record.Canceled, nil, record.RollbackDone
	j.CanceledBy = &record.Owner{UID: 1000, User: "alice"}
}

// change changes a job and tells it. The caller holds mu.
func (f *fake) change(number int64, to func(*record.Job)) {
	j := f.jobs[number-410]
	if j.State.Terminal() {
		return
	}
	to(&j)
	f.jobs[number-410] = j
	kind := "job.state"
	if j.State.Terminal() {
		kind = "job.ended"
	}
	f.hub.Publish(record.Event{Type: kind, Job: &j})
}

// end ends a job that is held.
func (f *fake) end(number int64, how func(*record.Job)) {
	f.locked(func(f *fake) { f.change(number, how) })
}

func (f *fake) find(id string) (*record.Job, error) {
	i := slices.IndexFunc(f.jobs, func(j record.Job) bool { return j.ID == id || fmt.Sprint(j.Number) == id })
	if i < 0 {
		return nil, record.Errorf(record.NotFound, "there is no job %s", id)
	}
	return &f.jobs[i], nil
}

func (f *fake) Pools(context.Context) ([]record.Pool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []record.Pool{f.pools["images"], f.pools["isos"]}, nil
}

func (f *fake) Pool(_ context.Context, pool string) (record.Pool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.pools {
		if p.Name == pool || p.UUID == pool {
			return p, nil
		}
	}
	return record.Pool{}, record.Errorf(record.NotFound, "there is no pool %q", pool)
}

func (f *fake) DefinePool(_ context.Context, s contract.Submit, r contract.PoolDefine, build, start bool) (record.Pool, contract.Started, error) {
	if p, err := f.Pool(context.Background(), r.Name); err == nil {
		switch {
		case r.ExistOK && p.Target != r.Target:
			return p, contract.Started{}, record.Errorf(record.Exists, "pool %q exists and differs: it is %s at %s", p.Name, p.Type, p.Target.Path)
		case r.ExistOK:
			return p, contract.Started{Unchanged: &contract.Unchanged{Pool: &p}}, nil
		}
		return p, contract.Started{}, record.Errorf(record.Exists, "pool %q exists already", r.Name)
	}
	p := record.Pool{Name: r.Name, Type: r.Type, Target: r.Target, Source: r.Source, State: record.PoolInactive}
	if !build && !start {
		f.locked(func(f *fake) { f.requests = append(f.requests, r) })
		return p, contract.Started{}, nil
	}
	started, err := f.start(s, r, record.PoolStart, record.Object{Pool: r.Name, Mode: record.ModeDelete})
	return p, started, err
}

func (f *fake) ReplacePool(ctx context.Context, s contract.Submit, pool string, r contract.PoolDefine) (record.Pool, error) {
	p, err := f.Pool(ctx, pool)
	switch {
	case err != nil:
		return p, err
	case s.IfMatch != p.Generation:
		return p, record.Errorf(record.Changed, "pool %q was changed", pool)
	case r.Target.Path == "/refused":
		return p, record.Errorf(record.Invalid, "nobody may have %q", r.Target.Path)
	}
	p.Target, p.Autostart = r.Target, *r.Autostart
	f.locked(func(f *fake) { f.pools[pool] = p })
	return p, nil
}

func (f *fake) PatchPool(ctx context.Context, _ contract.Submit, pool string, r contract.PoolPatch) (record.Pool, error) {
	p, err := f.Pool(ctx, pool)
	if err == nil {
		p.Autostart = *r.Autostart
		f.locked(func(f *fake) { f.pools[pool] = p })
	}
	return p, err
}

func (f *fake) UndefinePool(ctx context.Context, _ contract.Submit, pool string, r contract.PoolUndefine) (bool, error) {
	_, err := f.Pool(ctx, pool)
	f.locked(func(f *fake) { delete(f.pools, pool) })
	if err != nil && r.MissingOK {
		return false, nil
	}
	return err == nil, err
}

func (f *fake) Volumes(_ context.Context, filter contract.VolumeFilter) ([]record.Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []record.Volume
	for _, v := range f.volumes {
		if (len(filter.Pools) == 0 || slices.Contains(filter.Pools, v.Pool)) && (len(filter.States) == 0 || slices.Contains(filter.States, string(v.State))) && (len(filter.Paths) == 0 || slices.Contains(filter.Paths, v.Path)) {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b record.Volume) int { return strings.Compare(a.Pool+"/"+a.Name, b.Pool+"/"+b.Name) })
	return out, nil
}

func (f *fake) Snapshots(_ context.Context, pool, volume string) ([]record.Snapshot, error) {
	v, err := f.Volume(context.Background(), pool, volume)
	var all []record.Snapshot
	for _, name := range v.Snapshots {
		all = append(all, record.Snapshot{
			Pool: pool, Volume: volume, Name: name, Path: "/i/." + volume + "@" + name + ".storaged", Format: v.Format,
			Capacity: v.Capacity, Allocation: v.Allocation, Created: &v.Observed, CreatedBy: v.CreatedBy,
		})
	}
	return all, err
}

func (f *fake) Snapshot(_ context.Context, pool, volume, name string) (record.Snapshot, error) {
	return record.Snapshot{}, record.Errorf(record.NotFound, "there is no snapshot %q of %s/%s", name, pool, volume)
}

func (f *fake) Volume(_ context.Context, pool, volume string) (record.Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.volumes[pool+"/"+volume]
	if !ok {
		return v, record.Errorf(record.NotFound, "there is no volume %q in pool %q", volume, pool)
	}
	return v, nil
}

func (f *fake) PatchVolume(context.Context, contract.Submit, string, string, contract.VolumePatch) (record.Volume, error) {
	return record.Volume{}, record.Errorf(record.Unsupported, "not faked")
}

// Start starts a job on a pool or volume that there is; what is to be made must not
// be there.
func (f *fake) Start(ctx context.Context, s contract.Submit, pool, volume string, r operation.Request) (contract.Started, error) {
	switch r := r.(type) {
	case *operation.UploadRequest:
		r.Data = operation.Data{}
	case *operation.DownloadRequest:
		r.Data = operation.Data{}
	}
	objects := []record.Object{{Pool: pool, Volume: volume, Mode: modes(operation.KindOf(r))}}
	if m, ok := r.(operation.Maker); ok {
		if name, ok := m.NewName(); ok {
			objects[0].Volume, objects[0].Mode = name, record.ModeWrite
			return f.make(ctx, s, objects, r)
		}
	}
	_, err := f.Pool(ctx, pool)
	if err == nil && volume != "" {
		_, err = f.Volume(ctx, pool, volume)
	}
	if m, ok := r.(operation.Remover); ok && err != nil && m.MayBeGone() {
		return contract.Started{Unchanged: &contract.Unchanged{}}, nil
	}
	if err != nil {
		return contract.Started{}, err
	}
	if to, ok := r.(operation.Sender); ok && volume != "" {
		at := record.Object{Pool: pool, Mode: record.ModeWrite}
		at.Pool, at.Volume = to.Goes()
		return f.make(ctx, s, append(objects, at), r)
	}
	return f.start(s, reflect.ValueOf(r).Elem().Interface(), operation.KindOf(r), objects...)
}

// modes is how a job of a kind holds what it is on.
func modes(k record.Kind) record.Mode {
	switch k {
	case record.VolumeClone, record.VolumeVerify, record.VolumeDownload:
		return record.ModeRead
	case record.VolumeMove, record.VolumeDelete:
		return record.ModeDelete
	}
	if strings.HasPrefix(string(k), "pool.") {
		return record.ModeMeta
	}
	return record.ModeWrite
}

// make starts a job that makes the last of the objects.
func (f *fake) make(ctx context.Context, s contract.Submit, objects []record.Object, r operation.Request) (contract.Started, error) {
	last := objects[len(objects)-1]
	if v, err := f.Volume(ctx, last.Pool, last.Volume); err == nil {
		source, _ := f.Volume(ctx, objects[0].Pool, objects[0].Volume)
		o, err := r.Plan(operation.Known{Can: record.Capabilities{Formats: record.Formats}, Volume: source})
		if m, ok := o.(operation.Repeatable); ok && m.Tolerates() == record.Exists {
			_, err = m.Done(operation.Known{Volume: v})
			return contract.Started{Unchanged: &contract.Unchanged{Volume: &v}}, err
		}
		if err != nil {
			return contract.Started{}, err
		}
		return contract.Started{}, record.Errorf(record.Exists, "%s/%s exists already", last.Pool, last.Volume)
	}
	return f.start(s, reflect.ValueOf(r).Elem().Interface(), operation.KindOf(r), objects...)
}

func (f *fake) Jobs(_ context.Context, filter contract.JobFilter, _ contract.Page) (contract.List[record.Job], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, filter)
	l := contract.List[record.Job]{Items: []record.Job{}}
	for _, j := range slices.Backward(f.jobs) {
		if filtered(filter, j) {
			l.Items = append(l.Items, j)
		}
	}
	return l, nil
}

// filtered is what the daemon makes of a filter, as far as tests ask.
func filtered(f contract.JobFilter, j record.Job) bool {
	group := "live"
	if j.State.Terminal() {
		group = "ended"
	}
	return (len(f.States) == 0 || slices.Contains(f.States, group) || slices.Contains(f.States, string(j.State))) &&
		(len(f.Kinds) == 0 || slices.Contains(f.Kinds, string(j.Kind))) &&
		(len(f.Volumes) == 0 || slices.ContainsFunc(j.Objects, func(o record.Object) bool {
			return slices.Contains(f.Volumes, o.Volume) || slices.Contains(f.Volumes, o.String())
		})) &&
		(len(f.Owners) == 0 || slices.Contains(f.Owners, j.Owner.User)) &&
		(len(f.Labels) == 0 || slices.ContainsFunc(f.Labels, func(l string) bool {
			k, v, _ := strings.Cut(l, "=")
			return j.Labels[k] == v
		})) &&
		(len(f.Pools) == 0 || slices.ContainsFunc(j.Objects, func(o record.Object) bool { return slices.Contains(f.Pools, o.Pool) }))
}

func (f *fake) Job(_ context.Context, job string) (record.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.find(job)
	if err != nil {
		return record.Job{}, err
	}
	return *j, nil
}

func (f *fake) WaitJob(ctx context.Context, job string, _ time.Duration) (record.Job, error) {
	return f.Job(ctx, job)
}

// set changes a job as a call of a client.
func (f *fake) set(job string, to func(*record.Job)) (record.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.find(job)
	if err != nil {
		return record.Job{}, err
	}
	f.change(j.Number, to)
	return *j, nil
}

func (f *fake) PatchJob(_ context.Context, _ record.Caller, job string, r contract.JobPatch) (record.Job, error) {
	f.locked(func(f *fake) { f.requests = append(f.requests, r) })
	return f.set(job, func(j *record.Job) {
		if r.Pinned != nil {
			j.Pinned = *r.Pinned
		}
		if r.Priority != nil {
			j.Priority = *r.Priority
		}
		if r.Limit != nil {
			j.Limit = nil
			if err := json.Unmarshal(r.Limit, &j.Limit); err != nil {
				panic(err)
			}
		}
	})
}

func (f *fake) ForgetJob(_ context.Context, _ record.Caller, job string) (*record.Job, error) {
	j, err := f.Job(context.Background(), job)
	switch {
	case err != nil:
		return nil, err
	case !j.State.Terminal():
		return nil, record.Errorf(record.WrongState, "job %d is %s; only ended jobs can be forgotten", j.Number, j.State)
	case j.Kind == record.VolumeDelete:
		return &j, nil
	}
	return nil, nil
}

func (f *fake) CancelJob(_ context.Context, _ record.Caller, job string, r contract.JobCancel) (record.Job, error) {
	f.locked(func(f *fake) { f.requests = append(f.requests, r) })
	f.hesitate()
	j, err := f.Job(context.Background(), job)
	if err == nil && j.State.Terminal() {
		return j, record.Errorf(record.WrongState, "job %d has ended: %s", j.Number, j.State)
	}
	j, err = f.set(job, func(j *record.Job) { j.State = record.Canceling })
	f.changed <- struct{}{}
	if err == nil && !f.stubborn {
		return f.set(job, canceledByAlice)
	}
	return j, err
}

// hesitate waits until the test lets a change be answered.
func (f *fake) hesitate() {
	f.mu.Lock()
	reply := f.reply
	f.mu.Unlock()
	if reply != nil {
		<-reply
	}
}

func (f *fake) FailJob(_ context.Context, job string, why *record.Error) error {
	_, err := f.set(job, failed(why.Code))
	return err
}

func (f *fake) PauseJob(_ context.Context, _ record.Caller, job string) (record.Job, error) {
	f.hesitate()
	return f.set(job, func(j *record.Job) { j.State, j.PauseReasons = record.Paused, []string{"user"} })
}

func (f *fake) ResumeJob(_ context.Context, _ record.Caller, job string) (record.Job, error) {
	return f.set(job, func(j *record.Job) { j.State, j.PauseReasons = record.Running, nil })
}

func (f *fake) EachJob(ctx context.Context, sel contract.Selection, do func(context.Context, string) error) (contract.Bulk, error) {
	l, err := f.Jobs(ctx, sel.JobFilter, contract.Page{})
	b := contract.Bulk{Selected: len(l.Items), Refusals: []contract.Refusal{}}
	if sel.DryRun {
		return b, err
	}
	for _, j := range l.Items {
		if do(ctx, j.ID) == nil {
			b.Done++
		}
	}
	b.Refused = b.Selected - b.Done
	return b, err
}

func (f *fake) RetryJob(_ context.Context, s contract.Submit, job string, r contract.JobRetry) (contract.Started, error) {
	j, err := f.Job(context.Background(), job)
	if err != nil {
		return contract.Started{}, err
	}
	return f.start(s, r, j.Kind, j.Objects...)
}

func (f *fake) JobLog(_ context.Context, job string) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.find(job)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(strings.NewReader(f.nextLog[j.Number])), nil
}

func (f *fake) Version() contract.Version {
	return contract.Version{Version: "1.0.0", API: "v1", Go: "go1.26.8"}
}

func (f *fake) Status(context.Context) (contract.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := contract.Status{
		Drain:   f.drained(),
		Version: "1.0.0", PID: 99, Started: day, UptimeS: 4340, Socket: "/run/x.sock", State: "ready",
		Jobs: map[string]int{"running": 2}, Pools: map[string]int{"active": 2}, Recovered: []int64{7, 8},
		Limits: record.Limits{Running: 64, RunningPool: 16, RunningDevice: 4, Queued: 10000, Rate: new(int64(100 << 20)), PoolRunning: map[string]int{"images": 2}},
		Helpers: []contract.HelperStatus{
			{Job: 7, Kind: record.VolumeClone, PID: 4711, Version: "1.0.0", Confined: record.ConfinedFully},
			{Job: 8, Kind: record.VolumeWipe, PID: 4712, Version: "0.9.0", Foreign: true, Stuck: "process 4712 in state D (nfs_wait)"},
		},
		Confinement: contract.ConfinementStatus{Host: record.Confinement{Level: record.ConfinedPartly, Landlock: 2, Seccomp: true, Capabilities: []string{}, Lacks: []string{"files can be cut"}}, Minimum: record.NotConfined},
		Warnings:    []string{"low on space"}, Paths: map[string]string{"state": "/var/lib/storaged"},
	}
	if f.well {
		st.Warnings, st.Helpers = []string{}, []contract.HelperStatus{}
	}
	return st, nil
}

func (f *fake) Capabilities() []record.Capabilities {
	return []record.Capabilities{{
		Type: "dir", PoolVerbs: []string{"build", "start"}, VolVerbs: []string{"create"}, Formats: []string{"raw"},
		Algorithms: []string{"zero"}, Sparse: true, Needs: []string{"target_path"}, Takes: []string{"source_options"},
	}}
}

func (f *fake) FindSources(_ context.Context, _ record.Caller, r contract.SourcesFind) ([]record.Source, error) {
	if r.Type != "netfs" {
		return nil, record.Errorf(record.Unsupported, "sources of pools of type %s are not looked for", r.Type)
	}
	return []record.Source{{Hosts: r.Source.Hosts, Path: "/srv/images", Format: "nfs"}, {Hosts: r.Source.Hosts, Path: "/srv/more", Format: "nfs"}}, nil
}

func (f *fake) Limits(context.Context) (record.Limits, error) {
	return record.Limits{Running: 8, RunningPool: 4, RunningDevice: 4, Queued: 1000, PoolRates: map[string]int64{"images": 100 << 20}}, nil
}

func (f *fake) Secrets(context.Context) ([]record.Secret, error) {
	return []record.Secret{{Name: "disks", Set: day, Uses: 1, UsedBy: []string{"images/vm1.luks"}}, {Name: "old", Set: day, UsedBy: []string{}}}, nil
}

func (f *fake) SetSecret(_ context.Context, _ contract.Submit, name string, value []byte) (record.Secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, string(value))
	return record.Secret{Name: name, Set: day}, nil
}

func (f *fake) DeleteSecret(_ context.Context, _ contract.Submit, name string) error {
	if name == "none" {
		return record.Errorf(record.NotFound, "there is no secret %q", name)
	}
	return nil
}

func (f *fake) Drain(_ context.Context, c record.Caller, on bool) (record.Drain, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drain = record.Drain{On: on}
	if on {
		f.drain.Since, f.drain.By = &day, &record.Owner{User: "alice"}
	}
	return f.drained(), nil
}

// drained names the jobs that are not over.
func (f *fake) drained() record.Drain {
	d := f.drain
	for _, j := range f.jobs {
		if !j.State.Terminal() {
			d.Running = append(d.Running, j.Number)
		}
	}
	return d
}

func (f *fake) PatchLimits(ctx context.Context, r contract.LimitsPatch) (record.Limits, error) {
	l, err := f.Limits(ctx)
	for pool, rate := range r.PoolRates {
		delete(l.PoolRates, pool)
		if rate != nil {
			l.PoolRates[pool] = *rate
		}
	}
	if r.Running != nil {
		l.Running = *r.Running
	}
	if r.Rate != nil {
		l.Rate, err = contract.Rate("rate", r.Rate)
	}
	f.locked(func(f *fake) { f.patched = r })
	return l, err
}

func (f *fake) Metrics() ([]byte, error) { return nil, nil }

func (f *fake) Freshen(_ context.Context, pools ...string) error {
	f.locked(func(f *fake) { f.freshened = append(f.freshened, pools...) })
	return nil
}

func (f *fake) Subscribe(ctx context.Context, after int64) (<-chan record.Event, error) {
	return f.hub.Subscribe(ctx, after), nil
}

var _ rest.Service = (*fake)(nil)

// daemon serves a fake on a socket; it can be stopped and started again.
type daemon struct {
	*fake
	t      testing.TB
	socket string
	server *rest.Server
	served sync.WaitGroup
}

func newDaemon(t testing.TB) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{fake: newFake(), t: t, socket: filepath.Join(dir, "s")}
	d.serve()
	t.Cleanup(func() {
		d.stop()
		d.hub.Close()
		_ = os.RemoveAll(dir)
	})
	return d
}

func (d *daemon) serve() {
	d.t.Helper()
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		d.t.Fatal(err)
	}
	d.server = rest.NewServer(d.fake, rest.ServerConfig{Log: hclog.NewNullLogger(), Socket: d.socket})
	server := d.server
	d.served.Go(func() { _ = server.Serve(l, false) })
}

// stop breaks all connections.
func (d *daemon) stop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = d.server.Shutdown(ctx)
	d.served.Wait()
}

// run runs a command line in this process.
func (d *daemon) run(line string) (out, errs string, code int) {
	return d.runTool(quiet(), line)
}

func (d *daemon) runTool(t *tool, line string) (out, errs string, code int) {
	d.t.Helper()
	var o, e bytes.Buffer
	t.out, t.errs, t.patience = &o, &e, max(t.patience, 10*time.Second)
	args := append([]string{"storagedctl", "--socket", d.socket}, strings.Fields(line)...)
	code = t.program().Main(args)
	return o.String(), e.String(), code
}
