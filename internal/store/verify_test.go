package store

import (
	"bytes"
	"errors"
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

// vouchJob checks that a job is found by its uuid, its key and its state.
func (t *Tx) vouchJob(key, body []byte) error {
	var head JobHead
	rest, err := head.cut(key, body)
	if err != nil {
		return err
	}
	if _, err := t.decodeJob(key, &head, rest); err != nil {
		return err
	}
	id, err1 := t.get(bucketJobIDs, []byte(head.ID))
	live, err2 := t.get(bucketJobLive, key)
	byKey, err3 := key, error(nil)
	if head.Key != "" {
		byKey, err3 = t.get(bucketJobKeys, jobKey(head.UID, head.Key))
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil // reported with the index
	}
	if string(id) != string(key) || string(byKey) != string(key) || head.State.Terminal() == (live != nil) {
		return damage(bucketJobs, key, "an index has lost it")
	}
	return nil
}

func (t *Tx) vouchPool(key, body []byte) error {
	var p Pool
	if err := decode(bucketPools, key, body, &p); err != nil {
		return err
	}
	name, err := t.get(bucketPoolIDs, []byte(p.UUID))
	if err == nil && string(name) != p.Name || p.Name != string(key) {
		return damage(bucketPools, key, "an index has lost it")
	}
	return nil // a damaged index entry is reported by itself
}

func (t *Tx) vouchVolume(key, body []byte) error {
	var v Volume
	if err := decode(bucketVolumes, key, body, &v); err != nil {
		return err
	}
	lost := !bytes.Equal(volumeKey(v.Pool, v.Name), key)
	for bucket, field := range map[string]string{bucketVolumePaths: v.Path, bucketVolumeKeys: v.Key} {
		if field == "" {
			continue
		}
		entry, err := t.get(bucket, append([]byte(field+volumeSep), key...))
		lost = lost || err == nil && entry == nil // a damaged entry is reported by itself
	}
	if lost {
		return damage(bucketVolumes, key, "an index has lost it")
	}
	return nil
}
