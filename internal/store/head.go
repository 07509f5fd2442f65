package store

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"storaged/internal/record"
)

// JobHead is what lists and retention sort out jobs by. It stands in front of
// the JSON of each job and is read some hundred times faster.
type JobHead struct {
	Number   int64
	ID       string
	Kind     record.Kind
	Class    record.Class
	State    record.State
	Objects  []record.Object
	UID      int
	User     string
	Key      string // idempotency key
	Created  time.Time
	Ended    time.Time // zero: not yet
	Pinned   bool
	Destroys bool
	Labels   map[string]string
}

// Head gives the part of the job that lists are made by.
func (j *Job) Head() *JobHead {
	h := &JobHead{
		Number: j.Number, ID: j.ID, Kind: j.Kind, Class: j.Class, State: j.State, Objects: j.Objects,
		UID: j.Owner.UID, User: j.Owner.User, Key: j.Key, Created: j.Created,
		Pinned: j.Pinned, Destroys: j.Destroys, Labels: j.Labels,
	}
	if j.Ended != nil {
		h.Ended = *j.Ended
	}
	return h
}

const (
	flagPinned = 1 << iota
	flagDestroys
)

// append encodes the head: numbers as varints, strings and lists by length.
func (h *JobHead) append(b []byte) []byte {
	b = binary.AppendVarint(b, h.Number)
	for _, s := range []string{h.ID, string(h.Kind), string(h.Class), string(h.State), h.User, h.Key} {
		b = appendString(b, s)
	}
	b = binary.AppendVarint(b, int64(h.UID))
	b = binary.AppendVarint(b, nanos(h.Created))
	b = binary.AppendVarint(b, nanos(h.Ended))
	var flags byte
	if h.Pinned {
		flags |= flagPinned
	}
	if h.Destroys {
		flags |= flagDestroys
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(len(h.Objects)))
	for _, o := range h.Objects {
		b = appendString(appendString(appendString(b, o.Pool), o.Volume), string(o.Mode))
	}
	b = binary.AppendUvarint(b, uint64(len(h.Labels)))
	for k, v := range h.Labels {
		b = appendString(appendString(b, k), v)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// nanos gives Unix nanoseconds, 0 for the zero time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// errHead is a head that cannot be parsed.
var errHead = errors.New("head does not parse")

// parse decodes a head; b is not kept.
func (h *JobHead) parse(b []byte) error {
	r := headReader{b: b}
	h.Number = r.varint()
	h.ID = r.string()
	h.Kind = record.Kind(r.string())
	h.Class = record.Class(r.string())
	h.State = record.State(r.string())
	h.User, h.Key = r.string(), r.string()
	h.UID = int(r.varint())
	h.Created, h.Ended = r.time(), r.time()
	flags := r.take(1)
	if r.bad {
		return errHead
	}
	h.Pinned, h.Destroys = flags[0]&flagPinned != 0, flags[0]&flagDestroys != 0
	h.Objects = h.Objects[:0]
	for range r.count() {
		h.Objects = append(h.Objects, record.Object{Pool: r.string(), Volume: r.string(), Mode: record.Mode(r.string())})
	}
	h.Objects = slices.Clip(h.Objects)
	h.Labels = r.labels()
	if r.bad || len(r.b) != 0 {
		return errHead
	}
	return nil
}

// headReader takes values off the front of b; after a bad one it gives zeros.
type headReader struct {
	b   []byte
	bad bool
}

func (r *headReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count gives a length that the rest can hold.
func (r *headReader) count() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(len(r.b)-n) {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

func (r *headReader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *headReader) string() string { return string(r.take(r.count())) }

func (r *headReader) time() time.Time {
	n := r.varint()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func (r *headReader) labels() map[string]string {
	n := r.count()
	if n == 0 {
		return nil
	}
	labels := make(map[string]string, n)
	for range n {
		k := r.string()
		labels[k] = r.string()
	}
	return labels
}
