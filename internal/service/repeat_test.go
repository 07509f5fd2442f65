package service_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service"
	"storaged/internal/service/contract"
	"storaged/internal/store"
)

// newPool gives a front end with a pool "p" in use, and a volume "found" of 4 MiB in it.
func newPool(t *testing.T) *frontEnd {
	t.Helper()
	f := newFrontEnd(t)
	f.ask("Begin")
	t.Cleanup(func() {
		f.svc.CloseEvents()
		if err := f.svc.Stop(context.Background()); err != nil { // that of the test is over
			t.Error(err)
		}
	})
	f.do("DefinePool", f.definition("p"), true, true)
	if err := os.WriteFile(f.path("p", "found"), bytes.Repeat([]byte("content "), 4*mib/8), 0o600); err != nil {
		t.Fatal(err)
	}
	f.do("Start", "p", "", &operation.PoolRefreshRequest{})
	return f
}

func (f *frontEnd) definition(pool string) contract.PoolDefine {
	return contract.PoolDefine{Name: pool, Target: record.Target{Path: f.path(pool)}}
}

// unchanged asks for what there is nothing to do for.
func (f *frontEnd) unchanged(method string, args ...any) contract.Unchanged {
	f.t.Helper()
	out := f.ask(method, args...)
	st := out[len(out)-1].Interface().(contract.Started)
	if st.Unchanged == nil || st.Job != nil || st.Plan != nil || st.Unchanged.Changed {
		f.t.Fatalf("%s %v started %+v", method, args, st)
	}
	return *st.Unchanged
}

// refused asks for what is refused with a code, and says so.
func (f *frontEnd) refused(want record.Code, says, method string, args ...any) {
	f.t.Helper()
	if _, err := f.try(method, args...); record.CodeOf(err) != want || !strings.Contains(err.Error(), says) {
		f.t.Errorf("%s %v: %v", method, args, err)
	}
}

// What is so already needs no job, where the request says that it will do.
func TestWhatIsSoAlreadyNeedsNoJob(t *testing.T) {
	f := newPool(t)
	gone := operation.Missing{MissingOK: true}
	for _, r := range []operation.Request{
		&operation.CreateRequest{Name: "found", Capacity: 4 * mib, ExistOK: true},
		&operation.UploadRequest{Create: &operation.CreateRequest{Name: "found", ExistOK: true}, Length: new(int64(4 * mib))},
	} {
		if u := f.unchanged("Start", "p", "", r); u.Volume == nil || u.Volume.Name != "found" || u.Volume.Children == nil {
			t.Errorf("the volume is %+v", u.Volume)
		}
	}
	f.do("Start", "p", "found", &operation.CloneRequest{Name: "c", ExistOK: true})
	f.unchanged("Start", "p", "found", &operation.CloneRequest{Name: "c", ExistOK: true})
	f.refused(record.Exists, "exists and differs: it is ready, raw with 4.00 MiB, not 5.00 MiB", "Start", "p", "found", &operation.CloneRequest{Name: "c", Size: 5 * mib, ExistOK: true})
	f.refused(record.Exists, "raw with 4.00 MiB, not qcow2", "Start", "p", "", &operation.UploadRequest{Create: &operation.CreateRequest{Name: "c", Format: "qcow2", ExistOK: true}})
	f.refused(record.Exists, "exists already", "Start", "p", "found", &operation.CloneRequest{Name: "c"})

	f.unchanged("Start", "p", "none", &operation.DeleteRequest{Missing: gone})
	f.unchanged("Start", "none", "", &operation.PoolStopRequest{Missing: gone})
	f.unchanged("Start", "none", "", &operation.PoolDeleteRequest{Missing: gone})
	f.refused(record.NotFound, "none", "Start", "p", "none", &operation.DeleteRequest{})
	if changed := get[bool](f, "UndefinePool", "none", contract.PoolUndefine{Missing: gone}); changed {
		t.Error("a pool that is not there was undefined")
	}
	f.refused(record.NotFound, "none", "UndefinePool", "none", contract.PoolUndefine{})

	same, other := f.definition("p"), f.definition("p")
	same.ExistOK, other.ExistOK, other.Target.Path = true, true, f.path("other")
	if u := f.unchanged("DefinePool", same, false, true); u.Pool == nil || u.Pool.State != record.PoolActive {
		t.Errorf("the pool is %+v", u.Pool)
	}
	f.unchanged("DefinePool", same, false, false)
	f.refused(record.Exists, "exists and differs: it is dir at ", "DefinePool", other, false, false)
	f.do("Start", "p", "", &operation.PoolStopRequest{})
	f.unchanged("DefinePool", same, false, false)
	f.refused(record.Exists, `pool "p" exists and is inactive`, "DefinePool", same, false, true)
}

// Of a pool that is not there, and of a file that the catalog does not know, nobody says
// that nothing is to be done.
func TestNothingIsGoneThatCannotBeLookedAt(t *testing.T) {
	f := newPool(t)
	gone := operation.Missing{MissingOK: true}
	if err := os.WriteFile(f.path("p", "unknown"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.refused(record.NotFound, "unknown", "Start", "p", "unknown", &operation.DeleteRequest{Missing: gone})
	if err := os.Rename(f.path("p"), f.path("away")); err != nil {
		t.Fatal(err)
	}
	f.refused(record.WrongState, "is not there", "Start", "p", "none", &operation.DeleteRequest{Missing: gone})
	f.refused(record.WrongState, "is not there", "Start", "p", "", &operation.CreateRequest{Name: "found", Capacity: 4 * mib, ExistOK: true})
}

// What another job is about to bring about is waited for by a job, which looks then.
func TestWhatIsInTheMakingIsWaitedFor(t *testing.T) {
	f := newPool(t)
	slow := func(name string) record.Job {
		r := &operation.CloneRequest{Name: name, Reflink: "never", JobOptions: operation.JobOptions{Limit: new(int64(4096))}}
		j := f.begin("Start", "p", "found", r)
		f.until(j, record.Running)
		return j
	}
	again := func(name string, capacity int64) record.Job {
		return f.begin("Start", "p", "", &operation.CreateRequest{Name: name, Capacity: capacity, Allocation: new(operation.Allocation), ExistOK: true})
	}
	first := slow("v")
	same, differs := again("v", 4*mib), again("v", mib)
	f.ask("PatchJob", first.ID, contract.JobPatch{Limit: []byte("null")})
	f.end(first, record.Succeeded)
	if j := f.end(same, record.Succeeded); !j.Result.Unchanged || j.Result.Volume != "v" || j.Result.Capacity != 4*mib {
		t.Errorf("the result is %+v", j.Result)
	}
	if j := f.end(differs, record.Failed); j.Code() != record.Exists || !strings.Contains(j.Error.Message, "raw with 4.00 MiB, not 1.00 MiB") {
		t.Errorf("failed with %v", j.Error)
	}
	first = slow("w")
	same = again("w", mib)
	f.ask("CancelJob", first.ID, contract.JobCancel{})
	f.end(first, record.Canceled)
	if j := f.end(same, record.Succeeded); j.Result.Unchanged {
		t.Errorf("the result is %+v", j.Result)
	}
	reader := f.begin("Start", "p", "v", &operation.CloneRequest{Name: "x", Reflink: "never", JobOptions: operation.JobOptions{Limit: new(int64(4096))}})
	f.until(reader, record.Running)
	deletion := f.begin("Start", "p", "v", &operation.DeleteRequest{})
	late := f.begin("Start", "p", "v", &operation.DeleteRequest{Missing: operation.Missing{MissingOK: true}})
	refused := f.begin("Start", "p", "v", &operation.DeleteRequest{})
	f.ask("CancelJob", reader.ID, contract.JobCancel{})
	if j := f.end(deletion, record.Succeeded); j.Result.Unchanged {
		t.Errorf("the result is %+v", j.Result)
	}
	if j := f.end(late, record.Succeeded); !j.Result.Unchanged {
		t.Errorf("the result is %+v", j.Result)
	}
	if j := f.end(refused, record.Failed); j.Code() != record.NotFound {
		t.Errorf("failed with %v", j.Error)
	}
}

// A volume whose file others have removed is gone.
func TestWhatOthersRemovedIsGone(t *testing.T) {
	f := newPool(t)
	if err := os.Remove(f.path("p", "found")); err != nil {
		t.Fatal(err)
	}
	j := f.do("Start", "p", "found", &operation.DeleteRequest{Missing: operation.Missing{MissingOK: true}})
	if !j.Result.Unchanged {
		t.Errorf("the result is %+v", j.Result)
	}
	f.refused(record.NotFound, "found", "Volume", "p", "found")
}

// A volume is looked at in its pool as that is now, though who asked knew it elsewhere.
func TestVolumesAreLookedAtWhereTheirPoolIsNow(t *testing.T) {
	f := newPool(t)
	if err := os.Truncate(f.path("p", "found"), 2*mib); err != nil {
		t.Fatal(err)
	}
	before := store.Pool{Pool: get[record.Pool](f, "Pool", "p")}
	before.Target.Path = f.path("elsewhere")
	if err := service.LookAt(f.svc, &before, "found"); err != nil {
		t.Fatal(err)
	}
	if all := get[[]record.Volume](f, "Volumes", contract.VolumeFilter{Pools: []string{"p"}}); len(all) != 1 || all[0].Capacity != 2*mib {
		t.Errorf("the catalog has %+v", all)
	}
}
