package supervisor

import (
	"errors"
	"strings"
	"testing"

	"storaged/internal/record"
)

func TestEveryStateIsReachedAndEnds(t *testing.T) {
	reached := map[record.State]bool{record.Queued: true}
	for from, tos := range moves {
		if from.Terminal() {
			t.Errorf("a move leads out of %s", from)
		}
		for to := range tos {
			reached[to] = true
		}
	}
	for _, s := range record.States() {
		if !reached[s] {
			t.Errorf("nothing leads to %s", s)
		}
		if !s.Terminal() && len(moves[s]) == 0 {
			t.Errorf("nothing leads out of %s", s)
		}
		if !s.Terminal() && s != record.Queued && s != record.Recovering && !mayMove(s, record.Recovering) {
			t.Errorf("%s is not found again after a restart", s)
		}
	}
}

// TestEveryEndIsLegalFromEveryState: how a helper ends is its own to choose, and
// what it chooses must not stop the daemon.
func TestEveryEndIsLegalFromEveryState(t *testing.T) {
	for _, from := range record.States() {
		for _, to := range record.States() {
			early := to == record.Succeeded && (from == record.Queued || from == record.Starting) // decide excludes it
			if !from.Terminal() && to.Terminal() && !early && !mayMove(from, to) {
				t.Errorf("a job cannot go from %s to %s", from, to)
			}
		}
	}
}

func TestIllegalMovePanics(t *testing.T) {
	defer func() {
		if r := recover(); r == nil || !strings.HasPrefix(r.(string), "internal error: ") {
			t.Errorf("recovered %v", r)
		}
	}()
	mustMove(record.Succeeded, record.Running)
}

func TestEveryVerbHasAnAnswerInEveryState(t *testing.T) {
	for _, a := range actions {
		for _, s := range record.States() {
			got := answerTo(a, s)
			if (got.effect == "") == (got.refusal == "") {
				t.Errorf("%s in %s: effect %q, refusal %q", a, s, got.effect, got.refusal)
			}
			err := permit(a, &record.Job{Number: 12, State: s})
			if (err == nil) != (got.effect != "") || err != nil && record.CodeOf(err) != record.WrongState {
				t.Errorf("%s in %s: %v", a, s, err)
			}
		}
	}
	var late *record.Error
	if err := permit(actCancel, &record.Job{Number: 12, State: record.Finalizing}); !errors.As(err, &late) || !strings.HasSuffix(late.Hint.String(), "job cancel 12 now") {
		t.Errorf("a cancel that comes too late: %+v", err)
	}
	if got := permit(actCancel, &record.Job{Number: 12, State: record.Failed}).Error(); got != "job 12 has ended (failed)" {
		t.Errorf("refusal is %q", got)
	}
}
