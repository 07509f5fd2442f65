package virtrpc

import (
	"fmt"
	"slices"

	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// access says who may call a procedure, and when.
type access int

const (
	strangers access = iota // before it is clear who calls
	anybody                 // before anything else
	opened                  // who has opened the connection: about the connection
	reads                   // likewise: about storage
	owns                    // likewise, and may change what belongs to the caller
	writes                  // likewise, and may change something
)

// procedure is one that clients can call.
type procedure struct {
	number wire.Procedure
	name   string // of libvirt's public function
	access access
	handler
}

// handler does what is called for.
type handler struct {
	do     func(c *call, args *xdr.Decoder) (xdr.Value, error)
	atOnce bool // by the reader itself, in order with all other packets; it never waits
	stream bool // one follows
}

// with makes a handler of a function that has arguments.
func with[A any, P interface {
	*A
	xdr.Value
}](do func(c *call, args A) (xdr.Value, error)) handler {
	return handler{do: func(c *call, d *xdr.Decoder) (xdr.Value, error) {
		var args A
		if P(&args).XDR(d); d.Err() != nil {
			return nil, undecodable
		}
		return do(c, args)
	}}
}

// atOnce makes one that the reader itself runs.
func atOnce[A any, P interface {
	*A
	xdr.Value
}](do func(c *call, args A) (xdr.Value, error)) handler {
	h := with[A, P](do)
	h.atOnce = true
	return h
}

// streaming makes one of a function that has a stream beside its arguments. It answers
// the call itself when the stream begins, unless it gives an error before.
func streaming[A any, P interface {
	*A
	xdr.Value
}](do func(c *call, args A) error) handler {
	h := with[A, P](func(c *call, args A) (xdr.Value, error) { return nil, do(c, args) })
	h.stream = true
	return h
}

// programs puts all of them together, each set under its number.
func programs() map[wire.Program]map[wire.Procedure]procedure {
	return map[wire.Program]map[wire.Procedure]procedure{
		wire.Remote:     byNumber(connecting(), events(), poolLooks(), poolChanges(), poolSources(), volumeLooks(), volumeChanges(), contents(), unsupported()),
		wire.JobControl: byNumber(jobLooks(), jobChanges(), jobEvents()),
	}
}

func byNumber(rows ...[]procedure) map[wire.Procedure]procedure {
	all := map[wire.Procedure]procedure{}
	for _, p := range slices.Concat(rows...) {
		if other, twice := all[p.number]; twice {
			panic(fmt.Sprintf("internal error: virtrpc: procedure %d is %s and %s", p.number, other.name, p.name))
		}
		all[p.number] = p
	}
	return all
}
