package virtrpc

import (
	"context"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/transfer"
)

// Service is what the daemon does for its clients, as far as libvirt's protocol asks
// for it. Every refusal is a *record.Error. Objects are found by name or uuid (pools),
// name (volumes), number or uuid (jobs).
type Service interface {
	transfer.Jobs

	Capabilities() []record.Capabilities
	Pools(ctx context.Context) ([]record.Pool, error)
	Pool(ctx context.Context, pool string) (record.Pool, error)
	// FindSources has a helper find storage that pools of a type could be made of.
	FindSources(ctx context.Context, c record.Caller, r contract.SourcesFind) ([]record.Source, error)
	// DefinePool records a pool. With build or start it also starts one job.
	DefinePool(ctx context.Context, s contract.Submit, r contract.PoolDefine, build, start bool) (record.Pool, contract.Started, error)
	// ReplacePool changes a pool's definition: now, or when it is not in use any more.
	ReplacePool(ctx context.Context, s contract.Submit, pool string, r contract.PoolDefine) (record.Pool, error)
	PatchPool(ctx context.Context, s contract.Submit, pool string, r contract.PoolPatch) (record.Pool, error)
	UndefinePool(ctx context.Context, s contract.Submit, pool string, r contract.PoolUndefine) (changed bool, err error)

	Volumes(ctx context.Context, f contract.VolumeFilter) ([]record.Volume, error)
	Volume(ctx context.Context, pool, volume string) (record.Volume, error)
	// VolumeNow is Volume, of the volume as it is now where its pool answers.
	VolumeNow(ctx context.Context, pool, volume string) (record.Volume, error)
	// VolumeSizes is VolumeNow for who asks for its sizes alone.
	VolumeSizes(ctx context.Context, pool, volume string) (record.Volume, error)

	// Start starts a job, or says that none is needed: what is asked for is done to the
	// pool, or to the volume where one is named. A request for a new volume names that
	// itself.
	Start(ctx context.Context, s contract.Submit, pool, volume string, r operation.Request) (contract.Started, error)

	Jobs(ctx context.Context, f contract.JobFilter, p contract.Page) (contract.List[record.Job], error)
	PatchJob(ctx context.Context, c record.Caller, job string, r contract.JobPatch) (record.Job, error)
	// PauseJob stops a job's I/O until ResumeJob.
	PauseJob(ctx context.Context, c record.Caller, job string) (record.Job, error)
	ResumeJob(ctx context.Context, c record.Caller, job string) (record.Job, error)

	// Subscribe gives the events after seq (0: from now on). When a slow reader fell
	// behind, an event is "reset". The channel is closed when ctx ends or the daemon
	// stops.
	Subscribe(ctx context.Context, after int64) (<-chan record.Event, error)
}
