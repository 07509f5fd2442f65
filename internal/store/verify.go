package store

import (
	"bytes"
	"errors"
	"fmt"
)

// Verify reads everything: each record must be what was written, and each
// index must agree with its records. It returns what is damaged, record by
// record; an error means that the reading itself was impossible.
func (s *Store) Verify() ([]*DamageError, error) {
	var found []*DamageError
	err := s.View(func(tx *Tx) error {
		found = tx.verify()
		return nil
	})
	return found, err
}

func (t *Tx) verify() []*DamageError {
	var found []*DamageError
	report := func(err error) {
		var d *DamageError
		if errors.As(err, &d) {
			found = append(found, d)
		}
	}
	for _, name := range buckets {
		t.sweep(name, func(k, v []byte) {
			body, err := unseal(name, k, v)
			if err == nil {
				err = t.vouch(name, k, body)
			}
			report(err)
		}, report)
	}
	return found
}

// sweep calls fn with every raw record of a bucket, damaged or not; fn runs
// guarded. It ends early where the structure is broken.
func (t *Tx) sweep(bucket string, fn func(k, v []byte), report func(error)) {
	report(guard(bucket, nil, func() error {
		return t.bucket(bucket).ForEach(func(k, v []byte) error {
			report(guard(bucket, k, func() error {
				fn(k, v)
				return nil
			}))
			return nil
		})
	}))
}

// vouch checks a record against its indexes, and an index entry against its
// record.
func (t *Tx) vouch(bucket string, key, body []byte) error {
	switch bucket {
	case bucketJobs:
		return t.vouchJob(key, body)
	case bucketJobIDs, bucketJobKeys:
		_, err := t.jobByIndex(bucket, key)
		return err
	case bucketJobLive:
		_, err := t.liveJob(key)
		return err
	case bucketPools:
		return t.vouchPool(key, body)
	case bucketPoolIDs:
		_, err := t.PoolByUUID(string(key))
		return err
	case bucketVolumes:
		return t.vouchVolume(key, body)
	case bucketVolumePaths, bucketVolumeKeys:
		_, err := t.volumeByIndex(bucket, key)
		return err
	}
	return nil
}

// checkStructure finds what would make bbolt misread or overwrite pages. The
// guarded sweep comes first: it visits the same pages, so that bbolt's own
// check, which runs on a goroutine of its own, meets no fault.
func (t *Tx) checkStructure() error {
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	for _, name := range buckets {
		t.sweep(name, func(k, _ []byte) { keep(t.findable(name, k)) }, keep)
	}
	if first != nil {
		return first
	}
	for err := range t.btx.Check() { // to its end, else it would wait for ever
		keep(&DamageError{Cause: fmt.Sprint(err)})
	}
	return first
}

// findable checks that a key met while walking is found by looking for it.
func (t *Tx) findable(bucket string, key []byte) error {
	k, _ := t.bucket(bucket).Cursor().Seek(key)
	if !bytes.Equal(k, key) {
		return damage(bucket, key, "not found in its place")
	}
	return nil
}
