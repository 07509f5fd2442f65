package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/term"
)

// jobTitle names a job in a sentence.
func jobTitle(j *record.Job) string {
	return fmt.Sprintf("job %d (%s %s)", j.Number, j.Kind, j.Subject())
}

// figures are what the display shows of a job. rank says how it stands among
// several.
func figures(j *record.Job, rank string) term.Figures {
	f := term.Figures{
		Name:    fmt.Sprintf("job %d", j.Number),
		Title:   fmt.Sprintf("job %d: %s %s", j.Number, j.Kind, j.Subject()),
		Percent: j.Progress.Percent,
		Amount:  amount(j.Progress),
		Waits:   standing(j),
	}
	if rank != "" {
		f.Name, f.Title = f.Name+" ("+rank+")", f.Title+" ("+rank+")"
	}
	if j.Phase != nil {
		f.Phase = j.Phase.Name
	}
	if j.State != record.Running {
		return f
	}
	if j.Progress.RateBytes > 0 {
		f.Rate = quantity.FormatRate(j.Progress.RateBytes)
	}
	f.Left = timeLeft(j.Estimate)
	return f
}

// amount is where in its content a job is, with holes. What is moved of that the percent
// and the rate are of: where that is another share, as with many holes or in a job of several
// long phases, it is not told as if it were the same.
func amount(p record.Progress) string {
	switch {
	case p.Unit != "bytes" && p.Total > 0:
		return fmt.Sprintf("%d of %d %s", p.Done, p.Total, p.Unit)
	case p.Total > 0 && p.Percent != nil && math.Abs(*p.Percent-100*float64(p.Done)/float64(p.Total)) > samePercent:
		return "at " + quantity.FormatBytes(p.Done) + " of a length of " + quantity.FormatBytes(p.Total)
	case p.Total > 0:
		return "at " + quantity.FormatBytes(p.Done) + " of " + quantity.FormatBytes(p.Total)
	case p.Done > 0 && p.Unit == "bytes":
		return quantity.FormatBytes(p.Done)
	}
	return ""
}

// samePercent is how far percent and share may lie apart that are told as one: the head of an
// image, say, and the end of a job are work too.
const samePercent = 5

func timeLeft(e record.Estimate) string {
	switch {
	case e.StalledSince != nil:
		text := "stalled since " + clock(*e.StalledSince)
		if e.StalledOn != "" {
			text += ": " + e.StalledOn
		}
		return text
	case e.RemainingS != nil:
		return quantity.FormatDuration(quantity.Seconds(*e.RemainingS)) + " left"
	}
	return ""
}

// almostSecond makes clock round up: an end is never shown before it.
const almostSecond = time.Second - time.Nanosecond

// clock is a time of today, or else with its date.
func clock(t time.Time) string {
	t = t.Local()
	if t.Format(time.DateOnly) == time.Now().Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

// standing says why there is no movement, "" while there is.
func standing(j *record.Job) string {
	switch {
	case j.State == record.Running || j.State == record.Finalizing:
		return ""
	case j.State == record.Paused && len(j.PauseReasons) > 0:
		return "paused (" + strings.Join(j.PauseReasons, ", ") + ")"
	case j.State == record.Queued && len(j.WaitingOn) > 0:
		return waits(j.WaitingOn[0])
	case j.State == record.Canceling && len(j.WaitingOn) > 0:
		return "canceling, " + unanswered(j.WaitingOn[0])
	}
	return strings.ReplaceAll(string(j.State), "_", " ")
}

// unanswered says what a cancel waits for, and what comes then.
func unanswered(b record.Blocker) string {
	if b.For != "helper" || b.ExpectedEnd == nil {
		return waits(b)
	}
	rest := max(time.Until(*b.ExpectedEnd), 0).Round(time.Second)
	return fmt.Sprintf("the helper was asked to stop; it is killed if it has not within %s", quantity.FormatDuration(rest))
}

// waits says for what a job waits, and until when: "waits for job 410, until about
// 09:40:00".
func waits(b record.Blocker) string { return b.String() + waitsUntil(b) }

func waitsUntil(b record.Blocker) (text string) {
	if b.Position > 1 {
		text += fmt.Sprintf(", %d before it", b.Position-1)
	}
	if b.ExpectedEnd != nil {
		text += ", until about " + clock(b.ExpectedEnd.Add(almostSecond))
	}
	if b.NextWindow != nil {
		text += ", next window about " + clock(*b.NextWindow)
	}
	return text
}

// endLine is the last line about a job that succeeded.
func endLine(j *record.Job, exact bool) string {
	parts := []string{fmt.Sprintf("job %d: %s %s: %s", j.Number, j.Kind, j.Subject(), outcomeWord(j))}
	if r := j.Result; r != nil {
		if r.Unchanged {
			parts = append(parts, "nothing to do")
		}
		parts = append(parts, wrought(j.Kind, r, exact)...)
		if r.Algorithm != "" && r.Method != wroteNothing {
			parts = append(parts, "with "+r.Algorithm)
		}
		if len(r.Limits) > 0 {
			parts = append(parts, "but "+term.Escape(strings.Join(r.Limits, "; ")))
		}
	}
	if j.Kind == record.PoolDelete {
		parts = append(parts, fmt.Sprintf("but the pool stays defined: storagedctl pool undefine %s forgets it", j.Subject()))
	}
	return strings.Join(parts, ", ")
}

// wrought says what a job has moved or made, and how.
func wrought(kind record.Kind, r *record.Result, exact bool) []string {
	switch {
	case r.Unchanged:
		return nil
	case kind == record.VolumeResize && r.Capacity > 0: // what was reserved says little of what an image has
		return []string{"now " + size(r.Capacity, exact), size(r.Allocation, exact) + " allocated"}
	case r.Check != nil:
		return []string{tables(r.Check)}
	}
	parts := []string{formats(r)}
	if r.Bytes > 0 {
		parts = append(parts, size(r.Bytes, exact))
	}
	return nonEmpty(append(parts, manner(kind, r.Method)))
}

// formats says from what format to what other a content was converted, "" if it was not.
func formats(r *record.Result) string {
	if r.From == "" || r.From == r.Format {
		return ""
	}
	return r.From + " → " + r.Format
}

// wroteNothing is the method of what moved nothing: a wipe that found only holes, say.
const wroteNothing = "none"

// manner says how something was done, for example "by copy".
func manner(kind record.Kind, method string) string {
	switch {
	case method == "":
		return ""
	case method == wroteNothing && kind == record.VolumeTrim:
		return "nothing to give back"
	case method == wroteNothing && kind == record.VolumeWipe:
		return "nothing to overwrite, only holes"
	case method == wroteNothing && kind == record.VolumeFlatten:
		return "it stands on nothing"
	case method == wroteNothing:
		return "nothing was moved"
	}
	return "by " + method
}

// outcomeWord says how a job ended and how long it had taken: a cancel took less.
func outcomeWord(j *record.Job) string {
	word := "after"
	if j.State == record.Succeeded {
		word = "in"
	}
	return fmt.Sprintf("%s %s %s", j.State, word, quantity.FormatDuration(quantity.Seconds(j.ElapsedS)))
}

func size(n int64, exact bool) string {
	if exact {
		return fmt.Sprint(n)
	}
	return quantity.FormatBytes(n)
}

// foretold says what canceling a job will undo.
func foretold(j *record.Job) string {
	subject := j.Subject()
	switch j.Kind {
	case record.VolumeCreate, record.VolumeClone:
		if j.OnFailure == record.KeepOnFailure {
			return "the unfinished " + subject + " will be kept and marked incomplete"
		}
		return "the unfinished " + subject + " will be removed"
	case record.PoolEvacuate:
		return "what is moved already stays moved, and the volume in flight stays where it was"
	case record.VolumeMove:
		return subject + " stays where it is, unless its copy is complete already"
	case record.VolumeWipe, record.VolumeUpload:
		return "what is overwritten stays so, and " + subject + " will be left incomplete"
	case record.VolumeRekey:
		return "what opened " + subject + " before opens it still"
	case record.VolumeTrim:
		return "what is given back stays so, and the content of " + subject + " is the same"
	case record.VolumeCheck:
		return "what is repaired of " + subject + " stays so"
	case record.VolumeResize:
		return subject + " gets its old size again if nothing is cut off yet"
	}
	return ""
}

// aftermath says what became of the target of a job that did not succeed.
func aftermath(j *record.Job) string {
	switch j.Rollback {
	case record.RollbackDone:
		return "what it had done is undone"
	case record.RollbackKept:
		return leftover(j)
	case record.RollbackFailed:
		return "what it had done could not be undone"
	}
	return ""
}

// leftover says what is left of an unfinished target. A new volume that a retry
// can go on with has no name yet.
func leftover(j *record.Job) string {
	draft := j.Kind == record.VolumeCreate || j.Kind == record.VolumeClone
	switch {
	case draft && j.Resumable != nil:
		return fmt.Sprintf("what was made of %s is kept for storagedctl job retry %d", j.Subject(), j.Number)
	case draft && j.OnFailure != record.KeepOnFailure && j.Code() != record.Inconsistent:
		return "what was made of " + j.Subject() + " was kept for a retry"
	}
	return j.Subject() + " is left incomplete"
}
