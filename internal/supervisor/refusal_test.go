package supervisor

import (
	"strings"
	"testing"
	"time"

	"storaged/internal/record"
)

func TestBusyErrorSaysWhoWhatSinceWhenAndWhatToDo(t *testing.T) {
	now := time.Now()
	end := now.Add(30 * time.Minute)
	owner := record.Owner{User: "alice"}
	lock := record.Blocker{
		For: "lock", Object: &record.Object{Pool: "images", Volume: "base.raw"}, Since: now, ExpectedEnd: &end,
		Holder: &record.Holder{Number: 410, Kind: record.VolumeClone, Mode: record.ModeRead, Owner: &owner},
	}
	e := BusyError("images/other", []record.Blocker{{For: "slot"}, lock})
	want := "images/base.raw is busy: read by job 410 (volume.clone, alice, since " + now.Format("15:04") + ", ends about "
	if !strings.HasPrefix(e.Message, want) || e.Code != record.Busy || len(e.Holders) != 2 {
		t.Errorf("%q (%s), want %q…", e.Message, e.Code, want)
	}
	if want := "lock_wait=36m, or job cancel 410"; e.Hint.String() != want {
		t.Errorf("hint %q, want %q", e.Hint, want)
	}
	soon := now.Add(time.Second)
	lock.ExpectedEnd = &soon
	if e := BusyError("", []record.Blocker{lock}); !strings.Contains(e.Message, "ends about "+soon.Add(time.Minute-time.Nanosecond).Format("15:04")) {
		t.Errorf("an end within the minute: %q", e.Message)
	}
	at := now.Add(65 * time.Second)
	lock.NextWindow = &at
	want = "job 410 lets it in at its next window, about " + at.Add(time.Second-time.Nanosecond).Format("15:04:05") + ": lock_wait=70s"
	if e := BusyError("", []record.Blocker{lock}); e.Hint.String() != want {
		t.Errorf("whose next window is known: hint %q, want %q", e.Hint, want)
	}
	at = now.Add(-time.Second)
	if e := BusyError("", []record.Blocker{lock}); !strings.HasSuffix(e.Hint.String(), "lock_wait=10s") {
		t.Errorf("whose window is late: hint %q", e.Hint)
	}
	lock.NextWindow = nil
	lock.ExpectedEnd = nil
	if e := BusyError("", []record.Blocker{lock}); e.Hint.String() != "job wait 410, or job cancel 410" {
		t.Errorf("without an estimate: hint %q", e.Hint)
	}
	lock.Holder = &record.Holder{External: "qemu pid 812"}
	if e := BusyError("", []record.Blocker{lock}); e.Message != "images/base.raw is busy: in use by qemu pid 812" || e.Hint != nil {
		t.Errorf("outside holder: %q, %q", e.Message, e.Hint)
	}
	away := record.Blocker{For: "hold", Holder: &record.Holder{External: "not yet: its pool is away"}}
	if e := BusyError("p/v", []record.Blocker{away}); e.Message != "p/v is busy: not yet: its pool is away" {
		t.Errorf("one that cannot start: %q", e.Message)
	}
	if e := BusyError("p/v", []record.Blocker{{For: "slot"}}); e.Message != "p/v is busy: it waits for a slot" {
		t.Errorf("no holder: %q", e.Message)
	}
}
