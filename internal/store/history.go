package store

import "errors"

// PutHistory stores what past jobs of a kind of work teach.
func (t *Tx) PutHistory(h *History) error {
	if h.Key == "" {
		return errors.New("internal error: history of no key")
	}
	return t.save(bucketHistory, []byte(h.Key), h)
}

// History gives what past jobs of that kind of work teach.
func (t *Tx) History(key string) (*History, error) {
	h := new(History)
	if err := t.load(bucketHistory, []byte(key), h); err != nil {
		return nil, err
	}
	if h.Key != key {
		return nil, damage(bucketHistory, []byte(key), "it is of another kind of work")
	}
	return h, nil
}
