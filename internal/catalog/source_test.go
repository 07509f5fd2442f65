package catalog

import (
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// onDevice is a pool of type fs.
func onDevice(name, device string) *store.Pool {
	return &store.Pool{Pool: record.Pool{
		Name: name, UUID: "uuid of " + name, Type: "fs", Persistent: true, State: record.PoolInactive,
		Target: record.Target{Path: "/" + name}, Source: record.Source{Devices: []string{device}, Format: "ext4"},
	}}
}

// A source belongs to one pool, in use or not, and others are told whose devices there are.
func TestSourceBelongsToOnePool(t *testing.T) {
	d := newDesk(t)
	d.update(func(tx *store.Tx) error { return d.Define(tx, onDevice("a", "/dev/a")) })
	err := d.store.Update(func(tx *store.Tx) error { return d.Define(tx, onDevice("b", "/dev/a")) })
	if record.CodeOf(err) != record.Busy {
		t.Errorf("the source of another: %v", err)
	}
	d.update(func(tx *store.Tx) error { return d.Define(tx, onDevice("b", "/dev/b")) })
	for _, redefine := range []func(tx *store.Tx, p, next *store.Pool) error{d.Redefine, d.RedefineLater} {
		err = d.store.Update(func(tx *store.Tx) error {
			p, err := tx.Pool("b")
			if err != nil {
				return err
			}
			return redefine(tx, p, onDevice("b", "/dev/a"))
		})
		if record.CodeOf(err) != record.Busy {
			t.Errorf("defined anew: %v", err)
		}
	}
	build := &operation.PoolBuild{OnPool: operation.OnPool{Volume: OnPool(onDevice("b", "/dev/b"))}}
	j := d.job(build)
	if err := d.grant(j); err != nil {
		t.Fatal(err)
	}
	want := []string{"pool-build", "--type", "fs", "--target", "/b", "--name", "b", "--pool-source", `{"devices":["/dev/b"],"format":"ext4"}`, "--spare=/dev/a", "--yes"}
	if len(j.Argv) != len(want) {
		t.Fatalf("argv is %q", j.Argv)
	}
	for i := range want {
		if j.Argv[i] != want[i] {
			t.Errorf("argv is %q", j.Argv)
		}
	}
}

// What was asked of a pool on one device is not done to another one.
func TestRetryIsRefusedWhereThePoolHasAnotherSourceByNow(t *testing.T) {
	d := newDesk(t)
	d.update(func(tx *store.Tx) error { return d.Define(tx, onDevice("a", "/dev/a")) })
	build := d.job(&operation.PoolBuild{OnPool: operation.OnPool{Volume: OnPool(onDevice("a", "/dev/a"))}, Overwrite: true})
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("a")
		if err != nil {
			return err
		}
		return d.Redefine(tx, p, onDevice("a", "/dev/other"))
	})
	if err := d.grant(build); record.CodeOf(err) != record.Changed {
		t.Errorf("another device was built: %v", err)
	}
}
