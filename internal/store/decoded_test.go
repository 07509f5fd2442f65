package store

import (
	"fmt"
	"testing"
)

// Who reads gets what was written last, whatever was read before, and a record of its own.
func TestViewHasWhatWasWrittenLast(t *testing.T) {
	s, _ := open(t)
	for round := range int64(3) { // the third writes what the first has
		size := round % 2
		for n := range 2 {
			if err := s.Update(func(tx *Tx) error { return put(tx, n, size) }); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := s.View(func(tx *Tx) error { return spoil(tx, size) }); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// put writes a pool with a volume of a size.
func put(tx *Tx, n int, size int64) error {
	p, v := &Pool{}, &Volume{}
	p.Name, p.UUID, p.Capacity = fmt.Sprint("p", n), fmt.Sprint("u", n), size
	v.Pool, v.Name, v.Capacity = p.Name, "v", size
	if err := tx.PutPool(p); err != nil {
		return err
	}
	return tx.PutVolume(v)
}

// spoil reads all that there is, and changes what it was given.
func spoil(tx *Tx, size int64) error {
	pools, err := tx.Pools()
	if err != nil || len(pools) != 2 {
		return fmt.Errorf("%d pools: %w", len(pools), err)
	}
	for _, p := range pools {
		vols, err := tx.Volumes(p.Name)
		if err != nil || len(vols) != 1 {
			return fmt.Errorf("%d volumes: %w", len(vols), err)
		}
		v, err := tx.Volume(p.Name, "v")
		if err != nil {
			return err
		}
		if p.Capacity != size || v.Capacity != size || vols[0].Capacity != size {
			return fmt.Errorf("sizes are %d, %d and %d, not %d", p.Capacity, v.Capacity, vols[0].Capacity, size)
		}
		p.Capacity, v.Capacity, vols[0].Capacity = -1, -1, -1
	}
	return nil
}

// However many records are written and read, few are kept.
func TestDecodedRecordsAreBounded(t *testing.T) {
	var d decoded[Pool]
	for n := range 2*maxDecoded + 1 {
		body := fmt.Appendf(nil, `{"capacity":%d}`, n)
		for range 2 {
			if p, err := d.read(bucketPools, []byte("p"), body); err != nil || p.Capacity != int64(n) {
				t.Fatalf("%+v, %v", p, err)
			}
		}
		if len(d.of) > maxDecoded {
			t.Fatalf("%d records are kept", len(d.of))
		}
	}
}
