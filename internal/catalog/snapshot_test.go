package catalog

import (
	"fmt"
	"strings"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// forbidden says why no overlay can stand on a volume.
func (d *desk) forbidden(name string) string {
	d.t.Helper()
	o := &operation.SnapshotCreate{OnSnapshot: operation.OnSnapshot{Volume: operation.Volume{Pool: "p", Name: name}, Snapshot: "s"}}
	if err := d.store.View(func(tx *store.Tx) error { return forbidOverlay(tx, o, "p") }); err != nil {
		d.t.Fatal(err)
	}
	return o.Forbidden
}

// The rules for what an overlay snapshot stands on are those for every backing.
func TestOverlaysHaveTheRulesOfChains(t *testing.T) {
	d := newDesk(t)
	d.overlay("beyond", store.Reference{Name: "/etc/shadow", Path: "/etc/shadow"})
	d.overlay("deep0")
	for i := range operation.MaxDepth {
		d.overlay(fmt.Sprintf("deep%d", i+1), onto(fmt.Sprintf("deep%d", i)))
	}
	for name, want := range map[string]string{
		"deep63": "", "deep64": "stands on more than 64 images", "beyond": "no volume of a pool",
	} {
		if why := d.forbidden(name); (why == "") != (want == "") || !strings.Contains(why, want) {
			t.Errorf("%s: %q, not %q", name, why, want)
		}
	}
}

// A snapshot that is named where a volume must be is said to be one.
func TestSnapshotIsNoVolume(t *testing.T) {
	d := newDesk(t)
	d.ready("v")
	d.update(func(tx *store.Tx) error {
		v, err := tx.Volume("p", "v")
		if err != nil {
			return err
		}
		setFrozen(v, []store.Snapshot{{Snapshot: record.Snapshot{Name: "s"}}})
		return tx.PutVolume(v)
	})
	for name, want := range map[string]string{"v@s": "is a snapshot and no volume", "v@other": "no volume", "v@": "no volume", "@s": "no volume"} {
		err := d.store.View(func(tx *store.Tx) error { _, err := Volume(tx, "p", name); return err })
		if record.CodeOf(err) != record.NotFound || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string]record.Code{"v@s": record.Exists, "v@other": "", "v@": "", "@s": ""} {
		err := d.store.View(func(tx *store.Tx) error {
			p, err := Pool(tx, "p")
			if err != nil {
				return err
			}
			return FreeName(tx, p, name)
		})
		if (err == nil) != (want == "") || err != nil && record.CodeOf(err) != want {
			t.Errorf("a volume named %s: %v", name, err)
		}
	}
}
