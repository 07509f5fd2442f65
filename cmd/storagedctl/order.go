package main

import (
	"cmp"
	"fmt"
	"time"

	"storaged/internal/record"
)

// ranks are the states of jobs in the order in which people look at them: what
// happens now (0), what rests, what waits, and what is over.
var ranks = map[record.State]int{record.Paused: 1, record.Queued: 2, record.Succeeded: 3, record.Failed: 3, record.Canceled: 3}

// byStanding orders jobs as people look at them: those that wait by their turns,
// others newest first.
func byStanding(a, b *record.Job) int {
	if a.State == record.Queued && b.State == record.Queued {
		return cmp.Or(turn(a).Compare(turn(b)), cmp.Compare(a.Number, b.Number))
	}
	return cmp.Or(cmp.Compare(ranks[a.State], ranks[b.State]), cmp.Compare(b.Number, a.Number))
}

func turn(j *record.Job) time.Time { return j.Priority.Turn(j.Created, record.Ageing) }

// moreOf says what there is beside the jobs that are shown: "and 9 more queued".
func moreOf(jobs []*record.Job) string {
	if len(jobs) == 0 {
		return ""
	}
	states := map[string]int{}
	for _, j := range jobs {
		states[stateWord(*j)]++
	}
	if len(states) == 1 {
		return fmt.Sprintf("and %d more %s", len(jobs), stateWord(*jobs[0]))
	}
	return fmt.Sprintf("and %d more: %s", len(jobs), counts(states))
}
