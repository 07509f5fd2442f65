package main_test

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// evacuation starts to move the volumes of "pool" to "other".
func (h *host) evacuation(options ...option) started {
	h.t.Helper()
	return h.began(h.evacuatePool("pool", "other", options...))
}

// filled makes volumes of that size and gives their hashes.
func (h *host) filled(size int64, names ...string) map[string]string {
	h.t.Helper()
	sums := map[string]string{}
	for _, n := range names {
		sums[n] = h.random(n, size)
	}
	return sums
}

// places tells where each volume is, by its name, and fails unless each is
// whole in exactly one pool, in its directory as in the catalog.
func (h *host) places(sums map[string]string, dirs map[string]string) map[string]string {
	h.t.Helper()
	at := map[string]string{}
	for pool, dir := range dirs {
		entries := must(os.ReadDir(dir))(h.t)
		for _, e := range entries {
			if at[e.Name()] != "" {
				h.t.Errorf("%s is in both pools", e.Name())
			}
			at[e.Name()] = pool
			if got := hashOf(h.t, filepath.Join(dir, e.Name())); got != sums[e.Name()] {
				h.t.Errorf("%s/%s has hash %s, want %s", pool, e.Name(), got, sums[e.Name()])
			}
		}
	}
	all := must(h.client.Volumes(h.ctx(), contract.VolumeFilter{}))(h.t)
	known := map[string]string{}
	for _, v := range all {
		if known[v.Name] != "" || v.State != record.VolumeReady || v.Path != filepath.Join(dirs[v.Pool], v.Name) || v.Origin != record.Made {
			h.t.Errorf("entry %s", shown(v))
		}
		known[v.Name] = v.Pool
	}
	if !maps.Equal(at, known) || len(at) != len(sums) {
		h.t.Errorf("there is %v, the catalog has %v", at, known)
	}
	return at
}

func TestEvacuateMovesEveryVolumeThatMatches(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"", "ext4", "xfs"} {
		t.Run("to "+kind, func(t *testing.T) {
			h := newHost(t)
			dirs := map[string]string{"pool": h.pool, "other": filepath.Join(h.dir, "pool-other")}
			if kind == "" {
				h.define("other", dirs["other"])
			} else {
				dirs["other"] = h.otherPool(kind)
			}
			sums := h.filled(2*mib, "vm1", "vm2", "vm, 3", "data")
			was := h.described("vm1")
			j := h.succeed(h.evacuation(only("vm*")), nil)
			want := map[string]string{"vm1": "succeeded", "vm2": "succeeded", "vm, 3": "succeeded"}
			if got := fared(j); !maps.Equal(got, want) || j.Result.Bytes != 6*mib || *j.Progress.Percent != 100 || j.Result.Pool != "pool" {
				t.Errorf("volumes %v, result %s, progress %s", got, shown(j.Result), shown(j.Progress))
			}
			if got, want := h.places(sums, dirs), map[string]string{"vm1": "other", "vm2": "other", "vm, 3": "other", "data": "pool"}; !maps.Equal(got, want) {
				t.Errorf("they are in %v, want %v", got, want)
			}
			h.moved(was, "other", "vm1", filepath.Join(dirs["other"], "vm1"))
		})
	}
}

func TestEvacuateKeepsTheSource(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := h.otherPool("ext4")
	sums := h.filled(mib, "a", "b")
	j := h.succeed(h.evacuation(keepSource), nil)
	for name, want := range sums {
		if h.hash(name) != want || hashOf(t, filepath.Join(dir, name)) != want {
			t.Errorf("%s has changed", name)
		}
		h.is("other/"+name, record.Volume{State: record.VolumeReady, CreatedBy: &j.Number})
		if v := h.entry(name); *v.CreatedBy == j.Number {
			t.Errorf("the source is %s", shown(v))
		}
	}
	if o := j.Objects[0]; o != (record.Object{Pool: "pool", Mode: record.ModeRead}) {
		t.Errorf("it held %v", o)
	}
}

// TestEvacuateLetsOthersInBetweenVolumes: visitors come in between volumes and
// nowhere else, and see each volume where it is.
func TestEvacuateLetsOthersInBetweenVolumes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dirs := map[string]string{"pool": h.pool, "other": h.otherPool("ext4")}
	sums := h.filled(mib, "a", "b", "c", "d")
	st := h.evacuation(limited(farAway))
	h.running(st)
	_, err := h.remove("c", atOnce)
	if e, ok := err.(*record.Error); !ok || e.Code != record.Busy || e.Holders[0].Holder.Number != st.Job.Number {
		t.Errorf("while a volume is moved: %v", err)
	}
	// Other names of the target pool are free all the while.
	h.succeed(h.create("other/z", mib, allocation(0), atOnce))
	h.succeed(h.remove("other/z", atOnce))
	grow := h.began(h.resize("d", 2*mib))
	deleted := h.began(h.remove("c"))
	h.promised(grow)
	h.relimit(st, 4*mib)
	visitors := []record.Job{h.succeed(grow, nil), h.succeed(deleted, nil)}
	h.relimit(st, farAway)
	sums["d"] = hashOf(t, h.path("d"))
	h.is("other/a", record.Volume{State: record.VolumeReady})
	delete(sums, "c")
	if _, _, code := h.ctl("vol", "list", "pool", "other", "--fresh"); code != 0 { // which finds nothing new
		t.Errorf("exit %d", code)
	}
	h.unlimit(st)
	j := h.succeed(st, nil)
	h.cameBetween(j, visitors...)
	if got, want := fared(j), map[string]string{"a": "succeeded", "b": "succeeded", "c": "skipped", "d": "succeeded"}; !maps.Equal(got, want) {
		t.Errorf("volumes %v, want %v", got, want)
	}
	h.places(sums, dirs)
}

func TestEvacuateWithVolumesThatCannotBeMoved(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what  string
		how   []option
		want  map[string]string
		state record.State
	}{
		{"continue", nil, map[string]string{"a": "succeeded", "busy": "failed", "taken": "failed", "z": "succeeded"}, record.Failed},
		{"stop", []option{stopOnError}, map[string]string{"a": "succeeded", "busy": "failed"}, record.Failed},
		{"skip busy", []option{skipBusy, only("[abz]*")}, map[string]string{"a": "succeeded", "busy": "skipped", "z": "succeeded"}, record.Succeeded},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := newHost(t)
			dirs := map[string]string{"pool": h.pool, "other": h.otherPool("ext4")}
			sums := h.filled(mib, "a", "busy", "taken", "z")
			h.must(os.WriteFile(filepath.Join(dirs["other"], "taken"), []byte("of others"), 0o600))
			holdImage(t, h.path("busy"))
			j := h.end(h.evacuation(c.how...), nil)
			if got := fared(j); j.State != c.state || !maps.Equal(got, c.want) {
				t.Fatalf("%s: %v, want %v", outcome(j), got, c.want)
			}
			if j.State == record.Failed && (j.Code() != record.Partial || j.ExitCode() != record.ExitPartial) {
				t.Errorf("error %s", outcome(j))
			}
			for _, i := range j.Result.Items {
				want := map[string]record.Code{"busy": record.Busy, "taken": record.Exists}[i.Volume]
				if (i.Error == nil) != (want == "") || i.Error != nil && i.Error.Code != want {
					t.Errorf("%s: %v, want %q", i.Volume, i.Error, want)
				}
			}
			for name, state := range c.want {
				dir := dirs["pool"]
				if state == "succeeded" {
					dir = dirs["other"]
				}
				if hashOf(t, filepath.Join(dir, name)) != sums[name] {
					t.Errorf("%s is not what it was", name)
				}
			}
			if b, err := os.ReadFile(filepath.Join(dirs["other"], "taken")); err != nil || string(b) != "of others" {
				t.Errorf("what was there has become %q, %v", b, err)
			}
		})
	}
}

func TestEvacuateLeavesWhatOthersStandOn(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.otherPool("ext4")
	h.sparse("base", mib)
	h.sparse("free", mib)
	overlay(t, testenv.Tool(t, "qemu-img"), h.path("base"), h.path("child"))
	j := h.end(h.evacuation(), nil)
	if got, want := fared(j), map[string]string{"base": "failed", "child": "succeeded", "free": "succeeded"}; !maps.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for _, i := range j.Result.Items {
		if i.Volume == "base" && (i.Error.Code != record.HasChildren || !strings.Contains(i.Error.Message, "child")) {
			t.Errorf("%v", i.Error)
		}
	}
}

// TestEvacuateStoppedAtRandomMoments kills helper and daemon and cancels:
// afterwards each volume is whole in one pool, and the result says which were
// moved.
func TestEvacuateStoppedAtRandomMoments(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dirs := map[string]string{"pool": h.pool, "other": h.otherPool("ext4")}
	sums := h.filled(mib, "a", "b", "c", "d", "e")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range 12 {
		st := h.evacuation(limited(8 * mib))
		<-time.After(time.Duration(random.Int64N(int64(700 * time.Millisecond))))
		j := h.job(st)
		if i%3 == 2 {
			h.kill()
		}
		if i%3 == 1 {
			_, _ = h.client.CancelJob(h.ctx(), st.Job.ID, contract.JobCancel{}) // may come too late
		} else if j.Helper != nil && !j.State.Terminal() {
			_ = syscall.Kill(j.Helper.PID, syscall.SIGKILL) // may have ended
		}
		if i%3 == 2 {
			h.start()
		}
		j = h.end(st, nil)
		at := h.places(sums, dirs)
		for name, pool := range at {
			if told := fared(j)[name] == "succeeded"; told != (pool == "other") {
				t.Errorf("round %d, %s: %s is in %s, the result says %v", i, j.State, name, pool, fared(j))
			}
		}
		h.succeed(h.evacuatePool("other", "pool"))
		if t.Failed() {
			return
		}
	}
}

func TestEvacuateIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.define("other", t.TempDir())
	h.refuses(record.Invalid)(h.evacuatePool("pool", "pool"))
	h.refuses(record.NotFound)(h.evacuatePool("pool", "none"))
	h.refuses(record.Invalid)(h.evacuatePool("pool", "none", only("[a")))
	h.refuses(record.NotFound)(h.evacuatePool("pool", "other", only("zzz*")))
}
