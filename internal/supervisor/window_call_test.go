package supervisor

import (
	"path/filepath"
	"testing"

	"storaged/internal/record"
)

// reading is a long read of volume "base" that opens its window when called.
func reading(target, ground string, done gate) Request {
	return request(fakeHelper("onCall", ground, done.path),
		record.Object{Pool: "p", Volume: "base", Mode: record.ModeRead},
		record.Object{Pool: "p", Volume: target, Mode: record.ModeWrite})
}

func growing(ground string) Request {
	return visiting("base", record.ModeGrow, fakeHelper("grow", ground))
}

// library is two long reads of one volume.
type library struct {
	ground string
	done   gate
	reads  []string
}

func openLibrary(r *rig, t *testing.T) library {
	l := library{ground: filepath.Join(t.TempDir(), "plot"), done: newGate(t)}
	for _, target := range []string{"one", "two"} {
		j := r.submit(reading(target, l.ground, l.done))
		r.until(j.ID, func(j record.Job) bool { return j.Phase != nil })
		l.reads = append(l.reads, j.ID)
	}
	return l
}

func (l library) close(r *rig) {
	r.t.Helper()
	l.done.open()
	for _, id := range l.reads {
		r.ended(id, record.Succeeded)
	}
}

func TestWindowsOpenWhenSomebodyWaits(t *testing.T) {
	r := newRig(t)
	l := openLibrary(r, t)
	for range 3 {
		grow := r.submit(growing(l.ground))
		r.ended(grow.ID, record.Succeeded)
	}
	if _, err := r.sup.Pause(l.reads[0], uid1000); err != nil {
		t.Fatal(err)
	}
	r.untilState(l.reads[0], record.Paused)
	r.ended(r.submit(growing(l.ground)).ID, record.Succeeded)
	if _, err := r.sup.Resume(l.reads[0], uid1000); err != nil {
		t.Fatal(err)
	}
	l.close(r)
}

func TestNoWindowPassesAnEarlierAsker(t *testing.T) {
	r := newRig(t)
	l := openLibrary(r, t)
	first := r.submit(request(fakeHelper("short"), record.Object{Pool: "p", Volume: "base", Mode: record.ModeWrite}))
	grow := r.submit(growing(l.ground))
	j := r.until(grow.ID, func(j record.Job) bool { return len(j.WaitingOn) == 3 })
	for _, b := range j.WaitingOn {
		if b.NextWindow != nil {
			t.Errorf("it is promised a window behind an earlier asker: %+v", b)
		}
	}
	l.wanted(r, false)
	if _, err := r.sup.Cancel(first.ID, uid1000, false); err != nil {
		t.Fatal(err)
	}
	r.ended(grow.ID, record.Succeeded)
	l.close(r)
}

// wanted holds whether the jobs would be called now.
func (l library) wanted(r *rig, want bool) {
	r.t.Helper()
	for _, id := range l.reads {
		r.sup.mu.Lock()
		j := r.sup.live[id]
		r.sup.mu.Unlock()
		if got := j.entry.Wanted(); got != want {
			r.t.Errorf("a window is wanted: %v, want %v", got, want)
		}
	}
}

// A daemon that comes back calls those whom its predecessor had.
func TestWindowsOpenAfterARestart(t *testing.T) {
	r := newRig(t)
	l := openLibrary(r, t)
	r.again()
	r.ended(r.submit(growing(l.ground)).ID, record.Succeeded)
	l.close(r)
}

// A job in the way that opens no window leaves the others alone.
func TestNobodyIsCalledForWhoCannotComeIn(t *testing.T) {
	r := newRig(t)
	l := openLibrary(r, t)
	done := newGate(t)
	deaf := r.submit(request(fakeHelper("work", done.path), record.Object{Pool: "p", Volume: "base", Mode: record.ModeRead}))
	r.until(deaf.ID, func(j record.Job) bool { return j.State == record.Running })
	grow := r.submit(growing(l.ground))
	j := r.until(grow.ID, func(j record.Job) bool {
		return len(j.WaitingOn) == 3 && j.WaitingOn[0].NextWindow != nil && j.WaitingOn[1].NextWindow != nil
	})
	if b := j.WaitingOn[2]; b.Holder.ID != deaf.ID || b.NextWindow != nil {
		t.Errorf("of the one without windows it is told %+v", b)
	}
	l.wanted(r, false)
	done.open()
	r.ended(deaf.ID, record.Succeeded)
	r.ended(grow.ID, record.Succeeded)
	l.close(r)
}
