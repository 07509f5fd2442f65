package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Restoration says what became of a damaged database. It is kept in the one
// that took its place.
type Restoration struct {
	At     time.Time `json:"at"`
	Aside  string    `json:"aside"`  // where the damaged file is kept; "": there was none
	Damage []string  `json:"damage"` // what was found, the first of it

	Copy   string     `json:"copy"` // that filled the gaps; "": there is none that is sound
	CopyAt *time.Time `json:"copy_at"`

	// Old names records, the first of them, that were not found in the damaged
	// file and are as the copy has them. OldCount is how many there are.
	Old      []string `json:"old"`
	OldCount int      `json:"old_count"`
	// Lost names records that were found and could not be kept.
	Lost []string `json:"lost"`
	// Torn says that records of after the copy may be missing without a name.
	Torn bool `json:"torn"`

	Replayed bool `json:"replayed"` // the directories of jobs were looked through
}

// numberGap is how far job numbers jump when some may be lost, lest one be
// given twice: more than are given between two copies at an ordinary rate.
const numberGap = 1000

// OpenOrRestore is Open for a daemon that is to go on after damage: it puts a
// damaged or missing database together again from what can be read of it and
// the newest sound copy, and says what it did. The damaged file is kept under
// another name. Where there is no copy and nothing can be read it changes
// nothing and gives the *DamageError.
func OpenOrRestore(path string) (*Store, *Restoration, error) {
	missing, err := lost(path)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open state: %w", err)
	}
	if !missing {
		s, err := Open(path)
		if !isDamage(err) {
			return s, nil, err
		}
	}
	r, err := restore(path)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open state: %w", err)
	}
	s, err := Open(path)
	return s, r, err
}

// lost reports whether there is no database where there was one: copies of it,
// or directories of jobs, are there still.
func lost(path string) (bool, error) {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	old, err := copies(filepath.Join(filepath.Dir(path), copiesDir))
	if err != nil || len(old) > 0 {
		return true, err
	}
	jobs, err := os.ReadDir(filepath.Join(filepath.Dir(path), jobsDir))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return len(jobs) > 0, err
}

// jobsDir is where the supervisor keeps the directories of jobs, beside the
// database.
const jobsDir = "jobs"

// restore puts a new file in place of a damaged or missing one.
func restore(path string) (*Restoration, error) {
	lock, err := LockDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	m, err := newMerging(path)
	if err != nil {
		return nil, err
	}
	temp := path + ".restored"
	if err := errors.Join(removed(temp), create(temp)); err != nil {
		return nil, err
	}
	if err := m.fill(temp); err != nil {
		return nil, err
	}
	if err := checkFile(temp); err != nil {
		return nil, err
	}
	// Until the rename the damaged file has its name still, so that a crash
	// between the two leaves what the next start finds damaged again.
	if m.report.Aside != "" {
		if err := os.Link(path, m.report.Aside); err != nil {
			return nil, err
		}
	}
	if err := os.Rename(temp, path); err != nil {
		return nil, err
	}
	return &m.report, syncDir(filepath.Dir(path))
}

// merging fills a new file from a damaged one, and its gaps from a copy.
type merging struct {
	found, copied *salvaged
	report        Restoration
}

func newMerging(path string) (*merging, error) {
	m := &merging{report: Restoration{At: time.Now().UTC(), Damage: []string{}, Old: []string{}, Lost: []string{}}}
	var err error
	m.found, err = salvage(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		m.found = &salvaged{torn: map[string]bool{"": true}, damage: []string{"the file is missing"}}
	case err != nil:
		return nil, err
	default:
		m.report.Aside = path + ".damaged-" + m.report.At.Format(copyTime)
	}
	m.report.Damage = append(m.report.Damage, m.found.damage...)
	if err := m.findCopy(filepath.Join(filepath.Dir(path), copiesDir)); err != nil {
		return nil, err
	}
	if m.report.Copy == "" && m.found.torn[""] {
		return nil, &DamageError{Cause: m.report.Damage[0] + ", and there is no sound copy of it"}
	}
	return m, nil
}

// findCopy takes the newest copy that is sound.
func (m *merging) findCopy(dir string) error {
	all, err := copies(dir)
	if err != nil {
		return err
	}
	for _, path := range slices.Backward(all) {
		copied, err := sound(path)
		if err != nil {
			m.report.Damage = append(m.report.Damage, fmt.Sprintf("copy: %v", err))
			continue
		}
		at, _ := copiedAt(path) // it was listed
		m.copied, m.report.Copy, m.report.CopyAt = copied, path, &at
		return nil
	}
	m.copied = &salvaged{}
	return nil
}

// primary are the buckets whose records are facts; the others are indexes,
// which the facts make again.
var primary = []string{bucketPools, bucketVolumes, bucketHistory, bucketJobs}

// fill writes all that is known into a new file.
func (m *merging) fill(path string) error {
	db, err := openBolt(path)
	if err != nil {
		return err
	}
	for _, bucket := range primary {
		if err == nil {
			err = m.fillBucket(db, bucket)
		}
	}
	if err == nil {
		err = db.Update(m.fillMeta)
	}
	return errors.Join(err, db.Close())
}

// fillBatch is how many records are written in one transaction.
const fillBatch = 1000

func (m *merging) fillBucket(db *bolt.DB, bucket string) error {
	records := m.records(bucket)
	for batch := range slices.Chunk(records, fillBatch) {
		err := db.Update(func(btx *bolt.Tx) error {
			tx := &Tx{btx: btx, writable: true}
			for _, r := range batch {
				m.keep(tx, bucket, r)
			}
			if tx.spoiled {
				return errors.New("internal error: a new database cannot be written")
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// known is a record to be kept; old says that only the copy has it.
type known struct {
	key  string
	body []byte
	old  bool
}

// records gives those of a bucket in the order in which they are written: what
// was found, and then, where something may be missing, what only the copy has,
// which must not take the name of what was found.
func (m *merging) records(bucket string) []known {
	var all []known
	found, copied := m.found.bodies[bucket], m.copied.bodies[bucket]
	for _, key := range slices.Sorted(maps.Keys(found)) {
		all = append(all, known{key: key, body: found[key]})
	}
	if m.found.complete(bucket) {
		return all
	}
	m.report.Torn = true
	for _, key := range slices.Sorted(maps.Keys(copied)) {
		if _, ok := found[key]; !ok {
			all = append(all, known{key: key, body: copied[key], old: true})
		}
	}
	return all
}

// keep writes one record, and names it where it is old, or cannot be kept.
func (m *merging) keep(tx *Tx, bucket string, r known) {
	name := bucket + " " + printable([]byte(r.key))
	if err := tx.restoreRecord(bucket, []byte(r.key), r); err != nil {
		m.report.Lost = nameMore(m.report.Lost, fmt.Sprintf("%s: %v", name, err))
		return
	}
	if r.old {
		m.report.OldCount++
		m.report.Old = nameMore(m.report.Old, name)
	}
}

func nameMore(list []string, more string) []string {
	if len(list) >= maxNamed {
		return list
	}
	return append(list, more)
}

// restoreRecord writes a record with its indexes. One that does not hold
// together changes nothing.
func (t *Tx) restoreRecord(bucket string, key []byte, r known) error {
	from := len(t.undo)
	err := t.decodeAndPut(bucket, key, r)
	if err != nil && !t.spoiled {
		t.takeBackTo(from)
	}
	return err
}

func (t *Tx) decodeAndPut(bucket string, key []byte, r known) error {
	switch bucket {
	case bucketPools:
		return putAgain(bucket, key, r.body, t.PutPool)
	case bucketVolumes:
		return putAgain(bucket, key, r.body, t.PutVolume)
	case bucketHistory:
		return putAgain(bucket, key, r.body, t.PutHistory)
	case bucketJobs:
		var head JobHead
		rest, err := head.cut(key, r.body)
		if err != nil {
			return err
		}
		j, err := t.decodeJob(key, &head, rest)
		if err != nil {
			return err
		}
		j.Old = r.old
		return t.PutJob(j)
	}
	panic("internal error: no records are restored in bucket " + bucket)
}

func putAgain[T any](bucket string, key, body []byte, put func(*T) error) error {
	r := new(T)
	if err := decode(bucket, key, body, r); err != nil {
		return err
	}
	return put(r)
}

// fillMeta sets what is no record of a bucket.
func (m *merging) fillMeta(btx *bolt.Tx) error {
	tx := &Tx{btx: btx, writable: true}
	last := max(m.found.lastNumber(), m.copied.lastNumber())
	if !m.found.complete(bucketMeta) || !m.found.complete(bucketJobs) {
		last += numberGap
	}
	if err := tx.put(bucketMeta, keyJobNumber, numberKey(last)); err != nil {
		return err
	}
	for _, from := range []*salvaged{m.found, m.copied} {
		if body := from.bodies[bucketMeta][string(keyLimits)]; body != nil {
			if err := tx.put(bucketMeta, keyLimits, body); err != nil {
				return err
			}
			break
		}
	}
	return tx.PutRestoration(&m.report)
}

// Restoration gives what became of the last damage, nil where there was none.
func (t *Tx) Restoration() (*Restoration, error) {
	r := new(Restoration)
	err := t.load(bucketMeta, keyRestored, r)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// PutRestoration stores r in place of an earlier one; nil forgets it.
func (t *Tx) PutRestoration(r *Restoration) error {
	if r == nil {
		return t.remove(bucketMeta, keyRestored)
	}
	return t.save(bucketMeta, keyRestored, r)
}
