package store

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"storaged/internal/record"
)

var released = flag.Bool("released", false, "write testdata/schema-N.db of the present schema; never again once it is released")

// releasedFile is a database that a program of that schema has left. It must
// open for ever, so it is made once.
func releasedFile(n int) string { return fmt.Sprintf("testdata/schema-%d.db", n) }

// newerFile says that it is of a schema that no program knows.
const newerFile = "testdata/schema-newer.db"

func TestWriteReleasedSchema(t *testing.T) {
	if !*released {
		return // written long ago
	}
	for path, n := range map[string]int{releasedFile(schema): schema, newerFile: 1 << 20} {
		must(t, os.RemoveAll(path))
		s, err := Open(path)
		must(t, err)
		must(t, s.Update(fillReleased))
		must(t, s.Close())
		db, err := bolt.Open(path, 0o600, nil)
		must(t, err)
		must(t, db.Update(func(btx *bolt.Tx) error {
			return (&Tx{btx: btx, writable: true}).save(bucketMeta, keySchema, schemaRecord{n})
		}))
		must(t, db.Close())
		must(t, os.Remove("testdata/lock"))
	}
}

func fillReleased(tx *Tx) error {
	ended, waiting := testJob(1, record.Succeeded), testJob(2, record.Queued)
	ended.Key, ended.Digest = "nightly", "digest-of-it"
	running := 7
	first, err := tx.NextNumber()
	second, err2 := tx.NextNumber()
	if err != nil || err2 != nil || first != 1 || second != 2 {
		return errors.Join(err, err2, fmt.Errorf("numbers are %d and %d", first, second))
	}
	return errors.Join(
		tx.PutJob(ended), tx.PutJob(waiting),
		tx.PutPool(testPool("images")), tx.PutVolume(testVolume("images", "base.raw")),
		tx.PutLimits(&Limits{Running: &running, PoolRates: map[string]int64{"images": 1 << 20}}),
		tx.PutHistory(&History{Key: "clone dir raw", Rates: []float64{1e9}}),
	)
}

// copyOf gives a copy of a file in a directory of its own.
func copyOf(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	path := filepath.Join(t.TempDir(), "storaged.db")
	must(t, os.WriteFile(path, b, 0o600))
	return path
}

func TestEveryReleasedSchemaOpens(t *testing.T) {
	for n := 1; n <= schema; n++ {
		s := reopen(t, copyOf(t, releasedFile(n)))
		must(t, s.View(checkReleased))
		must(t, s.Update(func(tx *Tx) error { // and goes on
			number, err := tx.NextNumber()
			if err != nil || number != 3 {
				return fmt.Errorf("the next number is %d (%w)", number, err)
			}
			return tx.PutJob(testJob(number, record.Running))
		}))
	}
}

func checkReleased(tx *Tx) error {
	ended, err := tx.JobByKey(1000, "nightly")
	if err != nil || ended.Number != 1 || ended.State != record.Succeeded || ended.Kind != record.VolumeClone || ended.Digest != "digest-of-it" {
		return fmt.Errorf("the ended job is %+v (%w)", ended, err)
	}
	live, err := tx.LiveJobs()
	if err != nil || len(live) != 1 || live[0].Number != 2 || len(live[0].Argv) != 5 || live[0].Objects[1].Mode != record.ModeWrite {
		return fmt.Errorf("the live jobs are %+v (%w)", live, err)
	}
	p, err := tx.PoolByUUID("uuid-of-images")
	if err != nil || p.Name != "images" || p.Type != "dir" {
		return fmt.Errorf("the pool is %+v (%w)", p, err)
	}
	v, err := tx.Volume("images", "base.raw")
	if err != nil || v.Capacity != 1<<30 || v.State != record.VolumeReady || v.Path != "/srv/images/base.raw" {
		return fmt.Errorf("the volume is %+v (%w)", v, err)
	}
	l, err := tx.Limits()
	if err != nil || l.Running == nil || *l.Running != 7 || l.PoolRates["images"] != 1<<20 {
		return fmt.Errorf("the limits are %+v (%w)", l, err)
	}
	h, err := tx.History("clone dir raw")
	if err != nil || len(h.Rates) != 1 || h.Rates[0] != 1e9 {
		return fmt.Errorf("the history is %+v (%w)", h, err)
	}
	return nil
}

func TestDatabaseOfANewerProgramIsLeftAlone(t *testing.T) {
	path := copyOf(t, newerFile)
	before, err := os.ReadFile(path)
	must(t, err)
	_, _, err = OpenOrRestore(path)
	var newer *SchemaError
	if !errors.As(err, &newer) {
		t.Fatalf("open: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed (%v)", err)
	}
}
