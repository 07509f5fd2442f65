package operation_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
)

// known is a raw volume of 100 bytes, of which 40 are allocated, in an active pool of
// two volumes; what goes elsewhere goes to pool fast, which is another file system.
func known() operation.Known {
	vols := []record.Volume{
		{Pool: "images", Name: "vm", Format: record.FormatRaw, State: record.VolumeReady, Capacity: 100, Allocation: 40},
		{Pool: "images", Name: "iso", Format: record.FormatRaw, State: record.VolumeReady, Capacity: 10, Allocation: 10},
	}
	return operation.Known{
		On:     operation.Volume{Pool: "images", Name: "vm", Type: "dir", Path: "/i/vm"},
		Into:   operation.Target{Pool: "fast", Name: "new", Type: "dir", Path: "/f/new"},
		Pool:   record.Pool{Name: "images", Type: "dir", State: record.PoolActive},
		Volume: vols[0],
		Can:    record.Capabilities{Formats: []string{record.FormatRaw, "qcow2", "vmdk", "vdi", "vpc", "luks"}, Algorithms: []string{"zero", "random"}, Sparse: true},
		There:  record.Capabilities{Type: "dir", Formats: []string{record.FormatRaw, "qcow2", "vmdk", "luks"}, Creations: []record.Creation{{Format: "vhdx", Unavailable: "no program"}}},
		Chain:  func() (operation.Chain, error) { return operation.Chain{Of: operation.ChainOfVolume}, nil },
		Under: func(pool, volume string) (operation.Chain, error) {
			if volume != "vm" {
				return operation.Chain{}, record.Errorf(record.NotFound, "no volume %q", volume)
			}
			return operation.Chain{Of: operation.ChainOfNew, Layers: []operation.Layer{{Volume: operation.Volume{Pool: pool, Name: volume}, Format: "raw"}}}, nil
		},
		Snapshots: func() ([]operation.Layer, error) {
			was := operation.Volume{Pool: "images", Name: ".vm@was.storaged", Path: "/i/.vm@was.storaged"}
			return []operation.Layer{{Volume: was, Format: "qcow2"}}, nil
		},
		Above: func(string) ([]operation.Layer, error) { return nil, nil },
		Other: func(_, name string) (record.Volume, error) {
			if name == "vm@was" {
				return record.Volume{}, record.Errorf(record.NotFound, "no volume %q", name)
			}
			return vols[0], nil
		},
		Volumes: func(pattern string) (out []record.Volume, err error) {
			for _, v := range vols {
				if ok, err := record.MatchName(pattern, v.Name); ok && err == nil {
					out = append(out, v)
				}
			}
			return out, nil
		},
	}
}

func dense(k *operation.Known)    { k.Can.Sparse = false }
func rawOnly(k *operation.Known)  { k.Can.Formats = []string{record.FormatRaw} }
func inactive(k *operation.Known) { k.Pool.State = record.PoolInactive }
func vdi(k *operation.Known)      { k.Volume.Format = "vdi" }
func iso(k *operation.Known)      { k.Volume.Format = "iso" }
func qed(k *operation.Known)      { k.Volume.Format = "qed" }
func away(k *operation.Known) { // it stands on what nobody opens
	k.Chain = func() (operation.Chain, error) {
		return operation.Chain{}, record.Errorf(record.Unsupported, "it stands on what is no volume of a pool")
	}
}
func qcow2(k *operation.Known)     { k.Volume.Format = "qcow2" }
func encrypted(k *operation.Known) { k.Volume.Secret = "s" }
func near(k *operation.Known)      { k.Near = true }
func promised(k *operation.Known)  { k.Promised = 100 }
func split(k *operation.Known) { // the content lies in another file too
	k.References = []operation.Reference{{Name: "data.raw", Data: true}}
}
func broken(k *operation.Known) { // what it stands on cannot be opened
	refuse := record.Errorf(record.Unsupported, "it stands on what is no volume")
	k.Chain = func() (operation.Chain, error) { return operation.Chain{}, refuse }
	k.Under = func(string, string) (operation.Chain, error) { return operation.Chain{}, refuse }
}
func relative(k *operation.Known) { // it stands on a file beside it
	k.References = []operation.Reference{{Name: "base.qcow2", Relative: true}}
}

// stands on a volume of 70 bytes, and can stand on another one.
func stands(k *operation.Known) {
	k.Chain = func() (operation.Chain, error) {
		base := operation.Layer{Volume: operation.Volume{Pool: "images", Name: "base"}, Format: record.FormatRaw, Allocation: 70}
		return operation.Chain{Of: operation.ChainOfVolume, Layers: []operation.Layer{base}}, nil
	}
	k.Under = func(pool, volume string) (operation.Chain, error) {
		new := operation.Layer{Volume: operation.Volume{Pool: pool, Name: volume}, Format: record.FormatRaw}
		return operation.Chain{Of: operation.ChainOfNew, Layers: []operation.Layer{new}}, nil
	}
}

func snapshotMore(k *operation.Known) { k.Volume.Snapshots = append(k.Volume.Snapshots, "later") }
func frozen(k *operation.Known)       { k.Volume.Snapshots = []string{"was"} }

// overlaid stands on its snapshot, which has 30 bytes and stands on nothing.
func overlaid(k *operation.Known) {
	k.Volume.Format, k.Volume.Snapshots = "qcow2", []string{"was"}
	k.Above = func(string) ([]operation.Layer, error) {
		return []operation.Layer{{Volume: k.On, Format: "qcow2"}}, nil
	}
	k.Under = func(pool, volume string) (operation.Chain, error) {
		return operation.Chain{Layers: []operation.Layer{{Volume: operation.Volume{Pool: pool, Name: volume}, Format: "qcow2", Allocation: 30}}}, nil
	}
}

// smaller has every other volume be smaller.
func smaller(k *operation.Known) {
	k.Other = func(string, string) (record.Volume, error) { return record.Volume{Capacity: 99}, nil }
}

// named has a volume by every name.
func named(k *operation.Known) {
	k.Other = func(string, string) (record.Volume, error) { return record.Volume{}, nil }
}

func torn(k *operation.Known) { k.Volume.Problem = "its tables cannot be" }

// onSnapshot names the snapshot that a request is about.
func onSnapshot[R interface {
	operation.Request
	operation.OfSnapshot
}](r R) operation.Request {
	r.Named("was")
	return r
}

// answers are what an operation says of itself, in one line.
func answers(o operation.Operation) string {
	bytes, bounds := o.Moves()
	out := []string{string(o.Class()), fmt.Sprintf("moves %d", bytes)}
	if !bounds {
		out = append(out, "at its own pace")
	}
	if g, ok := o.(operation.Grows); ok {
		n, unless := g.Needs()
		out = append(out, fmt.Sprintf("needs %d", n))
		if unless != "" {
			out = append(out, "or shares")
		}
	}
	if f, ok := o.(operation.Fills); ok {
		if length, holes := f.Overwrites(); holes && length != nil {
			out = append(out, fmt.Sprintf("fills %d", *length))
		} else if holes {
			out = append(out, "fills all")
		}
	}
	for _, is := range []struct {
		word string
		so   bool
	}{{"destroys", o.Destroys()}, {"displaces", o.Displaces()}, {"relies", o.Relies()}, {"wipes", o.Wipes()}} {
		if is.so {
			out = append(out, is.word)
		}
	}
	return strings.Join(out, ", ")
}

func n(i int64) *int64 { return &i }

type change = func(*operation.Known)

func changed(changes []change) operation.Known {
	k := known()
	for _, c := range changes {
		c(&k)
	}
	return k
}

// What each kind says of itself decides where it runs, what it waits for and what room
// it is given.
func TestPlannedOperationsSayWhatTheyDo(t *testing.T) {
	stream := operation.Data{Form: operation.RawForm, Dense: true}
	seen := map[record.Kind]bool{}
	for _, c := range []struct {
		request operation.Request
		changes []change
		want    string
	}{
		{&operation.CreateRequest{Name: "new", Capacity: 100}, nil, "async, moves 100, needs 100"},
		{&operation.CreateRequest{Name: "new", Capacity: 100, Allocation: &operation.Allocation{}}, nil, "normal, moves 0, needs 0"},
		{&operation.CreateRequest{Name: "new", Capacity: 8192, Format: "qcow2"}, nil, "normal, moves 0, needs 0"},
		{&operation.CreateRequest{Name: "new", Capacity: 8192, Format: "qcow2", Options: map[string]string{"preallocation": "metadata"}}, nil, "async, moves 0, needs 0"},
		{&operation.CreateRequest{Name: "new", Capacity: 8192, Format: "qcow2", Options: map[string]string{"preallocation": "falloc"}}, nil, "async, moves 8192, needs 8194"},
		{&operation.CreateRequest{Name: "new", Capacity: 8000, Format: "vpc", Allocation: &operation.Allocation{Full: true}}, nil, "async, moves 8192, needs 8194"},
		{&operation.CreateRequest{Name: "new", Capacity: 8192, Format: "luks", Secret: "s", Options: map[string]string{"encrypt.iter-time": "5"}}, nil, "normal, moves 0, needs 0"},
		{&operation.CreateRequest{Name: "new", Capacity: 8192, Format: "luks", Secret: "s", Allocation: &operation.Allocation{Full: true}}, nil, "async, moves 8192, needs 8194"},
		{&operation.CreateRequest{Name: "new", Capacity: 100, Options: map[string]string{"preallocation": "off"}}, nil, "normal, moves 0, needs 0"},
		{&operation.CreateRequest{Name: "new", Format: "qcow2", Backing: "images/vm"}, nil, "normal, moves 0, needs 0"},
		{&operation.UploadRequest{Create: &operation.CreateRequest{Name: "new", Format: "qcow2"}, FromFormat: "raw", Length: n(600), Data: stream}, nil, "async, moves 0, at its own pace, needs 0"},
		{&operation.UploadRequest{Create: &operation.CreateRequest{Name: "new"}, FromFormat: "vmdk", Length: n(600), Data: operation.Data{Form: operation.FileForm}}, nil, "async, moves 0, at its own pace, needs 0"},
		{&operation.UploadRequest{Create: &operation.CreateRequest{Name: "new"}, Length: n(60), Data: stream}, nil, "async, moves 0, at its own pace, needs 0"},
		{&operation.UploadRequest{Create: &operation.CreateRequest{Name: "new", Allocation: &operation.Allocation{Full: true}}, Length: n(60), Data: stream}, nil,
			"async, moves 60, at its own pace, needs 60"},
		{&operation.CloneRequest{Name: "new"}, nil, "async, moves 100, needs 40, or shares, relies"},
		{&operation.CloneRequest{Name: "new", Reflink: "never"}, nil, "async, moves 100, needs 40, relies"},
		{&operation.CloneRequest{Name: "new", Reflink: "always"}, nil, "async, moves 100, needs 0, relies"},
		{&operation.CloneRequest{Name: "new"}, []change{apart}, "async, moves 100, needs 40, relies"},
		{&operation.CloneRequest{Name: "new", Reflink: "never"}, nil, "async, moves 100, needs 40, relies"},
		{&operation.CloneRequest{Name: "new", Size: 150}, nil, "async, moves 150, needs 40, or shares, relies"},
		{&operation.CloneRequest{Name: "new", Size: 150}, []change{promised}, "async, moves 150, needs 150, or shares, relies"},
		{&operation.CloneRequest{Name: "new", Sparse: true}, []change{promised}, "async, moves 100, needs 40, or shares, relies"},
		{&operation.CloneRequest{Name: "new"}, []change{qcow2}, "async, moves 0, needs 40, or shares, relies"},
		{&operation.CloneRequest{Name: "new", Size: 1024}, []change{qcow2}, "async, moves 1024, needs 40, relies"},
		{&operation.CloneRequest{Name: "new", Format: "qcow2"}, nil, "async, moves 512, needs 40, relies"},
		{&operation.CloneRequest{Name: "new", Options: map[string]string{"preallocation": "full"}}, nil, "async, moves 100, needs 100, relies"},
		{&operation.CloneRequest{Name: "new"}, []change{qcow2, relative}, "async, moves 512, needs 40, relies"},
		{&operation.CloneRequest{Name: "new", Linked: true}, nil, "normal, moves 0, needs 0, relies"},
		{&operation.CloneRequest{Name: "new", Linked: true, Secret: "s"}, []change{encrypted}, "normal, moves 0, needs 0, relies"},
		{&operation.CloneRequest{Name: "new", Format: "luks", Secret: "s"}, nil, "async, moves 512, needs 512, relies"},
		{&operation.CloneRequest{Name: "new", Size: 1024, Secret: "s"}, []change{encrypted, qcow2}, "async, moves 1024, needs 40, relies"},
		{&operation.UploadRequest{Create: &operation.CreateRequest{Name: "new", Format: "luks", Secret: "s"}, Length: n(600), Data: stream}, nil, "async, moves 0, at its own pace, needs 1024"},
		{&operation.ResizeRequest{Capacity: 1024}, []change{luks}, "async, moves 924, needs 924, relies"},
		{&operation.ResizeRequest{Capacity: 150}, nil, "normal, moves 0, needs 0, relies"},
		{&operation.ResizeRequest{Capacity: 150, Allocate: true, Shrink: true}, nil, "async, moves 50, needs 50, relies"},
		{&operation.ResizeRequest{Capacity: 50, Shrink: true}, nil, "normal, moves 0, needs 0, destroys, displaces, relies"},
		{&operation.WipeRequest{}, nil, "async, moves 100, destroys, displaces, wipes"},
		{&operation.WipeRequest{Algorithm: "random"}, nil, "async, moves 100, fills all, destroys, displaces, wipes"},
		{&operation.WipeRequest{Algorithm: "random"}, []change{qcow2}, "async, moves 100, destroys, displaces, wipes"},
		{&operation.WipeRequest{Algorithm: "random", Content: true}, []change{qcow2}, "async, moves 100, destroys, displaces"},
		{&operation.ResizeRequest{Capacity: 512, Allocate: true}, []change{qcow2}, "async, moves 412, needs 412, relies"},
		{&operation.ResizeRequest{Capacity: 512}, []change{qed}, "normal, moves 0, needs 0, relies"},
		{&operation.UploadRequest{As: record.AsRaw, Length: n(60), Data: stream}, []change{qcow2}, "async, moves 60, at its own pace, fills 60, destroys, displaces"},
		{&operation.DownloadRequest{As: record.AsRaw}, []change{qcow2, split}, "async, moves 100, at its own pace, relies"},
		{&operation.CheckRequest{}, []change{qcow2}, "async, moves 0"},
		{&operation.CheckRequest{Repair: "leaks"}, []change{qcow2}, "async, moves 0"},
		{&operation.TrimRequest{}, nil, "async, moves 100, relies"},
		{&operation.TrimRequest{GiveUpAllocation: true}, []change{promised}, "async, moves 100, relies"},
		{&operation.TrimRequest{}, []change{promised, dense}, "async, moves 100, relies"},
		{&operation.RekeyRequest{Secret: "next"}, []change{luks}, "normal, moves 0, relies"},
		{&operation.RekeyRequest{OpenedBy: "next"}, []change{qcow2}, "normal, moves 0, relies"},
		{&operation.DeleteRequest{}, []change{split}, "normal, moves 0, destroys, displaces"},
		{&operation.DeleteRequest{Wipe: "random"}, nil, "async, moves 0, fills all, destroys, displaces, wipes"},
		{&operation.UploadRequest{Length: n(60), Data: stream}, nil, "async, moves 60, at its own pace, fills 60, destroys, displaces"},
		{&operation.UploadRequest{Length: n(60), Data: stream, DetectZeros: true}, nil, "async, moves 60, at its own pace, destroys, displaces"},
		{&operation.UploadRequest{Offset: 30, Data: stream}, nil, "async, moves 70, at its own pace, destroys, displaces"},
		{&operation.DownloadRequest{}, nil, "async, moves 100, at its own pace, relies"},
		{&operation.DownloadRequest{Offset: 95, Length: n(5)}, nil, "async, moves 5, at its own pace, relies"},
		{&operation.VerifyRequest{}, nil, "async, moves 100, relies"},
		{&operation.MoveRequest{Pool: "fast"}, nil, "async, moves 40, needs 40, displaces"},
		{&operation.MoveRequest{Pool: "fast"}, []change{promised}, "async, moves 100, needs 100, displaces"},
		{&operation.MoveRequest{Name: "new"}, []change{near}, "async, moves 0, needs 0, displaces"},
		{&operation.FlattenRequest{}, []change{qcow2, stands}, "async, moves 100, needs 30, relies"},
		{&operation.RebaseRequest{Backing: "base"}, []change{qcow2, stands}, "async, moves 100, needs 30, relies"},
		{&operation.RebaseRequest{Backing: "base", Unsafe: true}, []change{qcow2, stands, away, relative}, "normal, moves 0, needs 0, relies"},
		{&operation.SnapshotCreateRequest{Name: "was"}, nil, "normal, moves 0, needs 65536, relies"},
		{&operation.SnapshotCreateRequest{Name: "was"}, []change{qcow2, encrypted}, "normal, moves 0, needs 2359296, relies"},
		{onSnapshot(&operation.SnapshotRestoreRequest{}), []change{frozen}, "normal, moves 0, needs 65536, destroys, displaces"},
		{onSnapshot(&operation.SnapshotDeleteRequest{}), []change{frozen}, "normal, moves 0, needs 0, or shares, destroys, displaces"},
		{onSnapshot(&operation.SnapshotDeleteRequest{}), []change{overlaid}, "async, moves 30, needs 30, or shares, destroys, displaces"},
		{&operation.SnapshotCloneRequest{CloneRequest: operation.CloneRequest{Name: "new"}}, nil, "async, moves 100, needs 40, or shares, relies"},
		{&operation.PoolBuildRequest{}, []change{inactive}, "async, moves 0"},
		{&operation.PoolBuildRequest{Overwrite: true}, []change{inactive}, "async, moves 0, destroys"},
		{&operation.PoolStartRequest{}, []change{inactive}, "normal, moves 0"},
		{&operation.PoolStopRequest{}, nil, "normal, moves 0"},
		{&operation.PoolRefreshRequest{}, nil, "normal, moves 0"},
		{&operation.PoolVerifyRequest{}, nil, "async, moves 110, at its own pace"},
		{&operation.PoolDeleteRequest{}, []change{inactive, empty}, "normal, moves 0, destroys"},
		{&operation.PoolDeleteRequest{WithVolumes: true}, []change{inactive}, "normal, moves 0, destroys, displaces"},
		{&operation.PoolDeleteRequest{WithVolumes: true}, []change{inactive, empty, onDevice, own}, "normal, moves 0, destroys"},
		{&operation.EvacuateRequest{To: "fast"}, nil, "async, moves 110, at its own pace, needs 50, displaces"},
		{&operation.EvacuateRequest{To: "fast"}, []change{near}, "async, moves 110, at its own pace, needs 0, displaces"},
		{&operation.EvacuateRequest{To: "fast", Only: "i*", KeepSource: true}, []change{near}, "async, moves 10, at its own pace, needs 10, or shares"},
		{&operation.EvacuateRequest{To: "fast", Only: "i*", KeepSource: true}, []change{apart}, "async, moves 10, at its own pace, needs 10"},
	} {
		k := changed(c.changes)
		o, stage, err := planned(c.request, k)
		if err != nil {
			t.Errorf("%T%+v: %s: %v", c.request, c.request, stage, err)
			continue
		}
		seen[o.Kind()] = true
		if kind := operation.KindOf(c.request); o.Kind() != kind {
			t.Errorf("%T is planned as %s, not %s", c.request, o.Kind(), kind)
		}
		if got := answers(o); got != c.want {
			t.Errorf("%s of %+v: %s; not %s", o.Kind(), c.request, got, c.want)
		}
	}
	for _, kind := range operation.Kinds() {
		if !seen[kind] {
			t.Errorf("no case of %s", kind)
		}
	}
}

// luks has the volume encrypted.
func luks(k *operation.Known) { k.Volume.Format, k.Volume.Secret = "luks", "disks" }

func empty(k *operation.Known) {
	k.Volumes = func(string) ([]record.Volume, error) { return nil, nil }
}

func odd(k *operation.Known)      { k.Pool.Ignored = 1 }
func onDevice(k *operation.Known) { k.Pool.Source.Devices = []string{"/dev/sdb"} }
func auto(k *operation.Known) {
	onDevice(k)
	k.Pool.Type, k.Pool.Source.Format, k.Pool.Target.Path = "fs", "auto", "/srv/i"
	k.Can.Builds = []record.Building{{Format: "xfs"}, {Format: "ext4"}}
}

// What is refused for want of a format is told by which commands the pool gets one.
func TestPoolGetsAFormatByCommandsThatExist(t *testing.T) {
	k := changed([]change{inactive, auto})
	_, _, err := planned(&operation.PoolBuildRequest{}, k)
	e, ok := errors.AsType[*record.Error](err)
	want := "storagedctl pool undefine images, then storagedctl pool create images --type fs --source-dev /dev/sdb --source-format ext4 --target /srv/i --build makes it"
	if !ok || !strings.HasPrefix(e.Hint.Words(record.Call.CommandLine), want) {
		t.Errorf("%v: %s", err, e.Hint.Words(record.Call.CommandLine))
	}
	k.Pool.Source.Format = "xfs"
	if _, _, err := planned(&operation.PoolBuildRequest{}, k); err != nil {
		t.Error(err)
	}
}

func own(k *operation.Known) { k.Own = true }
func thousands(k *operation.Known) {
	k.Volumes = func(string) ([]record.Volume, error) { return make([]record.Volume, 5001), nil }
}

// What goes with a pool is named before, and to the helper, which takes no other.
func TestDeleteOfAPoolNamesWhatGoes(t *testing.T) {
	for _, c := range []struct {
		changes []change
		says    string // "": nothing
		argv    []string
	}{
		{[]change{inactive}, `2 volumes go with the pool, 50 B allocated, and their snapshots: "vm", "iso"`, []string{"--with-volumes", "--volume=vm", "--volume=iso"}},
		{[]change{inactive, empty}, "", nil},
		{[]change{inactive, empty, odd}, "the pool holds 1 name that is no volume: that keeps", nil},
		{[]change{inactive, odd}, "2 volumes go with the pool, 50 B allocated, and their snapshots: \"vm\", \"iso\"\nthe pool holds 1 name that is no volume", []string{"--with-volumes", "--volume=vm", "--volume=iso"}},
	} {
		k := changed(c.changes)
		o, _, err := planned(&operation.PoolDeleteRequest{WithVolumes: true}, k)
		if err != nil {
			t.Fatal(err)
		}
		said := o.(operation.Warning).Warnings(record.Volume{})
		if text := strings.Join(said, "\n"); !strings.HasPrefix(text, c.says) || c.says == "" && text != "" {
			t.Errorf("it says %q, not %q", said, c.says)
		}
		got := slices.DeleteFunc(o.Task().Argv(), func(word string) bool { return !strings.Contains(word, "volume") })
		if !slices.Equal(got, c.argv) {
			t.Errorf("it is told %q, not %q", got, c.argv)
		}
	}
}

// planned is an operation on its way to the grant, or where it is refused.
func planned(r operation.Request, k operation.Known) (o operation.Operation, stage string, err error) {
	r.Fill()
	if err := r.Check(); err != nil {
		return nil, "check", err
	}
	if o, err = r.Plan(k); err != nil {
		return nil, "plan", err
	}
	return o, "allowed", o.Allowed(k)
}

// What can be seen without the catalog is refused by Check, what is seen now only by
// Plan, and what may be otherwise when the job begins by Allowed.
func TestEachStageRefusesWhatItCanSee(t *testing.T) {
	stream := operation.Data{Form: operation.RawForm, Dense: true}
	create := func(change func(*operation.CreateRequest)) operation.Request {
		r := &operation.CreateRequest{Name: "new", Capacity: 100}
		change(r)
		return r
	}
	filled := func(r operation.UploadRequest, change func(*operation.CreateRequest)) operation.Request {
		r.Create = &operation.CreateRequest{Name: "new"}
		change(r.Create)
		return &r
	}
	for _, c := range []struct {
		request operation.Request
		changes []change
		stage   string
		code    record.Code
		text    string
	}{
		{create(func(r *operation.CreateRequest) { r.Name = "a/b" }), nil, "check", record.Invalid, `field "name"`},
		{create(func(r *operation.CreateRequest) { r.Capacity = 0 }), nil, "check", record.Invalid, "capacity must be more than 0"},
		{create(func(r *operation.CreateRequest) { r.Allocation = &operation.Allocation{Bytes: 101} }), nil, "check", record.Invalid, "more than the capacity"},
		{create(func(r *operation.CreateRequest) { r.Backing = "a/b/c" }), nil, "check", record.Invalid, `field "backing"`},
		{create(func(r *operation.CreateRequest) { r.Backing = "images/vm" }), nil, "check", record.Unsupported, "format raw cannot stand on another"},
		{create(func(r *operation.CreateRequest) {
			r.Backing, r.Format, r.Allocation = "images/vm", "qcow2", &operation.Allocation{Full: true}
		}), nil, "check", record.Invalid, "nothing can be reserved"},
		{create(func(r *operation.CreateRequest) { r.Backing, r.Format = "images/gone", "qcow2" }), nil, "plan", record.NotFound, `"gone"`},
		{create(func(r *operation.CreateRequest) { r.Backing, r.Format = "images/vm", "qcow2" }), []change{broken}, "plan", record.Unsupported, "no volume"},
		{create(func(r *operation.CreateRequest) { r.From = "/x" }), nil, "check", record.Unsupported, "opens nothing for its clients"},
		{create(func(r *operation.CreateRequest) { r.Options = map[string]string{"a": "b"} }), nil, "check", record.Invalid, "no option \"a\"; it has \"preallocation\""},
		{create(func(r *operation.CreateRequest) {
			r.Format, r.Options = "qcow2", map[string]string{"cluster_size": "5000"}
		}), nil, "check", record.Invalid, "a power of two from 512 B to 2.00 MiB"},
		{create(func(r *operation.CreateRequest) {
			r.Format, r.Options = "qcow2", map[string]string{"compat": "0.10", "lazy_refcounts": "on"}
		}), nil, "check", record.Invalid, "needs compat=1.1"},
		{create(func(r *operation.CreateRequest) {
			r.Format, r.Options = "qcow2", map[string]string{"cluster_size": "4K", "extended_l2": "on"}
		}), nil, "check", record.Invalid, "needs clusters of 16.0 KiB"},
		{create(func(r *operation.CreateRequest) {
			r.Format, r.Options = "qcow2", map[string]string{"compression": "zstd"}
		}), nil, "check", record.Invalid, "an empty volume has none"},
		{create(func(r *operation.CreateRequest) { r.Format, r.Allocation = "vmdk", &operation.Allocation{Full: true} }), nil, "check", record.Unsupported, "cannot have all reserved"},
		{create(func(r *operation.CreateRequest) { r.Format, r.Allocation = "vdi", &operation.Allocation{Bytes: 50} }), nil, "check", record.Unsupported, "no part can be reserved"},
		{create(func(r *operation.CreateRequest) {
			r.Format, r.Allocation, r.Options = "vpc", &operation.Allocation{Full: true}, map[string]string{"subformat": "dynamic"}
		}), nil, "check", record.Invalid, "exclude each other"},
		{create(func(r *operation.CreateRequest) { r.Limit = n(0) }), nil, "check", record.Invalid, `field "limit"`},
		{create(func(r *operation.CreateRequest) { r.Format = "qed" }), nil, "plan", record.Unsupported, "cannot be made in pool"},
		{&operation.CloneRequest{}, nil, "check", record.Invalid, `field "name"`},
		{&operation.CloneRequest{Name: "new", Pool: "a/b"}, nil, "check", record.Invalid, `field "pool"`},
		{&operation.CloneRequest{Name: "new", Linked: true, Sparse: true}, nil, "check", record.Invalid, "no content of its own"},
		{&operation.CloneRequest{Name: "new", Linked: true, Format: "vmdk"}, nil, "plan", record.Unsupported, "vmdk cannot stand on another"},
		{&operation.CloneRequest{Name: "new", Linked: true, Options: map[string]string{"preallocation": "full"}}, nil, "plan", record.Invalid, "has no content yet"},
		{&operation.CloneRequest{Name: "new", Linked: true}, []change{broken}, "plan", record.Unsupported, "no volume"},
		{&operation.CloneRequest{Name: "new", Linked: true}, []change{encrypted}, "plan", record.Unsupported, "would not be"},
		{&operation.CloneRequest{Name: "new", Size: 40 << 20}, []change{encrypted, qcow2}, "plan", record.Invalid, "would be in clear"},
		{&operation.CloneRequest{Name: "new", Format: "qcow2", Options: map[string]string{"cluster_size": "4K"}}, []change{encrypted, qcow2}, "plan", record.Invalid, "would be in clear"},
		{&operation.CloneRequest{Name: "new", Format: "qcow2", Size: 40 << 20}, []change{encrypted, qcow2}, "plan", record.Invalid, "would be in clear"},
		{&operation.CloneRequest{Name: "new", Format: "qcow2", Options: map[string]string{"compression": "zlib"}}, []change{encrypted, qcow2}, "plan", record.Invalid, "would be in clear"},
		{&operation.CloneRequest{Name: "new", Secret: "s"}, nil, "plan", record.Invalid, "not encrypted"},
		{&operation.CloneRequest{Name: "new", Secret: "a/b", Format: "luks"}, nil, "plan", record.Invalid, "secret"},
		{&operation.CloneRequest{Name: "new", Format: "luks"}, nil, "plan", record.Invalid, "needs a secret"},
		{&operation.CloneRequest{Name: "new", Secret: "s", Format: "qcow2", Options: map[string]string{"compression": "zlib"}}, nil, "plan", record.Unsupported, "is not encrypted"},
		{&operation.CloneRequest{Name: "new"}, []change{qcow2, relative, broken}, "plan", record.Unsupported, "no volume"},
		{&operation.CloneRequest{Name: "new", Format: "vhdx"}, nil, "plan", record.Unsupported, "no program"},
		{&operation.CloneRequest{Name: "new", Format: "qcow2", Reflink: "always"}, nil, "plan", record.Unsupported, "shares no blocks"},
		{&operation.CloneRequest{Name: "new", Sparse: true, Reflink: "always"}, nil, "check", record.Invalid, "exclude each other"},
		{&operation.CloneRequest{Name: "new", Size: -1}, nil, "check", record.Invalid, "negative"},
		{&operation.CloneRequest{Name: "new", Size: 50}, nil, "plan", record.Invalid, "less than the source's capacity"},
		{&operation.CloneRequest{Name: "new"}, []change{split}, "allowed", record.Unsupported, "would share with it"},
		{&operation.CloneRequest{Name: "new"}, []change{relative}, "allowed", record.Unsupported, "would not find from pool"},
		{&operation.ResizeRequest{}, nil, "check", record.Invalid, `field "capacity"`},
		{&operation.FlattenRequest{}, nil, "plan", record.Unsupported, "nothing to flatten"},
		{&operation.FlattenRequest{}, []change{vdi, relative}, "plan", record.Unsupported, "cannot be changed in place"},
		{&operation.CloneRequest{Name: "new", Reflink: "always"}, []change{apart}, "plan", record.Unsupported, "different file systems"},
		{&operation.FlattenRequest{}, []change{qcow2, stands, split}, "plan", record.Unsupported, "data.raw"},
		{&operation.RebaseRequest{}, nil, "check", record.Invalid, `field "backing"`},
		{&operation.RebaseRequest{Backing: "a/b/c"}, nil, "check", record.Invalid, `field "backing"`},
		{&operation.RebaseRequest{Backing: "vm"}, []change{qcow2, stands}, "allowed", record.Invalid, "stand on itself"},
		{&operation.RebaseRequest{Backing: "vm", Unsafe: true}, []change{qcow2, stands}, "allowed", record.Invalid, "stand on itself"},
		{&operation.RebaseRequest{Backing: "base"}, []change{qcow2, stands, away}, "plan", record.Unsupported, "no volume of a pool"},
		{&operation.RebaseRequest{Backing: "base", Unsafe: true}, []change{qcow2, stands, away}, "allowed", record.WrongState, "stands on nothing"},
		{&operation.RebaseRequest{Backing: "base", Unsafe: true}, []change{qcow2, stands, away, relative, smaller}, "allowed", record.Invalid, "less than what it is to be the rest of"},
		{&operation.RebaseRequest{Backing: "base", Unsafe: true}, []change{qcow2, stands, relative, torn}, "allowed", record.Unsupported, "its tables"},
		{&operation.RebaseRequest{Backing: "base", Unsafe: true}, nil, "plan", record.Unsupported, "cannot be changed in place"},
		{&operation.SnapshotCreateRequest{Name: "a/b"}, nil, "check", record.Invalid, `field "name"`},
		{&operation.SnapshotCreateRequest{Name: "a@b"}, nil, "plan", record.Invalid, "contains an @"},
		{&operation.SnapshotCreateRequest{Name: strings.Repeat("x", 250)}, nil, "plan", record.Invalid, "of 263 bytes"},
		{&operation.SnapshotCreateRequest{Name: "was"}, []change{frozen}, "allowed", record.Exists, "already"},
		{&operation.SnapshotCreateRequest{Name: "was"}, []change{named}, "allowed", record.Exists, "is a volume already"},
		{&operation.SnapshotCreateRequest{Name: "was"}, []change{split}, "allowed", record.Unsupported, "would share with it"},
		{onSnapshot(&operation.SnapshotRestoreRequest{}), nil, "allowed", record.NotFound, "no snapshot"},
		{onSnapshot(&operation.SnapshotDeleteRequest{}), nil, "allowed", record.NotFound, "no snapshot"},
		{&operation.DeleteRequest{}, []change{frozen}, "allowed", record.HasChildren, "has snapshots"},
		{&operation.DeleteRequest{WithSnapshots: true, Wipe: "zero"}, []change{frozen}, "check", record.Unsupported, "are not wiped"},
		{&operation.DeleteRequest{WithSnapshots: true}, []change{frozen, snapshotMore}, "allowed", record.Changed, "had not when"},
		{onSnapshot(&operation.SnapshotDeleteRequest{}), []change{overlaid, broken}, "plan", record.Unsupported, "no volume"},
		{&operation.WipeRequest{}, []change{frozen}, "allowed", record.HasChildren, "has snapshots"},
		{&operation.MoveRequest{Name: "new"}, []change{frozen}, "allowed", record.HasChildren, "has snapshots"},
		{&operation.ResizeRequest{Capacity: 150}, []change{vdi}, "plan", record.Unsupported, "cannot be made larger"},
		{&operation.ResizeRequest{Capacity: 150, Allocate: true}, []change{qed}, "plan", record.Unsupported, "cannot be allocated"},
		{&operation.ResizeRequest{Capacity: 50, Shrink: true}, []change{qed}, "plan", record.Unsupported, "cannot be made smaller"},
		{&operation.ResizeRequest{Capacity: 150}, []change{qed}, "plan", record.Invalid, "multiples of 512"},
		{&operation.VerifyRequest{As: "qcow2"}, nil, "check", record.Invalid, "raw, file"},
		{&operation.DownloadRequest{As: "content"}, nil, "check", record.Invalid, "raw, file"},
		{&operation.UploadRequest{As: record.AsRaw, AsFormat: "vmdk"}, []change{qcow2}, "plan", record.Invalid, "raw bytes"},
		{&operation.UploadRequest{As: record.AsRaw, Length: n(101)}, []change{qcow2}, "plan", record.TooLarge, "ends before the content"},
		{&operation.WipeRequest{Algorithm: "random", Content: true}, []change{away, qcow2}, "plan", record.Unsupported, "no volume of a pool"},
		{&operation.UploadRequest{As: record.AsRaw}, []change{qcow2, split}, "allowed", record.Unsupported, "is not written to"},
		{&operation.ResizeRequest{Capacity: 512}, []change{qcow2, split}, "allowed", record.Unsupported, "is not written to"},
		{&operation.CheckRequest{Repair: "leaks"}, []change{qcow2, split}, "allowed", record.Unsupported, "is not written to"},
		{&operation.TrimRequest{}, []change{qcow2, split}, "allowed", record.Unsupported, "is not written to"},
		{&operation.WipeRequest{Content: true}, []change{qcow2, split}, "allowed", record.Unsupported, "is not written to"},
		{filled(operation.UploadRequest{As: record.AsRaw}, func(*operation.CreateRequest) {}), nil, "check", record.Invalid, "a volume that is there"},
		{&operation.DownloadRequest{As: record.AsRaw}, []change{away, qcow2}, "plan", record.Unsupported, "no volume of a pool"},
		{&operation.ResizeRequest{Capacity: 50}, nil, "plan", record.Invalid, "would be lost"},
		{&operation.ResizeRequest{Capacity: 50, Shrink: true, Allocate: true}, nil, "plan", record.Invalid, "nothing is added"},
		{&operation.WipeRequest{Algorithm: "gutmann"}, nil, "plan", record.Unsupported, "they can by \"zero\""},
		{&operation.WipeRequest{}, []change{split}, "allowed", record.Unsupported, "would leave as it is"},
		{&operation.TrimRequest{}, []change{promised}, "allowed", record.WrongState, "is to have"},
		{&operation.CreateRequest{Name: "n", Capacity: 1, Format: "luks"}, nil, "check", record.Invalid, "needs a secret"},
		{&operation.CreateRequest{Name: "n", Capacity: 1, Secret: "disks"}, nil, "check", record.Invalid, "not encrypted"},
		{&operation.CreateRequest{Name: "n", Capacity: 1, Format: "luks", Secret: "a/b"}, nil, "check", record.Invalid, "secret"},
		{&operation.CreateRequest{Name: "n", Capacity: 1, Format: "luks", Secret: "disks", Options: map[string]string{"iter-time": "0"}}, nil, "check", record.Invalid, "from 1 to 60000 ms"},
		{&operation.CreateRequest{Name: "n", Capacity: 1, Format: "luks", Secret: "disks", Options: map[string]string{"iter-time": "5", "iter_time": "5"}}, nil, "check", record.Invalid, "given twice"},
		{&operation.CreateRequest{Name: "n", Capacity: 1, Format: "qcow2", Options: map[string]string{"encrypt.cipher-alg": "aes-128"}}, nil, "check", record.Invalid, "cipher_alg of format qcow2 is for a volume that is encrypted"},
		{&operation.CreateRequest{Name: "n", Capacity: 1, Format: "qcow2", Secret: "disks", Options: map[string]string{"cipher_alg": "rot13"}}, nil, "check", record.Invalid, "option cipher_alg of format qcow2 is one of aes-"},
		{&operation.CreateRequest{Name: "n", Capacity: 1, Format: "qcow2", Secret: "disks", Options: map[string]string{"compression": "zstd"}}, nil, "check", record.Invalid, "an empty volume has none"},
		{&operation.CreateRequest{Name: "n", Capacity: 1, Format: "luks", Secret: "disks"}, []change{rawOnly}, "plan", record.Unsupported, "cannot be made"},
		{&operation.RekeyRequest{}, []change{luks}, "check", record.Invalid, "one of"},
		{&operation.RekeyRequest{Secret: "next", Add: "more"}, []change{luks}, "check", record.Invalid, "one of"},
		{&operation.RekeyRequest{Add: "a/b"}, []change{luks}, "check", record.Invalid, "add"},
		{&operation.RekeyRequest{OpenedBy: "s", Add: "t"}, []change{luks}, "check", record.Invalid, "one of"},
		{&operation.RekeyRequest{OpenedBy: "s"}, nil, "allowed", record.Unsupported, "no keys"},
		{&operation.RekeyRequest{Add: "more", IterTime: 60001}, []change{luks}, "check", record.Invalid, "iter_time"},
		{&operation.RekeyRequest{Secret: "disks"}, []change{luks}, "plan", record.Invalid, "already"},
		{&operation.RekeyRequest{Remove: "disks"}, []change{luks}, "plan", record.Invalid, "is what opens"},
		{&operation.RekeyRequest{Remove: "old"}, nil, "allowed", record.Unsupported, "no keys"},
		{&operation.RekeyRequest{Remove: "old"}, []change{qcow2}, "allowed", record.WrongState, "nobody knows"},
		{&operation.DeleteRequest{AcceptLimits: true}, nil, "check", record.Invalid, "about a wipe"},
		{&operation.DeleteRequest{Wipe: "gutmann"}, nil, "plan", record.Unsupported, "they can by \"zero\""},
		{&operation.DeleteRequest{Wipe: "zero"}, []change{split}, "allowed", record.Unsupported, "would leave as it is"},
		{&operation.UploadRequest{Offset: -1}, nil, "check", record.Invalid, "offset"},
		{&operation.UploadRequest{Length: n(0)}, nil, "check", record.Invalid, "empty"},
		{&operation.UploadRequest{Beginning: "crc32c:00000000"}, nil, "check", record.Invalid, "beginning"},
		{&operation.UploadRequest{Checksum: "md5"}, nil, "check", record.Invalid, "md5"},
		{&operation.UploadRequest{AsFormat: "tape"}, nil, "check", record.Invalid, "as_format"},
		{&operation.UploadRequest{}, []change{iso}, "plan", record.Unsupported, "uploading into volumes"},
		{&operation.UploadRequest{Offset: 1}, []change{qcow2}, "plan", record.Unsupported, "replaced by another as a whole"},
		{&operation.UploadRequest{Length: n(101)}, nil, "plan", record.TooLarge, "ends before the content"},
		{&operation.UploadRequest{Offset: 101}, nil, "plan", record.TooLarge, "ends before the content"},
		{filled(operation.UploadRequest{Offset: 1}, func(*operation.CreateRequest) {}), nil, "check", record.Invalid, "a whole content"},
		{filled(operation.UploadRequest{}, func(r *operation.CreateRequest) { r.Capacity = -1 }), nil, "check", record.Invalid, "negative"},
		{filled(operation.UploadRequest{}, func(r *operation.CreateRequest) { r.Capacity, r.Format = 1, "qcow2" }), nil, "check", record.Invalid, "in its header"},
		{filled(operation.UploadRequest{}, func(r *operation.CreateRequest) { r.Allocation = &operation.Allocation{Full: true} }), nil, "check", record.Invalid, "needs a capacity"},
		{filled(operation.UploadRequest{Length: n(2)}, func(r *operation.CreateRequest) { r.Capacity = 1 }), nil, "check", record.TooLarge, "is to have"},
		{filled(operation.UploadRequest{}, func(r *operation.CreateRequest) { r.Name = "" }), nil, "check", record.Invalid, `field "name"`},
		{filled(operation.UploadRequest{FromFormat: "qcow2", AsFormat: "raw"}, func(*operation.CreateRequest) {}), nil, "check", record.Invalid, "only one of them"},
		{filled(operation.UploadRequest{FromFormat: "qcow2", Data: stream}, func(*operation.CreateRequest) {}), nil, "check", record.Unsupported, "cannot be converted from a stream"},
		{filled(operation.UploadRequest{FromFormat: "raw", Data: stream}, func(r *operation.CreateRequest) { r.Format = "qcow2" }), nil, "check", record.Invalid, "needs a capacity"},
		{filled(operation.UploadRequest{}, func(r *operation.CreateRequest) { r.Secret = "s" }), nil, "check", record.Invalid, "not encrypted"},
		{filled(operation.UploadRequest{AsFormat: "luks"}, func(r *operation.CreateRequest) { r.Format, r.Secret = "luks", "s" }), nil, "check", record.Invalid, "only one of them"},
		{filled(operation.UploadRequest{}, func(r *operation.CreateRequest) { r.Format, r.Secret = "luks", "s" }), nil, "check", record.Invalid, "needs a capacity"},
		{filled(operation.UploadRequest{FromFormat: "luks"}, func(*operation.CreateRequest) {}), nil, "check", record.Invalid, "needs a secret"},
		{filled(operation.UploadRequest{FromFormat: "vmdk", FromSecret: "s"}, func(*operation.CreateRequest) {}), nil, "check", record.Invalid, "from_secret opens"},
		{filled(operation.UploadRequest{FromFormat: "luks", FromSecret: "a/b"}, func(*operation.CreateRequest) {}), nil, "check", record.Invalid, "from_secret"},
		{filled(operation.UploadRequest{FromFormat: "tape"}, func(*operation.CreateRequest) {}), nil, "check", record.Invalid, "from_format"},
		{filled(operation.UploadRequest{FromFormat: "qcow2", Unpack: "xz"}, func(*operation.CreateRequest) {}), nil, "check", record.Unsupported, "packed"},
		{filled(operation.UploadRequest{}, func(r *operation.CreateRequest) { r.Format, r.Options = "qcow2", map[string]string{"compat": "1.1"} }), nil, "check", record.Invalid, "put as it is"},
		{filled(operation.UploadRequest{Length: n(600), FromFormat: "raw"}, func(r *operation.CreateRequest) { r.Format = "qed" }), nil, "plan", record.Unsupported, "cannot be made"},
		{&operation.UploadRequest{FromFormat: "qcow2"}, nil, "check", record.Invalid, "for a new volume"},
		{&operation.UploadRequest{Unpack: "bzip2"}, nil, "check", record.Invalid, "unpack"},
		{&operation.UploadRequest{Unpack: "xz", Length: n(5)}, nil, "check", record.Invalid, "taken whole"},
		{&operation.DownloadRequest{Offset: 101}, nil, "plan", record.RangeUnsat, "ends before"},
		{&operation.DownloadRequest{Offset: 95, Length: n(6)}, nil, "plan", record.RangeUnsat, "ends before"},
		{&operation.DownloadRequest{}, []change{split}, "allowed", record.Unsupported, "would leave out"},
		{&operation.VerifyRequest{Checksum: "md5"}, nil, "check", record.Invalid, `field "checksum"`},
		{&operation.MoveRequest{Name: "a/b"}, nil, "check", record.Invalid, `field "name"`},
		{&operation.MoveRequest{Pool: "fast"}, []change{relative}, "allowed", record.Unsupported, "would not find from pool"},
		{&operation.PoolBuildRequest{}, nil, "allowed", record.WrongState, `pool "images" is active`},
		{&operation.PoolBuildRequest{}, []change{inactive, auto}, "allowed", record.Invalid, `source format "auto", in which no storage is made: it can be one of "xfs", "ext4"`},
		{&operation.PoolStartRequest{}, nil, "allowed", record.WrongState, "is active already"},
		{&operation.PoolStopRequest{}, []change{inactive}, "allowed", record.WrongState, "is not active"},
		{&operation.PoolRefreshRequest{}, []change{inactive}, "allowed", record.WrongState, "is not active"},
		{&operation.PoolVerifyRequest{}, []change{inactive}, "allowed", record.WrongState, "is not active"},
		{&operation.PoolDeleteRequest{WithVolumes: true}, nil, "allowed", record.WrongState, `pool "images" is active`},
		{&operation.PoolDeleteRequest{}, []change{inactive}, "plan", record.HasChildren, `pool "images" holds 2 volumes: `},
		{&operation.PoolDeleteRequest{}, []change{inactive, empty, onDevice}, "allowed", record.WrongState, "was never started or built"},
		{&operation.PoolDeleteRequest{WithVolumes: true}, []change{inactive, thousands}, "plan", record.TooLarge, "5001 volumes and snapshots"},
		{&operation.PoolDeleteRequest{}, nil, "plan", record.HasChildren, "is active and holds 2 volumes"},
		{&operation.EvacuateRequest{}, nil, "check", record.Invalid, `field "to"`},
		{&operation.EvacuateRequest{To: "fast", Only: "["}, nil, "check", record.Invalid, `field "only"`},
		{&operation.EvacuateRequest{To: "fast", OnError: "cry"}, nil, "check", record.Invalid, "on_error"},
		{&operation.EvacuateRequest{To: "fast"}, []change{inactive}, "plan", record.WrongState, "is not active"},
		{&operation.EvacuateRequest{To: "images"}, []change{toItself}, "plan", record.Invalid, "to itself"},
		{&operation.EvacuateRequest{To: "fast", Only: "x*"}, nil, "plan", record.NotFound, "no volume of pool"},
		{&operation.EvacuateRequest{To: "fast"}, []change{crowded}, "plan", record.TooLarge, "one job moves 1000 at most"},
	} {
		_, stage, err := planned(c.request, changed(c.changes))
		if stage != c.stage || record.CodeOf(err) != c.code || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%T%+v is refused by %s as %q: %v; not by %s as %q: …%s…", c.request, c.request, stage, record.CodeOf(err), err, c.stage, c.code, c.text)
		}
	}
}

// What is refused for want of a length says how it is given.
func TestAContentWithoutALengthNeedsASize(t *testing.T) {
	r := operation.UploadRequest{FromFormat: "raw", Unpack: "gzip", Create: &operation.CreateRequest{Name: "a", Format: "qcow2"}}
	e, ok := errors.AsType[*record.Error](r.Check())
	if !ok || !strings.Contains(e.Hint.Words(record.Call.CommandLine), "storagedctl vol create POOL/NAME SIZE") {
		t.Errorf("%v", e)
	}
}

func apart(k *operation.Known) { k.Apart = true }

func toItself(k *operation.Known) { k.Into = operation.Target(k.On) }

func crowded(k *operation.Known) {
	k.Volumes = func(string) ([]record.Volume, error) { return make([]record.Volume, 1001), nil }
}
