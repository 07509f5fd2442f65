package main_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// Whoever asks at the same time, with --exist-ok, has what was asked for: one
// has made it, and the others have waited for that.
func TestManyAskAtOnceForTheSame(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 4*mib)
	h.patchLimits(contract.LimitsPatch{Rate: []byte("8388608")}) // so that a clone takes some time
	for what, c := range map[string]struct {
		clients int
		args    []string
	}{
		"create": {36, []string{"vol", "create", "pool/v", "5M"}},
		"clone":  {12, []string{"vol", "clone", "pool/base", "pool/c", "--reflink", "never"}},
		"from":   {6, []string{"vol", "create", "pool/f", "--from", h.path("base")}},
		"pool":   {12, []string{"pool", "create", "other", "--target", h.dir + "/other"}},
	} {
		var all sync.WaitGroup
		outs, errs, codes := make([]string, c.clients), make([]string, c.clients), make([]int, c.clients)
		for i := range c.clients {
			all.Go(func() { outs[i], errs[i], codes[i] = h.ctl(append(c.args, "--exist-ok", "-o", "json")...) })
		}
		all.Wait()
		made := 0
		for i := range c.clients {
			changed := strings.Contains(outs[i], `"changed": true`)
			if changed {
				made++
			}
			if codes[i] != 0 || !changed && !strings.Contains(outs[i], `"changed": false`) {
				t.Errorf("%s: exit code %d\n%s%s", what, codes[i], outs[i], errs[i])
			}
		}
		if made != 1 {
			t.Errorf("%s: %d of %d have made it", what, made, c.clients)
		}
	}
	h.runs(record.ExitExists, "differs", "vol", "create", "pool/v", "6M", "--exist-ok")
}

// Who waits for a volume that comes to nothing makes it.
func TestWhoWaitedInVainMakesIt(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("base", 4*mib)
	first := h.began(h.clone("base", "v", noReflink, limited(4096)))
	h.running(first)
	var waits sync.WaitGroup
	var out, errs string
	var code int
	waits.Go(func() { out, errs, code = h.ctl("vol", "create", "pool/v", "1M", "--exist-ok", "-o", "json") })
	h.cancel(first)
	h.end(first, nil)
	waits.Wait()
	if code != 0 || !strings.Contains(out, `"changed": true`) {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	h.is("v", record.Volume{Capacity: mib, State: record.VolumeReady})
}

// Of a stream for a volume that is in the making nothing is taken, if that is the one
// to be made; and none is asked for if that is there.
func TestStreamForWhatIsMadeMeanwhileIsNotTaken(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.random("base", 4*mib)
	first := h.began(h.clone("base", "v", noReflink, limited(4096)))
	h.running(first)
	create := &operation.CreateRequest{Name: "v", Capacity: 4 * mib, ExistOK: true}
	late, err := h.stream("v", bytes.NewReader(noise(4*mib)), upload{Create: create})
	h.must(err)
	h.unlimited(first)
	j := h.succeed(started{Job: &late.Job}, nil)
	if err := late.Wait(); err != nil || !j.Result.Unchanged {
		t.Errorf("%v; the result is %s", err, shown(j.Result))
	}
	none, err := h.stream("v", bytes.NewReader(noise(4*mib)), upload{Create: create})
	h.must(err)
	if err := none.Wait(); err != nil || none.Unchanged == nil || none.Unchanged.Volume.Name != "v" {
		t.Errorf("%v; the answer is %s", err, shown(none.Unchanged))
	}
	h.hasHash("v", want)
}
