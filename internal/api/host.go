package api

import (
	_ "embed"
	"net/http"

	"storaged/internal/backends"
	"storaged/internal/record"
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
	return c.answer(http.StatusOK, List[backends.Properties]{Items: each(c.svc.Capabilities(), wholeProperties)})
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

// each applies f to all items; no items are an empty list.
func each[T any](items []T, f func(T) T) []T {
	out := make([]T, 0, len(items))
	for _, item := range items {
		out = append(out, f(item))
	}
	return out
}

// wholeEvent is wholeJob and wholeVolume for an event.
func wholeEvent(e record.Event) record.Event {
	if e.Job != nil {
		j := wholeJob(*e.Job)
		e.Job = &j
	}
	if e.Volume != nil {
		v := wholeVolume(*e.Volume)
		e.Volume = &v
	}
	return e
}
