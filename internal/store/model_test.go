package store

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"storaged/internal/record"
)

// model is the store as plain maps.
type model struct {
	s    *Store
	path string
	data tables
}

type tables struct {
	jobs    map[int64]*Job
	pools   map[string]*Pool
	volumes map[string]*Volume // by pool/name
	last    int64
}

func (d tables) clone() tables {
	return tables{maps.Clone(d.jobs), maps.Clone(d.pools), maps.Clone(d.volumes), d.last}
}

// edit is one step of a transaction, done to the store and to the model.
type edit func(tx *Tx, d *tables) error

// step draws one change. Errors that the store must give are checked inside.
func (m *model) step(t *rapid.T, d *tables) edit {
	name := rapid.SampledFrom([]string{"a", "b", "c", "ab"})
	switch rapid.SampledFrom([]string{"job", "job", "delete job", "pool", "delete pool", "volume", "volume", "delete volume", "delete volumes"}).Draw(t, "change") {
	case "job":
		return putJob(drawJob(t, d))
	case "delete job":
		return deleteJob(rapid.Int64Range(1, d.last+1).Draw(t, "number"))
	case "pool":
		p := testPool(name.Draw(t, "pool"))
		p.UUID = rapid.SampledFrom([]string{"u1", "u2", "u3", "u4", "u5"}).Draw(t, "uuid")
		return putPool(p)
	case "delete pool":
		return deletePool(name.Draw(t, "pool"))
	case "volume":
		v := testVolume(name.Draw(t, "pool"), name.Draw(t, "name"))
		v.Path = rapid.SampledFrom([]string{"", "/x", "/y", "/xy"}).Draw(t, "path")
		v.Key = rapid.SampledFrom([]string{"", "k", "kk"}).Draw(t, "key")
		return putVolume(v)
	case "delete volume":
		return deleteVolume(name.Draw(t, "pool"), name.Draw(t, "name"))
	default:
		return deleteVolumes(name.Draw(t, "pool"))
	}
}

// drawJob draws a new job, or a later state of one that is there.
func drawJob(t *rapid.T, d *tables) *Job {
	j := testJob(0, rapid.SampledFrom(record.States()).Draw(t, "state"))
	if n := rapid.Int64Range(0, d.last).Draw(t, "of"); d.jobs[n] != nil {
		state := j.State
		c := *d.jobs[n]
		j = &c
		j.State = state
		return j
	}
	j.Key = rapid.SampledFrom([]string{"", "k1", "k2", "k3"}).Draw(t, "key")
	j.Owner.UID = rapid.IntRange(0, 1).Draw(t, "uid")
	return j
}

func putJob(j *Job) edit {
	return func(tx *Tx, d *tables) error {
		if j.Number == 0 {
			n, err := tx.NextNumber()
			if err != nil || n != d.last+1 {
				return fmt.Errorf("number %d after %d: %v", n, d.last, err)
			}
			c := *testJob(n, j.State)
			c.Key, c.Owner.UID = j.Key, j.Owner.UID
			j = &c
			d.last = n
		}
		taken := false
		for _, other := range d.jobs {
			taken = taken || j.Key != "" && other.Key == j.Key && other.Owner.UID == j.Owner.UID && other.Number != j.Number
		}
		if err := tx.PutJob(j); taken != (err != nil) {
			return fmt.Errorf("put of job %d (key taken %v): %v", j.Number, taken, err)
		} else if taken {
			return errTakeBack
		}
		d.jobs[j.Number] = j
		return nil
	}
}

// gone checks the error of deleting something.
func gone(err error, was bool) error {
	if was != (err == nil) || err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("deleting what was there (%v) says %v", was, err)
	}
	return nil
}

func deleteJob(n int64) edit {
	return func(tx *Tx, d *tables) error {
		was := d.jobs[n] != nil
		delete(d.jobs, n)
		return gone(tx.DeleteJob(n), was)
	}
}

func putPool(p *Pool) edit {
	return func(tx *Tx, d *tables) error {
		taken := false
		for _, other := range d.pools {
			taken = taken || other.UUID == p.UUID && other.Name != p.Name
		}
		if err := tx.PutPool(p); taken != (err != nil) {
			return fmt.Errorf("put of pool %s (uuid taken %v): %v", p.Name, taken, err)
		} else if taken {
			return errTakeBack
		}
		d.pools[p.Name] = p
		return nil
	}
}

func deletePool(name string) edit {
	return func(tx *Tx, d *tables) error {
		was := d.pools[name] != nil
		delete(d.pools, name)
		return gone(tx.DeletePool(name), was)
	}
}

func putVolume(v *Volume) edit {
	return func(tx *Tx, d *tables) error {
		d.volumes[v.Pool+"/"+v.Name] = v
		return tx.PutVolume(v)
	}
}

func deleteVolume(pool, name string) edit {
	return func(tx *Tx, d *tables) error {
		was := d.volumes[pool+"/"+name] != nil
		delete(d.volumes, pool+"/"+name)
		return gone(tx.DeleteVolume(pool, name), was)
	}
}

func deleteVolumes(pool string) edit {
	return func(tx *Tx, d *tables) error {
		maps.DeleteFunc(d.volumes, func(_ string, v *Volume) bool { return v.Pool == pool })
		return tx.DeleteVolumes(pool)
	}
}

// update runs a transaction of several changes, of which some fail at the end
// on purpose.
func (m *model) update(t *rapid.T) {
	next := m.data.clone()
	fails := rapid.IntRange(0, 4).Draw(t, "fails") == 0
	err := m.s.Update(func(tx *Tx) error {
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			if err := m.step(t, &next)(tx, &next); err != nil {
				return err
			}
		}
		if fails {
			return errTakeBack
		}
		return nil
	})
	if err == nil {
		m.data = next
	} else if !errors.Is(err, errTakeBack) {
		t.Fatal(err)
	}
}

func (m *model) reopen(t *rapid.T) {
	err := m.s.Close()
	if err == nil {
		m.s, err = Open(m.path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// check compares everything that can be read with the model.
func (m *model) check(t *rapid.T) {
	same := func(what string, got, want any) {
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: got %+v, want %+v", what, got, want)
		}
	}
	err := m.s.View(func(tx *Tx) error {
		m.checkJobs(tx, same)
		pools, err := tx.Pools()
		same("pools", names(pools, err), names(byKey(m.data.pools), nil))
		for _, uuid := range []string{"u1", "u2", "u3", "u4", "u5"} {
			var want *Pool
			for _, p := range m.data.pools {
				if p.UUID == uuid {
					want = p
				}
			}
			got, err := tx.PoolByUUID(uuid)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			same("pool "+uuid, got, want)
		}
		return m.checkVolumes(tx, same)
	})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := m.s.Verify(); err != nil || len(found) > 0 {
		t.Fatal(err, found)
	}
}

func (m *model) checkJobs(tx *Tx, same func(string, any, any)) {
	var all, live, got, heads []*Job
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(m.data.jobs))) {
		all = append(all, m.data.jobs[n])
	}
	for _, j := range slices.Backward(all) {
		if !j.State.Terminal() {
			live = append(live, j)
		}
	}
	err := jobsBefore(tx, 0, nil, func(j *Job) (bool, error) { got = append(got, j); return true, nil })
	same("jobs, newest first", got, all)
	same("error", err, nil)
	err = jobsBefore(tx, 3, func(h *JobHead) bool { return h.State == record.Running && h.UID == 1 },
		func(j *Job) (bool, error) { heads = append(heads, j); return true, nil })
	same("error", err, nil)
	same("jobs of uid 1 that run, below 3", heads, filter(all, func(j *Job) bool {
		return j.Number < 3 && j.State == record.Running && j.Owner.UID == 1
	}))
	gotLive, err := tx.LiveJobs()
	same("live jobs", gotLive, live)
	same("error", err, nil)
	for _, j := range all {
		byID, err1 := tx.Job(j.ID)
		same("by id", byID, j)
		same("error", err1, nil)
		if j.Key != "" {
			byKey, err := tx.JobByKey(j.Owner.UID, j.Key)
			same("by key", byKey, j)
			same("error", err, nil)
		}
	}
}

func (m *model) checkVolumes(tx *Tx, same func(string, any, any)) error {
	all := slices.SortedFunc(maps.Values(m.data.volumes), func(a, b *Volume) int {
		return cmp.Or(cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Name, b.Name))
	})
	for _, pool := range []string{"", "a", "b", "c", "ab"} {
		got, err := tx.Volumes(pool)
		if err != nil {
			return err
		}
		same("volumes of "+pool, got, filter(all, func(v *Volume) bool { return pool == "" || v.Pool == pool }))
	}
	for _, field := range []string{"/x", "/y", "/xy", "k", "kk"} {
		byPath, err1 := tx.VolumesByPath(field)
		byKey, err2 := tx.VolumesByKey(field)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		same("volumes at "+field, byPath, filter(all, func(v *Volume) bool { return v.Path == field }))
		same("volumes with key "+field, byKey, filter(all, func(v *Volume) bool { return v.Key == field }))
	}
	return nil
}

func filter[T any](all []T, ok func(T) bool) (out []T) {
	for _, v := range all {
		if ok(v) {
			out = append(out, v)
		}
	}
	return out
}

func byKey(pools map[string]*Pool) (out []*Pool) {
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		out = append(out, pools[name])
	}
	return out
}

func names(pools []*Pool, err error) (out []string) {
	for _, p := range pools {
		out = append(out, p.Name+" "+p.UUID)
	}
	if err != nil {
		out = append(out, err.Error())
	}
	return out
}

func TestModel(t *testing.T) {
	t.Parallel() // waits for the disk
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "store")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &model{path: filepath.Join(dir, "state.db"), data: tables{map[int64]*Job{}, map[string]*Pool{}, map[string]*Volume{}, 0}}
		if m.s, err = Open(m.path); err != nil {
			t.Fatal(err)
		}
		defer func() { m.s.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"update": m.update, "update2": m.update, "update3": m.update, "reopen": m.reopen, "": m.check,
		})
	})
}
