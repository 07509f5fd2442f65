package rest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// every has one call of each method of the client, by the service's method
// that it must reach; of Start one for each kind of job, by what it does.
var every = map[string]func(context.Context, *client.Client) (any, error){
	"Pools": func(ctx context.Context, c *client.Client) (any, error) { return c.Pools(ctx) },
	"Pool":  func(ctx context.Context, c *client.Client) (any, error) { return c.Pool(ctx, "images") },
	"DefinePool": func(ctx context.Context, c *client.Client) (any, error) {
		p, _, err := c.DefinePool(ctx, contract.Submit{}, contract.PoolDefine{Name: "images"}, false, false)
		return p, err
	},
	"ReplacePool": func(ctx context.Context, c *client.Client) (any, error) {
		return c.ReplacePool(ctx, contract.Submit{}, "images", contract.PoolDefine{Name: "images", UUID: jobID})
	},
	"PatchPool": func(ctx context.Context, c *client.Client) (any, error) {
		return c.PatchPool(ctx, contract.Submit{IfMatch: 7}, "images", contract.PoolPatch{Autostart: ptr(false)})
	},
	"UndefinePool": func(ctx context.Context, c *client.Client) (any, error) {
		return c.UndefinePool(ctx, contract.Submit{}, "images", contract.PoolUndefine{})
	},
	"BuildPool": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "", &operation.PoolBuildRequest{Overwrite: true})
	},
	"StartPool": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{Key: "k"}, "images", "", &operation.PoolStartRequest{JobOptions: operation.JobOptions{Priority: record.Background}})
	},
	"StopPool": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{LockWait: ptr(time.Duration(-1))}, "images", "", &operation.PoolStopRequest{Force: true})
	},
	"RefreshPool": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "", &operation.PoolRefreshRequest{})
	},
	"EvacuatePool": func(ctx context.Context, c *client.Client) (any, error) {
		r := operation.EvacuateRequest{To: "q", Only: "vm*", SkipBusy: true, KeepSource: true, OnError: "stop"}
		return c.Start(ctx, contract.Submit{}, "images", "", &r)
	},
	"VerifyPool": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "", &operation.PoolVerifyRequest{JobOptions: operation.JobOptions{Limit: ptr(int64(9))}})
	},
	"DeletePool": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "", &operation.PoolDeleteRequest{WithVolumes: true})
	},
	"FindSources": func(ctx context.Context, c *client.Client) (any, error) {
		return c.FindSources(ctx, contract.SourcesFind{Type: "netfs", Source: record.Source{Hosts: []string{"h"}}})
	},
	"Secrets": func(ctx context.Context, c *client.Client) (any, error) { return c.Secrets(ctx) },
	"SetSecret": func(ctx context.Context, c *client.Client) (any, error) {
		return c.SetSecret(ctx, contract.Submit{}, "disks", []byte("secret"))
	},
	"DeleteSecret": func(ctx context.Context, c *client.Client) (any, error) {
		return nil, c.DeleteSecret(ctx, contract.Submit{}, "disks")
	},
	"Volumes": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Volumes(ctx, contract.VolumeFilter{Pools: []string{"a", "b"}, States: []string{"ready"}, Paths: []string{"/x y"}})
	},
	"Volume": func(ctx context.Context, c *client.Client) (any, error) { return c.Volume(ctx, "images", "base.raw") },
	"PatchVolume": func(ctx context.Context, c *client.Client) (any, error) {
		return c.PatchVolume(ctx, contract.Submit{}, "images", "base.raw", contract.VolumePatch{Description: ptr("")})
	},
	"CreateVolume": func(ctx context.Context, c *client.Client) (any, error) {
		r := operation.CreateRequest{Name: "v", Capacity: 1 << 40, Allocation: &operation.Allocation{Full: true}}
		return c.Start(ctx, contract.Submit{DryRun: true}, "images", "", &r)
	},
	"CloneVolume": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "base.raw", &operation.CloneRequest{Name: "v", Pool: "q", Reflink: "auto"})
	},
	"ResizeVolume": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{LockWait: ptr(1500 * time.Millisecond)}, "images", "base.raw", &operation.ResizeRequest{Capacity: 5})
	},
	"WipeVolume": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{LockWait: ptr(time.Duration(0))}, "images", "base.raw", &operation.WipeRequest{Algorithm: "zero", Content: true})
	},
	"CheckVolume": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "base.raw", &operation.CheckRequest{Repair: "leaks"})
	},
	"RekeyVolume": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "base.raw", &operation.RekeyRequest{Add: "recovery"})
	},
	"TrimVolume": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "base.raw", &operation.TrimRequest{GiveUpAllocation: true})
	},
	"VerifyVolume": func(ctx context.Context, c *client.Client) (any, error) {
		r := operation.VerifyRequest{Checksum: "sha256:" + strings.Repeat("0a", 32), As: record.AsFile}
		return c.Start(ctx, contract.Submit{}, "images", "base.raw", &r)
	},
	"MoveVolume": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "base.raw", &operation.MoveRequest{Pool: "q", Name: "v"})
	},
	"FlattenVolume": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "base.raw", &operation.FlattenRequest{})
	},
	"RebaseVolume": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "base.raw", &operation.RebaseRequest{Backing: "images/x"})
	},
	"Snapshots": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Snapshots(ctx, "images", "base.raw")
	},
	"Snapshot": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Snapshot(ctx, "images", "base.raw", "s1")
	},
	"CreateSnapshot": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "base.raw", &operation.SnapshotCreateRequest{Name: "s1"})
	},
	"RestoreSnapshot": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "base.raw@s1", &operation.SnapshotRestoreRequest{})
	},
	"DeleteSnapshot": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "base.raw@s1", &operation.SnapshotDeleteRequest{JobOptions: operation.JobOptions{Limit: ptr(int64(9))}})
	},
	"CloneSnapshot": func(ctx context.Context, c *client.Client) (any, error) {
		return c.Start(ctx, contract.Submit{}, "images", "base.raw@s1", &operation.SnapshotCloneRequest{CloneRequest: operation.CloneRequest{Name: "v"}})
	},
	"UploadVolume": func(ctx context.Context, c *client.Client) (any, error) {
		r := operation.UploadRequest{
			Length: ptr(int64(5)), Checksum: "sha256", AsFormat: "raw", As: record.AsRaw, DetectZeros: true, Unpack: "xz", FromFormat: "raw", FromSecret: "old",
			Create: &operation.CreateRequest{Name: "v", Capacity: 7, Format: "raw", ExistOK: true, Allocation: &operation.Allocation{Full: true}, Options: map[string]string{"a": "b=c"}},
		}
		return handing(func(f *os.File) (contract.Started, error) {
			r.Data.File = f
			return c.Start(ctx, contract.Submit{}, "images", "v", &r)
		})
	},
	"DownloadVolume": func(ctx context.Context, c *client.Client) (any, error) {
		return handing(func(f *os.File) (contract.Started, error) {
			r := operation.DownloadRequest{Offset: 3, Length: ptr(int64(5)), Checksum: "crc32c", As: record.AsRaw, Data: operation.Data{File: f}}
			return c.Start(ctx, contract.Submit{}, "images", "base.raw", &r)
		})
	},
	"DeleteVolume": func(ctx context.Context, c *client.Client) (any, error) {
		o := operation.JobOptions{Limit: ptr(int64(9)), Priority: record.Interactive, OnFailure: record.KeepOnFailure, Labels: map[string]string{"a": "b=c"}}
		return c.Start(ctx, contract.Submit{}, "images", "base.raw", &operation.DeleteRequest{Wipe: "zero", AcceptLimits: true, JobOptions: o})
	},
	"Jobs": func(ctx context.Context, c *client.Client) (any, error) {
		f := contract.JobFilter{
			States: []string{"live", "failed"}, Kinds: []string{"volume.clone"}, Pools: []string{"p"}, Volumes: []string{"v"},
			Owners: []string{"alice"}, Labels: []string{"a=b"}, IdempotencyKey: "k", Since: now, Until: now.Add(time.Hour),
		}
		return c.Jobs(ctx, f, contract.Page{Limit: 5, Cursor: "c"})
	},
	"Job":     func(ctx context.Context, c *client.Client) (any, error) { return c.Job(ctx, "412") },
	"WaitJob": func(ctx context.Context, c *client.Client) (any, error) { return c.WaitJob(ctx, "412", 0) },
	"PatchJob": func(ctx context.Context, c *client.Client) (any, error) {
		r := contract.JobPatch{Limit: []byte("null"), Priority: ptr(record.NormalPriority), Pinned: ptr(true), Labels: map[string]*string{"a": nil, "b": ptr("c")}}
		return c.PatchJob(ctx, "412", r)
	},
	"ForgetJob": func(ctx context.Context, c *client.Client) (any, error) { return c.ForgetJob(ctx, "412") },
	"CancelJob": func(ctx context.Context, c *client.Client) (any, error) {
		return c.CancelJob(ctx, "412", contract.JobCancel{Now: true})
	},
	"PauseJob":  func(ctx context.Context, c *client.Client) (any, error) { return c.PauseJob(ctx, "412") },
	"ResumeJob": func(ctx context.Context, c *client.Client) (any, error) { return c.ResumeJob(ctx, "412") },
	"EachJob": func(ctx context.Context, c *client.Client) (any, error) {
		return c.CancelJobs(ctx, contract.Selection{JobFilter: contract.JobFilter{States: []string{"queued"}}, DryRun: true}, contract.JobCancel{})
	},
	"RetryJob": func(ctx context.Context, c *client.Client) (any, error) {
		return c.RetryJob(ctx, contract.Submit{}, "412", contract.JobRetry{Limit: []byte("null")})
	},
	"JobLog": func(ctx context.Context, c *client.Client) (any, error) {
		log, err := c.JobLog(ctx, "412")
		if err != nil {
			return nil, err
		}
		defer log.Close()
		return io.ReadAll(log)
	},
	"Version":      func(ctx context.Context, c *client.Client) (any, error) { return c.Version(ctx) },
	"Status":       func(ctx context.Context, c *client.Client) (any, error) { return c.Status(ctx) },
	"Capabilities": func(ctx context.Context, c *client.Client) (any, error) { return c.Capabilities(ctx) },
	"Limits":       func(ctx context.Context, c *client.Client) (any, error) { return c.Limits(ctx) },
	"PatchLimits": func(ctx context.Context, c *client.Client) (any, error) {
		r := contract.LimitsPatch{
			Running: ptr(8), RunningPool: ptr(1), RunningDevice: ptr(1), Queued: ptr(1), Rate: []byte("null"),
			PoolRates: map[string]*int64{"p": ptr(int64(1)), "q": nil}, PoolRunning: map[string]*int{"p": nil},
			DeviceRates: map[string]*int64{"8:0": nil}, DeviceRunning: map[string]*int{"8:16": ptr(1)},
		}
		return c.PatchLimits(ctx, r)
	},
	"Drain":   func(ctx context.Context, c *client.Client) (any, error) { return c.Drain(ctx, true) },
	"Metrics": func(ctx context.Context, c *client.Client) (any, error) { return c.Metrics(ctx) },
	"Freshen": func(ctx context.Context, c *client.Client) (any, error) { return c.Fresh().Pool(ctx, "images") },
	"Subscribe": func(ctx context.Context, c *client.Client) (any, error) {
		s, err := c.Events(ctx, 0)
		if err != nil {
			return nil, err
		}
		return nil, s.Close()
	},
}

// handing makes a call with an open file.
func handing(call func(*os.File) (contract.Started, error)) (any, error) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return call(f)
}

func TestClientReachesEveryMethodOfTheService(t *testing.T) {
	service := reflect.TypeFor[rest.Service]()
	for i := range service.NumMethod() {
		name := service.Method(i).Name
		if name == "FailJob" {
			continue // the server calls it, for a client that is silent (TestSilenceOfAClientHasItsBound)
		}
		if name == "Start" {
			for _, k := range operation.Kinds() {
				if every[deed(k)] == nil {
					t.Errorf("no call of the client is tried for jobs of kind %s", k)
				}
			}
			continue
		}
		if every[name] == nil {
			t.Errorf("no call of the client is tried for %s", name)
		}
	}
	for _, full := range []bool{false, true} {
		h := newHost(t, nil)
		h.svc.full = full
		c := h.client(t, h.main)
		for name, call := range every {
			if _, err := call(t.Context(), c); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if calls, _ := h.svc.took(); len(calls) == 0 || calls[0] != name {
				t.Errorf("client's %s reached %v", name, calls)
			}
		}
	}
}

// What a request says arrives at the service as it was said.
func TestRequestsArriveUnchanged(t *testing.T) {
	h := newHost(t, nil)
	c := h.client(t, h.main)
	const pool, volume = "a b%2F?#", "ü+&=;\"'.raw"
	s := contract.Submit{Key: "key-1", LockWait: ptr(90 * time.Second), DryRun: true, IfMatch: 17}
	r := operation.CloneRequest{Name: "c", Pool: "p2", Format: "raw", Size: 1<<63 - 1, Reflink: "never", Sparse: true, ExistOK: true}
	r.JobOptions = operation.JobOptions{Limit: ptr(int64(1)), Priority: record.Background, OnFailure: record.KeepOnFailure, Labels: map[string]string{"k": "v"}}
	st, err := c.Start(t.Context(), s, pool, volume, &r)
	if err != nil || st.Plan == nil || st.Job != nil {
		t.Fatalf("CloneVolume: %+v, %v", st, err)
	}
	_, got := h.svc.took()
	if len(got.submit.Digest) != 64 {
		t.Errorf("digest is %q", got.submit.Digest)
	}
	got.submit.Digest, got.submit.Caller = "", record.Caller{}
	if !reflect.DeepEqual(got.submit, s) || !reflect.DeepEqual(got.request, r) || !slices.Equal(got.names, []string{pool, volume}) {
		t.Errorf("arrived: %+v", got)
	}
}

func TestQueriesArriveUnchanged(t *testing.T) {
	h := newHost(t, nil)
	c := h.client(t, h.main)
	o := operation.JobOptions{Limit: ptr(int64(9)), Priority: record.Interactive, OnFailure: record.KeepOnFailure, Labels: map[string]string{"a": "b=c", "d": ""}}
	want := operation.DeleteRequest{Wipe: "zero", AcceptLimits: true, Missing: operation.Missing{MissingOK: true}, JobOptions: o}
	if _, err := c.Start(t.Context(), contract.Submit{}, "p", "v", &want); err != nil {
		t.Fatal(err)
	}
	if _, got := h.svc.took(); !reflect.DeepEqual(got.request, want) {
		t.Errorf("arrived: %+v, want %+v", got.request, want)
	}
	f := contract.VolumeFilter{Pools: []string{"a", "b"}, Paths: []string{"/x y"}, Keys: []string{"k&"}, Formats: []string{"raw"}, States: []string{"ready"}}
	if _, err := c.Volumes(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if _, got := h.svc.took(); !reflect.DeepEqual(got.request, f) {
		t.Errorf("arrived: %+v, want %+v", got.request, f)
	}
}

// That there is nothing to do arrives with what there is, whatever was asked for.
func TestNothingToDoArrives(t *testing.T) {
	h := newHost(t, nil)
	c := h.client(t, h.main)
	missing := operation.Missing{MissingOK: true}
	create := &operation.CreateRequest{Name: "v", Capacity: 1, ExistOK: true}
	start := func(volume string, r operation.Request) func() (contract.Started, error) {
		return func() (contract.Started, error) { return c.Start(t.Context(), contract.Submit{}, "images", volume, r) }
	}
	define := func(start bool) func() (contract.Started, error) {
		return func() (contract.Started, error) {
			_, st, err := c.DefinePool(t.Context(), contract.Submit{}, contract.PoolDefine{Name: "images", ExistOK: true}, false, start)
			return st, err
		}
	}
	pool, volume := contract.Unchanged{Pool: ptr(h.svc.pool())}, contract.Unchanged{Volume: ptr(h.svc.vol())}
	for what, a := range map[string]struct {
		ask func() (contract.Started, error)
		is  contract.Unchanged
	}{
		"create": {start("", create), volume}, "clone": {start("base.raw", &operation.CloneRequest{Name: "v", ExistOK: true}), volume},
		"delete": {start("v", &operation.DeleteRequest{Missing: missing}), contract.Unchanged{}}, "stop": {start("", &operation.PoolStopRequest{Missing: missing}), contract.Unchanged{}},
		"delete a pool": {start("", &operation.PoolDeleteRequest{Missing: missing}), contract.Unchanged{}}, "define": {define(false), pool}, "define and start": {define(true), pool},
		"stream": {func() (contract.Started, error) {
			tr, err := c.Upload(t.Context(), contract.Submit{}, client.StreamUpload{Pool: "images", Volume: "v", UploadRequest: operation.UploadRequest{Create: create}, Body: strings.NewReader("x")})
			if err != nil {
				return contract.Started{}, err
			}
			return contract.Started{Unchanged: tr.Unchanged}, tr.Wait()
		}, volume},
	} {
		h.svc.set(func(f *fake) { f.same = &a.is })
		st, err := a.ask()
		if err != nil || st.Unchanged == nil || st.Job != nil || (st.Unchanged.Pool == nil) != (a.is.Pool == nil) || (st.Unchanged.Volume == nil) != (a.is.Volume == nil) {
			t.Errorf("%s: %+v, %v", what, st, err)
		}
	}
	if changed, err := c.UndefinePool(t.Context(), contract.Submit{}, "images", contract.PoolUndefine{Missing: missing}); changed || err != nil {
		t.Errorf("undefine: %t, %v", changed, err)
	}
	if _, got := h.svc.took(); !reflect.DeepEqual(got.request, contract.PoolUndefine{Missing: missing}) {
		t.Errorf("arrived: %+v", got.request)
	}
}

func TestProblemArrivesAsTheErrorItWas(t *testing.T) {
	h := newHost(t, nil)
	c := h.client(t, h.main)
	h.svc.full = true
	for _, code := range record.Codes() {
		want := &record.Error{
			Code: code, Message: "images/base.raw is busy: read by job 410", Hint: record.Hintf("wait for %s", record.Do("job.wait", 410)),
			Holders: h.svc.job(record.Running).WaitingOn, Path: "/p", Offset: ptr(int64(3)),
		}
		h.svc.set(func(f *fake) { f.err = want })
		_, err := c.Pool(t.Context(), "images")
		var got *record.Error
		if !errors.As(err, &got) || !reflect.DeepEqual(got, want) {
			t.Errorf("%s arrived as %+v", code, err)
		}
	}
}

func TestErrorThatIsNoRefusalIsInternal(t *testing.T) {
	h := newHost(t, nil)
	h.svc.err = fmt.Errorf("no words for it")
	_, err := h.client(t, h.main).Pool(t.Context(), "images")
	if record.CodeOf(err) != record.Internal {
		t.Fatalf("got %v", err)
	}
	if n := len(h.log.with("[ERROR]", "no words for it")); n != 1 {
		t.Fatalf("logged %d times", n)
	}
}

func TestCanceledContextIsItsOwnError(t *testing.T) {
	h := newHost(t, nil)
	c := h.client(t, h.main)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.WaitJob(ctx, "412", time.Hour)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestNotPermittedToConnectIsDenied(t *testing.T) {
	testenv.Root(t) // to be another user
	h := newHost(t, nil)
	if err := os.Chmod(h.main, 0o600); err != nil {
		t.Fatal(err)
	}
	c := client.Dial(h.main)
	defer c.Close()
	testenv.AsUser(t, nobody, func() {
		_, err := net.Dial("unix", h.main)
		if !errors.Is(err, syscall.EACCES) {
			t.Fatalf("the premise fails: %v", err)
		}
	})
	c.Wrap(asUserTransport(t, h.main, nobody))
	_, err := c.Pools(t.Context())
	if record.CodeOf(err) != record.Denied || !strings.Contains(err.Error(), h.main) {
		t.Fatalf("got %v", err)
	}
}

// 100 clients at once, each over connections of its own.
func TestManyClientsAtOnce(t *testing.T) {
	h := newHost(t, nil)
	var done sync.WaitGroup
	for i := range 100 {
		done.Go(func() {
			c := client.Dial([]string{h.main, h.ro}[i%2])
			defer c.Close()
			for range 10 {
				if _, err := c.Pools(t.Context()); err != nil {
					t.Error(err)
				}
				_, err := c.Start(t.Context(), contract.Submit{}, "images", "", &operation.CreateRequest{Name: "v", Capacity: 1})
				if want := []record.Code{"", record.Denied}[i%2]; record.CodeOf(err) != want {
					t.Errorf("CreateVolume: %v, want code %q", err, want)
				}
			}
		})
	}
	done.Wait()
}
