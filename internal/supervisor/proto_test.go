package supervisor

import (
	"slices"
	"strings"
	"testing"

	"storaged/internal/ipc"
	"storaged/internal/record"
)

// speaking makes the next supervisor of the rig understand these versions.
func (r *rig) speaking(v ipc.Versions) { r.cfg.speaks = v }

// spokenBy starts a supervisor that understands these versions.
func spokenBy(t *testing.T, v ipc.Versions) *rig {
	t.Helper()
	r := stillRig(t, t.TempDir())
	r.speaking(v)
	r.sup = New(r.cfg, r.store, r.catalog, r.hub)
	r.start()
	return r
}

func TestHelperAndDaemonSpeakTheNewestThatBothKnow(t *testing.T) {
	for _, c := range []struct {
		name      string
		min, most int // of the helper; the daemon knows 2 and 3
		common    int // 0: none
	}{
		{"an older helper", 1, 2, 2},
		{"a newer helper", 3, 4, 3},
		{"one that knows all", 1, 9, 3},
		{"one too old", 1, 1, 0},
		{"one too new", 4, 5, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := spokenBy(t, ipc.Versions{Min: 2, Max: 3})
			id := r.submit(request(fakeHelper("speaks", proto(c.most), proto(c.min), proto(c.common)))).ID
			if c.common != 0 {
				r.ended(id, record.Succeeded)
				return
			}
			j := r.ended(id, record.Failed)
			if !strings.Contains(j.Error.Message, "this daemon protocols 2 to 3") || !strings.Contains(j.Error.Hint.String(), "install the helper") || j.Rollback != record.RollbackNone {
				t.Errorf("error %+v, rollback %s", j.Error, j.Rollback)
			}
		})
	}
}

// A daemon that takes a helper up goes on in the version that the one before
// agreed on, whatever is the newest that both know.
func TestAdoptedHelperIsSpokenToInItsVersion(t *testing.T) {
	for _, next := range []ipc.Versions{{Min: 1, Max: 2}, {Min: 2, Max: 3}, {Min: 1, Max: 4}} {
		r, g := spokenBy(t, ipc.Versions{Min: 1, Max: 2}), newGate(t)
		id := r.submit(request(fakeHelper("speaks", "3", "1", "2", g.path))).ID
		before := r.untilState(id, record.Running)
		r.speaking(next)
		r.again()
		if _, err := r.sup.Pause(id, uid1000); err != nil {
			t.Fatal(err)
		}
		if j := r.untilState(id, record.Paused); j.Helper.PID != before.Helper.PID {
			t.Errorf("%v: the helper is %+v, was %+v", next, j.Helper, before.Helper)
		}
		g.open()
		if j := r.ended(id, record.Succeeded); len(j.Warnings) > 0 {
			t.Errorf("%v: warnings %q", next, j.Warnings)
		}
	}
}

// One that was told to speak what the next daemon does not understand works on,
// holds what it has, and its result counts. A cancel reaches it by signal.
func TestHelperThatTheNextDaemonDoesNotUnderstandWorksOn(t *testing.T) {
	for _, next := range []ipc.Versions{{Min: 1, Max: 1}, {Min: 3, Max: 4}} {
		for _, state := range []record.State{record.Succeeded, record.Canceled} {
			r, g := spokenBy(t, ipc.Versions{Min: 1, Max: 2}), newGate(t)
			id := r.submit(request(fakeHelper("speaks", "3", "1", "2", g.path))).ID
			before := r.untilState(id, record.Running)
			r.speaking(next)
			r.again()
			waiting := r.submit(request(fakeHelper("speaks", "9", "1", proto(next.Max))))
			told := func(w string) bool {
				return strings.Contains(w, "storaged other and speaks protocol 2, this daemon "+next.String())
			}
			// The warning comes a moment after the state.
			j := r.until(id, func(j record.Job) bool { return j.State == record.Recovering && slices.ContainsFunc(j.Warnings, told) })
			if j.Helper.PID != before.Helper.PID {
				t.Errorf("%v: the helper is %+v, was %+v, warnings %q", next, j.Helper, before.Helper, j.Warnings)
			}
			if w, err := r.sup.Job(waiting.ID); err != nil || w.State != record.Queued || len(w.WaitingOn) == 0 || w.WaitingOn[0].Holder.Number != j.Number {
				t.Errorf("%v: the volume's lock is not held: %+v, %v", next, w, err)
			}
			if state == record.Succeeded {
				g.open()
			} else if _, err := r.sup.Cancel(id, uid1000, false); err != nil {
				t.Fatal(err)
			}
			end := r.ended(id, state)
			if n := r.ended(waiting.ID, record.Succeeded); n.Started.Before(*end.Ended) {
				t.Error("another job came to the volume before it had ended")
			}
		}
	}
}
