package service

import (
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/store"
)

// What does not answer promptly waits for a place of its own, until it does, and what is not in
// use any more is forgotten.
func TestPoolsThatDoNotAnswerHavePlacesOfTheirOwn(t *testing.T) {
	w, p := newWatch(), &store.Pool{Pool: record.Pool{UUID: "u", State: record.PoolActive}}
	if w.begin(p, 0) != nil {
		t.Error("it is read though its figures may have any age")
	}
	if w.begin(p, time.Nanosecond) != w.prompt || w.begin(p, time.Nanosecond) != nil {
		t.Error("it is not read, or twice at once")
	}
	w.end(p, false)
	if w.begin(p, time.Nanosecond) != w.slow {
		t.Error("it is read with those that answer")
	}
	w.forget(nil)
	if len(w.of) != 1 {
		t.Error("it is forgotten while it is read")
	}
	w.end(p, true)
	if w.begin(p, time.Nanosecond) != w.prompt {
		t.Error("it has answered, and is not read with the others")
	}
	w.end(p, true)
	if w.begin(p, time.Hour) != nil {
		t.Error("it is read though it was a moment ago")
	}
	p.State = record.PoolUnreachable
	if w.begin(p, time.Nanosecond) != w.slow {
		t.Error("it is away, and read with those that answer")
	}
	w.end(p, true)
	w.forget([]*store.Pool{p})
	if len(w.of) != 1 {
		t.Error("it is in use, and forgotten")
	}
	if w.forget(nil); len(w.of) > 0 {
		t.Error("it is not forgotten")
	}
}

// Of a pool that nobody asks about any more nothing is kept.
func TestLooksForRoomAreForgotten(t *testing.T) {
	var l looks
	one := l.enter("u")
	if l.enter("u") != one {
		t.Error("there are two turns of one pool")
	}
	l.leave("u")
	if l.enter("u") != one {
		t.Error("it is forgotten while somebody asks")
	}
	l.leave("u")
	if l.leave("u"); len(l.pools) > 0 {
		t.Error("it is not forgotten")
	}
}
