package backendtest

import (
	"context"
	"errors"
	"fmt"

	"storaged/internal/backends"
)

var moveCases = []testCase{
	{"a volume gets another name", moveRename},
	{"to another pool of the type", moveAcross},
	{"a new name replaces nothing", moveTaken},
	{"a volume in use is not taken", moveBusy},
	{"keeps its name when the record fails or it is canceled", moveRecordFails},
	{"what is taken away is gone for good", moveRemove},
	{"settling removes a source that is as it was", moveSettle},
	{"settling keeps a source that is not", moveSettleChanged},
	{"a volume is known again", moveIs},
}

// take opens a volume to move it, until the test's end at the latest.
func (r *rig) take(name string) backends.Taken {
	r.Helper()
	v, err := r.taker().Take(r.Context(), r.p, r.n(name))
	r.must(err)
	r.Cleanup(func() { r.must(v.Close()) })
	return v
}

func moveRename(r *rig) {
	r.started().made("a", []byte("content"))
	v := r.take("a")
	var identity []byte
	r.must(v.Rename(r.Context(), r.p, r.n("b"), func(b []byte) error {
		r.has("a") // the record is not durable yet
		identity = b
		return nil
	}))
	r.has("b")
	if info, err := v.Info(); err != nil || info.Name != r.n("b") || info.Path != r.list()[r.n("b")].Path {
		r.Errorf("it tells %+v, %v", info, err)
	}
	r.must(v.Close())
	r.holds("b", []byte("content"))
	for range 2 {
		if committed, err := r.creator().Settle(r.Context(), r.p, r.n("b"), "job", identity); !committed || err != nil {
			r.Errorf("settled: %v, %v", committed, err)
		}
		r.must(r.taker().SettleTaken(r.Context(), r.p, r.n("a"), identity))
	}
	r.has("b")
}

func moveAcross(r *rig) {
	r.started().made("a", []byte("content"))
	there := newRig(r.T, r.suite).started()
	v := r.take("a")
	err := v.Rename(r.Context(), there.p, r.n("b"), keepNothing)
	if errors.Is(err, backends.ErrElsewhere) {
		r.has("a")
		there.has()
		return
	}
	r.must(err)
	r.must(v.Close())
	r.has()
	there.has("b")
	there.holds("b", []byte("content"))
	other := there.p
	other.Type = "another type"
	w, err := there.taker().Take(r.Context(), there.p, r.n("b"))
	r.must(err)
	defer w.Close()
	r.is(w.Rename(r.Context(), other, r.n("c"), keepNothing), backends.ErrElsewhere)
	there.has("b")
}

func moveTaken(r *rig) {
	r.started().made("a", []byte("a"))
	r.made("b", []byte("b"))
	v := r.take("a")
	recorded := false
	r.is(v.Rename(r.Context(), r.p, r.n("b"), func([]byte) error { recorded = true; return nil }), backends.ErrExists)
	if recorded {
		r.Error("a name that is taken was recorded")
	}
	r.is(v.Rename(r.Context(), r.p, r.n("c"), func([]byte) error { r.made("c", []byte("between")); return nil }), backends.ErrExists)
	r.is(v.Rename(r.Context(), r.p, r.n("a"), keepNothing), backends.ErrExists)
	r.must(v.Close())
	for name, content := range map[string]string{"a": "a", "b": "b", "c": "between"} {
		r.holds(name, []byte(content))
	}
}

func moveBusy(r *rig) {
	r.started().made("a", []byte("a"))
	none, err := r.taker().Take(r.Context(), r.p, r.n("none"))
	if r.is(err, backends.ErrNotFound); none != nil {
		r.Errorf("%T was taken of what there is not", none)
	}
	for _, held := range []backends.Access{backends.ReadShared, backends.WriteExclusive} {
		other := r.process(order{Act: actHold, Name: "a", Access: held})
		_, err := r.taker().Take(r.Context(), r.p, r.n("a"))
		r.busy(err, fmt.Sprintf("pid %d ", other.pid()))
		other.end()
	}
	v := r.take("a")
	_, err = r.b.Open(r.Context(), r.p, r.n("a"), backends.ReadShared)
	r.busy(err, "")
	r.must(v.Close())
	r.must(v.Close())
	r.holds("a", []byte("a"))
}

func moveRecordFails(r *rig) {
	r.started().made("a", []byte("a"))
	v := r.take("a")
	full := errors.New("state directory is full")
	r.is(v.Rename(r.Context(), r.p, r.n("b"), func([]byte) error { return full }), full)
	r.is(v.Rename(canceled(r.T), r.p, r.n("b"), keepNothing), context.Canceled)
	r.has("a")
	ctx, cancel := context.WithCancel(r.Context())
	r.must(v.Rename(ctx, r.p, r.n("b"), func([]byte) error { cancel(); return nil })) // too late
	r.has("b")
}

func moveRemove(r *rig) {
	r.started().made("a", []byte("a"))
	v := r.take("a")
	identity, err := v.Identity()
	r.must(err)
	r.must(v.Remove())
	r.has()
	r.must(v.Close())
	r.made("a", []byte("another"))
	r.must(r.taker().SettleTaken(r.Context(), r.p, r.n("a"), identity))
	r.holds("a", []byte("another"))
}

// settledIdentity is that of a volume whose mover has gone.
func (r *rig) settledIdentity(name string) []byte {
	r.Helper()
	v := r.take(name)
	identity, err := v.Identity()
	r.must(err)
	r.must(v.Close())
	return identity
}

func moveSettle(r *rig) {
	r.started().made("a", []byte("a"))
	identity := r.settledIdentity("a")
	for range 2 {
		r.must(r.taker().SettleTaken(r.Context(), r.p, r.n("a"), identity))
		r.has()
	}
	r.made("a", []byte("a"))
	if r.taker().SettleTaken(r.Context(), r.p, r.n("a"), []byte("\x00garbage")) == nil {
		r.Error("an identity that cannot be read passed")
	}
	r.has("a")
}

// moveSettleChanged: a guest may be started between a crash and its settling.
func moveSettleChanged(r *rig) {
	r.started().made("a", []byte("a"))
	identity := r.settledIdentity("a")
	other := r.process(order{Act: actHold, Name: "a", Access: backends.ReadShared})
	r.busy(r.taker().SettleTaken(r.Context(), r.p, r.n("a"), identity), fmt.Sprintf("pid %d ", other.pid()))
	other.end()
	v, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.WriteExclusive)
	r.must(err)
	_, err = v.Content().WriteAt([]byte("b"), 0)
	r.must(err)
	r.must(v.Content().Flush())
	r.must(v.Close())
	r.is(r.taker().SettleTaken(r.Context(), r.p, r.n("a"), identity), backends.ErrChanged)
	r.holds("a", []byte("b"))
}

// moveIs: a volume is known again as long as it is that file, whatever was done
// to it.
func moveIs(r *rig) {
	r.started().made("a", []byte("a"))
	v, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.WriteExclusive)
	r.must(err)
	info, err := v.Info()
	r.must(err)
	id := r.b.Lasting(info.ID)
	r.must(r.b.CheckIdentity(id))
	_, err = v.Content().WriteAt([]byte("bb"), 0)
	r.must(err)
	r.must(v.Is(id))
	r.must(v.Is(""))
	r.must(v.Close())
	renamed := r.take("a")
	r.must(renamed.Rename(r.Context(), r.p, r.n("b"), func([]byte) error { return nil }))
	r.must(renamed.Is(id))
	r.made("a", []byte("bb"))
	another := r.take("a")
	r.is(another.Is(id), backends.ErrChanged)
	r.must(another.Close())
	r.must(renamed.Close())
}
