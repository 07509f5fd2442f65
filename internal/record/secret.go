package record

import "time"

// MaxSecret bounds a secret, bytes: far above any passphrase and key, far below what
// would disturb anybody.
const MaxSecret = 64 << 10

// Secret is what may be known of a secret. What it is, nobody is given but helpers.
type Secret struct {
	Name   string    `json:"name"`
	Set    time.Time `json:"set"`
	UsedBy []string  `json:"used_by"` // the first volumes that it opens, as POOL/NAME, and pools that log in by it
	Uses   int       `json:"uses"`    // how many there are
}
