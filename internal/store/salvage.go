package store

import (
	"errors"
	"fmt"
	"os"
)

// salvaged is what could be read of a file, damaged or not: the records whose
// seal holds. One that is not there may have been deleted, or, in a torn
// bucket, be lost.
type salvaged struct {
	bodies map[string]map[string][]byte // by bucket and key
	torn   map[string]bool              // buckets of which something was not read; "": any
	damage []string                     // what was found, the first of it
}

// maxNamed bounds each list of what is named of damage.
const maxNamed = 100

// salvage reads a file that nobody has open. The newest meta page that holds
// says where to begin; what is damaged on the way is passed over with all that
// it leads to. A file of a newer program is a *SchemaError.
func salvage(path string) (*salvaged, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s := &salvaged{bodies: map[string]map[string][]byte{}, torn: map[string]bool{}}
	c := &checker{f: f, visit: s.take, forgive: s.note}
	if err := c.readMetas(); err != nil {
		return nil, err
	}
	c.meta.pages = min(c.meta.pages, uint64(info.Size()/c.pageSize))
	c.seen = make([]bool, c.meta.pages)
	s.note("", c.walk(c.meta.root, nil, nil))
	return s, s.checkSchema(path)
}

// take keeps a record whose seal holds.
func (s *salvaged) take(bucket string, key, value []byte) error {
	body, err := unseal(bucket, key, value)
	if err != nil {
		return err
	}
	if s.bodies[bucket] == nil {
		s.bodies[bucket] = map[string][]byte{}
	}
	s.bodies[bucket][string(key)] = body
	return nil
}

// note keeps damage. What lies in no bucket may concern each.
func (s *salvaged) note(bucket string, err error) {
	if err == nil {
		return
	}
	s.torn[bucket] = true
	if len(s.damage) >= maxNamed {
		return
	}
	text := err.Error()
	if d := (*DamageError)(nil); errors.As(err, &d) && d.Bucket == "" {
		text = d.Cause // all of these are of the file
	}
	s.damage = append(s.damage, text)
}

// complete reports whether nothing of a bucket is missing.
func (s *salvaged) complete(bucket string) bool { return !s.torn[""] && !s.torn[bucket] }

// lastNumber is the highest job number that the file knows of.
func (s *salvaged) lastNumber() (last int64) {
	if b := s.bodies[bucketMeta][string(keyJobNumber)]; len(b) == 8 {
		last = keyNumber(b)
	}
	for key := range s.bodies[bucketJobs] {
		if len(key) == 8 {
			last = max(last, keyNumber([]byte(key)))
		}
	}
	return last
}

func (s *salvaged) checkSchema(path string) error {
	var found schemaRecord
	body := s.bodies[bucketMeta][string(keySchema)]
	if body == nil {
		s.note(bucketMeta, errors.New("it has no schema version"))
		return nil
	}
	if err := decode(bucketMeta, keySchema, body, &found); err != nil {
		s.note(bucketMeta, err)
		return nil
	}
	if found.Schema > schema {
		return &SchemaError{Path: path, Found: found.Schema, Known: schema}
	}
	return nil
}

// sound gives what is in a file without any damage, and an error for another.
func sound(path string) (*salvaged, error) {
	if err := checkFile(path); err != nil {
		return nil, err
	}
	s, err := salvage(path)
	if err == nil && len(s.damage) > 0 {
		err = fmt.Errorf("%q: %s", path, s.damage[0])
	}
	return s, err
}
