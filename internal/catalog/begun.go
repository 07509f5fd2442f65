package catalog

import (
	"fmt"
	"math"
	"strings"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// A volume is incomplete as long as some part of it has what a job began to
// write and did not complete. A later upload makes it ready when it has covered
// all such parts, whichever job began them.

// maxBegun is how many parts are told apart. More would be of no use to anybody;
// they are one then, from the first to the last.
const maxBegun = 16

// toTheEnd is the end of a part that reaches up to that of the volume.
const toTheEnd = math.MaxInt64

// changed is the part of the volume that the job has changed, or may have where
// it did not succeed.
func (e end) changed() store.Begun {
	b := store.Begun{Job: e.job.Number, To: toTheEnd}
	u, ok := e.Operation.(*operation.Upload)
	if !ok {
		return b
	}
	b.From = u.Offset
	switch {
	case e.ok():
		b.From -= u.Skipped // it is in place, or the job would have been refused
		end := e.report.Volume.Size
		if u.Opens() {
			end = u.Capacity
		}
		if b.To = u.Offset + e.report.Bytes; b.To == end {
			b.To = toTheEnd
		}
	case e.own() && e.report.Reach > 0:
		b.To = u.Offset + e.report.Reach
	case u.Length != nil:
		b.To = u.Offset + *u.Length
	}
	return b
}

// begun are the parts of an incomplete volume that are not complete.
func begun(v *store.Volume) []store.Begun {
	if len(v.Begun) > 0 {
		return v.Begun
	}
	all := store.Begun{To: toTheEnd}
	if v.Job != nil {
		all.Job = *v.Job
	}
	return []store.Begun{all}
}

// without is what is left of parts when some of it was covered.
func without(parts []store.Begun, covered store.Begun) []store.Begun {
	var rest []store.Begun
	for _, p := range parts {
		before, behind := p, p
		before.To, behind.From = min(p.To, covered.From), max(p.From, covered.To)
		for _, b := range []store.Begun{before, behind} {
			if b.From < b.To {
				rest = append(rest, b)
			}
		}
	}
	return gathered(rest)
}

// gathered takes parts together when they are too many.
func gathered(parts []store.Begun) []store.Begun {
	if len(parts) <= maxBegun {
		return parts
	}
	all := parts[0]
	for _, p := range parts {
		all.From, all.To = min(all.From, p.From), max(all.To, p.To)
	}
	return []store.Begun{all}
}

// begin adds what a job that did not succeed may have changed. Where it is not
// known what others had begun, it stays so.
func begin(v *store.Volume, e end) {
	if len(v.Begun) > 0 || Made(v, e.job) {
		v.Begun = gathered(append(v.Begun[:len(v.Begun):len(v.Begun)], e.changed()))
	}
}

// incomplete says why a volume stays so: what jobs had begun to change of it.
func incomplete(parts []store.Begun) string {
	texts := make([]string, len(parts))
	for i, b := range parts {
		part := fmt.Sprintf("from byte %d to %d", b.From, b.To)
		switch {
		case b.From == 0 && b.To == toTheEnd:
			part = "the whole content"
		case b.To == toTheEnd:
			part = fmt.Sprintf("from byte %d on", b.From)
		}
		texts[i] = fmt.Sprintf("job %d had begun to change %s", b.Job, part)
	}
	return fmt.Sprintf("the volume stays incomplete: %s, or may have, and that was not written again", strings.Join(texts, ", "))
}

// Unfinished refuses the rest of a content for a volume that another job has
// begun to change since, whatever became of that: the beginning may be gone.
func Unfinished(v *store.Volume, u *operation.Upload) error {
	there := u.Skipped == 0 || v.State == record.VolumeIncomplete
	if u.Continues == 0 || v.Writer == u.After && there {
		return nil
	}
	text := "volume %s has another content than job %d left in it"
	if v.Writer == 0 {
		text = "it is not known whether volume %s has still what job %d left in it"
	}
	return record.Errorf(record.Changed, text, record.Quoted(v.Pool, v.Name), u.Continues).
		WithHint("upload the whole content again, from its start")
}
