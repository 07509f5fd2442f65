package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"storaged/internal/record"
	"storaged/internal/service"
)

// Volumes gives the volumes that f selects, by pool and name.
func (c *Client) Volumes(ctx context.Context, f service.VolumeFilter) ([]record.Volume, error) {
	a := newAsk(http.MethodGet, "volumes")
	setAll(a.query, "pool", f.Pools...)
	setAll(a.query, "path", f.Paths...)
	setAll(a.query, "key", f.Keys...)
	setAll(a.query, "format", f.Formats...)
	setAll(a.query, "state", f.States...)
	return fetchAll[record.Volume](ctx, c, a)
}

// PoolVolumes gives the volumes of one pool, which must exist, by name.
func (c *Client) PoolVolumes(ctx context.Context, pool string) ([]record.Volume, error) {
	return fetchAll[record.Volume](ctx, c, newAsk(http.MethodGet, "pools", pool, "volumes"))
}

// Volume gives one volume.
func (c *Client) Volume(ctx context.Context, pool, volume string) (record.Volume, error) {
	return fetch[record.Volume](ctx, c, newAsk(http.MethodGet, "pools", pool, "volumes", volume))
}

// PatchVolume changes properties of a volume.
func (c *Client) PatchVolume(ctx context.Context, s service.Submit, pool, volume string, r service.VolumePatch) (record.Volume, error) {
	a := newAsk(http.MethodPatch, "pools", pool, "volumes", volume).with(r).under(s)
	return fetch[record.Volume](ctx, c, a)
}

// CreateVolume makes a volume.
func (c *Client) CreateVolume(ctx context.Context, s service.Submit, pool string, r service.VolumeCreate) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "volumes").with(r), s)
}

// CloneVolume copies a volume.
func (c *Client) CloneVolume(ctx context.Context, s service.Submit, pool, volume string, r service.VolumeClone) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "volumes", volume, "clone").with(r), s)
}

// ResizeVolume gives a volume another capacity.
func (c *Client) ResizeVolume(ctx context.Context, s service.Submit, pool, volume string, r service.VolumeResize) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "volumes", volume, "resize").with(r), s)
}

// WipeVolume overwrites a volume's content.
func (c *Client) WipeVolume(ctx context.Context, s service.Submit, pool, volume string, r service.VolumeWipe) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "volumes", volume, "wipe").with(r), s)
}

// TrimVolume gives back the blocks of what reads as zeros.
func (c *Client) TrimVolume(ctx context.Context, s service.Submit, pool, volume string, r service.VolumeTrim) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "volumes", volume, "trim").with(r), s)
}

// VerifyVolume reads a volume and gives its checksum.
func (c *Client) VerifyVolume(ctx context.Context, s service.Submit, pool, volume string, r service.VolumeVerify) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "volumes", volume, "verify").with(r), s)
}

// MoveVolume gives a volume another name, in another pool if asked.
func (c *Client) MoveVolume(ctx context.Context, s service.Submit, pool, volume string, r service.VolumeMove) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "pools", pool, "volumes", volume, "move").with(r), s)
}

// DeleteVolume deletes a volume.
func (c *Client) DeleteVolume(ctx context.Context, s service.Submit, pool, volume string, r service.VolumeDelete) (service.Started, error) {
	a := newAsk(http.MethodDelete, "pools", pool, "volumes", volume)
	setAll(a.query, "wipe", r.Wipe)
	if r.AcceptLimits {
		a.query.Set("accept_limits", "true")
	}
	setJobOptions(a.query, r.JobOptions)
	return c.start(ctx, a, s)
}

// setJobOptions writes options as the query of a request that has no body.
func setJobOptions(q url.Values, o service.JobOptions) {
	if o.Limit != nil {
		q.Set("limit", strconv.FormatInt(*o.Limit, 10))
	}
	setAll(q, "priority", string(o.Priority))
	setAll(q, "on_failure", string(o.OnFailure))
	for k, v := range o.Labels {
		q.Add("label", k+"="+v)
	}
}
