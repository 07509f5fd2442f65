package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"storaged/internal/record"
)

// open opens a store in a directory of its own and checks at the end of the
// test that it holds together.
func open(t testing.TB) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	return reopen(t, path), path
}

func reopen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		found, err := s.Verify()
		if err != nil && !errors.Is(err, ErrClosed) || len(found) > 0 {
			t.Errorf("store does not hold together: %v %v", found, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var epoch = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

func testJob(n int64, state record.State) *Job {
	j := &Job{}
	j.Number, j.ID, j.State = n, fmt.Sprintf("01990000-0000-7000-8000-%012d", n), state
	j.Kind, j.Class = record.VolumeClone, record.Async
	j.Objects = []record.Object{
		{Pool: "images", Volume: fmt.Sprintf("base%d.raw", n%50), Mode: record.ModeRead},
		{Pool: "images", Volume: fmt.Sprintf("vm%d.raw", n), Mode: record.ModeWrite},
	}
	j.Created = epoch.Add(time.Duration(n) * time.Second)
	j.Owner = record.Owner{UID: 1000, User: "alice", LoginUser: "alice", PID: 4711, Command: "storagedctl", Via: "rest"}
	j.Labels = map[string]string{"batch": fmt.Sprint(n % 7)}
	j.Argv = []string{"clone", "--source", "/srv/images/base.raw", "--target", "/srv/images/vm.raw"}
	j.Params = []byte(`{"name":"vm.raw","pool":"images","format":"raw"}`)
	return j
}

func testVolume(pool, name string) *Volume {
	v := &Volume{}
	v.Pool, v.Name, v.Path, v.Key = pool, name, "/srv/"+pool+"/"+name, "/srv/"+pool+"/"+name
	v.Capacity, v.State, v.Origin = 1<<30, record.VolumeReady, record.Made
	return v
}

func TestVolumesOnOthersAreThoseThatNameSome(t *testing.T) {
	s, _ := open(t)
	for i, backing := range []string{"", "/srv/p/base", "base", "", ""} {
		v := testVolume([]string{"p", "q"}[i%2], []string{"a", "b", "c", "d", "e"}[i])
		if i == 4 {
			v.References = []Reference{{Name: "data", Data: true}}
		}
		v.Backing = backing
		v.Description = `"backing":"" or "backing":"/srv/p/base" or "references":[{`
		must(t, s.Update(func(tx *Tx) error { return tx.PutVolume(v) }))
	}
	must(t, s.View(func(tx *Tx) error {
		volumes, err := tx.VolumesOnOthers()
		var got []string
		for _, v := range volumes {
			got = append(got, v.Pool+"/"+v.Name+" on "+v.Backing)
		}
		if want := []string{"p/c on base", "p/e on ", "q/b on /srv/p/base"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		return err
	}))
}

func TestVolumesAreCountedByTheirStates(t *testing.T) {
	s, _ := open(t)
	states := []record.VolumeState{record.VolumeReady, record.VolumeIncomplete, record.VolumeReady, record.VolumeBuilding}
	must(t, s.Update(func(tx *Tx) error {
		for i, state := range states {
			v := testVolume("p", fmt.Sprint(i))
			v.State, v.Description = state, `"state":"incomplete"`
			must(t, tx.PutVolume(v))
		}
		must(t, tx.PutVolume(testVolume("gone", "v"))) // of no pool that there is
		return errors.Join(tx.PutPool(testPool("p")), tx.PutPool(testPool("empty")))
	}))
	must(t, s.View(func(tx *Tx) error {
		pools, damaged, err := tx.SoundPools()
		must(t, err)
		got, more, err := tx.VolumeStates(pools)
		must(t, err)
		if want := "map[empty:map[] p:map[building:1 incomplete:1 ready:2]]"; fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}
		if damaged+more > 0 {
			t.Errorf("%d pools and %d volumes are damaged", damaged, more)
		}
		return nil
	}))
}

func testPool(name string) *Pool {
	p := &Pool{}
	p.Name, p.UUID, p.Type = name, "uuid-of-"+name, "dir"
	return p
}

func TestJobIsFoundByNumberIDAndKey(t *testing.T) {
	s, _ := open(t)
	j := testJob(1, record.Running)
	j.Key = "k1"
	must(t, s.Update(func(tx *Tx) error { return tx.PutJob(j) }))
	must(t, s.View(func(tx *Tx) error {
		byNumber, err1 := tx.JobByNumber(1)
		byID, err2 := tx.Job(j.ID)
		byKey, err3 := tx.JobByKey(1000, "k1")
		must(t, errors.Join(err1, err2, err3))
		for _, got := range []*Job{byNumber, byID, byKey} {
			if got.ID != j.ID || got.Number != 1 || string(got.Params) != string(j.Params) {
				t.Errorf("got %+v, want %+v", got, j)
			}
		}
		if _, err := tx.JobByKey(0, "k1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("key of another user: %v", err)
		}
		return nil
	}))
}

func TestSecondJobUnderAKeyOrIDIsRefused(t *testing.T) {
	s, _ := open(t)
	first, sameKey, sameID := testJob(1, record.Running), testJob(2, record.Running), testJob(3, record.Running)
	first.Key, sameKey.Key, sameID.ID = "k1", "k1", first.ID
	must(t, s.Update(func(tx *Tx) error { return tx.PutJob(first) }))
	for _, j := range []*Job{sameKey, sameID} {
		if err := s.Update(func(tx *Tx) error { return tx.PutJob(j) }); err == nil {
			t.Errorf("job %d %s under key %q was stored", j.Number, j.ID, j.Key)
		}
	}
}

func TestNumbersAreNeverGivenAgain(t *testing.T) {
	s, path := open(t)
	next := func(s *Store) (n int64) {
		must(t, s.Update(func(tx *Tx) (err error) {
			if n, err = tx.NextNumber(); err != nil {
				return err
			}
			return tx.PutJob(testJob(n, record.Succeeded))
		}))
		return n
	}
	if a, b := next(s), next(s); a != 1 || b != 2 {
		t.Errorf("first numbers are %d, %d", a, b)
	}
	must(t, s.Update(func(tx *Tx) error { return tx.DeleteJob(2) }))
	must(t, s.Close())
	if n := next(reopen(t, path)); n != 3 {
		t.Errorf("number after forgetting 2 and opening again is %d, want 3", n)
	}
}

func TestFileIsPrivate(t *testing.T) {
	_, path := open(t)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
}

func TestSecondOpenIsRefusedWithPathAndPID(t *testing.T) {
	_, path := open(t)
	_, err := Open(path)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Path != filepath.Join(filepath.Dir(path), "lock") {
		t.Fatalf("second open: %v", err)
	}
}

func TestOpenAfterCloseWorks(t *testing.T) {
	s, path := open(t)
	must(t, s.Update(func(tx *Tx) error { return tx.PutPool(testPool("images")) }))
	must(t, s.Close())
	must(t, s.Close())
	if err := s.Update(func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("update after close: %v", err)
	}
	if err := s.View(func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("view after close: %v", err)
	}
	must(t, reopen(t, path).View(func(tx *Tx) error {
		_, err := tx.Pool("images")
		return err
	}))
}

func TestLeftoverOfACreationIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	must(t, os.WriteFile(path+".new", []byte("half"), 0o600))
	reopen(t, path)
	if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("leftover is still there: %v", err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	s, path := open(t)
	must(t, s.Close())
	db, err := bolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(btx *bolt.Tx) error {
		return (&Tx{btx: btx, writable: true}).save(bucketMeta, keySchema, schemaRecord{schema + 1})
	}))
	must(t, db.Close())
	_, err = Open(path)
	var newer *SchemaError
	if !errors.As(err, &newer) || newer.Found != schema+1 || newer.Known != schema || newer.Path != path {
		t.Fatalf("open: %v", err)
	}
}

func TestChangeInViewIsRefused(t *testing.T) {
	s, _ := open(t)
	if err := s.View(func(tx *Tx) error { return tx.PutPool(testPool("images")) }); err == nil {
		t.Error("a view changed the store")
	}
}

func TestKeptTransactionPanics(t *testing.T) {
	s, _ := open(t)
	var kept [2]*Tx
	must(t, s.View(func(tx *Tx) error { kept[0] = tx; return nil }))
	must(t, s.Update(func(tx *Tx) error { kept[1] = tx; return nil }))
	for _, tx := range kept {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a transaction worked after its end")
				}
			}()
			tx.Pools()
		}()
	}
}

func TestIdentityOfAPoolIsReadFromTheRecordOfAnEarlierVersion(t *testing.T) {
	for text, want := range map[string]string{
		`{"name":"p","device":2049,"inode":2}`:                               "2049:2",
		`{"name":"p","device":2049,"inode":2,"stamp":"2b99","job":7}`:        "2049:2:2b99",
		`{"name":"p","device":0,"inode":0}`:                                  "",
		`{"name":"p","identity":"x"}`:                                        "x",
		`{"name":"p","identity":"x","device":2049,"inode":2,"stamp":"2b99"}`: "x",
	} {
		var p Pool
		if err := decode(bucketPools, []byte("p"), []byte(text), &p); err != nil || p.Name != "p" || p.Identity != want {
			t.Errorf("%s: %q, %v", text, p.Identity, err)
		}
		again, err := json.Marshal(&p)
		if err != nil || strings.Contains(string(again), "inode") || strings.Contains(string(again), `"job":7`) != strings.Contains(text, `"job":7`) {
			t.Errorf("%s became %s: %v", text, again, err)
		}
	}
}

func TestIdentityOfAVolumeIsReadFromTheRecordOfAnEarlierVersion(t *testing.T) {
	for text, want := range map[string]string{
		`"device":2049,"inode":12,"birth_ns":-7`:                "2049:12:-7",
		`"device":2049,"inode":12,"birth_ns":0`:                 "2049:12",
		`"device":0,"inode":0,"birth_ns":0`:                     "",
		`"identity":"x"`:                                        "x",
		`"identity":"x","device":2049,"inode":12,"birth_ns":-7`: "x",
	} {
		var v Volume
		body := `{"name":"v",` + text + `,"references":[{"name":"base",` + text + `}],"job":7}`
		if err := decode(bucketVolumes, []byte("v"), []byte(body), &v); err != nil || v.Name != "v" || v.Identity != want || v.References[0] != (Reference{Name: "base", Identity: want}) {
			t.Errorf("%s: %+v, %v", body, v, err)
		}
		again, err := json.Marshal(&v)
		if err != nil || strings.Contains(string(again), "inode") || !strings.Contains(string(again), `"job":7`) {
			t.Errorf("%s became %s: %v", body, again, err)
		}
	}
}
