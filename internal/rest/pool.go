package rest

import (
	"net/http"
	"net/url"

	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
)

func (c *call) pool() string { return c.r.PathValue("pool") }

func listPools(c *call) error {
	p, err := c.keyPage()
	if err != nil {
		return err
	}
	if err := c.freshenPools(); err != nil {
		return err
	}
	pools, err := c.svc.Pools(c.ctx())
	if err != nil {
		return err
	}
	return answerPage(c, p, pools, func(p record.Pool) string { return p.Name })
}

func getPool(c *call) error {
	if err := c.freshenPools(c.pool()); err != nil {
		return err
	}
	p, err := c.svc.Pool(c.ctx(), c.pool())
	return c.answerPool(http.StatusOK, p, err)
}

// answerPool answers with a pool and its generation.
func (c *call) answerPool(status int, p record.Pool, err error) error {
	if err != nil {
		return err
	}
	c.Header().Set("ETag", wire.ETag(p.Generation))
	return c.answer(status, p)
}

func definePool(c *call) error {
	var r contract.PoolDefine
	s, err := c.request(&r)
	if err != nil {
		return err
	}
	build, err := c.flag("build")
	if err != nil {
		return err
	}
	start, err := c.flag("start")
	if err != nil {
		return err
	}
	p, st, err := c.svc.DefinePool(c.ctx(), s, r, build, start)
	if err != nil || st != (contract.Started{}) {
		return c.started(st, err)
	}
	if s.DryRun {
		return c.answer(http.StatusOK, p)
	}
	c.Header().Set("Location", "/v1/pools/"+url.PathEscape(p.Name))
	return c.answerPool(http.StatusCreated, p, nil)
}

func replacePool(c *call) error {
	var r contract.PoolDefine
	s, err := c.request(&r)
	if err != nil {
		return err
	}
	p, err := c.svc.ReplacePool(c.ctx(), s, c.pool(), r)
	return c.answerPool(http.StatusOK, p, err)
}

func patchPool(c *call) error {
	var r contract.PoolPatch
	s, err := c.request(&r)
	if err != nil {
		return err
	}
	p, err := c.svc.PatchPool(c.ctx(), s, c.pool(), r)
	return c.answerPool(http.StatusOK, p, err)
}

func undefinePool(c *call) error {
	var r contract.PoolUndefine
	s, err := c.request(&r)
	if err != nil {
		return err
	}
	changed, err := c.svc.UndefinePool(c.ctx(), s, c.pool(), r)
	if err != nil || !changed {
		return c.result(contract.Unchanged{}, err)
	}
	c.WriteHeader(http.StatusNoContent)
	return nil
}

func findSources(c *call) error {
	if err := c.noIfMatch("sources have"); err != nil {
		return err
	}
	var r contract.SourcesFind
	if err := c.decode(&r); err != nil {
		return err
	}
	found, err := c.svc.FindSources(c.ctx(), c.caller, r)
	return c.result(contract.List[record.Source]{Items: found}, err)
}
