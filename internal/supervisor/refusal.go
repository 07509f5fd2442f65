package supervisor

import (
	"fmt"
	"math"
	"time"

	"storaged/internal/record"
)

// BusyError says that an object is in use: by whom, since when, until when as
// far as that is known, and what to do. The first blocker that has a holder is
// named; the error has the others too, up to a bound.
func BusyError(object string, blockers []record.Blocker) *record.Error {
	for _, b := range blockers {
		if b.Holder == nil {
			continue
		}
		if b.Object != nil {
			object = b.Object.String()
		}
		e := record.Errorf(record.Busy, "%s is busy: %s", object, heldBy(b)).WithHolders(blockers)
		if b.Holder.Number != 0 {
			return e.WithHint("%s", wayOut(b, time.Now()))
		}
		return e
	}
	return record.Errorf(record.Busy, "%s is busy: %s", object, withoutHolder(blockers)).WithHolders(blockers)
}

// heldBy is "read by job 410 (volume.clone, alice, since 09:12, ends about 09:40)".
func heldBy(b record.Blocker) string {
	h := b.Holder
	switch {
	case h.External != "" && (b.For == "hold" || b.For == "space"):
		return h.External // why the job could not start
	case h.External != "":
		return "in use by " + h.External
	}
	who := fmt.Sprintf("%s by job %d (%s", participle(h.Mode), h.Number, h.Kind)
	if h.Owner != nil && h.Owner.User != "" {
		who += ", " + h.Owner.User
	}
	if !b.Since.IsZero() {
		who += ", since " + clock(b.Since)
	}
	if b.ExpectedEnd != nil {
		who += ", ends about " + clock(b.ExpectedEnd.Add(almostMinute)) // never before its start
	}
	return who + ")"
}

func participle(m record.Mode) string {
	switch m {
	case record.ModeRead, record.ModeQuery:
		return "read"
	case record.ModeWrite:
		return "written"
	case record.ModeGrow:
		return "grown"
	case record.ModeMeta:
		return "changed"
	}
	return "held"
}

// almostMinute makes clock round up.
const almostMinute = time.Minute - time.Nanosecond

// clock is a time of this day as people say it, else with its date.
func clock(t time.Time) string {
	t = t.Local()
	if now := time.Now(); t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04")
	}
	return t.Format("2006-01-02 15:04")
}

// wayOut offers to wait as long as the holder will take, where that is known, or until it
// next lets others in, for which it need not end.
func wayOut(b record.Blocker, now time.Time) record.Hint {
	if b.NextWindow != nil {
		wait := record.Do("").With("lock_wait", waitFor(max(b.NextWindow.Sub(now), leastPatience)))
		return record.Hintf("job %d lets it in at its next window, about %s: %s", b.Holder.Number, second(*b.NextWindow), wait)
	}
	cancel := record.Do("job.cancel", b.Holder.Number)
	if b.ExpectedEnd == nil || !b.ExpectedEnd.After(now) {
		return record.Hintf("%s, or %s", record.Do("job.wait", b.Holder.Number), cancel)
	}
	return record.Hintf("%s, or %s", record.Do("").With("lock_wait", waitFor(b.ExpectedEnd.Sub(now))), cancel)
}

// leastPatience is what a window may be late that is to open at once.
const leastPatience = 10 * time.Second

// waitFor is a wait for what is expected after rest, as an option has it.
func waitFor(rest time.Duration) string {
	if rest < 2*time.Minute {
		return fmt.Sprintf("%.0fs", math.Ceil(rest.Seconds()/10)*10)
	}
	return fmt.Sprintf("%.0fm", math.Ceil(rest.Minutes()*1.2))
}

// second is a time of this day with its seconds, else with its date; never before it.
func second(t time.Time) string {
	t = t.Add(time.Second - time.Nanosecond)
	return clock(t) + t.Local().Format(":05")
}

func withoutHolder(blockers []record.Blocker) string {
	if len(blockers) > 0 {
		return "it waits for a " + blockers[0].For
	}
	return "its locks are taken"
}
