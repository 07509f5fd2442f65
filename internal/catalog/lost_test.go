package catalog

import (
	"fmt"
	"testing"

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
