// Package record holds what users and programs see of storaged: jobs, pools,
// volumes, errors, and the words for their states. The JSON of these types is
// the contract of the REST interface, of "storagedctl -o json" and of the store.
//
// Bytes are integers, times are RFC 3339 in UTC, durations are seconds as
// numbers with the suffix _s. The package imports nothing of ours and holds no
// behaviour but what follows from the words themselves.
package record
