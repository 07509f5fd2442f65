package client

import (
	"context"
	"net/http"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// Pools gives all pools, by name.
func (c *Client) Pools(ctx context.Context) ([]record.Pool, error) {
	return fetchAll[record.Pool](ctx, c, newAsk(http.MethodGet, "pools"))
}

// Pool gives one pool.
func (c *Client) Pool(ctx context.Context, pool string) (record.Pool, error) {
	return fetch[record.Pool](ctx, c, newAsk(http.MethodGet, "pools", pool))
}

// FindSources gives storage that pools of a type could be made of.
func (c *Client) FindSources(ctx context.Context, r contract.SourcesFind) ([]record.Source, error) {
	l, err := fetch[contract.List[record.Source]](ctx, c, newAsk(http.MethodPost, "sources").with(r))
	return l.Items, err
}

// DefinePool records a pool. With build or start it also starts one job; the
// answer is then that job (or plan), and the pool in it is empty. So it is where
// there is nothing to do.
func (c *Client) DefinePool(ctx context.Context, s contract.Submit, r contract.PoolDefine, build, start bool) (record.Pool, contract.Started, error) {
	a := newAsk(http.MethodPost, "pools").with(r)
	a.set("build", build)
	a.set("start", start)
	if build || start {
		st, err := c.start(ctx, a, s)
		return record.Pool{}, st, err
	}
	is, err := fetch[struct {
		record.Pool
		contract.Unchanged
	}](ctx, c, a.under(s))
	if is.Unchanged.Pool != nil {
		return record.Pool{}, contract.Started{Unchanged: &is.Unchanged}, err
	}
	return is.Pool, contract.Started{}, err
}

// ReplacePool changes a pool's definition: now, or when it is not in use any more.
func (c *Client) ReplacePool(ctx context.Context, s contract.Submit, pool string, r contract.PoolDefine) (record.Pool, error) {
	return fetch[record.Pool](ctx, c, newAsk(http.MethodPut, "pools", pool).with(r).under(s))
}

// PatchPool changes properties of a pool.
func (c *Client) PatchPool(ctx context.Context, s contract.Submit, pool string, r contract.PoolPatch) (record.Pool, error) {
	return fetch[record.Pool](ctx, c, newAsk(http.MethodPatch, "pools", pool).with(r).under(s))
}

// UndefinePool forgets a pool. It reports whether there was one.
func (c *Client) UndefinePool(ctx context.Context, s contract.Submit, pool string, r contract.PoolUndefine) (changed bool, err error) {
	is := contract.Unchanged{Changed: true}
	err = c.do(ctx, newAsk(http.MethodPost, "pools", pool, "undefine").with(r).under(s), &is)
	return err == nil && is.Changed, err
}
