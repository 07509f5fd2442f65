package operation_test

import (
	"errors"
	"slices"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
)

// Who is refused something is told what can be done instead, and that is not refused.
func TestRefusalsNameAWay(t *testing.T) {
	compressed := map[string]string{"compression": "zlib"}
	for _, c := range []struct {
		request operation.Request
		changes []change
		want    string
	}{
		{&operation.CloneRequest{Name: "new", Size: 1024}, []change{luks, relative}, "secret=disks encrypts the copy too; format=raw, without options, makes one that is not encrypted"},
		{&operation.CloneRequest{Name: "new", Size: 1024}, []change{qcow2, encrypted}, "secret=s encrypts the copy too; format=raw, without options, makes one that is not encrypted"},
		{&operation.CloneRequest{Name: "new", Options: compressed}, []change{qcow2, encrypted}, "format=raw, without options, makes one that is not encrypted"},
		{&operation.CloneRequest{Name: "new", Options: map[string]string{"cipher_alg": "aes-128"}}, []change{luks}, "secret=disks encrypts the copy too; format=raw, without options, makes one that is not encrypted"},
		{&operation.CloneRequest{Name: "new", Format: "qcow2", Options: map[string]string{"cluster_size": "4K"}}, []change{qcow2, encrypted}, "secret=s encrypts the copy too; format=raw, without options, makes one that is not encrypted"},
		{&operation.CloneRequest{Name: "new", Format: "qcow2"}, []change{qcow2, relative, onSealed}, "secret=SECRET encrypts the copy too; format=raw, without options, makes one that is not encrypted"},
		{&operation.FlattenRequest{}, []change{qcow2, onSealed}, "volume clone images/vm POOL/NAME format=qcow2 secret=SECRET makes a volume of its content that is encrypted, and needs no other"},
		{&operation.RebaseRequest{Backing: "vm"}, []change{qcow2, onSealed}, "volume clone images/vm POOL/NAME format=qcow2 secret=SECRET makes a volume of its content that is encrypted, and needs no other"},
		{&operation.CloneRequest{Name: "new", Linked: true}, []change{qcow2, onSealed}, "a new volume that stands on it needs a secret: secret=SECRET"},
		{&operation.CreateRequest{Name: "new", Format: "qcow2", Backing: "vm"}, []change{qcow2, onSealed}, "a new volume that stands on it needs a secret: volume create POOL/NAME backing=vm format=qcow2 secret=SECRET"},
		{&operation.CloneRequest{Name: "new", Reflink: "always"}, []change{apart}, "reflink=auto copies the volume; linked has the new one stand on it"},
		{&operation.CloneRequest{Name: "new", Size: 50}, nil, "clone it as it is, then cut the clone: volume resize fast/new 50 shrink"},
		{&operation.CloneRequest{Name: "new", Format: "vmdk", Secret: "s"}, nil, "format=luks or format=qcow2"},
		{&operation.FlattenRequest{}, []change{vdi, relative}, "volume clone images/vm POOL/NAME format=qcow2 makes a volume of its content that needs no other file"},
		{&operation.RebaseRequest{Backing: "base"}, nil, "volume clone images/vm POOL/NAME format=qcow2 makes a volume of its content that needs no other file"},
		{&operation.RekeyRequest{Secret: "disks"}, []change{luks}, "volume rekey images/vm opened_by=disks tries whether it does"},
		{&operation.RekeyRequest{Add: "disks"}, nil, "volume clone images/vm POOL/NAME format=luks secret=NAME makes a copy that is encrypted"},
		{&operation.RekeyRequest{}, []change{luks}, "secret=NAME, add=NAME, remove=NAME, or opened_by=NAME"},
		{&operation.ResizeRequest{Capacity: 1000}, []change{qcow2}, "the next one is 1024"},
		{&operation.ResizeRequest{Capacity: 1024}, []change{vdi}, "volume clone images/vm POOL/NAME format=qcow2 makes a copy in which it can"},
		{&operation.CheckRequest{}, nil, "volume verify images/vm reads all of its content"},
		{&operation.SnapshotCreateRequest{Name: "was"}, []change{frozen}, "choose another name; snapshot delete images/vm@was deletes that one"},
	} {
		_, _, err := planned(c.request, changed(c.changes))
		refusal, ok := errors.AsType[*record.Error](err)
		if !ok || refusal.Hint.String() != c.want {
			t.Errorf("%T%+v: %v, with %q; not %q", c.request, c.request, err, refusal.Hint, c.want)
		}
	}
}

// unit has the volume be another than the rest is of.
func unit(k *operation.Known) { k.Volume.Name = "unit" }

// onSealed has the volume stand on one that is encrypted, and be in clear itself.
func onSealed(k *operation.Known) {
	below := []operation.Layer{{Volume: operation.Volume{Pool: "images", Name: "middle"}}, {Volume: operation.Volume{Pool: "images", Name: "sealed"}, Secret: "s"}}
	k.Chain = func() (operation.Chain, error) {
		return operation.Chain{Of: operation.ChainOfVolume, Layers: below}, nil
	}
	k.Under = func(pool, volume string) (operation.Chain, error) {
		return operation.Chain{Of: operation.ChainOfNew, Layers: append([]operation.Layer{{Volume: operation.Volume{Pool: pool, Name: volume}}}, below...)}, nil
	}
}

// snapshotOnBase has the volume stand on a base, as its snapshot does.
func snapshotOnBase(k *operation.Known) {
	k.Volume.Snapshots = []string{"old", "was"}
	k.Under = func(pool, volume string) (operation.Chain, error) {
		on := []operation.Layer{{Volume: operation.Volume{Pool: pool, Name: volume}}}
		if volume == ".vm@was.storaged" {
			on = append(on, operation.Layer{Volume: operation.Volume{Pool: pool, Name: ".vm@old.storaged"}})
		}
		return operation.Chain{Layers: append(on, operation.Layer{Volume: operation.Volume{Pool: "fast", Name: "base"}})}, nil
	}
}

// alone has the snapshots of the volume stand on each other only.
func alone(k *operation.Known) {
	k.Volume.Snapshots = []string{"was"}
	k.Under = func(pool, volume string) (operation.Chain, error) {
		return operation.Chain{Layers: []operation.Layer{{Volume: operation.Volume{Pool: pool, Name: volume}}}}, nil
	}
}

// What comes out otherwise than one would think is said before.
func TestJobsWarnOfWhatComesOutOtherwise(t *testing.T) {
	rounds := "a volume in format qcow2 consists of sectors of 512 bytes: its capacity will be 1.00 KiB, and not 1000 B"
	thousand := func(k *operation.Known) { k.Volume.Capacity = 1000 }
	for _, c := range []struct {
		request operation.Request
		changes []change
		want    []string
	}{
		{&operation.CloneRequest{Name: "new", Format: "qcow2"}, []change{thousand}, []string{rounds}},
		{&operation.CloneRequest{Name: "new", Linked: true}, []change{thousand}, []string{rounds}},
		{&operation.CloneRequest{Name: "new", Format: "qcow2", Size: 1024}, []change{thousand}, nil},
		{&operation.CloneRequest{Name: "new"}, []change{thousand}, nil},
		{&operation.CreateRequest{Name: "new", Format: "qcow2", Capacity: 1000}, nil, []string{rounds}},
		{&operation.CloneRequest{Name: "new", Format: "raw"}, []change{qcow2, encrypted}, []string{`volume "images/vm" is encrypted, and its copy is not`}},
		{&operation.CloneRequest{Name: "new", Format: "raw"}, []change{qcow2, onSealed}, []string{`volume "images/sealed" is encrypted, and its copy is not`}},
		{&operation.CloneRequest{Name: "new", Format: "qcow2", Size: 1024, Secret: "s"}, []change{qcow2, onSealed}, nil},
		{&operation.CloneRequest{Name: "new", Format: "qcow2"}, []change{qcow2, encrypted}, nil}, // its file is copied
		{&operation.DownloadRequest{As: record.AsRaw}, []change{qcow2, encrypted}, []string{`volume "images/vm" is encrypted, and what is downloaded is not`}},
		{&operation.UploadRequest{Source: "images/vm"}, []change{onSealed, unit}, []string{`volume "images/sealed" is encrypted, and what is written of it over volume "images/unit" is not`}},
		{&operation.DownloadRequest{As: record.AsFile}, []change{qcow2, encrypted}, nil},
		{&operation.UploadRequest{Create: &operation.CreateRequest{Name: "new", Format: "qcow2", Capacity: 1024}, FromFormat: "luks", FromSecret: "s", Data: operation.Data{Form: operation.FileForm}}, nil, []string{"the content is encrypted, and the new volume is not"}},
		{&operation.CreateRequest{Name: "new", Format: "qcow2", Capacity: 1024}, nil, nil},
		{&operation.UploadRequest{Create: &operation.CreateRequest{Name: "new", Format: "qcow2"}, FromFormat: "raw", Length: n(1000)}, nil, []string{rounds}},
		{&operation.UploadRequest{Create: &operation.CreateRequest{Name: "new"}, Length: n(1000)}, nil, nil},
		{&operation.FlattenRequest{}, []change{qcow2, stands, snapshotOnBase}, []string{
			`snapshot "images/vm@old" stands on volume "fast/base" still, which has to stay until the snapshot is deleted: storagedctl vol snapshot delete images/vm@old`,
			`snapshot "images/vm@was" stands on volume "fast/base" still, which has to stay until the snapshot is deleted: storagedctl vol snapshot delete images/vm@was`,
		}},
		{&operation.FlattenRequest{}, []change{qcow2, stands, alone}, nil},
		{&operation.FlattenRequest{}, []change{qcow2, stands, frozen, broken, stillStands}, nil},
	} {
		k := changed(c.changes)
		o, stage, err := planned(c.request, k)
		if err != nil {
			t.Errorf("%T%+v: %s: %v", c.request, c.request, stage, err)
			continue
		}
		if got := o.(operation.Warning).Warnings(k.Volume); !slices.Equal(got, c.want) {
			t.Errorf("%T%+v warns %q, not %q", c.request, c.request, got, c.want)
		}
	}
}

// stillStands has the volume stand on another one, whatever becomes of its snapshots.
func stillStands(k *operation.Known) {
	k.Chain = func() (operation.Chain, error) { return operation.Chain{Of: operation.ChainOfVolume}, nil }
}
