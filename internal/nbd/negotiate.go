package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
)

// mostReplies is how many replies an option gets at most: a few contexts or pieces
// of information, and the end.
const mostReplies = 32

// terms are what a server says of an export.
type terms struct {
	size     int64
	flags    uint16
	contexts map[uint32]int // which of the maps a context's id stands for
}

func (t terms) has(flag uint16) bool { return t.flags&flag == flag }

// same says whether two connections lead to the same: their ids of contexts may
// differ.
func (t terms) same(o terms) bool {
	return t.size == o.size && t.flags == o.flags && len(t.contexts) == len(o.contexts)
}

// negotiation is the first phase of a connection.
type negotiation struct {
	net.Conn
	export Export
	terms  terms
}

// negotiate leads a connection to where requests can be made.
func negotiate(c net.Conn, export Export) (terms, error) {
	n := &negotiation{Conn: c, export: export, terms: terms{contexts: map[uint32]int{}}}
	for _, step := range []func() error{n.greet, n.structured, n.metaContexts, n.enter} {
		if err := step(); err != nil {
			return terms{}, err
		}
	}
	return n.terms, nil
}

// greet is the exchange of flags.
func (n *negotiation) greet() error {
	var b [18]byte
	if _, err := io.ReadFull(n, b[:]); err != nil {
		return lost(err)
	}
	if binary.BigEndian.Uint64(b[:]) != magicServer || binary.BigEndian.Uint64(b[8:]) != magicOption {
		return broken("it does not begin as a server of the newstyle negotiation")
	}
	flags := binary.BigEndian.Uint16(b[16:])
	if flags&fixedNewstyle == 0 {
		return broken("it does not know the fixed newstyle negotiation")
	}
	return n.send(binary.BigEndian.AppendUint32(nil, uint32(flags)&(fixedNewstyle|noZeroes)))
}

func (n *negotiation) send(b []byte) error {
	_, err := n.Write(b)
	return lost(err)
}

// errOption says that the server cannot or will not do what an option asks for.
var errOption = errors.New("the NBD server refused an option")

// option sends one and calls take with each of its replies but the last.
func (n *negotiation) option(id uint32, data []byte, take func(kind uint32, data []byte) error) error {
	b := binary.BigEndian.AppendUint64(nil, magicOption)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	if err := n.send(append(b, data...)); err != nil {
		return err
	}
	for range mostReplies {
		kind, data, err := n.reply(id)
		switch {
		case err != nil:
			return err
		case kind == repAck && len(data) == 0:
			return nil
		case kind == repUnknown:
			return fmt.Errorf("%w: it has no export %q", errOption, n.export.Name)
		case kind&repError != 0:
			return fmt.Errorf("%w: option %d, error %d", errOption, id, kind&^repError)
		}
		if err := take(kind, data); err != nil {
			return err
		}
	}
	return broken("more than %d replies to option %d", mostReplies, id)
}

// reply reads one reply to an option.
func (n *negotiation) reply(id uint32) (kind uint32, data []byte, err error) {
	var b [20]byte
	if _, err := io.ReadFull(n, b[:]); err != nil {
		return 0, nil, lost(err)
	}
	kind = binary.BigEndian.Uint32(b[12:])
	size := binary.BigEndian.Uint32(b[16:])
	switch {
	case binary.BigEndian.Uint64(b[:]) != magicReply || binary.BigEndian.Uint32(b[8:]) != id:
		return 0, nil, broken("what should be a reply to option %d is none", id)
	case size > mostString+4:
		return 0, nil, broken("a reply of %d bytes to option %d", size, id)
	}
	data = make([]byte, size)
	_, err = io.ReadFull(n, data)
	return kind, data, lost(err)
}

// structured asks for structured replies, which all else needs.
func (n *negotiation) structured() error {
	return n.option(optStructured, nil, func(kind uint32, _ []byte) error {
		return broken("reply %d to the option of structured replies", kind)
	})
}

// metaContexts asks for the maps. A server need not have any.
func (n *negotiation) metaContexts() error {
	names := []string{contextAllocation, contextDepth}
	if !n.export.Depths {
		names = names[:1]
	}
	b := appendString(nil, n.export.Name)
	b = binary.BigEndian.AppendUint32(b, uint32(len(names)))
	for _, name := range names {
		b = appendString(b, name)
	}
	err := n.option(optSetMetaContext, b, func(kind uint32, data []byte) error {
		if kind != repMetaContext || len(data) < 4 {
			return broken("reply %d of %d bytes to the option of contexts", kind, len(data))
		}
		return n.context(binary.BigEndian.Uint32(data), string(data[4:]), names)
	})
	if errors.Is(err, errOption) {
		clear(n.terms.contexts)
		return nil
	}
	return err
}

func (n *negotiation) context(id uint32, name string, asked []string) error {
	if _, twice := n.terms.contexts[id]; twice {
		return broken("two contexts with the id %d", id)
	}
	for which, a := range asked {
		if a != name {
			continue
		}
		for _, other := range n.terms.contexts {
			if other == which {
				return broken("two ids for the context %s", name)
			}
		}
		n.terms.contexts[id] = which
		return nil
	}
	return broken("a context that nobody asked for: %.100q", name)
}

// enter begins the transmission.
func (n *negotiation) enter() error {
	known := false
	b := appendString(nil, n.export.Name)
	err := n.option(optGo, append(b, 0, 0), func(kind uint32, data []byte) error {
		if kind != repInfo || len(data) < 2 {
			return broken("reply %d of %d bytes to the option that begins the transmission", kind, len(data))
		}
		if binary.BigEndian.Uint16(data) != infoExport {
			return nil
		}
		if known || len(data) != 12 {
			return broken("it describes the export twice, or by %d bytes", len(data))
		}
		known = true
		return n.describe(data[2:])
	})
	if err == nil && !known {
		err = broken("it does not say how large the export is")
	}
	return err
}

func (n *negotiation) describe(b []byte) error {
	size := binary.BigEndian.Uint64(b)
	if size > math.MaxInt64 {
		return broken("an export of %d bytes", size)
	}
	n.terms.size, n.terms.flags = int64(size), binary.BigEndian.Uint16(b[8:])
	if !n.terms.has(hasFlags) {
		return broken("transmission flags %#x", n.terms.flags)
	}
	return nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}
