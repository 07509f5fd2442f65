package store

import (
	"errors"
	"fmt"
)

// PutPool stores p, new or changed. Its uuid must not be another pool's.
func (t *Tx) PutPool(p *Pool) error {
	if p.Name == "" || p.UUID == "" {
		return fmt.Errorf("internal error: pool %q %q has no name or no uuid", p.Name, p.UUID)
	}
	old, err := t.Pool(p.Name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if old != nil && old.UUID != p.UUID {
		if err := t.remove(bucketPoolIDs, []byte(old.UUID)); err != nil {
			return err
		}
	}
	if err := t.putOwned(bucketPoolIDs, []byte(p.UUID), []byte(p.Name)); err != nil {
		return err
	}
	return t.save(bucketPools, []byte(p.Name), p)
}

// Pool gives the pool of that name.
func (t *Tx) Pool(name string) (*Pool, error) {
	body, err := t.get(bucketPools, []byte(name))
	if err != nil {
		return nil, err
	}
	if body == nil {
		return nil, ErrNotFound
	}
	return t.decodePool([]byte(name), body)
}

func (t *Tx) decodePool(key, body []byte) (*Pool, error) {
	p, err := t.decoded.ofPools().read(bucketPools, key, body)
	if err == nil && p.Name != string(key) {
		return nil, damage(bucketPools, key, "it is of another pool")
	}
	return p, err
}

// PoolByUUID gives the pool with that uuid.
func (t *Tx) PoolByUUID(uuid string) (*Pool, error) {
	name, err := t.get(bucketPoolIDs, []byte(uuid))
	if err != nil {
		return nil, err
	}
	if name == nil {
		return nil, ErrNotFound
	}
	p, err := t.Pool(string(name))
	if errors.Is(err, ErrNotFound) || err == nil && p.UUID != uuid {
		return nil, damage(bucketPoolIDs, []byte(uuid), "it leads to no such pool")
	}
	return p, err
}

// Pools gives all pools, by name.
func (t *Tx) Pools() ([]*Pool, error) {
	return collect(t, bucketPools, nil, func(e entry) (*Pool, error) { return t.decodePool(e.key, e.body) })
}

// SoundPools gives the pools whose records can be read, by name, and how many cannot.
func (t *Tx) SoundPools() (pools []*Pool, damaged int, err error) {
	damaged, err = t.sound(bucketPools, func(key, body []byte) error {
		p, err := t.decodePool(key, body)
		if err == nil {
			pools = append(pools, p)
		}
		return err
	})
	return pools, damaged, err
}

// DeletePool forgets the pool of that name; its volumes stay (see
// DeleteVolumes).
func (t *Tx) DeletePool(name string) error {
	p, err := t.Pool(name)
	if err != nil {
		return err
	}
	return errors.Join(t.remove(bucketPoolIDs, []byte(p.UUID)), t.remove(bucketPools, []byte(name)))
}
