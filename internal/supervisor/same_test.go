package supervisor

import (
	"slices"
	"testing"

	"storaged/internal/record"
)

// same asks for work that whoever begins does for all who wait.
func same(argv []string) Request {
	req := request(argv, objects("p", "v", "W")...)
	req.Same = "the work"
	return req
}

func TestWaitingJobsThatAskForTheSameEndTogether(t *testing.T) {
	r := newRig(t)
	one, two := newGate(t), newGate(t)
	first := r.submit(same(fakeHelper("work", one.path)))
	r.working(first.ID)
	second := r.submit(same(fakeHelper("work", two.path)))
	third, fourth := r.submit(same(fakeHelper("work"))), r.submit(same(fakeHelper("work")))
	paused := r.submit(same(fakeHelper("short")))
	if _, err := r.sup.Pause(paused.ID, root); err != nil {
		t.Fatal(err)
	}
	other := r.submit(request(fakeHelper("short"), objects("p", "v", "W")...))
	one.open()
	if j := r.ended(first.ID, record.Succeeded); j.AnsweredBy != nil {
		t.Errorf("the first was answered by %d", *j.AnsweredBy)
	}
	r.working(second.ID)
	late := r.submit(same(fakeHelper("short")))
	two.open()
	done := r.ended(second.ID, record.Succeeded)
	for _, j := range []record.Job{third, fourth} {
		j = r.ended(j.ID, record.Succeeded)
		if j.AnsweredBy == nil || *j.AnsweredBy != second.Number || j.Helper != nil || j.Started != nil || j.Result == nil || j.Result.Method != done.Result.Method || j.Result.Volume != done.Result.Volume {
			t.Errorf("job %d is %+v", j.Number, j)
		}
	}
	for _, j := range []record.Job{other, late} {
		if j = r.ended(j.ID, record.Succeeded); j.AnsweredBy != nil {
			t.Errorf("job %d was answered by %d", j.Number, *j.AnsweredBy)
		}
	}
	if j, err := r.sup.Job(paused.ID); err != nil || j.State != record.Queued || !slices.Contains(j.PauseReasons, record.PauseAdmin) {
		t.Errorf("a paused one is %s, %v", j.State, err)
	}
	if _, err := r.sup.Resume(paused.ID, root); err != nil {
		t.Fatal(err)
	}
	r.ended(paused.ID, record.Succeeded)
}

// What is canceled answers nobody: the next one begins.
func TestJobThatIsCanceledAnswersNobody(t *testing.T) {
	r := newRig(t)
	first := r.submit(same(fakeHelper("work")))
	r.working(first.ID)
	second, third := r.submit(same(fakeHelper("work"))), r.submit(same(fakeHelper("short")))
	fourth := r.submit(same(fakeHelper("work")))
	for _, j := range []record.Job{first, second} {
		r.working(j.ID)
		if _, err := r.sup.Cancel(j.ID, root, false); err != nil {
			t.Fatal(err)
		}
		r.ended(j.ID, record.Canceled)
	}
	if j := r.ended(third.ID, record.Succeeded); j.AnsweredBy != nil {
		t.Errorf("the third was answered by %d", *j.AnsweredBy)
	}
	if j := r.ended(fourth.ID, record.Succeeded); j.AnsweredBy == nil || *j.AnsweredBy != third.Number {
		t.Errorf("the fourth is %+v", j)
	}
}
