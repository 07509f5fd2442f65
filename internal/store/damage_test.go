package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	bolt "go.etcd.io/bbolt"

	"storaged/internal/record"
)

// contents is everything a store holds, as read through its methods.
type contents struct {
	Jobs    map[int64]*Job
	Live    []int64
	Pools   []*Pool
	Volumes []*Volume
	History *History
	Next    int64
}

// readAll reads a store the way the daemon does, by every method.
func readAll(s *Store) (c contents, err error) {
	c.Jobs = map[int64]*Job{}
	err = s.View(func(tx *Tx) error {
		var errs []error
		keep := func(err error) { errs = append(errs, err) }
		keep(jobsBefore(tx, 0, nil, func(j *Job) (bool, error) {
			c.Jobs[j.Number] = j
			_, err1 := tx.Job(j.ID)
			_, err2 := tx.JobByKey(j.Owner.UID, j.Key)
			return true, errors.Join(err1, err2)
		}))
		live, err := tx.LiveJobs()
		keep(err)
		for _, j := range live {
			c.Live = append(c.Live, j.Number)
		}
		c.Pools, err = tx.Pools()
		keep(err)
		for _, p := range c.Pools {
			_, err := tx.PoolByUUID(p.UUID)
			keep(err)
		}
		c.Volumes, err = tx.Volumes("")
		keep(err)
		for _, v := range c.Volumes {
			found, err := tx.VolumesByPath(v.Path)
			keep(err)
			if len(found) != 1 {
				keep(fmt.Errorf("volume %s is not found by its path", v.Name))
			}
		}
		c.History, err = tx.History("clone")
		keep(err)
		return errors.Join(errs...)
	})
	if err != nil {
		return c, err
	}
	return c, s.Update(func(tx *Tx) (err error) {
		c.Next, err = tx.NextNumber()
		return errors.Join(err, errTakeBack)
	})
}

var errTakeBack = errors.New("take back")

// sample makes a closed store with something of everything and gives its file
// and contents. Some of its pages are free.
func sample(t *testing.T) (path string, want contents) {
	s, path := open(t)
	for i := int64(1); i <= 24; i++ {
		must(t, s.Update(func(tx *Tx) error {
			n, err := tx.NextNumber()
			j := testJob(n, []record.State{record.Running, record.Succeeded, record.Failed}[i%3])
			j.Key = fmt.Sprint("key", i)
			return errors.Join(err, tx.PutJob(j), tx.PutVolume(testVolume("images", fmt.Sprint("vm", i))))
		}))
	}
	must(t, s.Update(func(tx *Tx) error {
		return errors.Join(tx.PutPool(testPool("images")), tx.PutPool(testPool("scratch")), tx.DeleteJob(7),
			tx.DeleteVolume("images", "vm3"), tx.PutHistory(&History{Key: "clone", Rates: []float64{1, 2}}))
	}))
	want, err := readAll(s)
	if !errors.Is(err, errTakeBack) {
		t.Fatal(err)
	}
	must(t, s.Close())
	return path, want
}

// examine opens a file that may be damaged and uses it. It fails the test when
// something wrong was read and nobody said so.
func examine(t *testing.T, path string, want contents, what string) (noticed bool) {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		return true
	}
	defer s.Close()
	found, err := s.Verify()
	if err != nil || len(found) > 0 {
		return true
	}
	got, err := readAll(s)
	if !errors.Is(err, errTakeBack) {
		t.Errorf("%s: verified, but reading fails: %v", what, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: something else is read and nobody noticed", what)
	}
	return false
}

// TestFlippedBitsAreNoticed flips bits all over the file, one at a time. What
// was read must be right or be refused, and nothing may crash.
func TestFlippedBitsAreNoticed(t *testing.T) {
	t.Parallel() // waits for the disk
	original, want := sample(t)
	whole, err := os.ReadFile(original)
	must(t, err)
	path := filepath.Join(t.TempDir(), "state.db")
	must(t, os.WriteFile(path, whole, 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	noticed, used := 0, usedBytes(t, path)
	for range flips {
		at, bit := rng.IntN(used), rng.IntN(8)
		_, err := f.WriteAt([]byte{whole[at] ^ 1<<bit}, int64(at))
		must(t, err)
		if examine(t, path, want, fmt.Sprintf("bit %d of byte %d (page %d)", bit, at, at/os.Getpagesize())) {
			noticed++
		}
		_, err = f.WriteAt(whole[at:at+1], int64(at))
		must(t, err)
	}
	if examine(t, path, want, "the file put right again") {
		t.Error("the file put right again is refused")
	}
	t.Logf("%d of %d flips were noticed, the rest changed nothing that is read (%d bytes)", noticed, flips, used)
	if noticed < flips/4 {
		t.Errorf("only %d of %d flips were noticed", noticed, flips)
	}
}

// flips is how many bits the test tries; a hundred thousand were tried once.
const flips = 300

// usedBytes is how much of the file its newest transaction knows.
func usedBytes(t *testing.T, path string) int {
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	c := &checker{f: f}
	must(t, c.readMetas())
	return int(c.meta.pages) * int(c.pageSize)
}

func TestCutFileIsNoticed(t *testing.T) {
	original, want := sample(t)
	whole, err := os.ReadFile(original)
	must(t, err)
	path := filepath.Join(t.TempDir(), "state.db")
	used := usedBytes(t, original)
	for n := 1; n < used; n += 1021 {
		must(t, os.WriteFile(path, whole[:n], 0o600))
		if !examine(t, path, want, fmt.Sprintf("cut to %d", n)) {
			t.Errorf("cut to %d of %d bytes and not noticed", n, used)
		}
	}
}

// TestDamagedRecordIsAnErrorAndOthersAreNot damages values of an open store.
func TestDamagedRecordIsAnErrorAndOthersAreNot(t *testing.T) {
	path, _ := sample(t)
	s, err := Open(path)
	must(t, err)
	must(t, s.db.Update(func(btx *bolt.Tx) error {
		b := btx.Bucket([]byte(bucketJobs))
		value := append([]byte(nil), b.Get(numberKey(5))...)
		value[len(value)-9] ^= 1
		return errors.Join(b.Put(numberKey(5), value), b.Put(numberKey(9), b.Get(numberKey(8))))
	}))
	must(t, s.View(func(tx *Tx) error {
		for _, n := range []int64{5, 9} {
			var d *DamageError
			if _, err := tx.JobByNumber(n); !errors.As(err, &d) || d.Bucket != "jobs" || d.Key != fmt.Sprint(n) {
				t.Errorf("job %d: %v", n, err)
			}
		}
		_, err := tx.JobByNumber(6)
		return err
	}))
	found, err := s.Verify()
	must(t, err)
	if len(found) < 2 {
		t.Errorf("verify finds %v", found)
	}
	must(t, s.Close())
	var d *DamageError
	if _, err := Open(path); !errors.As(err, &d) {
		t.Errorf("opening it again: %v", err)
	}
}

// Who counts pools and volumes is told of the sound ones, and how many are damaged.
func TestSoundRecordsAreCountedBesideDamagedOnes(t *testing.T) {
	path, _ := sample(t)
	s, err := Open(path)
	must(t, err)
	defer s.Close()
	count := func() (pools, volumes, damagedPools, damagedVolumes int) {
		must(t, s.View(func(tx *Tx) error {
			sound, damaged, err := tx.SoundPools()
			must(t, err)
			states, more, err := tx.VolumeStates(sound)
			must(t, err)
			pools, damagedPools, damagedVolumes = len(sound), damaged, more
			for _, n := range states["images"] {
				volumes += n
			}
			return nil
		}))
		return pools, volumes, damagedPools, damagedVolumes
	}
	pools, volumes, _, _ := count()
	must(t, s.db.Update(func(btx *bolt.Tx) error {
		for bucket, key := range map[string][]byte{bucketPools: []byte("scratch"), bucketVolumes: volumeKey("images", "vm5")} {
			b := btx.Bucket([]byte(bucket))
			value := append([]byte(nil), b.Get(key)...)
			value[len(value)-9] ^= 1
			must(t, b.Put(key, value))
		}
		return nil
	}))
	if p, v, dp, dv := count(); p != pools-1 || v != volumes-1 || dp != 1 || dv != 1 {
		t.Errorf("%d pools of %d, %d volumes of %d; %d and %d are damaged", p, pools, v, volumes, dp, dv)
	}
}

// How many records lie behind a page that cannot be read nobody knows.
func TestDamagedPageIsNotAFewDamagedRecords(t *testing.T) {
	path, _ := sample(t)
	s, err := Open(path)
	must(t, err)
	defer s.Close()
	count := func(tx *Tx) error { _, _, err := tx.VolumeStates(nil); return err }
	must(t, s.View(count))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, s.View(func(tx *Tx) error {
		_, err := f.WriteAt(make([]byte, 16), int64(tx.bucket(bucketVolumes).Root())*int64(s.db.Info().PageSize)) // its header
		return err
	}))
	if err, d := s.View(count), (*DamageError)(nil); !errors.As(err, &d) {
		t.Errorf("the volumes are counted: %v", err)
	}
}

func TestVerifyFindsLostIndexEntries(t *testing.T) {
	for _, bucket := range []string{bucketJobIDs, bucketJobKeys, bucketJobLive, bucketPoolIDs, bucketVolumePaths, bucketVolumeKeys, bucketJobs, bucketPools, bucketVolumes} {
		path, _ := sample(t)
		db, err := bolt.Open(path, 0o600, nil)
		must(t, err)
		must(t, db.Update(func(btx *bolt.Tx) error {
			k, _ := btx.Bucket([]byte(bucket)).Cursor().First()
			return btx.Bucket([]byte(bucket)).Delete(k)
		}))
		must(t, db.Close())
		s, err := Open(path)
		must(t, err)
		if found, err := s.Verify(); err != nil || len(found) == 0 {
			t.Errorf("%s: verify finds nothing of a lost entry: %v", bucket, err)
		}
		must(t, s.Close())
	}
}
