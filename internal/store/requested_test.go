package store

import (
	"strings"
	"testing"

	"storaged/internal/record"
)

// A key is that of one request, whether it made a job or defined a pool.
func TestKeyIsOfOneRequest(t *testing.T) {
	s, _ := open(t)
	j, p := testJob(1, record.Succeeded), testPool("images")
	j.Owner.UID, j.Key, j.Digest = 1000, "k1", "d1"
	p.Defined = &Defining{UID: 1000, Key: "k2", Digest: "d2"}
	must(t, s.Update(func(tx *Tx) error {
		must(t, tx.PutJob(j))
		return tx.PutPool(p)
	}))
	for _, c := range []struct {
		uid         int
		key, digest string
		job, pool   bool
		refused     string
	}{
		{1000, "k1", "d1", true, false, ""},
		{1000, "k1", "d2", false, false, "that of job 1"},
		{1000, "k2", "d2", false, true, ""},
		{1000, "k2", "d1", false, false, `which defined pool "images"`},
		{1000, "k3", "d1", false, false, ""},
		{1000, "", "d1", false, false, ""},
		{0, "k1", "d2", false, false, ""},
		{0, "k2", "d1", false, false, ""},
	} {
		must(t, s.View(func(tx *Tx) error {
			job, pool, err := tx.Requested(c.uid, c.key, c.digest)
			refused := record.CodeOf(err) == record.KeyReused && strings.Contains(err.Error(), c.refused)
			if (job != nil) != c.job || (pool != nil) != c.pool || (c.refused != "") != refused || err != nil && !refused {
				t.Errorf("key %q of uid %d with digest %q gives %v, %v, %v", c.key, c.uid, c.digest, job, pool, err)
			}
			return nil
		}))
	}
}
