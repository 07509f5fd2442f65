package locks

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"storaged/internal/record"
)

// model is the rules of the package once more, by brute force: no index, no
// early end, everything recomputed from the asks in order.
type model struct {
	m     *Manager
	jobs  []*modelJob // in order of asking
	count int
}

type modelJob struct {
	Ask
	held    bool
	mask    []record.Mode // of the open window
	onCall  []record.Mode
	closing bool
	holders []string // whose windows it is in
}

func (d *model) job(id string) *modelJob {
	i := slices.IndexFunc(d.jobs, func(j *modelJob) bool { return j.ID == id })
	return d.jobs[i]
}

// free reports whether j has nobody in its way, and whom it would visit.
func (d *model) free(j *modelJob) (holders []string, ok bool) {
	for _, other := range d.jobs {
		if other == j || !other.held && slices.Index(d.jobs, other) > slices.Index(d.jobs, j) {
			continue // asked later
		}
		for _, mine := range j.Objects {
			for _, theirs := range other.Objects {
				if Compatible(mine, theirs) {
					continue
				}
				if !other.held || !j.Visits || mine.Volume == "" || !slices.Contains(other.mask, mine.Mode) {
					return nil, false
				}
				holders = append(holders, other.ID)
			}
		}
	}
	return holders, true
}

// settle grants whoever is free, in order, until nobody is.
func (d *model) settle() (granted []string) {
	for _, j := range d.jobs {
		if j.held {
			continue
		}
		if holders, ok := d.free(j); ok {
			j.held, j.holders = true, holders
			granted = append(granted, j.ID)
		}
	}
	return granted
}

func (d *model) visitors(holder string) []string {
	var ids []string
	for _, j := range d.jobs {
		if j.held && slices.Contains(j.holders, holder) {
			ids = append(ids, j.ID)
		}
	}
	return ids
}

func drawObjects(t *rapid.T) []record.Object {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) record.Object {
		return record.Object{
			Pool:   rapid.SampledFrom([]string{"p", "q"}).Draw(t, "pool"),
			Volume: rapid.SampledFrom([]string{"", "a", "b", "c", "d"}).Draw(t, "volume"),
			Mode:   rapid.SampledFrom(modes[:]).Draw(t, "mode"),
		}
	}), 1, 3).Draw(t, "objects")
}

func (d *model) ask(t *rapid.T) {
	d.count++
	j := &modelJob{Ask: Ask{ID: fmt.Sprint(d.count), Objects: drawObjects(t), Visits: rapid.Bool().Draw(t, "visits")}}
	probe := d.m.Probe(j.Ask, All)
	d.jobs = append(d.jobs, j)
	want := slices.Contains(d.settle(), j.ID)
	if want != (len(probe) == 0) {
		t.Fatalf("probe gives %v, grant %v", probe, want)
	}
	if rapid.Bool().Draw(t, "try") {
		if got := d.m.Try(j.Ask, All); (len(got) == 0) != want {
			t.Fatalf("try gives %v, want %v", got, want)
		}
		if !want {
			d.jobs = d.jobs[:len(d.jobs)-1]
		}
		return
	}
	if got := d.m.Ask(j.Ask); got != want {
		t.Fatalf("ask of %+v gives %v, want %v", j.Ask, got, want)
	}
}

// pick draws a job for which ok holds, or skips the step.
func (d *model) pick(t *rapid.T, ok func(*modelJob) bool) *modelJob {
	var fit []*modelJob
	for _, j := range d.jobs {
		if ok(j) {
			fit = append(fit, j)
		}
	}
	if len(fit) == 0 {
		t.Skip("none")
	}
	return rapid.SampledFrom(fit).Draw(t, "job")
}

func (d *model) release(t *rapid.T) {
	j := d.pick(t, func(*modelJob) bool { return true })
	var vacated []string
	d.jobs = slices.DeleteFunc(d.jobs, func(o *modelJob) bool { return o == j })
	for _, holder := range d.jobs {
		if holder.closing && len(d.visitors(holder.ID)) == 0 {
			holder.closing = false
			vacated = append(vacated, holder.ID)
		}
	}
	want := Change{Granted: d.settle(), Vacated: vacated}
	if got := d.m.Release(j.ID); !slices.Equal(got.Granted, want.Granted) || !slices.Equal(got.Vacated, want.Vacated) {
		t.Fatalf("release of %s gives %+v, want %+v", j.ID, got, want)
	}
}

func (d *model) open(t *rapid.T) {
	j := d.pick(t, func(j *modelJob) bool { return j.held && !j.Visits })
	j.mask = rapid.SliceOfDistinct(rapid.SampledFrom(modes[:]), rapid.ID[record.Mode]).Draw(t, "mask")
	j.closing = false
	want := d.settle()
	got, err := d.m.OpenWindow(j.ID, j.mask)
	if err != nil || !slices.Equal(got.Granted, want) {
		t.Fatalf("opening gives %+v %v, want %v", got, err, want)
	}
}

func (d *model) close(t *rapid.T) {
	j := d.pick(t, func(j *modelJob) bool { return j.held })
	j.mask = nil
	want := d.visitors(j.ID)
	j.closing = len(want) > 0
	got := d.m.CloseWindow(j.ID)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("closing gives %v, want %v", got, want)
	}
}

func (d *model) call(t *rapid.T) {
	j := d.pick(t, func(j *modelJob) bool { return j.held })
	j.onCall = rapid.SliceOfDistinct(rapid.SampledFrom(modes[:]), rapid.ID[record.Mode]).Draw(t, "on call")
	d.m.OnCall(j.ID, j.onCall)
}

// wanted reports whether somebody waits who would be free, and visit holder, if
// everybody opened the windows that open on call.
func (d *model) wanted(holder *modelJob) bool {
	open := &model{}
	for _, j := range d.jobs {
		opened := *j
		opened.mask = append(slices.Clone(j.mask), j.onCall...)
		open.jobs = append(open.jobs, &opened)
	}
	return holder.held && slices.ContainsFunc(open.jobs, func(j *modelJob) bool {
		holders, ok := open.free(j)
		return !j.held && ok && slices.Contains(holders, holder.ID)
	})
}

// check holds after every step.
func (d *model) check(t *rapid.T) {
	for i, j := range d.jobs {
		if held := d.m.Held(j.ID) != nil; held != j.held {
			t.Fatalf("%s held is %v, want %v", j.ID, held, j.held)
		}
		if blocks := d.m.Blockers(j.ID, All); (len(blocks) == 0) != j.held {
			t.Fatalf("%s, held %v, has blockers %v", j.ID, j.held, blocks)
		}
		if got, want := d.m.Wanted(j.ID), d.wanted(j); got != want {
			t.Fatalf("a window of %s is wanted: %v, want %v", j.ID, got, want)
		}
		for _, other := range d.jobs[:i] {
			visit := slices.Contains(j.holders, other.ID) || slices.Contains(other.holders, j.ID)
			if j.held && other.held && clash(j.Ask, other.Ask) && !visit {
				t.Fatalf("%+v and %+v hold at once", j.Ask, other.Ask)
			}
		}
	}
	if len(d.m.claims) != len(d.jobs) {
		t.Fatalf("%d claims for %d jobs", len(d.m.claims), len(d.jobs))
	}
}

// drain releases all holders again and again: everyone who waits must come to
// hold, each after at most as many rounds as asked before it.
func (d *model) drain(t *rapid.T) {
	for rounds := 0; len(d.jobs) > 0; rounds++ {
		if rounds > d.count {
			t.Fatalf("%d jobs never come to hold", len(d.jobs))
		}
		for _, j := range slices.Clone(d.jobs) {
			if j.held {
				d.jobs = slices.DeleteFunc(d.jobs, func(o *modelJob) bool { return o == j })
				for _, id := range d.m.Release(j.ID).Granted {
					d.job(id).held = true
				}
			}
		}
	}
	if n := len(d.m.claims) + len(d.m.stakes) + len(d.m.members) + len(d.m.waiting); n != 0 {
		t.Fatalf("%d entries are left in an empty table", n)
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &model{m: New()}
		t.Repeat(map[string]func(*rapid.T){
			"ask":     d.ask,
			"ask2":    d.ask, // twice as often as the others
			"release": d.release,
			"open":    d.open,
			"close":   d.close,
			"call":    d.call,
			"":        d.check,
		})
		d.drain(t)
	})
}

func BenchmarkReleaseWith1000Waiting(b *testing.B) {
	m := New()
	m.Ask(ask("upload", "W", "base"))
	for i := range 64 {
		m.Ask(ask(fmt.Sprint("busy", i), "W", fmt.Sprint("v", i)))
	}
	for i := range 1000 {
		m.Ask(ask(fmt.Sprint("clone", i), "R", "base", "W", fmt.Sprint("vm", i)))
	}
	for b.Loop() {
		m.Release("busy7")
		m.Ask(ask("busy7", "W", "v7"))
	}
}
