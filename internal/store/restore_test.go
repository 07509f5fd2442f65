package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"

	"storaged/internal/record"
)

// aged makes a closed store that was copied and then changed: jobs 1 to 24 and
// volumes of before, job 12 ended since, job 25 and volume vm25 made since.
func aged(t *testing.T) (path string, before, now contents) {
	path, before = sample(t)
	s, err := Open(path)
	must(t, err)
	must(t, s.Copy())
	must(t, s.Update(func(tx *Tx) error {
		n, err := tx.NextNumber()
		j := testJob(n, record.Running)
		j.Key = "key25"
		return errors.Join(err, tx.PutJob(j), tx.PutJob(withKey(testJob(12, record.Failed), "key12")), tx.PutVolume(testVolume("images", "vm25")))
	}))
	now, err = readAll(s)
	if !errors.Is(err, errTakeBack) {
		t.Fatal(err)
	}
	must(t, s.Close())
	return path, before, now
}

func withKey(j *Job, key string) *Job {
	j.Key = key
	return j
}

// whole opens path as the daemon does, and closes it.
func whole(t *testing.T, path string) (contents, *Restoration) {
	t.Helper()
	s, r, err := OpenOrRestore(path)
	must(t, err)
	defer s.Close()
	found, err := s.Verify()
	if err != nil || len(found) > 0 {
		t.Fatalf("what was restored does not hold together: %v %v", err, found)
	}
	got, err := readAll(s)
	if !errors.Is(err, errTakeBack) && !errors.Is(err, ErrNotFound) { // the one history may be lost
		t.Fatal(err)
	}
	return got, r
}

// honest holds what was restored against what there was: each record is as it
// was last, or as it was in the copy and named.
func honest(t *testing.T, what string, got, before, now contents, r *Restoration) {
	t.Helper()
	for n, j := range got.Jobs {
		name := fmt.Sprintf("jobs %d", n)
		old := *j
		old.Old = false
		switch {
		case !j.Old && reflect.DeepEqual(j, now.Jobs[n]):
		case j.Old && reflect.DeepEqual(&old, before.Jobs[n]) && slices.Contains(r.Old, name):
		default:
			t.Errorf("%s: job %d is %+v, which it never was", what, n, j)
		}
	}
	for n := range now.Jobs {
		if got.Jobs[n] == nil && !r.Torn {
			t.Errorf("%s: job %d is lost without a word", what, n)
		}
		if got.Next != 0 && got.Next <= n {
			t.Errorf("%s: number %d is given again", what, n)
		}
	}
	for _, v := range now.Volumes {
		has := func(w *Volume) bool { return reflect.DeepEqual(v, w) }
		if !slices.ContainsFunc(got.Volumes, has) && !r.Torn {
			t.Errorf("%s: volume %s is lost without a word", what, v.Name)
		}
	}
}

// TestDamagedFileIsPutTogetherAgain damages whole runs of bytes anywhere in the
// file. What comes of it is true or named, and the damaged file is kept.
func TestDamagedFileIsPutTogetherAgain(t *testing.T) {
	t.Parallel() // waits for the disk
	original, before, now := aged(t)
	file, err := os.ReadFile(original)
	must(t, err)
	copied, err := copies(filepath.Join(filepath.Dir(original), copiesDir))
	must(t, err)
	rng, used, restored := rand.New(rand.NewPCG(3, 4)), usedBytes(t, original), 0
	for range 40 {
		at, n := rng.IntN(used), 1+rng.IntN(9000)
		what := fmt.Sprintf("%d bytes at %d", n, at)
		dir := t.TempDir()
		path := filepath.Join(dir, "state.db")
		must(t, os.Mkdir(filepath.Join(dir, copiesDir), 0o700))
		must(t, os.Link(copied[0], filepath.Join(dir, copiesDir, filepath.Base(copied[0]))))
		bad := slices.Clone(file)
		for i := at; i < min(at+n, used); i++ {
			bad[i] = byte(rng.Uint32())
		}
		must(t, os.WriteFile(path, bad, 0o600))
		got, r := whole(t, path)
		if r == nil { // a free page
			continue
		}
		restored++
		honest(t, what, got, before, now, r)
		kept, err := os.ReadFile(r.Aside)
		if err != nil || !slices.Equal(kept, bad) {
			t.Errorf("%s: the damaged file is not kept as %q: %v", what, r.Aside, err)
		}
		if _, again := whole(t, path); again != nil {
			t.Errorf("%s: restored again: %+v", what, again)
		}
	}
	t.Logf("%d of 40 were restored", restored)
	if restored < 10 {
		t.Errorf("only %d of 40 were restored", restored)
	}
}

// TestOneBadRecordCostsNothingElse damages the value of one job.
func TestOneBadRecordCostsNothingElse(t *testing.T) {
	path, before, now := aged(t)
	db, err := bolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(btx *bolt.Tx) error {
		b := btx.Bucket([]byte(bucketJobs))
		value := append([]byte(nil), b.Get(numberKey(5))...)
		value[len(value)-9] ^= 1
		return b.Put(numberKey(5), value)
	}))
	must(t, db.Close())
	got, r := whole(t, path)
	honest(t, "job 5", got, before, now, r)
	if r.OldCount != 1 || !slices.Equal(r.Old, []string{"jobs 5"}) || len(got.Jobs) != len(now.Jobs) || len(r.Damage) != 1 {
		t.Errorf("restored %d jobs of %d: %+v", len(got.Jobs), len(now.Jobs), r)
	}
	if !reflect.DeepEqual(got.Volumes, now.Volumes) || !reflect.DeepEqual(got.Pools, now.Pools) {
		t.Error("volumes or pools are not as they were")
	}
}

func TestMissingFileComesFromTheCopy(t *testing.T) {
	path, before, _ := aged(t)
	must(t, os.Remove(path))
	got, r := whole(t, path)
	if r == nil || r.Aside != "" || !r.Torn || r.CopyAt == nil || len(got.Jobs) != len(before.Jobs) || got.Next < 24+numberGap {
		t.Errorf("%d jobs, next number %d, %+v", len(got.Jobs), got.Next, r)
	}
}

// TestLostDatabaseIsNoNewOne takes database and copies away from under the
// directories of jobs.
func TestLostDatabaseIsNoNewOne(t *testing.T) {
	path, _, _ := aged(t)
	dir := filepath.Dir(path)
	must(t, errors.Join(os.Remove(path), os.RemoveAll(filepath.Join(dir, copiesDir)), os.MkdirAll(filepath.Join(dir, jobsDir, "01990000"), 0o700)))
	var d *DamageError
	if _, _, err := OpenOrRestore(path); !errors.As(err, &d) {
		t.Errorf("a new database was made: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}

func TestNewStoreIsNoRestoration(t *testing.T) {
	if _, r := whole(t, filepath.Join(t.TempDir(), "state.db")); r != nil {
		t.Errorf("a new store is restored: %+v", r)
	}
}

func TestUnreadableFileWithoutACopyIsRefusedAndLeft(t *testing.T) {
	path, _ := sample(t)
	bad := make([]byte, 1<<16)
	must(t, os.WriteFile(path, bad, 0o600))
	_, _, err := OpenOrRestore(path)
	var d *DamageError
	if !errors.As(err, &d) {
		t.Fatal(err)
	}
	if left, err := os.ReadFile(path); err != nil || !slices.Equal(left, bad) {
		t.Errorf("the file was changed: %v", err)
	}
}

func TestFileOfANewerProgramIsNoDamage(t *testing.T) {
	path, _, _ := aged(t)
	db, err := bolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(btx *bolt.Tx) error {
		return (&Tx{btx: btx, writable: true}).save(bucketMeta, keySchema, schemaRecord{schema + 1})
	}))
	must(t, db.Close())
	file, err := os.ReadFile(path)
	must(t, err)
	for _, bad := range []int{-1, len(file) / 2} { // sound, and damaged somewhere
		if bad > 0 {
			file[bad] ^= 0xff
			must(t, os.WriteFile(path, file, 0o600))
		}
		_, r, err := OpenOrRestore(path)
		var newer *SchemaError
		if bad < 0 && !errors.As(err, &newer) || r != nil {
			t.Errorf("byte %d: %v %+v", bad, err, r)
		}
		if left, err := os.ReadFile(path); err != nil || !slices.Equal(left, file) {
			t.Errorf("byte %d: the file was changed: %v", bad, err)
		}
	}
}

// TestCopiesAreFewAndAnUnsoundOneIsPassedOver damages the newest copy too.
func TestCopiesAreFewAndAnUnsoundOneIsPassedOver(t *testing.T) {
	path, _, _ := aged(t)
	s, err := Open(path)
	must(t, err)
	for range keepCopies + 1 {
		must(t, s.Copy())
	}
	must(t, s.Close())
	all, err := copies(filepath.Join(filepath.Dir(path), copiesDir))
	must(t, err)
	if len(all) != keepCopies {
		t.Fatalf("there are %d copies: %v", len(all), all)
	}
	must(t, os.Truncate(all[2], 8192))
	must(t, os.Truncate(path, 8192))
	_, r := whole(t, path)
	if r == nil || r.Copy != all[1] || len(r.Damage) < 2 {
		t.Errorf("restored from %+v", r)
	}
}

func TestCopyThatCannotBeWrittenLeavesTheOthers(t *testing.T) {
	path, _, _ := aged(t)
	s, err := Open(path)
	must(t, err)
	defer s.Close()
	dir := filepath.Join(filepath.Dir(path), copiesDir)
	had, err := copies(dir)
	must(t, err)
	must(t, os.Rename(dir, dir+".away"))
	must(t, os.WriteFile(dir, nil, 0o600)) // a file where the directory should be
	if err := s.Copy(); err == nil {
		t.Error("a copy was made nowhere")
	}
	must(t, os.Remove(dir))
	must(t, os.Rename(dir+".away", dir))
	if left, err := copies(dir); err != nil || !slices.Equal(left, had) {
		t.Errorf("copies were %v and are %v: %v", had, left, err)
	}
}

// What is said of a record is for people: a volume is POOL/NAME.
func TestRecordsAreNamedForPeople(t *testing.T) {
	for key, want := range map[string]string{string(volumeKey("a", "b c")): `"a/b c"`, "pool": `"pool"`, string(numberKey(7)): "7"} {
		if got := printable([]byte(key)); got != want {
			t.Errorf("%q is shown as %s, not %s", key, got, want)
		}
	}
}
