package client

import (
	"context"
	"net/http"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// Volumes gives the volumes that f selects, by pool and name.
func (c *Client) Volumes(ctx context.Context, f contract.VolumeFilter) ([]record.Volume, error) {
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

// Snapshots gives those of a volume, by name.
func (c *Client) Snapshots(ctx context.Context, pool, volume string) ([]record.Snapshot, error) {
	return fetchAll[record.Snapshot](ctx, c, newAsk(http.MethodGet, "pools", pool, "volumes", volume, "snapshots"))
}

// Snapshot gives one of a volume's.
func (c *Client) Snapshot(ctx context.Context, pool, volume, name string) (record.Snapshot, error) {
	return fetch[record.Snapshot](ctx, c, newAsk(http.MethodGet, "pools", pool, "volumes", volume, "snapshots", name))
}

// PatchVolume changes properties of a volume.
func (c *Client) PatchVolume(ctx context.Context, s contract.Submit, pool, volume string, r contract.VolumePatch) (record.Volume, error) {
	a := newAsk(http.MethodPatch, "pools", pool, "volumes", volume).with(r).under(s)
	return fetch[record.Volume](ctx, c, a)
}
