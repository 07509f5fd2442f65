package virtrpc_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"storaged/internal/events"
	"storaged/internal/operation"
	"storaged/internal/peer"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc"
	"storaged/internal/virtrpc/virtrpctest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		virtrpctest.RemoveHelper()
		os.Exit(code)
	}))
}

// fake is a service that knows some pools and volumes. Its jobs run until they are
// ended by the test.
type fake struct {
	mu       sync.Mutex
	pools    []record.Pool
	volumes  []record.Volume
	panics   bool          // Pools panics
	end      chan struct{} // closed: jobs end
	waits    chan struct{} // gets one when a job is waited for, unless it is nil
	canceled chan record.Caller
	hub      *events.Hub
	owner    record.Owner // of the last job that was started
}

// hubSize is how many events are remembered.
const hubSize = 16

func newFake() *fake {
	f := &fake{end: make(chan struct{}), waits: make(chan struct{}, 4096), canceled: make(chan record.Caller, 1), hub: events.New(hubSize)}
	for i, name := range []string{"images", "backup"} {
		p := record.Pool{Name: name, UUID: uuid.NewSHA1(uuid.Nil, []byte(name)).String(), Type: "dir", State: record.PoolActive, Persistent: true, Autostart: i == 0,
			Target: record.Target{Path: "/srv/" + name}, Capacity: 1 << 40, Allocation: 1 << 30, Available: 1<<40 - 1<<30}
		if name == "backup" {
			p.State = record.PoolInactive
		}
		f.pools = append(f.pools, p)
	}
	for _, name := range []string{"base.raw", "disk.qcow2"} {
		path := "/srv/images/" + name
		f.volumes = append(f.volumes, record.Volume{Pool: "images", Name: name, Key: path, Path: path, Type: "file", Format: "raw", Capacity: 1 << 30, Allocation: 1 << 20, State: record.VolumeReady})
	}
	return f
}

func (f *fake) Pools(context.Context) ([]record.Pool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.panics {
		panic("as it was asked")
	}
	return slices.Clone(f.pools), nil
}

func (f *fake) Pool(_ context.Context, pool string) (record.Pool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.pools, func(p record.Pool) bool { return p.Name == pool || p.UUID == pool })
	if i < 0 {
		return record.Pool{}, record.Errorf(record.NotFound, "no pool %q", pool)
	}
	return f.pools[i], nil
}

func (f *fake) Volumes(_ context.Context, v contract.VolumeFilter) ([]record.Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	among := func(values []string, s string) bool { return len(values) == 0 || slices.Contains(values, s) }
	out := []record.Volume{}
	for _, one := range f.volumes {
		if among(v.Pools, one.Pool) && among(v.Keys, one.Key) && among(v.Paths, one.Path) {
			out = append(out, one)
		}
	}
	return out, nil
}

func (f *fake) Volume(_ context.Context, pool, volume string) (record.Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.volumes, func(v record.Volume) bool { return v.Pool == pool && v.Name == volume })
	if i < 0 {
		return record.Volume{}, record.Errorf(record.NotFound, "no volume %q", volume)
	}
	return f.volumes[i], nil
}

func (f *fake) Start(_ context.Context, s contract.Submit, _, _ string, r operation.Request) (contract.Started, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owner = s.Caller.Owner
	return contract.Started{Job: &record.Job{ID: uuid.NewString(), Number: 412, Kind: operation.KindOf(r), State: record.Queued, Owner: s.Caller.Owner}}, nil
}

// started gives the owner of the last job.
func (f *fake) started() record.Owner {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.owner
}

func (f *fake) WaitJob(ctx context.Context, job string, timeout time.Duration) (record.Job, error) {
	if f.waits != nil {
		f.waits <- struct{}{}
	}
	j := record.Job{ID: job, Number: 412, State: record.Running}
	over := time.NewTimer(timeout)
	defer over.Stop()
	select {
	case <-f.end:
		j.State = record.Succeeded
		return j, nil
	case <-over.C:
		return j, nil
	case <-ctx.Done():
		return record.Job{}, ctx.Err()
	}
}

func (f *fake) CancelJob(_ context.Context, c record.Caller, job string, _ contract.JobCancel) (record.Job, error) {
	f.canceled <- c
	return record.Job{ID: job, Number: 412, State: record.Canceling}, nil
}

// nobody is a uid without rights.
const nobody = 65534

// nobodysJob is a job of a user without rights. Others are root's.
const nobodysJob = 413

// Job knows every job by its uuid, and two by their numbers.
func (f *fake) Job(_ context.Context, job string) (record.Job, error) {
	j := record.Job{ID: job, Number: 412, State: record.Running}
	if uuid.Validate(job) != nil {
		j.ID = uuid.NewSHA1(uuid.Nil, []byte(job)).String()
	}
	switch n, err := strconv.ParseInt(job, 10, 64); {
	case err == nil && n == nobodysJob:
		j.Number, j.Owner.UID = n, nobody
	case err == nil && n != j.Number:
		return j, record.Errorf(record.NotFound, "no job %d", n)
	}
	return j, nil
}

func (f *fake) Jobs(context.Context, contract.JobFilter, contract.Page) (contract.List[record.Job], error) {
	return contract.List[record.Job]{}, nil
}

func (f *fake) PatchJob(ctx context.Context, _ record.Caller, job string, _ contract.JobPatch) (record.Job, error) {
	return f.Job(ctx, job)
}

func (f *fake) PauseJob(ctx context.Context, _ record.Caller, job string) (record.Job, error) {
	return f.Job(ctx, job)
}

func (f *fake) ResumeJob(ctx context.Context, _ record.Caller, job string) (record.Job, error) {
	return f.Job(ctx, job)
}

func (f *fake) FailJob(context.Context, string, *record.Error) error { return nil }

func (f *fake) Capabilities() []record.Capabilities {
	return []record.Capabilities{{Type: "dir", Formats: []string{"raw"}}}
}

func (f *fake) FindSources(_ context.Context, _ record.Caller, r contract.SourcesFind) ([]record.Source, error) {
	return []record.Source{{Hosts: r.Source.Hosts, Path: "/e", Format: "nfs"}}, nil
}

func (f *fake) DefinePool(context.Context, contract.Submit, contract.PoolDefine, bool, bool) (record.Pool, contract.Started, error) {
	return f.pools[0], contract.Started{}, nil
}

func (f *fake) VolumeNow(ctx context.Context, pool, volume string) (record.Volume, error) {
	return f.Volume(ctx, pool, volume)
}

func (f *fake) VolumeSizes(ctx context.Context, pool, volume string) (record.Volume, error) {
	return f.Volume(ctx, pool, volume)
}

func (f *fake) ReplacePool(context.Context, contract.Submit, string, contract.PoolDefine) (record.Pool, error) {
	return f.pools[0], nil
}

func (f *fake) PatchPool(context.Context, contract.Submit, string, contract.PoolPatch) (record.Pool, error) {
	return f.pools[0], nil
}

func (f *fake) UndefinePool(context.Context, contract.Submit, string, contract.PoolUndefine) (bool, error) {
	return true, nil
}

func (f *fake) Subscribe(ctx context.Context, after int64) (<-chan record.Event, error) {
	return f.hub.Subscribe(ctx, after), nil
}

var _ virtrpc.Service = (*fake)(nil)

// host is a server on two real sockets, in front of a fake.
type host struct {
	svc      *fake
	srv      *virtrpc.Server
	main, ro string // sockets
	served   sync.WaitGroup
}

func newHost(t testing.TB, change func(*virtrpc.Config)) *host {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // other users come too
		t.Fatal(err)
	}
	h := &host{svc: newFake(), main: filepath.Join(dir, "s"), ro: filepath.Join(dir, "r")}
	c := virtrpc.Config{Log: hclog.NewNullLogger(), URI: "storage:///system", Connections: new(peer.Connections)}
	if change != nil {
		change(&c)
	}
	h.srv = virtrpc.NewServer(h.svc, c)
	for path, readOnly := range map[string]bool{h.main: false, h.ro: true} {
		l, err := net.Listen("unix", path)
		if err == nil {
			err = os.Chmod(path, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
		h.served.Go(func() {
			if err := h.srv.Serve(l, readOnly); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(func() { h.stop(t) })
	return h
}

func (h *host) stop(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.srv.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	h.served.Wait()
	h.svc.hub.Close()
}

func (h *host) uri() string { return virtrpctest.URI(h.main) }
