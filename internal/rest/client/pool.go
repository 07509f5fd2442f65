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
