package catalog

import (
	"testing"

	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// into is a place in the pool "p".
func into(name string) operation.Into { return operation.Into{Target: operation.Target(on(name))} }

func moveOf(name, to string) *operation.Move {
	return &operation.Move{Volume: on(name), Into: into(to)}
}

// moving grants a move of the ready volume "a" to "b".
func (d *desk) moving() *store.Job {
	d.t.Helper()
	d.ready("a")
	d.update(func(tx *store.Tx) error {
		v, err := tx.Volume("p", "a")
		if err != nil {
			return err
		}
		v.Description = "a disk"
		return tx.PutVolume(v)
	})
	j := d.job(moveOf("a", "b"))
	if err := d.grant(j); err != nil {
		d.t.Fatal(err)
	}
	if v := d.volume("b"); v == nil || v.State != record.VolumeBuilding || *v.Job != j.Number {
		d.t.Fatalf("while it is moved: %+v", v)
	}
	if v := d.volume("a"); v == nil || v.State != record.VolumeReady {
		d.t.Fatalf("while it is moved, its source is %+v", v)
	}
	return j
}

func TestMoveEndsAsFarAsItCame(t *testing.T) {
	there := &ipc.Item{Name: "b", Path: "/p/b", Size: 10, Capacity: 10, Identity: "8:7"}
	for _, c := range []struct {
		what     string
		state    record.State
		code     record.Code
		report   *ipc.Report
		old, new record.VolumeState // "" is no entry
	}{
		{"moved", record.Succeeded, "", report(10, there), "", record.VolumeReady},
		{"undone", record.Canceled, record.CanceledCode, report(5, nil), record.VolumeReady, ""},
		{"nobody knows", record.Failed, record.Interrupted, nil, record.VolumeReady, ""},
		{"the source could not be removed", record.Failed, record.IO, report(10, there), record.VolumeReady, record.VolumeReady},
		{"result and exit status differ", record.Failed, record.Inconsistent, report(10, there), record.VolumeReady, record.VolumeIncomplete},
	} {
		t.Run(c.what, func(t *testing.T) {
			d := newDesk(t)
			j := d.moving()
			was := d.volume("a")
			d.end(j, c.state, c.code, c.report)
			for name, want := range map[string]record.VolumeState{"a": c.old, "b": c.new} {
				v := d.volume(name)
				if v == nil && want == "" {
					continue
				}
				if v == nil || v.State != want || v.Description != "a disk" || v.Format != record.FormatRaw || *v.CreatedBy != *was.CreatedBy {
					t.Errorf("%s is %+v, want %q", name, v, want)
				}
			}
			if v := d.volume("b"); v != nil && (v.Generation != was.Generation+1 || v.Identity != "8:7" || v.Path != "/p/b") {
				t.Errorf("the new entry is %+v, the old was %+v", v, was)
			}
		})
	}
}

func TestMoveKeepsTheMarkOfAnIncompleteVolume(t *testing.T) {
	d := newDesk(t)
	d.ready("a")
	wipe := d.job(wiping("a"))
	if err := d.grant(wipe); err != nil {
		t.Fatal(err)
	}
	d.end(wipe, record.Failed, record.IO, report(5, nil))
	j := d.job(moveOf("a", "b"))
	if err := d.grant(j); err != nil {
		t.Fatal(err)
	}
	d.end(j, record.Succeeded, "", report(10, &ipc.Item{Name: "b", Size: 10}))
	if v := d.volume("b"); v == nil || v.State != record.VolumeIncomplete || *v.Job != wipe.Number {
		t.Errorf("after the move it is %+v", v)
	}
}

func TestMoveIsRefusedAtTheGrantForChildrenThatCameMeanwhile(t *testing.T) {
	d := newDesk(t)
	d.ready("a")
	j := d.job(moveOf("a", "b"))
	d.update(func(tx *store.Tx) error {
		return tx.PutVolume(&store.Volume{Volume: record.Volume{Pool: "p", Name: "child", Path: "/p/child", Backing: "a", Format: "qcow2", State: record.VolumeReady}})
	})
	if err := d.grant(j); record.CodeOf(err) != record.HasChildren {
		t.Errorf("got %v", err)
	}
	if v := d.volume("b"); v != nil {
		t.Errorf("refused, and there is %+v", v)
	}
}

func TestVolumeWithARelativeBackingStaysInItsPool(t *testing.T) {
	d := newDesk(t)
	v := &store.Volume{Volume: record.Volume{Pool: "p", Name: "v", Path: "/p/v", Backing: "base", Format: "qcow2", State: record.VolumeReady}}
	d.update(func(tx *store.Tx) error { return tx.PutVolume(v) })
	for pool, want := range map[string]record.Code{"q": record.Unsupported, "p": ""} {
		o := moveOf("v", "w")
		o.Target.Pool = pool
		err := d.store.View(func(tx *store.Tx) error {
			_, err := allowed(tx, o, nil)
			return err
		})
		if record.CodeOf(err) != want {
			t.Errorf("to pool %q: %v", pool, err)
		}
	}
}

// Nothing is shared between disks; of a pool whose disk is not known nobody can say.
func TestDisjointDisks(t *testing.T) {
	for _, c := range []struct {
		a, b []string
		want bool
	}{
		{[]string{"8:0"}, []string{"8:16"}, true}, {[]string{"8:0", "8:16"}, []string{"8:16"}, false}, {nil, []string{"8:0"}, false}, {[]string{"8:0"}, nil, false},
	} {
		if got := disjoint(c.a, c.b); got != c.want {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
	}
}
