package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Tx is a transaction: a consistent view, and in Update the right to change.
// It is used by one goroutine and ends with the function it was given to.
// Records given are copies; what they refer to belongs to the caller in Update, and in
// View to all who read it: nobody changes it. Every method may return a *DamageError; the
// reading ones return ErrNotFound where a single record is asked for.
type Tx struct {
	btx      *bolt.Tx
	writable bool
	undo     []change // what this function wrote, oldest first
	spoiled  bool     // bbolt panicked while it changed pages
	after    []func() // what OnCommit was given

	decoded *decodings // of a view; an update has its records for itself, nil
}

// change is what stood under a key before it was written; old nil: nothing.
type change struct {
	bucket   string
	key, old []byte
}

// errReadOnly is a write in View, a mistake of the caller.
var errReadOnly = errors.New("internal error: change of the store without Update")

// Version counts the changes of the store: what two transactions of one read is the same.
func (t *Tx) Version() int {
	t.live()
	return t.btx.ID()
}

// live panics when the transaction is over.
func (t *Tx) live() {
	if t.btx == nil {
		panic("internal error: transaction used after its end")
	}
}

// bucket gives a bucket of the schema. All of them were made with the file:
// one that is missing is damage, which the guard around every call makes of
// the panic.
func (t *Tx) bucket(name string) *bolt.Bucket {
	b := t.btx.Bucket([]byte(name))
	if b == nil {
		panic("bucket is missing")
	}
	return b
}

// get gives the checked body stored under key, nil when there is none. It is
// valid until the transaction ends.
func (t *Tx) get(bucket string, key []byte) (body []byte, err error) {
	t.live()
	err = guard(bucket, key, func() error {
		value := t.bucket(bucket).Get(key)
		if value == nil {
			return nil
		}
		body, err = unseal(bucket, key, value)
		return err
	})
	return body, err
}

// load decodes the JSON record under key.
func (t *Tx) load(bucket string, key []byte, into any) error {
	body, err := t.get(bucket, key)
	if err != nil {
		return err
	}
	if body == nil {
		return ErrNotFound
	}
	return guard(bucket, key, func() error { return decode(bucket, key, body, into) })
}

// save writes v as JSON under key.
func (t *Tx) save(bucket string, key []byte, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("cannot encode record %s of %q: %w", printable(key), bucket, err)
	}
	return t.put(bucket, key, body)
}

// put writes body under key. What stood there is remembered unchecked: taking
// back must restore even what was damaged.
func (t *Tx) put(bucket string, key, body []byte) error {
	key = bytes.Clone(key)
	return t.write(bucket, key, func(b *bolt.Bucket) error {
		return b.Put(key, seal(bucket, key, body))
	})
}

// remove deletes what is under key, if anything.
func (t *Tx) remove(bucket string, key []byte) error {
	key = bytes.Clone(key)
	return t.write(bucket, key, func(b *bolt.Bucket) error { return b.Delete(key) })
}

func (t *Tx) write(bucket string, key []byte, do func(*bolt.Bucket) error) error {
	t.live()
	if !t.writable {
		return errReadOnly
	}
	err := guard(bucket, key, func() error {
		b := t.bucket(bucket)
		t.undo = append(t.undo, change{bucket, key, bytes.Clone(b.Get(key))})
		return do(b)
	})
	t.spoiled = t.spoiled || isDamage(err)
	return err
}

// takeBack undoes every write of this transaction, newest first.
func (t *Tx) takeBack() { t.takeBackTo(0) }

// takeBackTo undoes all writes but the first n, newest first.
func (t *Tx) takeBackTo(n int) {
	for len(t.undo) > n {
		c := t.undo[len(t.undo)-1]
		t.undo = t.undo[:len(t.undo)-1]
		err := guard(c.bucket, c.key, func() error {
			if c.old == nil {
				return t.bucket(c.bucket).Delete(c.key)
			}
			return t.bucket(c.bucket).Put(c.key, c.old)
		})
		if err != nil {
			t.spoiled = true
			return
		}
	}
}

// entry is one checked record met while walking a bucket.
type entry struct {
	key, body []byte
}

// walk calls fn with the records whose keys begin with prefix, in order. fn
// may change the store: a walk of a writing transaction finds its place again
// after each call.
func (t *Tx) walk(bucket string, prefix []byte, fn func(entry) error) error {
	c, seek := (*bolt.Cursor)(nil), prefix
	for {
		t.live()
		var e entry
		err := guard(bucket, seek, func() (err error) {
			c, e, err = t.step(bucket, c, seek)
			return err
		})
		if err != nil || e.key == nil || !bytes.HasPrefix(e.key, prefix) {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
		seek = append(bytes.Clone(e.key), 0)
	}
}

// sound calls read with the records of a bucket that can be read, in order, and tells how
// many cannot, among them those that read finds damaged. It fails where the structure of the
// file is damaged: nobody knows how many there are behind that.
func (t *Tx) sound(bucket string, read func(key, body []byte) error) (damaged int, err error) {
	t.live()
	err = guard(bucket, nil, func() error {
		return t.bucket(bucket).ForEach(func(k, v []byte) error {
			body, err := unseal(bucket, k, v)
			if err == nil {
				err = read(k, body)
			}
			if err != nil {
				damaged++
			}
			return nil
		})
	})
	return damaged, err
}

// collect gives what read makes of the records that walk meets.
func collect[T any](t *Tx, bucket string, prefix []byte, read func(entry) (*T, error)) (all []*T, err error) {
	err = t.walk(bucket, prefix, func(e entry) error {
		r, err := read(e)
		if r != nil {
			all = append(all, r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// step gives the record after the cursor, or the first at or after seek where
// there is no cursor yet or it may have moved.
func (t *Tx) step(bucket string, c *bolt.Cursor, seek []byte) (*bolt.Cursor, entry, error) {
	var k, v []byte
	if c == nil || t.writable {
		c = t.bucket(bucket).Cursor()
		k, v = c.Seek(seek)
	} else {
		k, v = c.Next()
	}
	if k == nil {
		return c, entry{}, nil
	}
	body, err := unseal(bucket, k, v)
	return c, entry{k, body}, err
}

func numberKey(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func keyNumber(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }
