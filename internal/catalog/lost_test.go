package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

// incomplete lists volumes that a job left so, of files by those inodes.
func (d *desk) incomplete(inodes ...int) {
	d.t.Helper()
	d.update(func(tx *store.Tx) error {
		for _, n := range inodes {
			name := fmt.Sprint("v", n)
			v := &store.Volume{Identity: fmt.Sprintf("8:%d:1", n), Volume: record.Volume{
				Pool: "p", Name: name, Path: "/p/" + name, Key: "/p/" + name, Format: "raw", State: record.VolumeIncomplete, Job: new(int64(n)),
			}}
			if err := tx.PutVolume(v); err != nil {
				return err
			}
		}
		return nil
	})
}

// vanished takes a volume away whose file was not found, and gives what is remembered then.
func (d *desk) vanished(name string) (lost []store.Lost) {
	d.t.Helper()
	d.update(func(tx *store.Tx) error {
		v, err := tx.Volume("p", name)
		if err != nil {
			return err
		}
		if err := d.vanish(tx, v); err != nil {
			return err
		}
		p, err := tx.Pool("p")
		if err == nil {
			lost = p.Lost
		}
		return err
	})
	return lost
}

// What is remembered of files that lost their names is bounded: the oldest goes.
func TestNewestLostFilesAreRemembered(t *testing.T) {
	d := newDesk(t)
	for n := range maxLost + 1 {
		d.incomplete(n + 1)
		lost := d.vanished(fmt.Sprint("v", n+1))
		if last := lost[len(lost)-1]; len(lost) != min(n+1, maxLost) || *last.Job != int64(n+1) || n == maxLost && *lost[0].Job != 2 {
			t.Fatalf("after %d: %d are remembered, the last of job %d", n+1, len(lost), *last.Job)
		}
	}
}

// A file that was found by its new name already is not remembered by its old one.
func TestFileThatWasFoundIsNotLost(t *testing.T) {
	d := newDesk(t)
	d.incomplete(1)
	d.update(func(tx *store.Tx) error {
		v, err := tx.Volume("p", "v1")
		if err != nil {
			return err
		}
		v.Name, v.Path, v.Key, v.State, v.Job = "new", "/p/new", "/p/new", record.VolumeReady, nil // a wipe has healed it
		return tx.PutVolume(v)
	})
	if lost := d.vanished("v1"); len(lost) > 0 {
		t.Errorf("remembered: %+v", lost)
	}
}

// Another definition of a pool changes nothing of what lies in it, unless that is elsewhere.
func TestRedefinedPoolKnowsLostFilesAsLongAsItLiesWhereItDid(t *testing.T) {
	for path, want := range map[string]int{"/p": 1, "/elsewhere": 0} {
		for name, redefine := range map[string]func(d *desk, tx *store.Tx, p, next *store.Pool) error{
			"at once": func(d *desk, tx *store.Tx, p, next *store.Pool) error { return d.Redefine(tx, p, next) },
			"later": func(d *desk, tx *store.Tx, p, next *store.Pool) error {
				p.Next = new(next.Definition())
				return errors.Join(d.useNext(tx, p), tx.PutPool(p))
			},
		} {
			d := newDesk(t)
			d.incomplete(1)
			d.vanished("v1")
			d.update(func(tx *store.Tx) error {
				p, err := tx.Pool("p")
				if err != nil {
					return err
				}
				p.State = record.PoolInactive
				next := &store.Pool{Pool: record.Pool{Name: "p", UUID: "u", Type: "dir", Persistent: true, Target: record.Target{Path: path}}}
				if err := redefine(d, tx, p, next); err != nil {
					return err
				}
				if p, err = tx.Pool("p"); err == nil && len(p.Lost) != want {
					t.Errorf("%s, at %s: %d files are remembered, want %d", name, path, len(p.Lost), want)
				}
				return err
			})
		}
	}
}

// An inode alone may be another file's by now.
func TestFileIsIncompleteByAnotherNameOnlyIfItIsSurelyTheSame(t *testing.T) {
	for _, c := range []struct {
		known, found string
		is           record.VolumeState
	}{
		{"8:5:6", "8:5:6", record.VolumeIncomplete},
		{"41:5:=ab", "42:7:=ab", record.VolumeIncomplete}, // of an overlay
		{"8:5", "8:5", record.VolumeReady},
		{"8:5:6", "8:5", record.VolumeReady},
		{"8:5", "8:5:6", record.VolumeReady},
		{"41:5:6", "41:5:=ab", record.VolumeReady},
	} {
		for _, away := range []bool{false, true} {
			d := newDesk(t)
			d.incomplete(1)
			d.update(func(tx *store.Tx) error {
				v, err := tx.Volume("p", "v1")
				if err == nil {
					v.Identity = c.known
					err = tx.PutVolume(v)
				}
				return err
			})
			if away {
				if lost := d.vanished("v1"); (len(lost) > 0) != (strings.Count(c.known, ":") > 1) {
					t.Errorf("known as %s: remembered: %+v", c.known, lost)
				}
			}
			d.finds(ipc.Item{Name: "new", Size: 10, Identity: c.found, Format: "qcow2", Capacity: 1 << 30})
			want := map[record.VolumeState]string{record.VolumeReady: "qcow2", record.VolumeIncomplete: "raw"}[c.is]
			if v := d.volume("new"); v.State != c.is || v.Format != want {
				t.Errorf("known as %s and found as %s (away: %t): it is %s, in format %s", c.known, c.found, away, v.State, v.Format)
			}
		}
	}
}

// finds applies a refresh that found one volume.
func (d *desk) finds(it ipc.Item) {
	d.t.Helper()
	scan := d.job(refreshing())
	if err := d.grant(scan); err != nil {
		d.t.Fatal(err)
	}
	d.end(scan, record.Succeeded, "", &ipc.Report{Items: []ipc.Item{it}})
}
