package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"runtime/debug"
	"strconv"
	"strings"
)

// sealSize is the length of the checksum in front of every value.
const sealSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers the key as well as the content, so that a record that
// turns up under another key is noticed.
func checksum(bucket string, key, body []byte) uint32 {
	sum := crc32.Checksum([]byte(bucket), castagnoli)
	sum = crc32.Update(sum, castagnoli, binary.BigEndian.AppendUint32(nil, uint32(len(key))))
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, body)
}

func seal(bucket string, key, body []byte) []byte {
	out := make([]byte, 0, sealSize+len(body))
	out = binary.BigEndian.AppendUint32(out, checksum(bucket, key, body))
	return append(out, body...)
}

// unseal checks value and gives the body in it.
func unseal(bucket string, key, value []byte) ([]byte, error) {
	if len(value) < sealSize {
		return nil, damage(bucket, key, "too short")
	}
	body := value[sealSize:]
	if binary.BigEndian.Uint32(value) != checksum(bucket, key, body) {
		return nil, damage(bucket, key, "checksum differs")
	}
	return body, nil
}

func damage(bucket string, key []byte, cause string) *DamageError {
	return &DamageError{Bucket: bucket, Key: printable(key), Cause: cause}
}

// printable gives a key as people read it: numbers as such, the rest quoted.
func printable(key []byte) string {
	if len(key) == 8 && key[0] == 0 {
		return strconv.FormatUint(binary.BigEndian.Uint64(key), 10)
	}
	return strconv.Quote(strings.ReplaceAll(string(key), volumeSep, "/"))
}

// sealFile stands for the bucket in the seal of a job that is not in the
// database.
const sealFile = "file"

// SealJob gives a job as a file of its own, for OpenSealedJob.
func SealJob(j *Job) ([]byte, error) {
	body, err := json.Marshal(j)
	if err != nil {
		return nil, fmt.Errorf("cannot encode job %d: %w", j.Number, err)
	}
	return seal(sealFile, []byte(j.ID), body), nil
}

// OpenSealedJob gives the job of that uuid back; a file that is not what was
// sealed is a *DamageError.
func OpenSealedJob(id string, file []byte) (*Job, error) {
	body, err := unseal(sealFile, []byte(id), file)
	if err != nil {
		return nil, err
	}
	j := new(Job)
	if err := decode(sealFile, []byte(id), body, j); err != nil {
		return nil, err
	}
	if j.ID != id || j.Number <= 0 {
		return nil, damage(sealFile, []byte(id), "it is of another job")
	}
	return j, nil
}

// decode parses a record whose checksum was right; if it cannot, it was not
// written by us.
func decode(bucket string, key, body []byte, into any) error {
	err := json.Unmarshal(body, into)
	if err == nil {
		err = readEarlier(body, into)
	}
	if err != nil {
		return damage(bucket, key, err.Error())
	}
	return nil
}

// guard runs fn, which reads or changes pages. On damaged ones bbolt panics or
// follows offsets out of the mapping; either becomes a *DamageError.
func guard(bucket string, key []byte, fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = damage(bucket, key, fmt.Sprint(r))
		}
	}()
	return fn()
}
