package virtrpc_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc/virtrpctest"
	"storaged/internal/virtrpc/wire"
)

// document is what is shown of a volume of the place.
func (p *place) document(name string) string {
	p.t.Helper()
	var doc wire.Text
	p.Do(wire.StorageVolGetXMLDesc, &wire.VolFlags{Vol: wire.Vol{Pool: "p", Name: name}}, &doc)
	return string(doc)
}

// chmod changes who may do what with the file of a volume, as any other program does.
func (p *place) chmod(name string, mode os.FileMode) {
	p.t.Helper()
	if err := os.Chmod(filepath.Join(p.dir, name), mode); err != nil {
		p.t.Fatal(err)
	}
}

// soon is how long somebody waits at least for a volume to be shown as it is now, who is
// shown then what was.
const soon = 10 * time.Second

// now checks that what is shown is what is now. It is asked for again only where it took so
// long that it may be what was, as on a host that is starved of processors.
func (p *place) now(what string, ask func() (shown string, now bool)) {
	p.t.Helper()
	for begun, starved := time.Now(), false; ; {
		asked := time.Now()
		shown, now := ask()
		if now {
			return
		}
		starved = starved || time.Since(asked) >= soon
		if !starved || time.Since(begun) > virtrpctest.Patience {
			p.t.Errorf("of %s is shown %s", what, shown)
			return
		}
	}
}

// shows checks who may do what with a volume by what is shown of it.
func (p *place) shows(name string, mode os.FileMode) {
	p.t.Helper()
	p.now(fmt.Sprintf("%04o", mode), func() (string, bool) {
		doc := p.document(name)
		return doc, strings.Contains(doc, fmt.Sprintf("<mode>0%o</mode>", mode))
	})
}

// modes are two that tell from each other whether one is old.
var modes = []os.FileMode{0o600, 0o644}

// Whatever another program has just done to the file of a volume is in the next document
// of it, and in its figures.
func TestVolumeIsShownAsItIsNow(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "")
	p.virsh("", "vol-create-as p disk 1M --allocation 0")
	for i := range 20 {
		p.chmod("disk", modes[i%2])
		p.shows("disk", modes[i%2])
	}
	for size := int64(1); size <= 4; size++ {
		if err := os.WriteFile(filepath.Join(p.dir, "disk"), make([]byte, size<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		p.now(fmt.Sprint(size, " MiB"), func() (string, bool) {
			var info wire.VolInfo
			p.Do(wire.StorageVolGetInfo, &wire.Vol{Pool: "p", Name: "disk"}, &info)
			return fmt.Sprint(info.Capacity, " bytes"), info.Capacity == uint64(size<<20)
		})
	}
	if err := os.Remove(filepath.Join(p.dir, "disk")); err != nil {
		t.Fatal(err)
	}
	p.now("a file that is gone", func() (string, bool) {
		err := p.Call(wire.StorageVolGetXMLDesc, &wire.VolFlags{Vol: wire.Vol{Pool: "p", Name: "disk"}}, nil)
		return fmt.Sprint(err), err != nil && strings.Contains(err.Error(), "no storage vol with matching name 'disk'")
	})
}

// updates is how often something was written to the records.
func (p *place) updates() string {
	p.t.Helper()
	_, rest, _ := strings.Cut(string(must(p.Service.Metrics())(p.t)), "\nstoraged_store_updates_total ")
	n, _, _ := strings.Cut(rest, "\n")
	return n
}

// Who looks at what is known already has nothing written.
func TestLooksThatFindNothingNewWriteNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "")
	p.virsh("", "vol-create-as p disk 1M")
	p.virsh("", "vol-create-as p image 1M --format qcow2")
	p.document("disk")
	p.document("image")
	before := p.updates()
	for range 10 {
		p.document("disk")
		p.document("image")
	}
	if after := p.updates(); after != before || after == "" {
		t.Errorf("%s updates of the records before, and %s after", before, after)
	}
}

// A clone has the permissions that its source has when virsh is called.
func TestCloneByVirshHasThePermissionsOfNow(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "")
	p.virsh("", "vol-create-as p disk 1M")
	for i, mode := range []os.FileMode{0o644, 0o600, 0o666, 0o600} {
		name := fmt.Sprint("clone", i)
		p.chmod("disk", mode)
		p.virsh("", "vol-clone disk "+name+" --pool p")
		if st := must(os.Stat(filepath.Join(p.dir, name)))(t); st.Mode().Perm() != mode {
			t.Errorf("the clone of a volume of %04o has %04o", mode, st.Mode().Perm())
		}
	}
}

// A job that has a volume says nothing of who may do what with its file: that is looked at.
// Its sizes are what the job says, and nobody looks.
func TestPermissionsAreThoseOfNowWhileAJobHasTheVolume(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "")
	p.virsh("", "vol-create-as p disk 32M")
	if err := os.WriteFile(filepath.Join(p.dir, "disk"), noise(32<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	p.document("disk")
	by := record.Caller{Owner: record.Owner{Command: "test", Via: "test"}, Role: record.RootRole}
	slow := &operation.CloneRequest{Name: "copy", Reflink: "never", JobOptions: operation.JobOptions{Limit: new(int64(64 << 10))}}
	st, err := p.Service.Start(t.Context(), contract.Submit{Caller: by}, "p", "disk", slow)
	if err != nil {
		t.Fatal(err)
	}
	j := *st.Job
	for wait := time.Millisecond; j.State == record.Queued || j.State == record.Starting; {
		j = must(p.Service.WaitJob(t.Context(), j.ID, wait))(t)
	}
	for i := range 4 {
		p.chmod("disk", modes[i%2])
		p.shows("disk", modes[i%2])
	}
	p.sizesWithoutALook("disk", 32<<20)
	if j = must(p.Service.WaitJob(t.Context(), j.ID, time.Nanosecond))(t); j.State.Terminal() {
		t.Errorf("the job has ended before: %s", j.State)
	}
	_ = must(p.Service.CancelJob(t.Context(), by, j.ID, contract.JobCancel{}))(t)
	_ = must(p.Service.WaitJob(t.Context(), j.ID, virtrpctest.Patience))(t)
}

// sizesWithoutALook checks the figures of a volume while its pool is away, which any look
// would find out.
func (p *place) sizesWithoutALook(name string, capacity uint64) {
	p.t.Helper()
	p.move(p.dir, p.dir+"-away")
	defer p.move(p.dir+"-away", p.dir)
	var info wire.VolInfo
	p.Do(wire.StorageVolGetInfo, &wire.Vol{Pool: "p", Name: name}, &info)
	pool := must(p.Service.Pool(p.t.Context(), "p"))(p.t)
	if info.Capacity != capacity || pool.State != record.PoolActive {
		p.t.Errorf("%+v is shown of it, and the pool is %s: %s", info, pool.State, pool.Reason)
	}
}

// move gives a directory another name.
func (p *place) move(from, to string) {
	p.t.Helper()
	if err := os.Rename(from, to); err != nil {
		p.t.Fatal(err)
	}
}

// Of a pool that is away it is shown what was there, and when it is back what there is.
func TestVolumeOfAPoolThatIsAwayIsShownAsItWas(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "")
	p.virsh("", "vol-create-as p disk 1M")
	p.chmod("disk", 0o640)
	p.shows("disk", 0o640)
	p.move(p.dir, p.dir+"-away")
	p.shows("disk", 0o640)
	p.shows("disk", 0o640)
	if pool := must(p.Service.Pool(t.Context(), "p"))(t); pool.State != record.PoolUnreachable {
		t.Errorf("the pool is %s", pool.State)
	}
	p.move(p.dir+"-away", p.dir)
	p.chmod("disk", 0o600)
	for begun := time.Now(); !strings.Contains(p.document("disk"), "<mode>0600</mode>"); { // it was found to be away a moment ago
		if time.Since(begun) > virtrpctest.Patience {
			t.Fatal("it does not come back")
		}
	}
}
