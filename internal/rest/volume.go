package rest

import (
	"net/http"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
)

func (c *call) volume() string { return c.r.PathValue("volume") }

func listVolumes(c *call) error {
	p, f, err := c.volumeFilter()
	if err != nil {
		return err
	}
	f.Pools = c.r.URL.Query()["pool"]
	if err := c.freshen(f.Pools...); err != nil {
		return err
	}
	return c.answerVolumes(p, f)
}

// listPoolVolumes asks for the pool first: of one that is not there, no
// volumes would be a lie.
func listPoolVolumes(c *call) error {
	p, f, err := c.volumeFilter()
	if err != nil {
		return err
	}
	if err := c.freshen(c.pool()); err != nil {
		return err
	}
	pool, err := c.svc.Pool(c.ctx(), c.pool())
	if err != nil {
		return err
	}
	f.Pools = []string{pool.Name}
	return c.answerVolumes(p, f)
}

func (c *call) volumeFilter() (contract.Page, contract.VolumeFilter, error) {
	q := c.r.URL.Query()
	f := contract.VolumeFilter{Paths: q["path"], Keys: q["key"], Formats: q["format"], States: q["state"]}
	for _, s := range f.States {
		if err := record.OneOf("state", record.VolumeState(s), record.VolumeReady, record.VolumeBuilding, record.VolumeIncomplete); err != nil {
			return contract.Page{}, f, err
		}
	}
	p, err := c.keyPage()
	return p, f, err
}

func (c *call) answerVolumes(p contract.Page, f contract.VolumeFilter) error {
	volumes, err := c.svc.Volumes(c.ctx(), f)
	if err != nil {
		return err
	}
	// A slash is in no name, so pool and volume sort as two words.
	return answerPage(c, p, volumes, func(v record.Volume) string { return v.Pool + "/" + v.Name })
}

func getVolume(c *call) error {
	if err := c.freshen(c.pool()); err != nil {
		return err
	}
	return c.answerVolume(c.svc.Volume(c.ctx(), c.pool(), c.volume()))
}

func (c *call) answerVolume(v record.Volume, err error) error {
	if err != nil {
		return err
	}
	c.Header().Set("ETag", wire.ETag(v.Generation))
	return c.answer(http.StatusOK, v)
}

func patchVolume(c *call) error {
	var r contract.VolumePatch
	s, err := c.request(&r)
	if err != nil {
		return err
	}
	return c.answerVolume(c.svc.PatchVolume(c.ctx(), s, c.pool(), c.volume(), r))
}

// deleteVolume has its options in the query: a DELETE has no body.
func deleteVolume(c *call) error {
	o, err := c.jobOptions()
	if err != nil {
		return err
	}
	r := &operation.DeleteRequest{Wipe: c.r.URL.Query().Get("wipe"), JobOptions: o}
	if r.AcceptLimits, err = c.flag("accept_limits"); err != nil {
		return err
	}
	if r.MissingOK, err = c.flag("missing_ok"); err != nil {
		return err
	}
	if r.WithSnapshots, err = c.flag("with_snapshots"); err != nil {
		return err
	}
	if err := r.Check(); err != nil {
		return err
	}
	r.Fill()
	s, err := c.submit(*r)
	if err != nil {
		return err
	}
	return c.started(c.svc.Start(c.ctx(), s, c.pool(), c.volume(), r))
}

func (c *call) snapshot() string { return c.r.PathValue("snapshot") }

func listSnapshots(c *call) error {
	p, err := c.keyPage()
	if err != nil {
		return err
	}
	if err := c.freshen(c.pool()); err != nil {
		return err
	}
	all, err := c.svc.Snapshots(c.ctx(), c.pool(), c.volume())
	if err != nil {
		return err
	}
	return answerPage(c, p, all, func(s record.Snapshot) string { return s.Name })
}

func getSnapshot(c *call) error {
	if err := c.freshen(c.pool()); err != nil {
		return err
	}
	return c.result(c.svc.Snapshot(c.ctx(), c.pool(), c.volume(), c.snapshot()))
}

// deleteSnapshot has its options in the query, as deleteVolume has.
func deleteSnapshot(c *call) error {
	o, err := c.jobOptions()
	if err != nil {
		return err
	}
	r := &operation.SnapshotDeleteRequest{JobOptions: o}
	r.Named(c.snapshot())
	if err := r.Check(); err != nil {
		return err
	}
	r.Fill()
	s, err := c.submit(*r)
	if err != nil {
		return err
	}
	return c.started(c.svc.Start(c.ctx(), s, c.pool(), c.volume(), r))
}
