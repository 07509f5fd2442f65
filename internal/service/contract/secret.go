package contract

import "storaged/internal/record"

// SecretSet says what a secret is. Nobody is given it back.
type SecretSet struct {
	Value []byte `json:"value"`
}

// Check refuses what is no secret. What is wrong with it is said without it.
func (r *SecretSet) Check() error {
	if n := len(r.Value); n == 0 || n > record.MaxSecret {
		return record.Errorf(record.Invalid, "a secret has between 1 and %d bytes, not %d", record.MaxSecret, n)
	}
	return nil
}
