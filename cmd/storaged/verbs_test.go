package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
)

// The verbs of scenarios. A volume is named as on the command line, POOL/NAME,
// or NAME alone for one of the pool "pool". Each verb gives what was started,
// for h.succeed, h.end, h.began, h.refuses and the like.

// started is the answer to a verb.
type started = contract.Started

// of is the job as if its verb had just been answered.
func of(j record.Job) started { return started{Job: &j} }

// at is a volume by its name.
func at(volume string) record.Object {
	if pool, name, ok := strings.Cut(volume, "/"); ok {
		return record.Object{Pool: pool, Volume: name}
	}
	return record.Object{Pool: "pool", Volume: volume}
}

// in is a pool.
func in(pool string) record.Object { return record.Object{Pool: pool} }

// request is what is said beside the objects of a verb: fields of the body, by
// their names in the contract, and what stands beside that.
type request struct {
	contract.Submit
	body         map[string]any
	build, start bool // of a definition
}

// option says something of a request.
type option func(*request)

func field(name string, value any) option { return func(r *request) { r.body[name] = value } }

// What any job can be told.
func limited(bytesPerSecond int64) option     { return field("limit", bytesPerSecond) }
func labeled(labels map[string]string) option { return field("labels", labels) }
func onFailure(o record.OnFailure) option     { return field("on_failure", o) }
func key(k string) option                     { return func(r *request) { r.Key = k } }
func dryRun(r *request)                       { r.DryRun = true }

// atOnce is who does not wait for a lock.
func atOnce(r *request) { r.LockWait = new(time.Duration(0)) }

// What a verb can be told.
func allocation(bytes int64) option     { return field("allocation", bytes) }
func algorithm(name string) option      { return field("algorithm", name) }
func capacity(bytes int64) option       { return field("capacity", bytes) }
func checksum(sum string) option        { return field("checksum", sum) }
func format(name string) option         { return field("format", name) }
func length(bytes int64) option         { return field("length", bytes) }
func named(name string) option          { return field("name", name) }
func offset(bytes int64) option         { return field("offset", bytes) }
func only(pattern string) option        { return field("only", pattern) }
func reflink(how string) option         { return field("reflink", how) }
func size(bytes int64) option           { return field("size", bytes) }
func target(path string) option         { return field("target", record.Target{Path: path}) }
func wipeFirst(algorithm string) option { return field("wipe", algorithm) }

var (
	acceptLimits     = field("accept_limits", true)
	allAllocated     = field("allocation", "full")
	allocate         = field("allocate", true)
	giveUpAllocation = field("give_up_allocation", true)
	keepSource       = field("keep_source", true)
	noReflink        = reflink("never")
	overwrites       = field("overwrite", true)
	shrink           = field("shrink", true)
	skipBusy         = field("skip_busy", true)
	sparseCopy       = field("sparse", true)
	stopOnError      = field("on_error", "stop")
	verified         = field("verify", true)
	withSnapshots    = field("with_snapshots", true)
	withVolumes      = field("with_volumes", true)
)

// asked fills in a request's body, which must have all the fields that are said.
func (h *host) asked(body any, options ...option) request {
	h.t.Helper()
	r := request{body: map[string]any{}}
	for _, o := range options {
		o(&r)
	}
	b, err := json.Marshal(r.body)
	h.must(err)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	h.must(d.Decode(body))
	return r
}

// ask starts a job.
func (h *host) ask(on record.Object, r operation.Request, options ...option) (started, error) {
	h.t.Helper()
	s := h.asked(r, options...)
	return h.client.Start(h.ctx(), s.Submit, on.Pool, on.Volume, r)
}

// to is the name that a verb gives to a volume, and its pool where that is said.
func to(volume string) option {
	return func(r *request) {
		pool, name, ok := strings.Cut(volume, "/")
		if !ok {
			pool, name = "", volume
		}
		r.body["pool"], r.body["name"] = pool, name
	}
}

func (h *host) create(volume string, bytes int64, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(in(at(volume).Pool), new(operation.CreateRequest), append(options, named(at(volume).Volume), capacity(bytes))...)
}

func (h *host) clone(volume, copied string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(volume), new(operation.CloneRequest), append(options, to(copied))...)
}

func (h *host) move(volume, moved string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(volume), new(operation.MoveRequest), append(options, to(moved))...)
}

func (h *host) resize(volume string, bytes int64, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(volume), new(operation.ResizeRequest), append(options, capacity(bytes))...)
}

func (h *host) wipe(volume string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(volume), new(operation.WipeRequest), options...)
}

func (h *host) trim(volume string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(volume), new(operation.TrimRequest), options...)
}

func (h *host) verify(volume string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(volume), new(operation.VerifyRequest), options...)
}

func (h *host) remove(volume string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(volume), new(operation.DeleteRequest), options...)
}

// upload is what is said of an upload beside its content.
type upload = operation.UploadRequest

// hand uploads a file.
func (h *host) hand(volume string, f *os.File, options ...option) (started, error) {
	h.t.Helper()
	var r upload
	s := h.asked(&r, options...)
	r.Data.File = f
	v := at(volume)
	return h.client.Start(h.ctx(), s.Submit, v.Pool, v.Volume, &r)
}

// creating has an upload make the volume.
func creating(options ...option) option {
	return func(r *request) {
		made := request{body: map[string]any{}}
		for _, o := range options {
			o(&made)
		}
		r.body["create"] = made.body
	}
}

// asFormat is what an upload takes its content for.
func asFormat(name string) option { return field("asformat", name) }

// continues is the job that uploaded what lies before the offset.
func continues(job string) option { return field("continues", job) }

// handDown downloads to a file.
func (h *host) handDown(volume string, f *os.File, options ...option) (started, error) {
	h.t.Helper()
	var r operation.DownloadRequest
	s := h.asked(&r, options...)
	r.Data.File = f
	v := at(volume)
	return h.client.Start(h.ctx(), s.Submit, v.Pool, v.Volume, &r)
}

// streamer is a client whose traffic nobody holds back to look at it.
func (h *host) streamer() *client.Client {
	c := client.Dial(h.sock)
	h.t.Cleanup(c.Close)
	return c
}

// stream uploads a stream.
func (h *host) stream(volume string, body io.Reader, r upload) (*client.Transfer, error) {
	v := at(volume)
	return h.streamer().Upload(h.ctx(), contract.Submit{}, client.StreamUpload{Pool: v.Pool, Volume: v.Volume, UploadRequest: r, Body: body})
}

// upload is stream of a client that may leave.
func (h *host) upload(ctx context.Context, volume string, body io.Reader, r upload) *client.Transfer {
	h.t.Helper()
	v := at(volume)
	up, err := h.streamer().Upload(ctx, contract.Submit{}, client.StreamUpload{Pool: v.Pool, Volume: v.Volume, UploadRequest: r, Body: body})
	h.must(err)
	return up
}

// download gives the content of a volume as a stream, in the sparse form or not.
func (h *host) download(volume string, sparse bool) *client.Transfer {
	h.t.Helper()
	v := at(volume)
	down, err := h.streamer().Download(h.ctx(), contract.Submit{}, client.StreamDownload{Pool: v.Pool, Volume: v.Volume, Sparse: sparse})
	h.must(err)
	return down
}

// describe changes the description of a volume, which touches no content.
func (h *host) describe(volume, text string) record.Volume {
	h.t.Helper()
	on := at(volume)
	v, err := h.client.PatchVolume(h.ctx(), contract.Submit{}, on.Pool, on.Volume, contract.VolumePatch{Description: &text})
	h.must(err)
	return v
}

// Options of a definition, which without them makes a record and no job.
func andBuild(r *request) { r.build = true }
func andStart(r *request) { r.start = true }

func (h *host) definition(pool, dir string, options ...option) (record.Pool, started, error) {
	h.t.Helper()
	var r contract.PoolDefine
	s := h.asked(&r, append(options, named(pool), target(dir))...)
	return h.client.DefinePool(h.ctx(), s.Submit, r, s.build, s.start)
}

// define makes and starts a pool.
func (h *host) define(pool, dir string) {
	h.t.Helper()
	_, st, err := h.definition(pool, dir, andBuild, andStart)
	h.succeed(st, err)
}

func (h *host) undefine(pool string) error {
	_, err := h.client.UndefinePool(h.ctx(), contract.Submit{}, pool, contract.PoolUndefine{})
	return err
}

func (h *host) buildPool(pool string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(in(pool), new(operation.PoolBuildRequest), options...)
}

func (h *host) startPool(pool string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(in(pool), new(operation.PoolStartRequest), options...)
}

func (h *host) stopPool(pool string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(in(pool), new(operation.PoolStopRequest), options...)
}

func (h *host) refreshPool(pool string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(in(pool), new(operation.PoolRefreshRequest), options...)
}

func (h *host) verifyPool(pool string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(in(pool), new(operation.PoolVerifyRequest), options...)
}

func (h *host) evacuatePool(pool, into string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(in(pool), new(operation.EvacuateRequest), append(options, field("to", into))...)
}

func (h *host) deletePool(pool string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(in(pool), new(operation.PoolDeleteRequest), options...)
}

func (h *host) retry(j record.Job, options ...option) (started, error) {
	h.t.Helper()
	s := h.asked(&struct{}{}, options...)
	return h.client.RetryJob(h.ctx(), s.Submit, j.ID, contract.JobRetry{})
}

// cancel asks a job to end.
func (h *host) cancel(st started) {
	h.t.Helper()
	_, err := h.client.CancelJob(h.ctx(), st.Job.ID, contract.JobCancel{})
	h.must(err)
}

// cancelUnlessEnded is for a job that may end before the request is there.
func (h *host) cancelUnlessEnded(st started) {
	h.t.Helper()
	if _, err := h.client.CancelJob(h.ctx(), st.Job.ID, contract.JobCancel{}); err != nil && record.CodeOf(err) != record.WrongState {
		h.t.Fatal(err)
	}
}

// pause returns when a job stands still.
func (h *host) pause(st started) {
	h.t.Helper()
	if j, err := h.client.PauseJob(h.ctx(), st.Job.ID); err != nil || j.State != record.Paused {
		h.t.Fatalf("the answer to a pause of job %d is %s (%v)", st.Job.Number, j.State, err)
	}
}

func (h *host) resume(st started) {
	h.t.Helper()
	_, err := h.client.ResumeJob(h.ctx(), st.Job.ID)
	h.must(err)
}

// unlimit lets a job go as fast as it can.
func (h *host) unlimit(st started) record.Job {
	h.t.Helper()
	j, err := h.client.PatchJob(h.ctx(), st.Job.ID, contract.JobPatch{Limit: []byte("null")})
	h.must(err)
	return j
}

// relimit has a job go as fast as that from now on, in bytes a second.
func (h *host) relimit(st started, bytesPerSecond int64) {
	h.t.Helper()
	_, err := h.client.PatchJob(h.ctx(), st.Job.ID, contract.JobPatch{Limit: fmt.Append(nil, bytesPerSecond)})
	h.must(err)
}

// unlimited lets a job go as fast as it can, to its end.
func (h *host) unlimited(st started) record.Job {
	h.t.Helper()
	h.unlimit(st)
	return h.succeed(st, nil)
}

func (h *host) forget(j record.Job) {
	h.t.Helper()
	_, err := h.client.ForgetJob(h.ctx(), j.ID)
	h.must(err)
}

func (h *host) job(st started) record.Job {
	h.t.Helper()
	j, err := h.client.Job(h.ctx(), st.Job.ID)
	h.must(err)
	return j
}

// jobs are those that a filter selects, newest first.
func (h *host) jobs(f contract.JobFilter) []record.Job {
	h.t.Helper()
	l, err := h.client.Jobs(h.ctx(), f, contract.Page{Limit: 1000})
	h.must(err)
	return l.Items
}

// entry is a volume as the catalog has it.
func (h *host) entry(volume string) record.Volume {
	h.t.Helper()
	on := at(volume)
	v, err := h.client.Volume(h.ctx(), on.Pool, on.Volume)
	h.must(err)
	return v
}

// poolEntry is a pool as the catalog has it.
func (h *host) poolEntry(pool string) record.Pool {
	h.t.Helper()
	p, err := h.client.Pool(h.ctx(), pool)
	h.must(err)
	return p
}

// uploadSparse uploads a stream in the sparse form.
func (h *host) uploadSparse(volume string, body io.Reader) *client.Transfer {
	h.t.Helper()
	v := at(volume)
	up, err := h.streamer().Upload(h.ctx(), contract.Submit{}, client.StreamUpload{Pool: v.Pool, Volume: v.Volume, Body: body, Sparse: true})
	h.must(err)
	return up
}

// restOf is what is said of an upload that goes on where another has ended.
func restOf(j record.Job) upload { return upload{Offset: j.Progress.Done, Continues: j.ID} }
