package disk

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/backends/backendtest"
	"storaged/internal/blockdev"
	"storaged/internal/partition"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

func TestMain(m *testing.M) { backendtest.Main(m, New()) }

// newDevice gives a disk that nobody uses, and takes its partitions away in the end.
func newDevice(t *testing.T, size int64) string {
	t.Helper()
	testenv.Loop(t)
	dir := t.TempDir() // in memory, where what is made durable is so at once
	testenv.MountImage(t, "", dir)
	t.Cleanup(func() { testenv.Unmount(t, dir) })
	file := filepath.Join(dir, "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
	device, _ := testenv.Attach(t, file)
	t.Cleanup(func() {
		node, err := blockdev.OpenNode(device)
		if err != nil {
			t.Error(err)
			return
		}
		defer node.Close()
		d := disk{node: node}
		if err := d.look(); err != nil {
			t.Error(err)
		}
		for number := range d.parts {
			if err := d.vanish(number); err != nil { // udev may look at it still
				t.Error(err)
			}
		}
	})
	return device
}

// poolOf makes pools with tables of a kind.
func poolOf(label string) func(t *testing.T) (backends.Backend, backends.Pool) {
	return func(t *testing.T) (backends.Backend, backends.Pool) {
		device := newDevice(t, 256<<20)
		return New(), backends.Pool{Type: "disk", Target: device, Source: record.Source{Devices: []string{device}, Format: label}}
	}
}

func TestContract(t *testing.T) { contract(t, partition.GPT) }

// It takes its time, and differs in the table alone, which has tests of its own.
func TestContractOfDOS(t *testing.T) {
	testenv.VM(t)
	contract(t, partition.DOS)
}

func contract(t *testing.T, label string) {
	const numbered = "a partition has its number, and so the name, from the beginning to the end"
	backendtest.Run(t, backendtest.Suite{New: poolOf(label), Name: named, Many: 12, Except: map[string]string{
		"commit replaces nothing": numbered, "of several by one name exactly one wins": numbered, "a draft whose name is taken by then": numbered,
		"a volume gets another name": numbered, "a new name replaces nothing": numbered, "keeps its name when the record fails or it is canceled": numbered,
		"a volume is known again": numbered,
	}})
}

// named are the names that volumes of the contract get: the first partitions, and those
// behind them, which in a table of DOS are logical ones.
func named(p backends.Pool, name string) string {
	numbers := map[string]int{"a": 1, "b": 2, "c": 3, "none": 99}
	if n, ok := numbers[name]; ok {
		return nameOf(p, n)
	}
	n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, "vol-"), ".raw"))
	return nameOf(p, 5+n)
}

// started gives a pool that is built and started, and its volumes by their numbers.
func started(t *testing.T, label string) (backends.Pool, func(number int, size int64) *draft) {
	t.Helper()
	b, p := poolOf(label)(t)
	if err := errors.Join(Backend{}.Build(t.Context(), p, false), b.Start(t.Context(), p)); err != nil {
		t.Fatal(err)
	}
	return p, func(number int, size int64) *draft {
		t.Helper()
		d, err := Backend{}.Create(t.Context(), p, backends.NewVolume{Name: nameOf(p, number), Job: "job" + strconv.Itoa(number), Size: size})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() }) // a second time does no harm
		return d.(*draft)
	}
}

func complete(t *testing.T, d *draft) {
	t.Helper()
	if err := errors.Join(d.Commit(t.Context(), func([]byte) error { return nil }), d.Close()); err != nil {
		t.Fatal(err)
	}
}

// A name is that of one number, whoever asks for it first.
func TestOneDraftHasTheName(t *testing.T) {
	p, make := started(t, partition.GPT)
	first := make(1, 1<<20)
	_, err := Backend{}.Create(t.Context(), p, backends.NewVolume{Name: nameOf(p, 1), Job: "another", Size: 1})
	if !errors.Is(err, backends.ErrExists) {
		t.Errorf("a second one: %v", err)
	}
	complete(t, first)
	v, err := Backend{}.Take(t.Context(), p, nameOf(p, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Rename(t.Context(), p, nameOf(p, 2), func([]byte) error { return nil }); !errors.Is(err, backends.ErrElsewhere) {
		t.Errorf("another name: %v", err)
	}
	if err := errors.Join(v.Is(first.ID), v.Is("")); err != nil {
		t.Error(err)
	}
	if err := v.Is("0fc63daf-8483-4772-8e79-3d69d8477de4"); !errors.Is(err, backends.ErrChanged) {
		t.Errorf("another identity: %v", err)
	}
}

// Logical partitions keep their names, and the jobs that make them their numbers.
func TestLogicalPartitionsKeepTheirNumbers(t *testing.T) {
	p, make := started(t, partition.DOS)
	complete(t, make(5, 1<<20))
	six := make(6, 1<<20)
	_, err := Backend{}.Create(t.Context(), p, backends.NewVolume{Name: nameOf(p, 7), Job: "job7", Size: 1})
	if _, busy := errors.AsType[*backends.BusyError](err); !busy {
		t.Errorf("beside a draft: %v", err)
	}
	v, err := Backend{}.Take(t.Context(), p, nameOf(p, 5))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Remove(); record.CodeOf(err) != record.WrongState {
		t.Errorf("one from the middle: %v", err)
	}
	if err := errors.Join(six.Discard(), six.Close()); err != nil {
		t.Fatal(err)
	}
	if v, err = (Backend{}).Take(t.Context(), p, nameOf(p, 5)); err == nil {
		err = v.Remove()
	}
	if err != nil {
		t.Error(err)
	}
}

// A resize that was cut short leaves the size that the table has.
func TestResizeThatWasCutShort(t *testing.T) {
	p, make := started(t, partition.GPT)
	d := make(1, 2<<20)
	complete(t, d)
	if _, err := ask(t.Context(), p, doExtend, d.Name, string(d.ID), "8388608"); err != nil {
		t.Fatal(err)
	}
	v, err := New().Open(t.Context(), p, d.Name, backends.ReadShared)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if size, err := v.Content().Size(); size != 2<<20 || err != nil {
		t.Errorf("it has %d bytes, %v", size, err)
	}
}

// A disk that carries something is not taken for one that is meant.
func TestDisksThatAreRefused(t *testing.T) {
	for what, c := range map[string]struct {
		prepare  func(t *testing.T, p *backends.Pool)
		build    string // what the refusal of a build says, "" where there is none
		start    string
		overlays bool
	}{
		"a file system": {func(t *testing.T, p *backends.Pool) { testenv.Formatted(t, p.Target, "ext4") }, "carries ext4", "no partition table", false},
		"another kind of table": {func(t *testing.T, p *backends.Pool) {
			if err := (Backend{}).Build(t.Context(), *p, false); err != nil {
				t.Fatal(err)
			}
			p.Source.Format = partition.DOS
		}, "carries gpt", "in format \"gpt\"", false},
		"a link": {func(t *testing.T, p *backends.Pool) {
			link := filepath.Join(t.TempDir(), "link")
			if err := errors.Join((Backend{}).Build(t.Context(), *p, false), os.Symlink(p.Target, link)); err != nil {
				t.Fatal(err)
			}
			p.Source.Devices = []string{link}
		}, "is a link", "is a link", true},
		"a partition": {func(t *testing.T, p *backends.Pool) {
			if err := (Backend{}).Build(t.Context(), *p, false); err != nil {
				t.Fatal(err)
			}
			d, err := Backend{}.Create(t.Context(), *p, backends.NewVolume{Name: nameOf(*p, 1), Job: "job", Size: 32 << 20})
			if err != nil {
				t.Fatal(err)
			}
			complete(t, d.(*draft))
			p.Source.Devices = []string{p.Target + "p1"}
		}, "is one itself", "no partition table", true},
		"a mounted partition": {func(t *testing.T, p *backends.Pool) {
			if err := (Backend{}).Build(t.Context(), *p, false); err != nil {
				t.Fatal(err)
			}
			d, err := Backend{}.Create(t.Context(), *p, backends.NewVolume{Name: nameOf(*p, 1), Job: "job", Size: 32 << 20})
			if err != nil {
				t.Fatal(err)
			}
			complete(t, d.(*draft))
			testenv.Formatted(t, p.Target+"p1", "ext4")
			_, unmount := testenv.MountedFrom(t, p.Target+"p1")
			t.Cleanup(unmount)
		}, "mounted at", "", true},
	} {
		t.Run(what, func(t *testing.T) {
			b, p := poolOf(partition.GPT)(t)
			c.prepare(t, &p)
			says := func(what string, err error, want string) {
				t.Helper()
				if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v, which does not say %q", what, err, want)
				}
			}
			says("build", Backend{}.Build(t.Context(), p, c.overlays), c.build)
			says("start", b.Start(t.Context(), p), c.start)
		})
	}
}

// Names follow from how the disk is called.
func TestNamesFollowFromTheDisk(t *testing.T) {
	for device, want := range map[string]string{"/dev/sda": "/dev/sda7", "/dev/nvme0n1": "/dev/nvme0n1p7", "/dev/disk/by-id/wwn-0x5": "/dev/disk/by-id/wwn-0x5-part7"} {
		p := backends.Pool{Target: device, Source: record.Source{Devices: []string{device}}}
		at := New().Locate(p, nameOf(p, 7))
		if target, name := New().Parse(at.Path); at.Path != want || target != device || (Backend{}).CheckNameIn(p, name) != nil {
			t.Errorf("%s: %+v, which leads to %s and %s", device, at, target, name)
		}
		for _, name := range []string{"a", "sdb7", "7", filepath.Base(device), filepath.Base(want) + "/x", filepath.Base(device) + "-part07", "../sda7"} {
			if (Backend{}).CheckNameIn(p, name) == nil {
				t.Errorf("%s: %q can be a volume of it", device, name)
			}
		}
	}
}

// Who asks for nothing that is done to disks gets nothing.
func TestErrands(t *testing.T) {
	p, _ := started(t, partition.GPT)
	for _, e := range []backends.Errand{{Do: "format"}, {Do: doOpen}, {Do: doMake, Args: []string{nameOf(p, 1), "job", "x"}}, {Do: doMake, Args: []string{"sdz1", "job", "1"}}, {Do: doOpen, Args: []string{nameOf(p, 1), "x"}}} {
		if _, err := (Backend{}).Errand(t.Context(), p, e); err == nil {
			t.Errorf("%v was done", e)
		}
	}
}
