package store

import (
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// schema is the version of the file's layout. It goes up when an older program
// would misread the file; a field added to a record does not need it.
const schema = 1

// Buckets. Every value is a seal (seal.go) over a body; the body is the JSON
// of the type named, except where it says otherwise.
const (
	bucketMeta        = "meta"         // "schema": schemaRecord, "job_number": last number given (8 bytes), "limits": Limits, "restored": Restoration
	bucketJobs        = "jobs"         // number (8 bytes, big-endian): a JobHead in binary, then Job
	bucketJobIDs      = "job_ids"      // uuid: number
	bucketJobKeys     = "job_keys"     // uid (8 bytes), idempotency key: number
	bucketJobLive     = "job_live"     // number: empty; the jobs whose state is not terminal
	bucketPools       = "pools"        // name: Pool
	bucketPoolIDs     = "pool_ids"     // uuid: name
	bucketVolumes     = "volumes"      // pool NUL name: Volume
	bucketVolumePaths = "volume_paths" // path NUL pool NUL name: empty
	bucketVolumeKeys  = "volume_keys"  // key NUL pool NUL name: empty
	bucketHistory     = "history"      // key of the kind of work: History
)

var buckets = []string{
	bucketMeta, bucketJobs, bucketJobIDs, bucketJobKeys, bucketJobLive, bucketPools, bucketPoolIDs,
	bucketVolumes, bucketVolumePaths, bucketVolumeKeys, bucketHistory,
}

var (
	keySchema    = []byte("schema")
	keyJobNumber = []byte("job_number")
	keyLimits    = []byte("limits")
	keyRestored  = []byte("restored")
)

type schemaRecord struct {
	Schema int `json:"schema"`
}

// writeSchema makes the buckets of a new file.
func writeSchema(btx *bolt.Tx) error {
	for _, name := range buckets {
		if _, err := btx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	return (&Tx{btx: btx, writable: true}).save(bucketMeta, keySchema, schemaRecord{schema})
}

// checkOpened refuses a file of a newer schema.
func checkOpened(db *bolt.DB) error {
	btx, err := db.Begin(false)
	if err != nil {
		return err
	}
	defer btx.Rollback() // fails only when it is over already
	return (&Tx{btx: btx}).checkSchema(db.Path())
}

func (t *Tx) checkSchema(path string) error {
	var found schemaRecord
	err := t.load(bucketMeta, keySchema, &found)
	if errors.Is(err, ErrNotFound) {
		err = &DamageError{Cause: "it has no schema version"}
	}
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if found.Schema > schema {
		return &SchemaError{Path: path, Found: found.Schema, Known: schema}
	}
	return nil
}
