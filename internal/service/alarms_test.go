package service

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/metrics"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

// logged gives a herald and what takes the lines that it has written since, without times.
func logged() (h *herald, take func() []string) {
	var out bytes.Buffer
	log := hclog.New(&hclog.LoggerOptions{Output: &out, DisableTime: true})
	return &herald{log: log, notes: log}, func() []string {
		defer out.Reset()
		return slices.Collect(strings.Lines(out.String()))
	}
}

// A trouble is told once, and its end.
func TestTroublesAreToldOnce(t *testing.T) {
	h, take := logged()
	a := &alarms{herald: h, pools: map[string]record.PoolState{}}
	pool := func(s record.PoolState) { a.pool(&record.Pool{Name: "p", State: s, Reason: "it is away"}) }
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"active", func() { pool(record.PoolActive) }, ""},
		{"away", func() { pool(record.PoolUnreachable) }, "[WARN]  pool cannot be used as it should: object=p outcome=unreachable error=\"it is away\"\n"},
		{"away still", func() { pool(record.PoolUnreachable) }, ""},
		{"back", func() { pool(record.PoolActive) }, "[INFO]  pool is well again: object=p outcome=active\n"},
		{"back still", func() { pool(record.PoolActive) }, ""},
		{"full", func() { a.writable(errors.New("no space")) }, "[ERROR] the state cannot be written: error=\"no space\"\n"},
		{"full still", func() { a.writable(errors.New("no space")) }, ""},
		{"room", func() { a.writable(nil) }, "[INFO]  the state can be written again\n"},
	} {
		step.do()
		if got := strings.Join(take(), ""); got != step.want {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
}

// A job that leaves a volume incomplete and a helper that dies are lines of their own.
func TestIncompleteVolumesAndDeathsAreTold(t *testing.T) {
	s, st, _ := knowing(t, "this", &store.Pool{Pool: record.Pool{Name: "p", UUID: "u", Type: "dir", State: record.PoolActive}})
	h, take := logged()
	e := ends{metrics.New(metrics.Source{Catalog: s.census}), h, st}
	number := int64(7)
	err := st.Update(func(tx *store.Tx) error {
		return tx.PutVolume(&store.Volume{Volume: record.Volume{Pool: "p", Name: "v", Path: "/p/v", Key: "/p/v", State: record.VolumeIncomplete, Job: &number}})
	})
	if err != nil {
		t.Fatal(err)
	}
	j := record.Job{
		Number: number, Kind: record.VolumeWipe, State: record.Failed, Objects: []record.Object{{Pool: "p", Volume: "v", Mode: record.ModeWrite}},
		Owner: record.Owner{User: "alice"}, Error: record.Errorf(record.IO, "it broke"),
	}
	e.HelperDied(j, record.Errorf(record.Killed, "the helper was killed by SIGKILL"))
	e.JobEnded(supervisor.Observation{Job: j})
	other := j
	other.Number, other.State, other.Error = 8, record.Canceled, nil
	e.JobEnded(supervisor.Observation{Job: other})
	want := []string{
		"[WARN]  helper died: job=7 kind=volume.wipe object=p/v owner=alice code=killed error=\"the helper was killed by SIGKILL\"\n",
		"[ERROR] job ended: job=7 kind=volume.wipe object=p/v outcome=failed owner=alice code=io_error error=\"it broke\" took=\"0 s\"\n",
		"[WARN]  volume is incomplete: job=7 kind=volume.wipe object=p/v outcome=incomplete owner=alice\n",
		"[INFO]  job ended: job=8 kind=volume.wipe object=p/v outcome=canceled owner=alice took=\"0 s\"\n",
	}
	if got := take(); !slices.Equal(got, want) {
		t.Errorf("told is\n%q, want\n%q", got, want)
	}
}
