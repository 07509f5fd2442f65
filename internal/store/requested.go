package store

import (
	"errors"
	"fmt"

	"storaged/internal/record"
)

// Requested gives what uid asked for under an idempotency key: a job, or a pool
// that was defined without one; neither for a new key, or without any. A key of
// another request is a refusal.
func (t *Tx) Requested(uid int, key, digest string) (*Job, *Pool, error) {
	if key == "" {
		return nil, nil, nil
	}
	j, err := t.JobByKey(uid, key)
	switch {
	case err == nil && j.Digest != digest:
		return nil, nil, reused(key, fmt.Sprintf("that of job %d", j.Number))
	case err == nil:
		return j, nil, nil
	case !errors.Is(err, ErrNotFound):
		return nil, nil, fmt.Errorf("cannot look up idempotency key %q: %w", key, err)
	}
	pools, err := t.Pools()
	for _, p := range pools {
		if d := p.Defined; d == nil || d.UID != uid || d.Key != key {
			continue
		}
		if p.Defined.Digest != digest {
			return nil, nil, reused(key, fmt.Sprintf("which defined pool %q", p.Name))
		}
		return nil, p, nil
	}
	return nil, nil, err
}

func reused(key, other string) error {
	return record.Errorf(record.KeyReused, "idempotency key %q belongs to another request, %s", key, other).
		WithHint("use a new key for a new request")
}
