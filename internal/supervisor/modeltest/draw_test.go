//go:build !lean

package modeltest

import (
	"encoding/json"
	"maps"
	"slices"

	"pgregory.net/rapid"

	"storaged/internal/record"
)

// step is one thing that a client does, or that happens. Numbers are taken
// modulo what there is.
type step struct {
	Do    string
	Job   int
	N     int
	On    bool
	Text  string
	Req   *request `json:",omitempty"`
	Burst []step
}

func (s step) String() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// request is what a client asks for.
type request struct {
	Kind     record.Kind
	Class    record.Class
	Objects  []record.Object
	Priority record.Priority
	Limit    int64
	Key      string
	Wait     int // milliseconds for locks; -1: for ever; -2: as the class does
	Keep     bool
	Destroys bool
	Refuse   bool
	Behavior behavior
	Undo     *behavior
}

// weighted names each action as often as it is drawn.
func weighted(counts map[string]int) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, slices.Repeat([]string{name}, counts[name])...)
	}
	return all
}

var (
	actions = append([]string{"proceed"}, weighted(map[string]int{
		"proceed": 10, "submit": 30, "again": 4, "retry": 2, "cancel": 9, "pause": 5, "resume": 6, "limit": 3, "priority": 3, "label": 2,
		"pin": 2, "limits": 4, "watch": 5, "wait": 3, "forget": 3, "prune": 2, "drain": 1, "restart": 2, "kill": 1, "signal": 3,
		"replay": 2, "settle": 2, "history": 1, "burst": 8,
	})...)
	burstActions = weighted(map[string]int{
		"submit": 3, "cancel": 3, "pause": 3, "resume": 3, "limit": 2, "priority": 2, "label": 1, "pin": 1,
	})
	stepKinds = []record.Kind{record.VolumeClone, record.VolumeWipe, record.PoolRefresh}
)

func drawStep(rt *rapid.T) step {
	return rapid.Custom(func(t *rapid.T) step {
		s := drawAction(t, actions)
		if s.Do == "burst" || s.Do == "kill" || s.Do == "restart" {
			n := rapid.IntRange(0, 4).Draw(t, "clients")
			for range n {
				s.Burst = append(s.Burst, drawAction(t, burstActions))
			}
		}
		return s
	}).Draw(rt, "step")
}

func drawAction(t *rapid.T, from []string) step {
	s := step{
		Do:   rapid.SampledFrom(from).Draw(t, "do"),
		Job:  rapid.IntRange(0, 1<<20).Draw(t, "job"),
		N:    rapid.IntRange(0, 1<<20).Draw(t, "n"),
		On:   rapid.Bool().Draw(t, "on"),
		Text: rapid.SampledFrom([]string{record.PauseUser, record.PauseAdmin}).Draw(t, "text"),
	}
	if s.Do == "submit" {
		w := drawRequest(t)
		s.Req = &w
	}
	return s
}

func one[T any](t *rapid.T, label string, from ...T) T { return rapid.SampledFrom(from).Draw(t, label) }

func drawRequest(t *rapid.T) request {
	w := request{
		Kind:     one(t, "kind", stepKinds...),
		Class:    one(t, "class", record.Async, record.Async, record.Normal),
		Objects:  rapid.SliceOfN(rapid.Custom(drawObject), 1, 2).Draw(t, "objects"),
		Priority: one(t, "priority", record.NormalPriority, record.Interactive, record.Background),
		Limit:    one[int64](t, "limit", 0, 0, 1000, 5000),
		Key:      one(t, "key", "", "", "", "", "k1", "k2", "k3"),
		Wait:     one(t, "wait", -2, -2, -1, 0, 20),
		Keep:     rapid.Bool().Draw(t, "keep"),
		Destroys: rapid.Bool().Draw(t, "destroys"),
		Refuse:   rapid.IntRange(0, 20).Draw(t, "refused") == 20,
		Behavior: drawBehavior(t),
	}
	if rapid.IntRange(0, 5).Draw(t, "walks") == 5 { // it walks a pool
		w.Class, w.Objects, w.Behavior.Mask = record.Async, []record.Object{{Pool: w.Objects[0].Pool, Mode: record.ModeRead}}, "RMGWD"
	}
	if rapid.IntRange(0, 3).Draw(t, "settled") > 0 {
		u := behavior{Settles: true, Work: rapid.IntRange(0, 2).Draw(t, "undo work"), End: one(t, "undo end", append(slices.Repeat([]string{"undone"}, 4), settlerEndings...)...)}
		w.Undo = &u
	}
	return w
}

func drawObject(t *rapid.T) record.Object {
	return record.Object{
		Pool:   one(t, "pool", "p", "q"),
		Volume: one(t, "volume", "a", "b", "c", "d", "e", ""),
		Mode:   record.Mode(one(t, "mode", "R", "W", "M", "G", "D", "Q")),
	}
}

func drawBehavior(t *rapid.T) behavior {
	r := behavior{
		Start:    one(t, "start", append(slices.Repeat([]string{""}, 30), starts...)...),
		Work:     one(t, "work", 0, 1, 3, 6, forever, forever),
		Lies:     rapid.IntRange(0, 5).Draw(t, "lies") == 5,
		Child:    rapid.IntRange(0, 9).Draw(t, "child") == 9,
		OnCancel: one(t, "on cancel", append(slices.Repeat([]string{"obey"}, 6), cancelAnswers...)...),
		Final:    rapid.IntRange(0, 4).Draw(t, "final") == 4,
		End:      one(t, "end", append(slices.Repeat([]string{"success"}, 6), endings...)...),
	}
	return r
}

// limits gives what may run from now on.
func (s step) limits() record.Limits {
	rate := func(n int) *int64 { return rateOf([]int64{0, 10_000, 999}[n%3]) }
	l := record.Limits{Running: s.N % 6, RunningPool: s.N / 6 % 4, Rate: rate(s.Job), Queued: []int{0, 0, 12}[s.Job/3%3]}
	if s.On {
		l.PoolRates = map[string]int64{"p": 2500}
		l.PoolRunning = map[string]int{"q": 1 + s.Job%3}
		l.RunningDevice, l.DeviceRunning = s.N%4, map[string]int{"8:16": 1 + s.N%2}
		l.DeviceRates = map[string]int64{"8:16": 1500}
	}
	return l
}
