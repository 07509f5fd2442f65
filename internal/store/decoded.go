package store

import "sync"

// maxDecoded bounds the records of a kind that are kept decoded, some KiB each.
const maxDecoded = 4096

// decodings are those of records that are read again and again.
type decodings struct {
	pools   decoded[Pool]
	volumes decoded[Volume]
}

func (d *decodings) ofPools() *decoded[Pool] {
	if d == nil {
		return nil
	}
	return &d.pools
}

func (d *decodings) ofVolumes() *decoded[Volume] {
	if d == nil {
		return nil
	}
	return &d.volumes
}

// decoded are records by the bytes that they were decoded from. The same bytes are the
// same record, whoever has written them since: none is ever out of date, and for those
// that are not in the store any more nobody asks. nil keeps none.
type decoded[T any] struct {
	mu sync.RWMutex
	of map[string]*T
}

// read gives the record under a key, a copy. What that refers to others may have too.
func (d *decoded[T]) read(bucket string, key, body []byte) (r *T, err error) {
	err = guard(bucket, key, func() error {
		if r = d.find(body); r != nil {
			return nil
		}
		r = new(T)
		err := decode(bucket, key, body, r)
		if err == nil {
			d.keep(body, *r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (d *decoded[T]) find(body []byte) *T {
	if d == nil {
		return nil
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if r := d.of[string(body)]; r != nil {
		return new(*r)
	}
	return nil
}

func (d *decoded[T]) keep(body []byte, r T) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil || len(d.of) >= maxDecoded {
		d.of = map[string]*T{}
	}
	d.of[string(body)] = &r
}
