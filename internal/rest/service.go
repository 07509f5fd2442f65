// Package rest is the server of the REST interface. It turns HTTP into calls of a
// Service and answers back; it decides nothing about storage or jobs.
// openapi.yaml is the contract.
package rest

import (
	"context"
	"io"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// Service is what the daemon does for its clients. Every refusal is a
// *record.Error. Objects are found by name or uuid (pools), name (volumes),
// number or uuid (jobs).
type Service interface {
	PoolService
	VolumeService
	JobService
	HostService
}

// PoolService are the calls about pools.
type PoolService interface {
	Pools(ctx context.Context) ([]record.Pool, error)
	Pool(ctx context.Context, pool string) (record.Pool, error)
	// Freshen has pools read anew, none given all of them, so that what the
	// catalog says afterwards was true at most a second before the call. One
	// that is not active is left as it is; one that cannot be read shows so.
	Freshen(ctx context.Context, pools ...string) error
	// FindSources has a helper find storage that pools of a type could be made of.
	FindSources(ctx context.Context, c record.Caller, r contract.SourcesFind) ([]record.Source, error)
	// DefinePool records a pool. With build or start it also starts one job.
	DefinePool(ctx context.Context, s contract.Submit, r contract.PoolDefine, build, start bool) (record.Pool, contract.Started, error)
	// ReplacePool changes a pool's definition: now, or when it is not in use any more.
	ReplacePool(ctx context.Context, s contract.Submit, pool string, r contract.PoolDefine) (record.Pool, error)
	PatchPool(ctx context.Context, s contract.Submit, pool string, r contract.PoolPatch) (record.Pool, error)
	UndefinePool(ctx context.Context, s contract.Submit, pool string, r contract.PoolUndefine) (changed bool, err error)
}

// VolumeService are the calls about volumes.
type VolumeService interface {
	Volumes(ctx context.Context, f contract.VolumeFilter) ([]record.Volume, error)
	Volume(ctx context.Context, pool, volume string) (record.Volume, error)
	Snapshots(ctx context.Context, pool, volume string) ([]record.Snapshot, error)
	Snapshot(ctx context.Context, pool, volume, name string) (record.Snapshot, error)
	PatchVolume(ctx context.Context, s contract.Submit, pool, volume string, r contract.VolumePatch) (record.Volume, error)
}

// JobService are the calls about jobs.
type JobService interface {
	Jobs(ctx context.Context, f contract.JobFilter, p contract.Page) (contract.List[record.Job], error)
	Job(ctx context.Context, job string) (record.Job, error)
	// WaitJob returns when the job has ended or timeout is over, whichever is
	// first, with the job as it is then.
	WaitJob(ctx context.Context, job string, timeout time.Duration) (record.Job, error)
	PatchJob(ctx context.Context, c record.Caller, job string, r contract.JobPatch) (record.Job, error)
	// ForgetJob removes an ended job's record. It gives the trace that stays of
	// one that may have destroyed something; nil where nothing stays.
	ForgetJob(ctx context.Context, c record.Caller, job string) (*record.Job, error)
	CancelJob(ctx context.Context, c record.Caller, job string, r contract.JobCancel) (record.Job, error)
	// FailJob ends a job that is at work: it stops, and has failed with why. One
	// that is paused, or not at work for another reason, is left alone and refused.
	FailJob(ctx context.Context, job string, why *record.Error) error
	PauseJob(ctx context.Context, c record.Caller, job string) (record.Job, error)
	ResumeJob(ctx context.Context, c record.Caller, job string) (record.Job, error)
	// EachJob does something to every job that is selected.
	EachJob(ctx context.Context, sel contract.Selection, do func(ctx context.Context, job string) error) (contract.Bulk, error)
	// Start starts a job, or plans it, or says that none is needed: what is asked for is done to the pool, or to
	// the volume where one is named. A request for a new volume names that itself.
	Start(ctx context.Context, s contract.Submit, pool, volume string, r operation.Request) (contract.Started, error)
	RetryJob(ctx context.Context, s contract.Submit, job string, r contract.JobRetry) (contract.Started, error)
	// JobLog opens the job's log; the caller closes it.
	JobLog(ctx context.Context, job string) (io.ReadCloser, error)
}

// HostService are the calls about the daemon itself.
type HostService interface {
	Version() contract.Version
	Status(ctx context.Context) (contract.Status, error)
	Capabilities() []record.Capabilities
	Limits(ctx context.Context) (record.Limits, error)
	// PatchLimits changes the limits at once and durably.
	PatchLimits(ctx context.Context, r contract.LimitsPatch) (record.Limits, error)
	// Drain takes no new jobs and begins none that wait, or takes that back. Jobs
	// that run are named and go on. It ends with the daemon.
	Drain(ctx context.Context, c record.Caller, on bool) (record.Drain, error)
	// Secrets gives what may be known of the secrets. What they are, nobody is given.
	Secrets(ctx context.Context) ([]record.Secret, error)
	// SetSecret keeps a secret, and wipes value. One that opens a volume is not replaced.
	SetSecret(ctx context.Context, s contract.Submit, name string, value []byte) (record.Secret, error)
	// DeleteSecret refuses to delete one that opens a volume.
	DeleteSecret(ctx context.Context, s contract.Submit, name string) error
	// Metrics gives figures in the text format of Prometheus, version 0.0.4.
	Metrics() ([]byte, error)
	// Subscribe gives the events after seq (0: from now on). When seq is too
	// old, or a slow reader fell behind, the first event is "reset". The
	// channel is closed when ctx ends or the daemon stops.
	Subscribe(ctx context.Context, after int64) (<-chan record.Event, error)
}
