package rest

import (
	_ "embed"
	"net/http"

	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
)

// OpenAPI is the contract of the interface, written by hand.
//
//go:embed openapi.yaml
var OpenAPI []byte

func getVersion(c *call) error {
	v := c.svc.Version()
	v.API = wire.Version
	return c.answer(http.StatusOK, v)
}

func getStatus(c *call) error { return c.result(c.svc.Status(c.ctx())) }

func getCapabilities(c *call) error {
	return c.answer(http.StatusOK, contract.List[record.Capabilities]{Items: c.svc.Capabilities()})
}

func getOpenAPI(c *call) error {
	c.write(http.StatusOK, yamlType, OpenAPI)
	return nil
}

func getLimits(c *call) error { return c.result(c.svc.Limits(c.ctx())) }

func patchLimits(c *call) error {
	if err := c.noIfMatch("limits have"); err != nil {
		return err
	}
	var r contract.LimitsPatch
	if err := c.decode(&r); err != nil {
		return err
	}
	return c.result(c.svc.PatchLimits(c.ctx(), r))
}

func putDrain(c *call) error {
	if err := c.noIfMatch("a drain has"); err != nil {
		return err
	}
	var r contract.DrainSet
	if err := c.decode(&r); err != nil {
		return err
	}
	return c.result(c.svc.Drain(c.ctx(), c.caller, *r.On))
}

func getMetrics(c *call) error {
	b, err := c.svc.Metrics()
	if err != nil {
		return err
	}
	c.write(http.StatusOK, metricsType, b)
	return nil
}

// freshen has pools read anew first, if the request asks for that.
func (c *call) freshen(pools ...string) error {
	fresh, err := c.flag("fresh")
	if err != nil || !fresh || c.r.URL.Query().Has("cursor") { // the first page has done it
		return err
	}
	return c.svc.Freshen(c.ctx(), pools...)
}

// freshenPools is freshen for those who are told how the pools are: that one
// could not be read is in its state.
func (c *call) freshenPools(pools ...string) error {
	err := c.freshen(pools...)
	if record.CodeOf(err) == record.WrongState {
		return nil
	}
	return err
}
