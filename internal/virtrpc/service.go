package virtrpc

import (
	"context"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// Service is what the daemon does for its clients, as far as libvirt's protocol asks
// for it. Every refusal is a *record.Error. Objects are found by name or uuid (pools),
// name (volumes), number or uuid (jobs).
type Service interface {
	Pools(ctx context.Context) ([]record.Pool, error)
	Pool(ctx context.Context, pool string) (record.Pool, error)

	Volumes(ctx context.Context, f contract.VolumeFilter) ([]record.Volume, error)
	Volume(ctx context.Context, pool, volume string) (record.Volume, error)

	// Start starts a job, or says that none is needed: what is asked for is done to the
	// pool, or to the volume where one is named.
	Start(ctx context.Context, s contract.Submit, pool, volume string, r operation.Request) (contract.Started, error)
	// WaitJob returns when the job has ended or timeout is over, whichever is first,
	// with the job as it is then.
	WaitJob(ctx context.Context, job string, timeout time.Duration) (record.Job, error)
	CancelJob(ctx context.Context, c record.Caller, job string, r contract.JobCancel) (record.Job, error)
}
