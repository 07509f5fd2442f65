package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	bolt "go.etcd.io/bbolt"
)

// NextNumber gives a job number that was never given before, from 1.
func (t *Tx) NextNumber() (int64, error) {
	last, err := t.LastNumber()
	if err != nil {
		return 0, err
	}
	return last + 1, t.put(bucketMeta, keyJobNumber, numberKey(last+1))
}

// LastNumber gives the number that was given last, 0 for none.
func (t *Tx) LastNumber() (int64, error) {
	body, err := t.get(bucketMeta, keyJobNumber)
	if err != nil || len(body) != 8 {
		return 0, err
	}
	return keyNumber(body), nil
}

// RaiseNumber makes the next number be higher than n.
func (t *Tx) RaiseNumber(n int64) error {
	body, err := t.get(bucketMeta, keyJobNumber)
	if err != nil || len(body) == 8 && keyNumber(body) >= n {
		return err
	}
	return t.put(bucketMeta, keyJobNumber, numberKey(n))
}

// PutJob stores j, new or changed. Number, ID, owner's uid and key of a job
// never change; another job under the same ID or under the same uid and key is
// an error.
func (t *Tx) PutJob(j *Job) error {
	if j.Number <= 0 || j.ID == "" {
		return fmt.Errorf("internal error: job %d %q has no number or no id", j.Number, j.ID)
	}
	number := numberKey(j.Number)
	body, err := encodeJob(j)
	if err != nil {
		return err
	}
	if err := t.putOwned(bucketJobIDs, []byte(j.ID), number); err != nil {
		return err
	}
	if j.Key != "" {
		if err := t.putOwned(bucketJobKeys, jobKey(j.Owner.UID, j.Key), number); err != nil {
			return err
		}
	}
	if err := t.markLive(number, !j.State.Terminal()); err != nil {
		return err
	}
	return t.put(bucketJobs, number, body)
}

// putOwned makes an index entry unless it is there; one that leads elsewhere
// is an error.
func (t *Tx) putOwned(bucket string, key, owner []byte) error {
	old, err := t.get(bucket, key)
	if err != nil {
		return err
	}
	if old == nil {
		return t.put(bucket, key, owner)
	}
	if string(old) != string(owner) {
		return fmt.Errorf("%s of %q belongs to %s already", printable(key), bucket, printable(old))
	}
	return nil
}

func (t *Tx) markLive(number []byte, live bool) error {
	old, err := t.get(bucketJobLive, number)
	if err != nil || live == (old != nil) {
		return err
	}
	if live {
		return t.put(bucketJobLive, number, nil)
	}
	return t.remove(bucketJobLive, number)
}

// JobByNumber gives the job with that number.
func (t *Tx) JobByNumber(n int64) (*Job, error) { return t.job(numberKey(n)) }

// Job gives the job with that uuid.
func (t *Tx) Job(id string) (*Job, error) { return t.jobByIndex(bucketJobIDs, []byte(id)) }

// JobByKey gives the job that uid asked for under an idempotency key.
func (t *Tx) JobByKey(uid int, key string) (*Job, error) {
	return t.jobByIndex(bucketJobKeys, jobKey(uid, key))
}

// DeleteJob forgets the job with that number, its uuid and its key.
func (t *Tx) DeleteJob(n int64) error {
	j, err := t.JobByNumber(n)
	if err != nil {
		return err
	}
	err = errors.Join(
		t.remove(bucketJobIDs, []byte(j.ID)),
		t.remove(bucketJobLive, numberKey(n)),
		t.remove(bucketJobs, numberKey(n)))
	if j.Key != "" {
		err = errors.Join(err, t.remove(bucketJobKeys, jobKey(j.Owner.UID, j.Key)))
	}
	return err
}

// LiveJobs gives the jobs whose state is not terminal, by number.
func (t *Tx) LiveJobs() ([]*Job, error) {
	return collect(t, bucketJobLive, nil, func(e entry) (*Job, error) {
		head, rest, err := t.liveHead(e.key)
		if err != nil {
			return nil, err
		}
		return t.decodeJob(e.key, head, rest)
	})
}

// JobsBefore calls fn with the heads of the jobs below number before (0: all),
// newest first, until fn says no more or fails. load gives all of the record,
// which costs a hundred times as much; the head is reused and must not be kept.
// fn may not change the store.
func (t *Tx) JobsBefore(before int64, fn func(h *JobHead, load func() (*Job, error)) (more bool, err error)) error {
	if before <= 0 {
		before = math.MaxInt64
	}
	var (
		c    *bolt.Cursor
		head JobHead
		e    entry
		rest []byte
	)
	load := func() (*Job, error) { return t.decodeJob(e.key, &head, rest) }
	for {
		t.live()
		err := guard(bucketJobs, e.key, func() (err error) {
			if c, e, err = t.stepBack(c, before); err == nil && e.key != nil {
				rest, err = head.cut(e.key, e.body)
			}
			return err
		})
		if err != nil || e.key == nil {
			return err
		}
		if more, err := fn(&head, load); err != nil || !more {
			return err
		}
	}
}

// stepBack gives the job record before the cursor, or where there is none yet
// the newest below before.
func (t *Tx) stepBack(c *bolt.Cursor, before int64) (*bolt.Cursor, entry, error) {
	var k, v []byte
	if c != nil {
		k, v = c.Prev()
	} else {
		c = t.bucket(bucketJobs).Cursor()
		if k, _ = c.Seek(numberKey(before)); k == nil {
			k, v = c.Last()
		} else {
			k, v = c.Prev()
		}
	}
	if k == nil {
		return c, entry{}, nil
	}
	body, err := unseal(bucketJobs, k, v)
	return c, entry{k, body}, err
}

// jobKey is the index key of an idempotency key.
func jobKey(uid int, key string) []byte { return append(numberKey(int64(uid)), key...) }

// encodeJob gives the length of the head, the head and the JSON.
func encodeJob(j *Job) ([]byte, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, fmt.Errorf("cannot encode job %d: %w", j.Number, err)
	}
	head := j.Head().append(nil)
	body := binary.AppendUvarint(make([]byte, 0, len(head)+len(text)+binary.MaxVarintLen32), uint64(len(head)))
	return append(append(body, head...), text...), nil
}

// cut parses the head in front of a job's body and gives what follows it.
func (h *JobHead) cut(key, body []byte) (rest []byte, err error) {
	r := headReader{b: body}
	head := r.take(r.count())
	if r.bad || h.parse(head) != nil {
		return nil, damage(bucketJobs, key, errHead.Error())
	}
	if h.Number != keyNumber(key) {
		return nil, damage(bucketJobs, key, "it is of another job")
	}
	return r.b, nil
}

// job gives the job stored under key.
func (t *Tx) job(key []byte) (*Job, error) {
	head, rest, err := t.head(key)
	if err != nil {
		return nil, err
	}
	return t.decodeJob(key, head, rest)
}

// head gives the head of the job stored under key, and its JSON.
func (t *Tx) head(key []byte) (head *JobHead, rest []byte, err error) {
	body, err := t.get(bucketJobs, key)
	if err != nil {
		return nil, nil, err
	}
	if body == nil {
		return nil, nil, ErrNotFound
	}
	head = new(JobHead)
	err = guard(bucketJobs, key, func() error {
		rest, err = head.cut(key, body)
		return err
	})
	return head, rest, err
}

func (t *Tx) decodeJob(key []byte, head *JobHead, text []byte) (*Job, error) {
	j := new(Job)
	err := guard(bucketJobs, key, func() error { return decode(bucketJobs, key, text, j) })
	if err != nil {
		return nil, err
	}
	if j.Number != head.Number || j.ID != head.ID || j.State != head.State || j.Owner.UID != head.UID || j.Key != head.Key {
		return nil, damage(bucketJobs, key, "it is not what its head says")
	}
	return j, nil
}

// jobByIndex follows an entry of job_ids or job_keys.
func (t *Tx) jobByIndex(bucket string, key []byte) (*Job, error) {
	number, head, rest, err := t.indexed(bucket, key)
	if err != nil {
		return nil, err
	}
	return t.decodeJob(number, head, rest)
}

// indexed follows an entry of job_ids or job_keys as far as the head.
func (t *Tx) indexed(bucket string, key []byte) (number []byte, head *JobHead, rest []byte, err error) {
	number, err = t.get(bucket, key)
	if err != nil {
		return nil, nil, nil, err
	}
	if number == nil {
		return nil, nil, nil, ErrNotFound
	}
	head, rest, err = t.head(number)
	if errors.Is(err, ErrNotFound) {
		return nil, nil, nil, damage(bucket, key, "it leads to no job")
	}
	if err == nil && bucket == bucketJobIDs && head.ID != string(key) ||
		err == nil && bucket == bucketJobKeys && string(jobKey(head.UID, head.Key)) != string(key) {
		err = damage(bucket, key, "it leads to another job")
	}
	return number, head, rest, err
}

// liveHead follows an entry of job_live as far as the head.
func (t *Tx) liveHead(number []byte) (head *JobHead, rest []byte, err error) {
	head, rest, err = t.head(number)
	if errors.Is(err, ErrNotFound) || err == nil && head.State.Terminal() {
		err = damage(bucketJobLive, number, "it leads to no live job")
	}
	return head, rest, err
}
