package diskiotest

import (
	"context"
	"sync/atomic"
)

// Asked counts how often a transfer looks whether it is canceled, which it does
// for every call that takes time.
type Asked struct {
	context.Context
	times atomic.Int64
}

// Err is that of the context.
func (a *Asked) Err() error {
	a.times.Add(1)
	return a.Context.Err()
}

// Times is how often it was asked.
func (a *Asked) Times() int64 { return a.times.Load() }
