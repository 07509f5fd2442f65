package operation

import "storaged/internal/record"

// PoolRefresh lists the volumes of a pool.
type PoolRefresh struct {
	OnPool
	Discard []string `json:"discard,omitempty"` // uuids of jobs whose unfinished volumes are to go
}

// NewPoolRefresh gives one with the defaults of its task.
func NewPoolRefresh() *PoolRefresh { return &PoolRefresh{OnPool: newOnPool()} }

// Kind is pool.refresh.
func (*PoolRefresh) Kind() record.Kind { return record.PoolRefresh }

// Locks: what is found of a volume counts only if no job has that.
func (o *PoolRefresh) Locks() []record.Object { return []record.Object{o.lock(record.ModeMeta)} }

// Effect: its volumes are known then.
func (*PoolRefresh) Effect() Effect { return Lists }

// Allowed refuses a pool that is not in use.
func (*PoolRefresh) Allowed(k Known) error { return Active(k.Pool) }

// Task is pool-refresh.
func (o *PoolRefresh) Task() Task {
	return Task{
		Name: "pool-refresh", Usage: "list the volumes of a pool",
		Example: "--type dir --target /var/lib/images -o json",
		Flags: append(o.Volume.pool(), identity("pool-id", &o.PoolID),
			Flag{Name: "discard", Usage: "before, remove what the job `UUID` left unfinished; may be repeated", value: (*list)(&o.Discard)}),
	}
}

// PoolRefreshRequest asks to list the volumes of a pool.
type PoolRefreshRequest struct{ JobOptions }

// Plan makes it as it is asked for.
func (*PoolRefreshRequest) Plan(k Known) (Operation, error) {
	return &PoolRefresh{OnPool: OnPool{Volume: k.On}}, nil
}
