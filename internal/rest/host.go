package rest

import (
	_ "embed"
	"net/http"

	"storaged/internal/record"
	"storaged/internal/service"
)

// OpenAPI is the contract of the interface, written by hand.
//
//go:embed openapi.yaml
var OpenAPI []byte

func getVersion(c *call) error { return c.answer(http.StatusOK, c.svc.Version()) }

func getStatus(c *call) error {
	s, err := c.svc.Status(c.ctx())
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, wholeStatus(s))
}

func getCapabilities(c *call) error {
	return c.answer(http.StatusOK, service.List[record.Capabilities]{Items: each(c.svc.Capabilities(), wholeProperties)})
}

func getOpenAPI(c *call) error {
	c.write(http.StatusOK, yamlType, OpenAPI)
	return nil
}

func getLimits(c *call) error {
	l, err := c.svc.Limits(c.ctx())
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, wholeLimits(l))
}

func patchLimits(c *call) error {
	if err := c.noIfMatch("limits have"); err != nil {
		return err
	}
	r, err := decode[service.LimitsPatch](c)
	if err != nil {
		return err
	}
	l, err := c.svc.PatchLimits(c.ctx(), r)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, wholeLimits(l))
}

func putDrain(c *call) error {
	if err := c.noIfMatch("a drain has"); err != nil {
		return err
	}
	r, err := decode[service.DrainSet](c)
	if err != nil {
		return err
	}
	d, err := c.svc.Drain(c.ctx(), c.caller, *r.On)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, wholeDrain(d))
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

// each applies f to all items; no items are an empty list.
func each[T any](items []T, f func(T) T) []T {
	out := make([]T, 0, len(items))
	for _, item := range items {
		out = append(out, f(item))
	}
	return out
}

// wholeEvent is wholeJob, wholePool and wholeVolume for an event.
func wholeEvent(e record.Event) record.Event {
	if e.Job != nil {
		j := wholeJob(*e.Job)
		e.Job = &j
	}
	if e.Pool != nil {
		p := wholePool(*e.Pool)
		e.Pool = &p
	}
	if e.Volume != nil {
		v := wholeVolume(*e.Volume)
		e.Volume = &v
	}
	return e
}
