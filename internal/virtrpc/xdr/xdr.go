// Package xdr is the external data representation of RFC 4506, of which it has the
// few types that libvirt's protocol is made of. What a type looks like is said once,
// for both directions: its method XDR passes its fields, in order, to a Stream, which
// writes them or fills them in.
package xdr

// MaxString bounds a string, bytes: REMOTE_STRING_MAX of libvirt's remote_protocol.x.
const MaxString = 4 << 20

// Stream writes values or reads them. After an error it does nothing more.
type Stream interface {
	Uint32(*uint32)
	Int32(*int32)
	Uint64(*uint64)
	Int64(*int64)
	// String is of at most MaxString bytes, none of them zero: a client in C could
	// not see what follows.
	String(*string)
	// Opaque is bytes of a number that both sides know.
	Opaque([]byte)
	// Count is how many values follow, at most most.
	Count(n *int, most int)
	// Refuse ends the stream with an error, where a value cannot be.
	Refuse(err error)
	// Err is the first error.
	Err() error
}

// Value can be written and read.
type Value interface {
	XDR(Stream)
}

// List is as many values as there are, at most most.
func List[T any](s Stream, list *[]T, most int, item func(Stream, *T)) {
	n := len(*list)
	s.Count(&n, most)
	for i := 0; i < n && s.Err() == nil; i++ {
		if i == len(*list) { // reading
			var v T
			*list = append(*list, v) // a count costs nothing before its values have come
		}
		item(s, &(*list)[i])
	}
}

// Optional is a value or nothing, nil. Like libvirt's, it takes every number but 0 for
// there being one: go-libvirt sends 1<<24.
func Optional[T any](s Stream, v **T, item func(Stream, *T)) {
	var there uint32
	if *v != nil {
		there = 1
	}
	s.Uint32(&there)
	if there == 0 || s.Err() != nil {
		*v = nil
		return
	}
	if *v == nil {
		*v = new(T)
	}
	item(s, *v)
}

// OptionalString is a string or nothing.
func OptionalString(s Stream, v **string) { Optional(s, v, Stream.String) }

// padding is how many bytes follow n to make it a multiple of four.
func padding(n int) int { return -n & 3 }
