package main_test

import (
	"storaged/internal/record"
	"storaged/internal/service"
)

// The verbs of scenarios, on volumes of the pool "pool". Each gives what was
// started, for h.succeed, h.end and the like; a request that is not given is the
// plain one.

func (h *host) wipe(volume string, r ...service.VolumeWipe) (service.Started, error) {
	return h.client.Start(h.ctx(), service.Submit{}, record.VolumeWipe, on("pool", volume), append(r, service.VolumeWipe{})[0])
}

func (h *host) resize(volume string, r service.VolumeResize) (service.Started, error) {
	return h.client.Start(h.ctx(), service.Submit{}, record.VolumeResize, on("pool", volume), r)
}

func (h *host) remove(volume string, r ...service.VolumeDelete) (service.Started, error) {
	return h.client.Start(h.ctx(), service.Submit{}, record.VolumeDelete, on("pool", volume), append(r, service.VolumeDelete{})[0])
}
