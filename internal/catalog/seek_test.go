package catalog

import (
	"errors"
	"strings"
	"testing"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// A pool that cannot be read is of interest only as far as it may have images on what a
// job takes away: not where that is younger, and no other host has it.
func TestUnreachablePoolIsWarnedOfOnlyWhereItMatters(t *testing.T) {
	away := map[string]error{"away": errors.New("it is unreachable: no")}
	for name, c := range map[string]struct {
		since time.Duration // before the volume
		state record.PoolState
		disks []string
		on    operation.Operation
		warns bool
	}{
		"younger":                   {time.Hour, record.PoolUnreachable, []string{"8:0"}, &operation.Delete{Volume: on("v")}, false},
		"older":                     {-time.Hour, record.PoolUnreachable, []string{"8:0"}, &operation.Delete{Volume: on("v")}, true},
		"on no disk of ours":        {time.Hour, record.PoolUnreachable, nil, &operation.Delete{Volume: on("v")}, true},
		"one that does not answer":  {time.Hour, record.PoolActive, []string{"8:0"}, &operation.Delete{Volume: on("v")}, true},
		"a pool with all its files": {time.Hour, record.PoolUnreachable, []string{"8:0"}, &operation.PoolStop{OnPool: onPoolAt("p", "/p")}, true},
	} {
		d := newDesk(t)
		d.ready("v")
		var warnings []string
		d.update(func(tx *store.Tx) error {
			v, err := tx.Volume("p", "v")
			if err != nil {
				return err
			}
			j := d.job(creating("w"))
			j.Created, v.CreatedBy = time.Now(), &j.Number
			p, err := tx.Pool("p")
			if err != nil {
				return err
			}
			p.Devices = c.disks
			err = errors.Join(tx.PutJob(j), tx.PutVolume(v), tx.PutPool(p), tx.PutPool(&store.Pool{Pool: record.Pool{
				Name: "away", UUID: "a", Type: "dir", State: c.state, Since: j.Created.Add(-c.since), Target: record.Target{Path: "/away"},
			}}))
			if err != nil {
				return err
			}
			warnings, err = UnknownIn(tx, c.on, away)
			return err
		})
		if (len(warnings) > 0) != c.warns || c.warns && !strings.Contains(warnings[0], "away") {
			t.Errorf("%s: %q", name, warnings)
		}
	}
}

// Both paths of an overlap are as they were typed, and where they lead.
func TestOverlapIsToldByThePathsThatWereTyped(t *testing.T) {
	d := newDesk(t)
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err != nil {
			return err
		}
		p.Real = "/srv/real"
		if err := tx.PutPool(p); err != nil {
			return err
		}
		new := &store.Pool{Pool: record.Pool{Name: "q", UUID: "q", Type: "dir", Target: record.Target{Path: "/link"}}}
		for path, want := range map[string]string{"/srv/real/in": `"/link" (which is "/srv/real/in") overlaps "/p" (which is "/srv/real")`, "/link": ""} {
			if err := apart(tx, new, path); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", path, err)
			}
		}
		return nil
	})
}
