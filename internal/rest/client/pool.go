package client

import (
	"context"
	"net/http"

	"storaged/internal/record"
	"storaged/internal/service"
)

// Pools gives all pools, by name.
func (c *Client) Pools(ctx context.Context) ([]record.Pool, error) {
	return fetchAll[record.Pool](ctx, c, newAsk(http.MethodGet, "pools"))
}

// Pool gives one pool.
func (c *Client) Pool(ctx context.Context, pool string) (record.Pool, error) {
	return fetch[record.Pool](ctx, c, newAsk(http.MethodGet, "pools", pool))
}

// DefinePool records a pool. With build or start it also starts one job; the
// answer is then that job (or plan), and the pool in it is empty.
func (c *Client) DefinePool(ctx context.Context, s service.Submit, r service.PoolDefine, build, start bool) (record.Pool, service.Started, error) {
	a := newAsk(http.MethodPost, "pools").with(r)
	if build {
		a.query.Set("build", "true")
	}
	if start {
		a.query.Set("start", "true")
	}
	if build || start {
		st, err := c.start(ctx, a, s)
		return record.Pool{}, st, err
	}
	p, err := fetch[record.Pool](ctx, c, a.under(s))
	return p, service.Started{}, err
}

// ReplacePool changes an inactive pool's definition.
func (c *Client) ReplacePool(ctx context.Context, s service.Submit, pool string, r service.PoolDefine) (record.Pool, error) {
	return fetch[record.Pool](ctx, c, newAsk(http.MethodPut, "pools", pool).with(r).under(s))
}

// PatchPool changes properties of a pool.
func (c *Client) PatchPool(ctx context.Context, s service.Submit, pool string, r service.PoolPatch) (record.Pool, error) {
	return fetch[record.Pool](ctx, c, newAsk(http.MethodPatch, "pools", pool).with(r).under(s))
}

// UndefinePool forgets a pool.
func (c *Client) UndefinePool(ctx context.Context, s service.Submit, pool string) error {
	return c.do(ctx, newAsk(http.MethodPost, "pools", pool, "undefine").under(s), nil)
}

// BuildPool makes a pool's storage.
func (c *Client) BuildPool(ctx context.Context, s service.Submit, pool string, r service.PoolBuild) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "build").with(r), s)
}

// StartPool makes a pool's volumes reachable.
func (c *Client) StartPool(ctx context.Context, s service.Submit, pool string, r service.JobOptions) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "start").with(r), s)
}

// StopPool is the opposite of StartPool.
func (c *Client) StopPool(ctx context.Context, s service.Submit, pool string, r service.PoolStop) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "stop").with(r), s)
}

// RefreshPool reads a pool anew.
func (c *Client) RefreshPool(ctx context.Context, s service.Submit, pool string, r service.JobOptions) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "refresh").with(r), s)
}

// VerifyPool reads every volume of a pool and gives the checksums.
func (c *Client) VerifyPool(ctx context.Context, s service.Submit, pool string, r service.JobOptions) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "verify").with(r), s)
}

// EvacuatePool moves a pool's volumes to another.
func (c *Client) EvacuatePool(ctx context.Context, s service.Submit, pool string, r service.PoolEvacuate) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "evacuate").with(r), s)
}

// DeletePool destroys a pool's storage.
func (c *Client) DeletePool(ctx context.Context, s service.Submit, pool string, r service.PoolDelete) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "delete").with(r), s)
}
