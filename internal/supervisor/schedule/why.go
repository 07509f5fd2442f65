package schedule

import (
	"slices"
	"time"

	"storaged/internal/record"
	"storaged/internal/supervisor/locks"
)

// named is whom an answer to "why does it wait" names at most. Of those who
// only asked earlier the first will do: the position counts them all.
var named = locks.Most{Holders: record.MaxHolders, Askers: 1}

// Blockers says why a job waits, by the same facts by which it is granted.
func (e *Entry) Blockers() []record.Blocker {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.state {
	case Held:
		return []record.Blocker{e.why}
	case WantsLock:
		blocks := s.explain(e.ask(), s.locks.Blockers(e.job.ID, named), e.since)
		if !s.drained.IsZero() {
			blocks = append(blocks, record.Blocker{For: "drain", Since: s.drained.UTC()})
		}
		return blocks
	case WantsSlot:
		return []record.Blocker{s.explainSlot(e)}
	}
	return nil
}

// Probe says what would be in the way of a request now.
func (s *Schedule) Probe(class record.Class, objects []record.Object) []record.Blocker {
	s.mu.Lock()
	defer s.mu.Unlock()
	ask := locks.Ask{Objects: objects, Visits: class == record.Normal}
	return s.explain(ask, s.locks.Probe(ask, named), time.Now())
}

func (s *Schedule) explainSlot(e *Entry) record.Blocker {
	b := record.Blocker{For: "slot", Since: e.since.UTC(), Position: 1, Short: e.job.Short()}
	for _, before := range s.ready[:s.turn(e)] {
		if before.job.Short() == e.job.Short() {
			b.Position++
		}
	}
	if s.halted() {
		b.For = "drain"
		return b
	}
	switch r, _ := s.lacks(e); r.of {
	case ofPool:
		b.Object = &record.Object{Pool: r.name}
	case ofDevice:
		b.Device = r.name
	}
	return b
}

// explain says of those who are in the way what is known; blocks has holders
// first. A job is in the way since it has its locks, or waits for them; of what else
// holds them only is known since when somebody asks.
func (s *Schedule) explain(a locks.Ask, blocks []locks.Block, since time.Time) []record.Blocker {
	next := !slices.ContainsFunc(blocks, func(b locks.Block) bool { return b.Waiting }) // whom no window passes
	var out []record.Blocker
	for _, b := range blocks {
		w := record.Blocker{
			For: "lock", Object: new(b.Asked), Mode: b.Asked.Mode, Position: b.Position, Since: since.UTC(),
			Holder: &record.Holder{ID: b.Holder, Mode: b.Held.Mode}, More: b.More,
		}
		if e := s.entries[b.Holder]; e != nil {
			w.Holder, w.ExpectedEnd, w.Since = e.holder(b.Held.Mode), e.expectedEnd(), e.since.UTC()
			if next && a.Visits && b.Asked.Volume != "" && e.running() {
				w.NextWindow = e.job.Outlook.NextWindow(b.Asked.Mode)
			}
		}
		out = append(out, w)
	}
	return out
}

// Inside names the visitors that a job waits for.
func (e *Entry) Inside() []record.Blocker {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []record.Blocker
	ids := s.locks.Visitors(e.job.ID)
	for _, id := range ids[:min(len(ids), named.Holders)] {
		v := s.entries[id]
		if v == nil || len(v.job.Objects) == 0 {
			continue
		}
		object := v.job.Objects[0]
		out = append(out, record.Blocker{
			For: "lock", Object: &object, Since: v.since.UTC(), Holder: v.holder(object.Mode), ExpectedEnd: v.expectedEnd(),
		})
	}
	if more := len(ids) - named.Holders; more > 0 && len(out) > 0 {
		out[len(out)-1].More = more
	}
	return out
}

func (e *Entry) holder(m record.Mode) *record.Holder {
	return &record.Holder{ID: e.job.ID, Number: e.job.Number, Kind: e.job.Kind, Owner: new(e.job.Owner), Mode: m}
}

// running says that there is something to expect of the job.
func (e *Entry) running() bool { return e.state == Running && e.job.Outlook != nil }

func (e *Entry) expectedEnd() *time.Time {
	if !e.running() {
		return nil
	}
	return e.job.Outlook.ExpectedEnd()
}
