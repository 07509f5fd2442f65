package store

import "errors"

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
		_, _, _, err := t.indexed(bucket, key)
		return err
	case bucketJobLive:
		_, _, err := t.liveHead(key)
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
