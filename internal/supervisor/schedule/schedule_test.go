package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"storaged/internal/record"
)

// job is an async job of normal priority on objects like "p/v W", "p R".
func job(number int64, objects ...string) Job {
	j := Job{
		ID: fmt.Sprint(number), Number: number, Kind: record.VolumeClone, Class: record.Async, Priority: record.NormalPriority,
		Created: time.Unix(number, 0),
	}
	for _, o := range objects {
		name, mode, _ := strings.Cut(o, " ")
		pool, volume, _ := strings.Cut(name, "/")
		j.Objects = append(j.Objects, record.Object{Pool: pool, Volume: volume, Mode: record.Mode(mode)})
	}
	return j
}

func (j Job) with(change func(*Job)) Job {
	change(&j)
	return j
}

// enter lets jobs come in order.
func enter(s *Schedule, jobs ...Job) (all []*Entry) {
	for _, j := range jobs {
		e := s.NewEntry(j)
		e.Enter(j.Number, false)
		all = append(all, e)
	}
	return all
}

// says is what one reads of a job: "runs", or why it waits.
func says(e *Entry) string {
	var out []string
	for _, b := range e.Blockers() {
		text := b.For
		if b.Holder != nil {
			text += fmt.Sprintf(" of %d", b.Holder.Number)
		}
		if b.Object != nil {
			text += " " + b.Object.String()
		}
		if b.Device != "" {
			text += " " + b.Device
		}
		if b.Position > 0 {
			text += fmt.Sprintf(" #%d", b.Position)
		}
		out = append(out, text)
	}
	if out == nil {
		return "runs"
	}
	return strings.Join(out, ", ")
}

func expect(t *testing.T, all []*Entry, want ...string) {
	t.Helper()
	var got []string
	for _, e := range all {
		got = append(got, says(e))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the jobs:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const (
	ageing = time.Minute
	small  = 1 << 20
)

// Given jobs and limits, it says who is granted and why each other waits.
func TestWhoRunsAndWhyOthersWait(t *testing.T) {
	normal := func(j *Job) { j.Class = record.Normal }
	short := func(j *Job) { j.Moves = small }
	slowed := func(j *Job) { j.Moves, j.Limit = small, 1 }
	for _, c := range []struct {
		name   string
		limits record.Limits
		jobs   []Job
		want   []string
	}{
		{"no limits", record.Limits{}, []Job{job(1, "p/a W"), job(2, "p/b W")}, []string{"runs", "runs"}},
		{"locks", record.Limits{}, []Job{job(1, "p/a R"), job(2, "p/a W"), job(3, "p/a R")},
			[]string{"runs", "lock of 1 p/a #1", "lock of 2 p/a #2"}},
		{"in all", record.Limits{Running: 1}, []Job{job(1, "p/a W"), job(2, "q/b W"), job(3, "r/c W")},
			[]string{"runs", "slot #1", "slot #2"}},
		{"of a pool, and others pass", record.Limits{RunningPool: 1}, []Job{job(1, "p/a W"), job(2, "p/b R", "q/b W"), job(3, "q/c W"), job(4, "r/d W")},
			[]string{"runs", "slot p #1", "slot #2", "runs"}},
		{"an exception of a pool", record.Limits{RunningPool: 1, PoolRunning: map[string]int{"p": 2}}, []Job{job(1, "p/a W"), job(2, "p/b W"), job(3, "p/c W")},
			[]string{"runs", "runs", "slot p #1"}},
		{"of a device", record.Limits{RunningDevice: 1}, []Job{job(1, "disk/a W"), job(2, "same/b W"), job(3, "p/c W")},
			[]string{"runs", "slot 8:0 #1", "runs"}},
		{"normal ones apart", record.Limits{Running: 1, RunningPool: 1}, []Job{job(1, "p/a W"), job(2, "p/b D").with(normal), job(3, "p/c D").with(normal)},
			[]string{"runs", "runs", "slot #1"}},
		{"short ones apart", record.Limits{Running: 1, RunningPool: 1},
			[]Job{job(1, "p/a W"), job(2, "p/b W"), job(3, "p/c W").with(short), job(4, "p/d W").with(short), job(5, "p/e W").with(slowed)},
			[]string{"runs", "slot #1", "runs", "slot #1", "slot #2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(c.limits, ageing)
			s.SetDevices("disk", "8:0")
			s.SetDevices("same", "8:0")
			all := enter(s, c.jobs...)
			expect(t, all, c.want...)
			for _, e := range all {
				if runs := len(e.Granted) == 1; runs != (says(e) == "runs") {
					t.Errorf("job %d was granted: %v, and %s", e.job.Number, runs, says(e))
				}
			}
		})
	}
}

func TestWhoLeavesLetsOthersFollow(t *testing.T) {
	s := New(record.Limits{Running: 1}, ageing)
	all := enter(s, job(1, "p/a W"), job(2, "p/a W"), job(3, "p/b W"), job(4, "p/c W").with(func(j *Job) { j.Priority = record.Interactive }))
	expect(t, all, "runs", "lock of 1 p/a #1", "slot #2", "slot #1")
	all[0].Leave()
	expect(t, all[1:], "slot #1", "slot #2", "runs")
	all[1].Hold(Paused)
	all[3].Leave()
	expect(t, all[1:], "hold", "runs", "runs")
	all[1].Release()
	all[2].Leave()
	expect(t, all[1:], "runs", "runs", "runs")
}

// Try takes locks at once or not at all, and keeps them until the job enters.
func TestTryTakesLocksAtOnce(t *testing.T) {
	s := New(record.Limits{Running: 1}, ageing)
	first, second := s.NewEntry(job(1, "p/a W")), s.NewEntry(job(2, "p/a W"))
	if b := first.Try(); b != nil {
		t.Fatalf("the first meets %+v", b)
	}
	if b := second.Try(); len(b) != 1 || b[0].Holder.ID != "1" {
		t.Fatalf("the second meets %+v", b)
	}
	if len(first.Granted) > 0 {
		t.Error("who has not entered is granted")
	}
	first.Enter(7, false)
	if running := s.Running(); !slices.Equal(running, []int64{7}) {
		t.Errorf("running are %v", running)
	}
	first.Leave()
	if b := second.Try(); b != nil {
		t.Errorf("when it has left, the second meets %+v", b)
	}
}

func TestDrainEndsGranting(t *testing.T) {
	s := New(record.Limits{}, ageing)
	s.Drain(true)
	all := enter(s, job(1, "p/a W"), job(2, "p/a W"))
	expect(t, all, "drain #1", "lock of 1 p/a #1, drain")
	s.Drain(false)
	expect(t, all, "runs", "lock of 1 p/a #1")
}

// However many are in the way, some holders are named, then some of those who
// asked earlier, all of whom the position counts.
func TestBlockersAreNamedUpToABound(t *testing.T) {
	s := New(record.Limits{}, ageing)
	add := func(number int64, mode string) *Entry { return enter(s, job(number, "p/v "+mode))[0] }
	var want []int64
	for i := range int64(record.MaxHolders + 5) {
		add(100+i, "R")
		if i < record.MaxHolders {
			want = append(want, 100+i)
		}
	}
	for i := range int64(named.Askers + 5) {
		add(200+i, "W")
		if i < int64(named.Askers) {
			want = append(want, 200+i)
		}
	}
	var got []int64
	for i, b := range add(300, "D").Blockers() {
		got = append(got, b.Holder.Number)
		if last := i == record.MaxHolders-1; last && b.More != 5 || !last && b.More != 0 {
			t.Errorf("%d more are said of number %d", b.More, i)
		}
		if b.Position != named.Askers+6 {
			t.Errorf("position is %d of %d", b.Position, named.Askers+6)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("named are %v, want %v", got, want)
	}
}

func TestAgeingBoundsThePassing(t *testing.T) {
	now, s := time.Now(), New(record.Limits{}, ageing)
	due := func(p record.Priority, age time.Duration) time.Time {
		return s.NewEntry(Job{Priority: p, Created: now.Add(-age)}).due()
	}
	if !due(record.Background, 3*time.Minute).Before(due(record.Interactive, 0)) {
		t.Error("an interactive job passes one that waits for three intervals")
	}
	if !due(record.Interactive, 0).Before(due(record.NormalPriority, 30*time.Second)) {
		t.Error("an interactive job does not pass a normal one that came just before")
	}
}

// A holder is named with since when it has what is asked for, not since when that is.
func TestHolderIsNamedWithItsOwnTime(t *testing.T) {
	s := New(record.Limits{Running: 8, RunningPool: 8, RunningDevice: 8}, ageing)
	holder := enter(s, job(1, "p/v W"))[0]
	has := holder.since
	waiting := enter(s, job(2, "p/v R"))[0]
	for what, blockers := range map[string][]record.Blocker{
		"a job that waits": waiting.Blockers(),
		"a plan":           s.Probe(record.Async, []record.Object{{Pool: "p", Volume: "v", Mode: record.ModeRead}}),
	} {
		if len(blockers) == 0 || blockers[0].Holder.Number != 1 || !blockers[0].Since.Equal(has) {
			t.Errorf("%s is told of %+v, which has it since %s", what, blockers, has)
		}
	}
}
