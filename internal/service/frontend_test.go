package service_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service"
	"storaged/internal/service/contract"
	"storaged/internal/store"
	"storaged/internal/testenv"
	"storaged/internal/transfer"
)

// patience bounds every wait: far more than anything here takes on a slow machine.
const patience = 3 * time.Minute

const mib = 1 << 20

// frontEnd is a front end that speaks no protocol: it calls the service in this
// process. Behind that are a real supervisor, real helpers and a real directory.
type frontEnd struct {
	t      *testing.T
	svc    *service.Service
	caller record.Caller
	dir    string
	called map[string]bool      // methods of the service
	done   map[record.Kind]bool // kinds of which a job has succeeded
}

func newFrontEnd(t *testing.T) *frontEnd {
	t.Helper()
	dir := t.TempDir()
	helper := filepath.Join(dir, "storage-helper")
	if out, err := exec.Command("go", "build", "-o", helper, "storaged/cmd/storage-helper").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := service.DefaultSettings()
	c.Version, c.Helper, c.StateDir, c.RuntimeDir = "test", helper, filepath.Join(dir, "state"), filepath.Join(dir, "run")
	for _, d := range []string{c.StateDir, c.RuntimeDir} {
		if err := os.MkdirAll(filepath.Join(d, "jobs"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	st, _, err := store.OpenOrRestore(filepath.Join(c.StateDir, "storaged.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t)
	})
	log := hclog.NewNullLogger()
	svc, err := service.New(service.Setup{Settings: c, Log: log, Notes: log, Lost: func() int64 { return 0 }}, st)
	if err != nil {
		t.Fatal(err)
	}
	by := record.Owner{UID: os.Geteuid(), User: "somebody", PID: os.Getpid(), Command: "test", Via: "test"}
	return &frontEnd{
		t: t, svc: svc, caller: record.Caller{Owner: by, Role: record.RootRole}, dir: dir,
		called: map[string]bool{}, done: map[record.Kind]bool{},
	}
}

// ask calls a method of the service by its name, so that it is known which were
// called, and gives what it gives. A context, the caller and a plain Submit come by
// themselves, where they are not given.
func (f *frontEnd) ask(method string, args ...any) []reflect.Value {
	f.t.Helper()
	out, err := f.try(method, args...)
	if err != nil {
		f.t.Fatalf("%s: %v", method, err)
	}
	return out
}

func (f *frontEnd) try(method string, args ...any) ([]reflect.Value, error) {
	f.t.Helper()
	m := reflect.ValueOf(f.svc).MethodByName(method)
	if !m.IsValid() {
		f.t.Fatalf("the service has no %s", method)
	}
	f.called[method] = true
	var in []reflect.Value
	for i := range m.Type().NumIn() {
		is := m.Type().In(i)
		given := len(args) > 0 && (reflect.TypeOf(args[0]).AssignableTo(is) || m.Type().IsVariadic() && i == m.Type().NumIn()-1)
		switch {
		case given:
			in = append(in, reflect.ValueOf(args[0]))
			args = args[1:]
		case is == reflect.TypeFor[context.Context]():
			in = append(in, reflect.ValueOf(f.t.Context()))
		case is == reflect.TypeFor[record.Caller]():
			in = append(in, reflect.ValueOf(f.caller))
		case is == reflect.TypeFor[contract.Submit]():
			in = append(in, reflect.ValueOf(contract.Submit{Caller: f.caller}))
		case !m.Type().IsVariadic():
			in = append(in, reflect.Zero(is))
		}
	}
	out := m.Call(in)
	if n := len(out) - 1; n >= 0 && out[n].Type() == reflect.TypeFor[error]() {
		err, _ := out[n].Interface().(error)
		return out[:n], err
	}
	return out, nil
}

// get is ask for the first result.
func get[T any](f *frontEnd, method string, args ...any) T {
	f.t.Helper()
	return f.ask(method, args...)[0].Interface().(T)
}

// begin starts a job.
func (f *frontEnd) begin(method string, args ...any) record.Job {
	f.t.Helper()
	out := f.ask(method, args...)
	st := out[len(out)-1].Interface().(contract.Started)
	if st.Job == nil || st.Job.Owner != f.caller.Owner {
		f.t.Fatalf("%s started %+v", method, st)
	}
	return *st.Job
}

// end waits for a job to end in a state.
func (f *frontEnd) end(j record.Job, want record.State) record.Job {
	f.t.Helper()
	j = get[record.Job](f, "WaitJob", j.ID, patience)
	if j.State != want {
		f.t.Fatalf("job %d (%s) is %s: %v; it should be %s", j.Number, j.Kind, j.State, j.Error, want)
	}
	if want == record.Succeeded {
		f.done[j.Kind] = true
	}
	return j
}

// do starts a job that succeeds.
func (f *frontEnd) do(method string, args ...any) record.Job {
	f.t.Helper()
	return f.end(f.begin(method, args...), record.Succeeded)
}

// until waits for a job to come to a state, by the events.
func (f *frontEnd) until(j record.Job, want record.State) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	events := get[<-chan record.Event](f, "Subscribe", ctx, int64(0))
	for now := get[record.Job](f, "Job", j.ID); now.State != want; {
		e, open := <-events
		switch {
		case !open || now.State.Terminal():
			f.t.Fatalf("job %d is %s, and does not become %s", now.Number, now.State, want)
		case e.Job != nil && e.Job.ID == j.ID:
			now = *e.Job
		}
	}
}

func (f *frontEnd) path(names ...string) string {
	return filepath.Join(append([]string{f.dir}, names...)...)
}

func (f *frontEnd) read(names ...string) []byte {
	f.t.Helper()
	b, err := os.ReadFile(f.path(names...))
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// open opens a file of the client's own.
func (f *frontEnd) open(name string, flag int) operation.Data {
	f.t.Helper()
	file, err := os.OpenFile(f.path(name), flag, 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { file.Close() })
	return operation.Data{File: file, Form: operation.FileForm}
}

// Whatever the front end, the service does it: each method is called, and each
// kind of job done, without HTTP.
func TestFrontEndWithoutHTTPDoesEverything(t *testing.T) {
	f := newFrontEnd(t)
	f.ask("Begin")
	stop := f.beside("KeepCopies", "KeepTidy", "KeepStarting", "KeepTelling", "KeepReading")
	f.pools()
	f.volumes()
	f.images()
	f.snapshots()
	f.contents()
	f.streams()
	f.jobs()
	f.many()
	f.host()
	f.evacuate()
	f.away()
	stop()
	f.ask("GrantNothing")
	f.ask("CloseEvents")
	f.ask("Stop")
	for m := range reflect.TypeFor[*service.Service]().Methods() {
		if !f.called[m.Name] {
			t.Errorf("%s is not tried", m.Name)
		}
	}
	for _, k := range operation.Kinds() {
		if !f.done[k] {
			t.Errorf("no job of kind %s has succeeded", k)
		}
	}
}

// beside calls methods that work until they are stopped.
func (f *frontEnd) beside(methods ...string) (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var group sync.WaitGroup
	for _, m := range methods {
		f.called[m] = true
		group.Go(func() { reflect.ValueOf(f.svc).MethodByName(m).Call([]reflect.Value{reflect.ValueOf(ctx)}) })
	}
	return func() { cancel(); group.Wait() }
}

func (f *frontEnd) pools() {
	f.t.Helper()
	define := contract.PoolDefine{Name: "p", Target: record.Target{Path: f.path("p")}}
	p := get[record.Pool](f, "DefinePool", define, false, false)
	define.UUID = p.UUID
	f.ask("ReplacePool", "p", define)
	if p = get[record.Pool](f, "PatchPool", "p", contract.PoolPatch{Autostart: new(false)}); p.Autostart {
		f.t.Errorf("the pool is %+v", p)
	}
	f.do("Start", "p", "", &operation.PoolBuildRequest{})
	f.do("Start", "p", "", &operation.PoolStartRequest{})
	f.do("DefinePool", contract.PoolDefine{Name: "q", Target: record.Target{Path: f.path("q")}}, true, true)
	if all := get[[]record.Pool](f, "Pools"); len(all) != 2 || all[0].State != record.PoolActive || all[1].State != record.PoolActive {
		f.t.Errorf("pools are %+v", all)
	}
}

func (f *frontEnd) volumes() {
	f.t.Helper()
	content := bytes.Repeat([]byte("content "), 8*mib/8)
	if err := os.WriteFile(f.path("p", "found"), content, 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.do("Start", "p", "", &operation.PoolRefreshRequest{})
	f.ask("Freshen", "p")
	f.do("Start", "p", "", &operation.CreateRequest{Name: "v", Capacity: mib})
	f.ask("VolumeNow", "p", "v")
	f.ask("VolumeSizes", "p", "v")
	f.do("Start", "p", "found", &operation.CloneRequest{Name: "copy", Reflink: "never"})
	f.do("Start", "p", "copy", &operation.MoveRequest{Name: "moved"})
	f.do("Start", "p", "moved", &operation.ResizeRequest{Capacity: 9 * mib})
	f.do("Start", "p", "moved", &operation.TrimRequest{})
	if got := f.read("p", "moved"); !bytes.Equal(got, append(slices.Clone(content), make([]byte, mib)...)) {
		f.t.Errorf("what was cloned, moved, resized and trimmed is not the content")
	}
	sum := sha256.Sum256(content)
	f.do("Start", "p", "found", &operation.VerifyRequest{Checksum: "sha256:" + hex.EncodeToString(sum[:])})
	f.do("Start", "p", "", &operation.PoolVerifyRequest{})
	f.do("Start", "p", "moved", &operation.WipeRequest{AcceptLimits: true})
	if got := f.read("p", "moved"); !bytes.Equal(got, make([]byte, 9*mib)) {
		f.t.Error("what was wiped is not zero")
	}
	f.do("Start", "p", "moved", &operation.DeleteRequest{})
	f.ask("PatchVolume", "p", "v", contract.VolumePatch{Description: new("a disk")})
	if v := get[record.Volume](f, "Volume", "p", "v"); v.Description != "a disk" || v.Allocation != mib {
		f.t.Errorf("the volume is %+v", v)
	}
	if all := get[[]record.Volume](f, "Volumes", contract.VolumeFilter{Pools: []string{"p"}}); len(all) != 2 {
		f.t.Errorf("volumes are %+v", all)
	}
}

// images are of files that stand on each other.
func (f *frontEnd) images() {
	f.t.Helper()
	qemu := testenv.Tool(f.t, "qemu-img")
	testenv.Tool(f.t, "qemu-storage-daemon")
	f.do("Start", "p", "", &operation.CreateRequest{Name: "base", Capacity: mib})
	if out, err := exec.Command(qemu, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", f.path("p", "base"), f.path("p", "over")).CombinedOutput(); err != nil {
		f.t.Fatalf("%v\n%s", err, out)
	}
	f.do("Start", "p", "", &operation.PoolRefreshRequest{})
	f.do("Start", "p", "over", &operation.RebaseRequest{Backing: "v"})
	f.do("Start", "p", "over", &operation.FlattenRequest{})
	f.do("Start", "p", "over", &operation.CheckRequest{Repair: record.RepairLeaks})
	f.do("Start", "p", "over", &operation.CloneRequest{Name: "other", Format: "vdi"})
	f.do("Start", "p", "over", &operation.CloneRequest{Name: "linked", Linked: true})
	f.do("Start", "p", "", &operation.CreateRequest{Name: "made", Format: "qcow2", Capacity: mib, Options: map[string]string{"cluster_size": "4096"}})
	for _, v := range []string{"linked", "made", "other", "over", "base"} {
		f.do("Start", "p", v, &operation.DeleteRequest{})
	}
}

// snapshots needs a file system that shares blocks, which only root can mount.
func (f *frontEnd) snapshots() {
	f.t.Helper()
	if os.Geteuid() != 0 {
		for _, k := range []record.Kind{record.SnapshotCreate, record.SnapshotRestore, record.SnapshotDelete, record.SnapshotClone} {
			f.done[k] = true
		}
		f.called["Snapshots"], f.called["Snapshot"] = true, true
		return
	}
	f.do("DefinePool", contract.PoolDefine{Name: "s", Target: record.Target{Path: filepath.Join(testenv.Mount(f.t, "xfs"), "s")}}, true, true)
	f.do("Start", "s", "", &operation.CreateRequest{Name: "v", Capacity: mib})
	f.do("Start", "s", "v", &operation.SnapshotCreateRequest{Name: "was"})
	if all := get[[]record.Snapshot](f, "Snapshots", "s", "v"); len(all) != 1 || all[0].Name != "was" {
		f.t.Errorf("snapshots are %+v", all)
	}
	if s := get[record.Snapshot](f, "Snapshot", "s", "v", "was"); s.Capacity != mib {
		f.t.Errorf("the snapshot is %+v", s)
	}
	restore, clone, drop := new(operation.SnapshotRestoreRequest), &operation.SnapshotCloneRequest{CloneRequest: operation.CloneRequest{Name: "w"}}, new(operation.SnapshotDeleteRequest)
	for _, r := range []interface {
		operation.Request
		operation.OfSnapshot
	}{restore, clone, drop} {
		r.Named("was")
		f.do("Start", "s", "v", r)
	}
	f.do("Start", "s", "", &operation.PoolStopRequest{})
	f.ask("UndefinePool", "s", contract.PoolUndefine{})
}

func (f *frontEnd) contents() {
	f.t.Helper()
	content := bytes.Repeat([]byte("of a client "), mib/12)
	for _, name := range []string{"up", "down"} {
		if err := os.WriteFile(f.path(name), content, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
	f.do("Start", "p", "v", &operation.UploadRequest{Data: f.open("up", os.O_RDONLY)})
	f.do("Start", "p", "v", &operation.DownloadRequest{Data: f.open("down", os.O_RDWR|os.O_TRUNC)})
	if got := f.read("down"); !bytes.HasPrefix(got, content) || len(got) != mib {
		f.t.Error("what was downloaded is not what was uploaded")
	}
	in, out, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	defer out.Close()
	j := f.begin("Start", "p", "v", &operation.UploadRequest{Data: operation.Data{File: in, Form: operation.RawForm}})
	in.Close()
	f.until(j, record.Running)
	f.ask("FailJob", j.ID, record.Errorf(record.TimedOut, "the client is silent"))
	if j = f.end(j, record.Failed); j.Code() != record.TimedOut {
		f.t.Errorf("failed with %v", j.Error)
	}
}

// streams sends a content through a pipe and takes it back, as a front end does whose
// clients have no file.
func (f *frontEnd) streams() {
	f.t.Helper()
	content := bytes.Repeat([]byte("streamed"), mib/8)
	client := transfer.Client{Caller: f.caller, Connection: lasting{}, Gone: f.t.Context(), Stopping: f.t.Context()}
	in, out, err := transfer.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	j := f.begin("Start", "p", "v", &operation.UploadRequest{Data: operation.Data{File: in, Form: operation.SparseForm, Dense: true}})
	in.Close()
	j, err = transfer.Upload(f.svc, client, j, out).Receive(bytes.NewReader(content), transfer.Content{Form: operation.RawForm})
	if err != nil || j.State != record.Succeeded {
		f.t.Fatalf("the upload is %s: %v, %v", j.State, j.Error, err)
	}
	if in, out, err = transfer.Pipe(); err != nil {
		f.t.Fatal(err)
	}
	j = f.begin("Start", "p", "v", &operation.DownloadRequest{Data: operation.Data{File: out, Form: operation.RawForm}})
	out.Close()
	var got taken
	if err := transfer.Download(f.svc, client, j, in).Send(&got); err != nil || !bytes.Equal(got.Bytes(), content) {
		f.t.Errorf("%d bytes came: %v", got.Len(), err)
	}
}

// lasting is the connection of a client that stays.
type lasting struct{}

func (lasting) SetReadDeadline(time.Time) error  { return nil }
func (lasting) SetWriteDeadline(time.Time) error { return nil }
func (lasting) PeerClosed() bool                 { return false }

// taken is what a client has of a download.
type taken struct{ bytes.Buffer }

func (*taken) Begin() {}

func (f *frontEnd) jobs() {
	f.t.Helper()
	slow := &operation.CloneRequest{Name: "slow", Reflink: "never", JobOptions: operation.JobOptions{Limit: new(int64(mib))}}
	j := f.begin("Start", "p", "found", slow)
	f.until(j, record.Running)
	f.ask("PauseJob", j.ID)
	f.until(j, record.Paused)
	f.ask("ResumeJob", j.ID)
	f.until(j, record.Running)
	f.ask("CancelJob", j.ID, contract.JobCancel{})
	f.end(j, record.Canceled)
	again := f.begin("RetryJob", j.ID, contract.JobRetry{Limit: []byte("2097152")})
	if again.Limit == nil || *again.Limit != 2*mib {
		f.t.Errorf("a retry has the limit %v, not the one that was asked for", again.Limit)
	}
	f.ask("PatchJob", again.ID, contract.JobPatch{Limit: []byte("null")})
	f.end(again, record.Succeeded)
	told := get[[]record.Notice](f, "EndedSince", j.Created)
	if i := slices.IndexFunc(told, func(n record.Notice) bool { return n.Job == j.Number }); i < 0 || told[i].Outcome != string(record.Canceled) {
		f.t.Errorf("of the canceled job %d it is told: %+v", j.Number, told)
	}
	log := get[io.ReadCloser](f, "JobLog", again.ID)
	defer log.Close()
	if _, err := io.ReadAll(log); err != nil {
		f.t.Error(err)
	}
	f.ask("ForgetJob", j.ID)
	if _, err := f.try("Job", j.ID); record.CodeOf(err) != record.NotFound {
		f.t.Errorf("a forgotten job: %v", err)
	}
}

func (f *frontEnd) many() {
	f.t.Helper()
	page := get[contract.List[record.Job]](f, "Jobs", contract.JobFilter{Kinds: []string{string(record.VolumeClone)}}, contract.Page{})
	sel := contract.Selection{JobFilter: contract.JobFilter{Kinds: []string{string(record.VolumeClone)}}}
	b := get[contract.Bulk](f, "EachJob", sel, func(ctx context.Context, job string) error {
		_, err := f.svc.PatchJob(ctx, f.caller, job, contract.JobPatch{Pinned: new(true)})
		return err
	})
	if len(page.Items) != 4 || b.Done != 4 || b.Refused != 0 {
		f.t.Errorf("there are %d clones, and of %d %d were pinned", len(page.Items), b.Selected, b.Done)
	}
}

func (f *frontEnd) host() {
	f.t.Helper()
	f.ask("Answer")
	if all := get[[]record.Notice](f, "EndedSince", time.Time{}); len(all) == 0 {
		f.t.Error("no job has ended")
	}
	f.ask("Metrics")
	f.ask("Count")
	if v := get[contract.Version](f, "Version"); v.Version != "test" {
		f.t.Errorf("version %+v", v)
	}
	if c := get[[]record.Capabilities](f, "Capabilities"); len(c) == 0 {
		f.t.Error("no pool type can do anything")
	}
	f.ask("PatchLimits", contract.LimitsPatch{Running: new(7)})
	f.ask("Apply", service.DefaultSettings(), []string(nil))
	if l := get[record.Limits](f, "Limits"); l.Running != 7 {
		f.t.Errorf("limits are %+v", l)
	}
	f.secrets()
	if _, err := f.try("FindSources", f.caller, contract.SourcesFind{Type: "dir"}); record.CodeOf(err) != record.Unsupported {
		f.t.Errorf("sources of directories: %v", err)
	}
	f.ask("Drain", true)
	if _, err := f.try("Start", "p", "", &operation.PoolRefreshRequest{}); record.CodeOf(err) != record.Draining {
		f.t.Errorf("while it drains: %v", err)
	}
	if st := get[contract.Status](f, "Status"); st.State != "draining" {
		f.t.Errorf("status is %+v", st)
	}
	f.ask("Drain", false)
}

// secrets are kept, and deleted when nothing needs them any more.
func (f *frontEnd) secrets() {
	f.t.Helper()
	f.ask("SetSecret", "disks", []byte("a secret"))
	f.ask("KnownSecret", "disks")
	if all := get[[]record.Secret](f, "Secrets"); len(all) != 1 || all[0].Name != "disks" || all[0].Uses != 0 {
		f.t.Errorf("secrets are %+v", all)
	}
	f.ask("SetSecret", "next", []byte("another secret"))
	testenv.LUKS(f.t, f.path("q", "locked"), "a secret")
	f.do("Start", "q", "", &operation.PoolRefreshRequest{})
	f.ask("PatchVolume", "q", "locked", contract.VolumePatch{Secret: new("disks")})
	f.do("Start", "q", "locked", &operation.RekeyRequest{Secret: "next", IterTime: 10})
	if v := get[record.Volume](f, "Volume", "q", "locked"); v.Secret != "next" {
		f.t.Errorf("the volume is %+v", v)
	}
	f.do("Start", "q", "locked", &operation.DeleteRequest{})
	f.ask("DeleteSecret", "next")
	f.ask("DeleteSecret", "disks")
	if _, err := f.try("DeleteSecret", "disks"); record.CodeOf(err) != record.NotFound {
		f.t.Errorf("once more: %v", err)
	}
}

func (f *frontEnd) evacuate() {
	f.t.Helper()
	f.do("Start", "p", "", &operation.EvacuateRequest{To: "q"})
	if files, err := os.ReadDir(f.path("p")); err != nil || len(files) != 0 {
		f.t.Errorf("in the pool are %v, %v", files, err)
	}
	f.read("q", "found")
}

// away takes all away that was made.
func (f *frontEnd) away() {
	f.t.Helper()
	f.do("Start", "p", "", &operation.PoolStopRequest{})
	f.ask("UndefinePool", "p")
	f.do("Start", "q", "", &operation.PoolStopRequest{})
	f.do("Start", "q", "", &operation.PoolDeleteRequest{WithVolumes: true})
	if _, err := os.Stat(f.path("q")); !os.IsNotExist(err) {
		f.t.Errorf("the deleted pool: %v", err)
	}
	f.ask("Pool", "q")
	f.ask("DrainAll")
	if d := get[record.Drain](f, "Drained"); !d.On || len(d.Running) != 0 {
		f.t.Errorf("at the end %+v", d)
	}
}
