package backendtest

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"storaged/internal/backends"
	"storaged/internal/diskio"
)

var volumeCases = []testCase{
	{"opens, tells and closes", volumeOpen},
	{"is kept from other processes by its locks", volumeLocks},
	{"is free when its holder was killed", volumeKilled},
	{"a refused open leaves no lock", volumeRefused},
	{"remove is for good", volumeRemove},
	{"is looked at without a lock", volumeLook},
	{"a header in the content changes nothing for who opened it", volumePlanted},
}

var resizeCases = []testCase{
	{"grows beside readers who share that", volumeGrowth},
	{"gets another capacity", volumeResize},
}

func volumeOpen(r *rig) {
	r.started().made("a", []byte("content"))
	for _, a := range []backends.Access{backends.ReadShared, backends.WriteExclusive} {
		v, err := r.b.Open(r.Context(), r.p, r.n("a"), a)
		r.must(err)
		info, err := v.Info()
		r.must(err)
		if info.Name != r.n("a") || info.Size < 7 || info.Format != "" || info.Capacity != info.Size {
			r.Errorf("told %+v", info)
		}
		_, sized := v.(backends.Resizer)
		_, shared := v.(backends.Sharer)
		if declared := slices.Contains(r.b.Properties().VolVerbs, "resize"); sized != declared || shared != declared {
			r.Errorf("a volume can be resized: %v, and while it is read: %v; declared: %v", sized, shared, declared)
		}
		_, err = v.Content().WriteAt([]byte("C"), 0)
		if want := a == backends.WriteExclusive; (err == nil) != want {
			r.Errorf("writing: %v", err)
		}
		r.must(v.Close())
		r.must(v.Close())
	}
	r.holds("a", []byte("Content"))
	v, err := r.b.Open(r.Context(), r.p, r.n("b"), backends.ReadShared)
	if r.is(err, backends.ErrNotFound); v != nil {
		r.Errorf("%T was opened of what there is not", v)
	}
}

// volumeResize needs a capacity that all types can have exactly.
func volumeResize(r *rig) {
	const mib = 1 << 20
	r.started().made("a", bytes.Repeat([]byte("content."), mib/2))
	resize := func(a backends.Access, spec diskio.ResizeSpec) error {
		v, err := r.b.Open(r.Context(), r.p, r.n("a"), a)
		r.must(err)
		defer v.Close()
		if _, err = v.(backends.Resizer).Resize(r.Context(), diskio.NewPacer(), spec); err != nil {
			return err
		}
		if info, err := v.Info(); err != nil || info.Capacity != spec.Capacity || info.Size != spec.Capacity {
			r.Errorf("after a resize to %d: %+v, %v", spec.Capacity, info, err)
		}
		return nil
	}
	r.must(resize(backends.Grow, diskio.ResizeSpec{Capacity: 8 * mib}))
	r.must(resize(backends.Grow, diskio.ResizeSpec{Capacity: 12 * mib, Allocate: true}))
	if err := resize(backends.WriteExclusive, diskio.ResizeSpec{Capacity: 4 * mib}); err == nil {
		r.Error("an end was cut off without being asked")
	}
	r.must(resize(backends.WriteExclusive, diskio.ResizeSpec{Capacity: 4 * mib, Shrink: true}))
	r.holds("a", bytes.Repeat([]byte("content."), mib/2))
}

func volumeLook(r *rig) {
	r.started().made("a", []byte("content"))
	other := r.process(order{Act: actHold, Name: "a", Access: backends.WriteExclusive})
	info, err := r.b.Look(r.Context(), r.p, r.n("a"))
	r.must(err)
	if info.Name != r.n("a") || info.Size < 7 || info.Capacity != info.Size || info.Ignored != "" {
		r.Errorf("told %+v", info)
	}
	other.end()
	_, err = r.b.Look(r.Context(), r.p, r.n("b"))
	r.is(err, backends.ErrNotFound)
	if missing, ok := errors.AsType[*backends.MissingError](err); !ok || missing.Path != filepath.Join(filepath.Dir(info.Path), r.n("b")) {
		r.Errorf("what is missing is told by %v", err)
	}
}

func volumeLocks(r *rig) {
	r.started().made("a", []byte("a"))
	for _, c := range []struct {
		held    backends.Access
		readers bool // are let in
	}{{backends.ReadShared, true}, {backends.WriteExclusive, false}} {
		other := r.process(order{Act: actHold, Name: "a", Access: c.held})
		holder := fmt.Sprintf("pid %d ", other.pid())
		_, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.WriteExclusive)
		r.busy(err, holder)
		r.busy(r.remove(r.Context(), r.p, r.n("a")), holder)
		if c.readers {
			r.readTogether("a")
		} else {
			_, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.ReadShared)
			r.busy(err, holder)
		}
		other.end()
	}
	r.has("a")
}

// volumeGrowth: two who read let a third one grow the volume, and nobody write
// to it, until they take that back.
func volumeGrowth(r *rig) {
	r.started().made("a", []byte("a"))
	var readers []backends.Sharer
	for range 2 {
		v, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.ReadShared)
		r.must(err)
		defer v.Close()
		readers = append(readers, v.(backends.Sharer))
		_, err = r.b.Open(r.Context(), r.p, r.n("a"), backends.Grow)
		r.busy(err, "")
	}
	for _, v := range readers {
		_, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.Grow)
		r.busy(err, "")
		r.must(v.ShareGrowth())
	}
	_, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.WriteExclusive)
	r.busy(err, "")
	grower, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.Grow)
	r.must(err)
	_, err = r.b.Open(r.Context(), r.p, r.n("a"), backends.ReadShared)
	r.busy(err, "")
	r.busy(readers[0].KeepSize(), "")
	r.must(grower.Close())
	r.must(readers[1].KeepSize())
	_, err = r.b.Open(r.Context(), r.p, r.n("a"), backends.Grow)
	r.busy(err, "")
}

// readTogether opens a volume twice at once, as clones of one source do.
func (r *rig) readTogether(name string) {
	r.Helper()
	for range 2 {
		v, err := r.b.Open(r.Context(), r.p, r.n(name), backends.ReadShared)
		r.must(err)
		defer v.Close() // only when both were open
	}
}

func volumeKilled(r *rig) {
	r.started().made("a", []byte("a"))
	other := r.process(order{Act: actHold, Name: "a", Access: backends.WriteExclusive})
	_, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.WriteExclusive)
	r.busy(err, fmt.Sprintf("pid %d ", other.pid()))
	other.kill()
	v, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.WriteExclusive)
	r.must(err)
	r.must(v.Close())
}

func volumeRefused(r *rig) {
	r.started().made("a", []byte("a"))
	v, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.ReadShared)
	r.must(err)
	_, err = r.b.Open(r.Context(), r.p, r.n("a"), backends.WriteExclusive)
	r.busy(err, "")
	again, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.ReadShared)
	r.must(err)
	r.must(v.Close())
	r.must(again.Close())
	r.must(r.remove(r.Context(), r.p, r.n("a")))
}

func volumeRemove(r *rig) {
	r.started().made("a", []byte("a"))
	r.made("b", []byte("b"))
	r.must(r.remove(r.Context(), r.p, r.n("a")))
	r.is(r.remove(r.Context(), r.p, r.n("a")), backends.ErrNotFound)
	r.has("b")
	r.made("a", []byte("again"))
	r.holds("a", []byte("again"))
}

// volumePlanted: a guest may write a qcow2 header of 1 PiB with a backing file
// into its raw disk.
func volumePlanted(r *rig) {
	r.started()
	r.made("a", plantedHeader())
	found := r.list()[r.n("a")]
	if found.Format != "qcow2" || found.Capacity != 1<<50 || found.Backing != "/etc/shadow" || found.Size < 4096 {
		r.Errorf("found %+v", found)
	}
	v, err := r.b.Open(r.Context(), r.p, r.n("a"), backends.ReadShared)
	r.must(err)
	defer v.Close()
	info, err := v.Info()
	r.must(err)
	if info.Format != "" || info.Backing != "" || info.Capacity != info.Size || info.Size != found.Size {
		r.Errorf("told %+v", info)
	}
}

// plantedHeader is one of a qcow2 image of 1 PiB that names a file of the host.
func plantedHeader() []byte {
	planted := make([]byte, 4096)
	copy(planted, "QFI\xfb\x00\x00\x00\x03")
	planted[15], planted[19] = 200, 11 // backing name at 200, 11 bytes
	planted[25] = 4                    // 1 PiB
	copy(planted[200:], "/etc/shadow")
	return planted
}
