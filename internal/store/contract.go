package store

import "errors"

// ErrNotFound is a record that is not there.
var ErrNotFound = errors.New("no such record")

// Store is the open database. Its methods are safe for concurrent use.
type Store struct{}

// Tx is a transaction: a consistent view, and in Update the right to change.
type Tx struct{}
