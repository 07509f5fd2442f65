package backendtest_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/backendtest"
	"storaged/internal/backends/header"
	"storaged/internal/diskio"
	"storaged/internal/image"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

func TestMain(m *testing.M) { backendtest.Main(m, loopDisk{}) }

// The contract is not that of directories: here a pool is a disk, and a volume a
// part of it of a fixed size.
func TestContractOfBlockVolumes(t *testing.T) {
	testenv.Loop(t)
	testenv.Tool(t, "addpart") // and delpart
	backendtest.Run(t, backendtest.Suite{New: func(t *testing.T) (backends.Backend, backends.Pool) {
		file := filepath.Join(t.TempDir(), "disk")
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 64<<20)); err != nil {
			t.Fatal(err)
		}
		device, _ := testenv.Attach(t, file)
		t.Cleanup(func() {
			parts, _ := filepath.Glob(device + "p*") // the pattern is good
			for _, node := range parts {
				if out, err := exec.Command("delpart", device, strings.TrimPrefix(node, device+"p")).CombinedOutput(); err != nil {
					t.Errorf("delpart: %v\n%s", err, out)
				}
			}
		})
		return loopDisk{}, backends.Pool{Type: "loopdisk", Target: filepath.Join(t.TempDir(), "pool"), Source: record.Source{Devices: []string{device}}}
	}})
}

// loopDisk is a driver. What there is on a disk it keeps in a table of its own,
// for one like that of GPT has no room for names such as people give. A part
// becomes a device when the pool is started, which gets a link by the volume's
// name in the pool's target. A draft is a part with the mark of its job.
type loopDisk struct{}

var (
	_ backends.Builder = loopDisk{}
	_ backends.Deleter = loopDisk{}
	_ backends.Creator = loopDisk{}
	_ backends.Taker   = loopDisk{}
)

func (loopDisk) Properties() record.Capabilities {
	return record.Capabilities{
		Type: "loopdisk", PoolVerbs: []string{"build", "start", "stop", "refresh", "delete"},
		VolVerbs: []string{"create", "move", "delete"}, Formats: []string{record.FormatRaw}, Needs: []string{"target_path", "source_devices"},
	}
}

func (loopDisk) CheckIdentity(id backends.Identity) error {
	if id == "" {
		return nil
	}
	return uuid.Validate(string(id))
}

func (d loopDisk) Same(known, found backends.Identity) bool {
	return d.CheckIdentity(known) == nil && (known == "" || known == found)
}

func (loopDisk) Lasting(id backends.Identity) backends.Identity { return id }

func (loopDisk) Together(a, b backends.Identity) bool { return a != "" && a == b }

var fit = regexp.MustCompile(`^[A-Za-z0-9_.+-]+$`)

func (loopDisk) CheckName(name string) error {
	err := record.CheckName(name)
	if err == nil && !fit.MatchString(name) {
		err = fmt.Errorf("bad name %q: only letters, digits and _ . + -", name)
	}
	return err
}

func (loopDisk) Locate(p backends.Pool, name string) backends.Location {
	return backends.Location{Path: filepath.Join(p.Target, name), Type: "block"}
}

func (loopDisk) LocateDraft(backends.Pool, string) string { return "" }

func (loopDisk) Parse(path string) (target, name string) {
	return filepath.Dir(path), filepath.Base(path)
}

func (loopDisk) Build(ctx context.Context, p backends.Pool, overwrite bool) error {
	return withDisk(ctx, p, func(d *disk) error {
		if d.there() && !overwrite {
			return fmt.Errorf("disk %q %w", d.Name(), backends.ErrExists)
		}
		d.table = table{ID: backends.Identity(uuid.NewString()), Turn: d.Turn}
		return d.save()
	})
}

func (loopDisk) Delete(ctx context.Context, p backends.Pool, withVolumes bool) error {
	err := withPool(ctx, p, func(d *disk) error {
		if len(d.Parts) > 0 && !withVolumes || slices.ContainsFunc(d.Parts, func(x part) bool { return x.Job != "" }) {
			return fmt.Errorf("disk %q %w: %d parts", d.Name(), backends.ErrNotEmpty, len(d.Parts))
		}
		var names []string
		for _, x := range d.Parts {
			names = append(names, x.Name)
		}
		if err := p.Unlisted(names); err != nil {
			return err
		}
		if err := d.stop(); err != nil {
			return err
		}
		d.table = table{Turn: d.Turn}
		return d.save()
	})
	if p.ID == "" && errors.Is(err, backends.ErrNotFound) {
		return nil
	}
	return err
}

func (loopDisk) Start(ctx context.Context, p backends.Pool) error {
	return withPool(ctx, p, func(d *disk) error {
		err := os.MkdirAll(p.Target, 0o755)
		for i := range d.Parts {
			err = errors.Join(err, d.appear(&d.Parts[i]))
		}
		return err
	})
}

func (loopDisk) Stop(ctx context.Context, p backends.Pool) error {
	return withPool(ctx, p, func(d *disk) error { return d.stop() })
}

func (loopDisk) Refresh(ctx context.Context, p backends.Pool, found func(backends.VolumeInfo) error) (backends.PoolInfo, error) {
	var parts []part
	info, err := loopDisk{}.space(ctx, p, &parts)
	in := header.NewReader()
	for _, x := range parts {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			break
		}
		v := x.info(p)
		if f, wrong := os.Open(v.Path); wrong == nil {
			_ = in.Read(f, &v) // a volume all the same
			f.Close()
		}
		err = found(v)
	}
	return info, err
}

func (loopDisk) Space(ctx context.Context, p backends.Pool) (backends.PoolInfo, error) {
	return loopDisk{}.space(ctx, p, new([]part))
}

func (loopDisk) space(ctx context.Context, p backends.Pool, complete *[]part) (info backends.PoolInfo, err error) {
	err = withPool(ctx, p, func(d *disk) error {
		info = backends.PoolInfo{Path: p.Target, ID: d.ID, Capacity: d.size - tableBytes}
		for _, x := range d.Parts {
			info.Allocation += x.Size
			if x.Job == "" {
				*complete = append(*complete, x)
			}
		}
		info.Available = info.Capacity - info.Allocation
		return nil
	})
	return info, err
}

func (loopDisk) Look(ctx context.Context, p backends.Pool, name string) (info backends.VolumeInfo, err error) {
	err = withVolume(ctx, p, name, func(_ *disk, x *part) error {
		info = x.info(p)
		f, err := os.Open(info.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		return header.NewReader().Read(f, &info)
	})
	return info, err
}

func (loopDisk) Open(ctx context.Context, p backends.Pool, name string, a backends.Access) (backends.Volume, error) {
	return openVolume[backends.Volume](ctx, p, name, a)
}

func (loopDisk) Take(ctx context.Context, p backends.Pool, name string) (backends.Taken, error) {
	return openVolume[backends.Taken](ctx, p, name, backends.WriteExclusive)
}

// openVolume gives the zero T with an error.
func openVolume[T any](ctx context.Context, p backends.Pool, name string, a backends.Access) (opened T, err error) {
	err = withVolume(ctx, p, name, func(d *disk, x *part) error {
		v, err := d.open(x, a)
		if err == nil {
			opened = any(v).(T)
		}
		return err
	})
	return opened, err
}

func (loopDisk) Create(ctx context.Context, p backends.Pool, n backends.NewVolume) (dr backends.Draft, err error) {
	if err := errors.Join(loopDisk{}.CheckName(n.Name), record.CheckJob(n.Job)); err != nil {
		return nil, err
	}
	err = withPool(ctx, p, func(d *disk) error {
		if d.find(n.Name, "") != nil || d.find("", n.Job) != nil {
			return fmt.Errorf("volume %q of job %s %w", n.Name, n.Job, backends.ErrExists)
		}
		x, err := d.carve(n)
		if err != nil {
			return err
		}
		v, err := d.open(x, backends.WriteExclusive)
		if err == nil {
			dr = &draft{volume: v}
		}
		return err
	})
	return dr, err
}

func (loopDisk) Resume(ctx context.Context, p backends.Pool, name, job, left string) (dr backends.Draft, err error) {
	if err := errors.Join(loopDisk{}.CheckName(name), record.CheckJob(job), record.CheckJob(left)); err != nil {
		return nil, err
	}
	err = withPool(ctx, p, func(d *disk) error {
		x := d.find("", left)
		if x == nil {
			return fmt.Errorf("what job %s left: %w", left, backends.ErrNotFound)
		}
		v, err := d.open(x, backends.WriteExclusive)
		if err != nil {
			return err
		}
		if d.find(name, "") != nil {
			return errors.Join(fmt.Errorf("volume %q %w", name, backends.ErrExists), v.drop(d))
		}
		x.Name, x.Job = name, job
		v.part, dr = *x, &draft{volume: v}
		return d.save()
	})
	return dr, err
}

func (loopDisk) Settle(ctx context.Context, p backends.Pool, name, job string, commit []byte) (committed bool, err error) {
	var was identity
	if len(commit) > 0 {
		err = json.Unmarshal(commit, &was)
	}
	if err := errors.Join(err, loopDisk{}.CheckName(name), record.CheckJob(job)); err != nil {
		return false, err
	}
	err = withPool(ctx, p, func(d *disk) error {
		x := d.find(name, "")
		committed = x != nil && x.ID == was.ID
		if x = d.find("", job); x == nil {
			return nil
		}
		v, err := d.open(x, backends.WriteExclusive)
		if err != nil {
			return err
		}
		return v.drop(d)
	})
	return committed, err
}

func (loopDisk) SettleTaken(ctx context.Context, p backends.Pool, name string, taken []byte) error {
	var was identity
	if err := json.Unmarshal(taken, &was); err != nil {
		return err
	}
	err := withVolume(ctx, p, name, func(d *disk, x *part) error {
		if x.ID != was.ID {
			return nil // another's
		}
		v, err := d.open(x, backends.WriteExclusive)
		if err != nil {
			return err
		}
		if now, err := v.identity(); err != nil || now != was {
			return cmp.Or(errors.Join(err, v.Close()), fmt.Errorf("volume %q %w", v.path(), backends.ErrChanged))
		}
		return v.drop(d)
	})
	if _, gone := errors.AsType[*backends.MissingError](err); gone {
		return nil
	}
	return err
}

// identity is how a volume is known after a crash, and what was written to it
// since its host was started.
type identity struct {
	ID      backends.Identity
	Boot    string
	Written string // sectors
}

// volume is the open device of a part.
type volume struct {
	pool backends.Pool
	part
	file *os.File
}

func (v *volume) path() string { return filepath.Join(v.pool.Target, v.Name) }

func (v *volume) Content() diskio.Content { return diskio.FileContent(v.file) }

func (v *volume) Info() (backends.VolumeInfo, error) { return v.info(v.pool), nil }

func (v *volume) Is(id backends.Identity) error {
	if (loopDisk{}).Same(id, v.ID) {
		return nil
	}
	return &backends.AnotherError{Path: v.path()}
}

func (v *volume) Close() error {
	f := v.file
	v.file = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

// drop removes the part, which nobody else has open. No lock is needed between:
// the disk's keeps everybody away.
func (v *volume) drop(d *disk) error {
	if err := v.Close(); err != nil {
		return err
	}
	if err := d.vanish(&v.part); err != nil {
		return err
	}
	d.Parts = slices.DeleteFunc(d.Parts, func(x part) bool { return x.ID == v.ID })
	return d.save()
}

func (v *volume) Remove() error { return withPool(context.Background(), v.pool, v.drop) }

func (v *volume) identity() (identity, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	stat, err2 := os.ReadFile(filepath.Join("/sys/class/block", filepath.Base(v.file.Name()), "stat"))
	if err := errors.Join(err, err2); err != nil {
		return identity{}, err
	}
	return identity{v.ID, string(boot), strings.Fields(string(stat))[6]}, nil
}

func (v *volume) Identity() ([]byte, error) {
	id, err := v.identity()
	b, err2 := json.Marshal(id)
	return b, errors.Join(err, err2)
}

func (v *volume) Rename(ctx context.Context, to backends.Pool, name string, record func(identity []byte) error) error {
	if to.Type != v.pool.Type || !slices.Equal(to.Source.Devices, v.pool.Source.Devices) {
		return fmt.Errorf("pool %q %w", to.Target, backends.ErrElsewhere)
	}
	return v.named(ctx, name, record)
}

// named gives the part its name, or another, and takes the mark off.
func (v *volume) named(ctx context.Context, name string, record func(identity []byte) error) error {
	free := func(d *disk) error {
		if d.find(name, "") != nil {
			return fmt.Errorf("volume %q %w", name, backends.ErrExists)
		}
		return nil
	}
	if err := withPool(ctx, v.pool, free); err != nil {
		return err
	}
	id, err := v.Identity()
	if err == nil {
		err = record(id)
	}
	if err != nil {
		return err
	}
	return withPool(context.WithoutCancel(ctx), v.pool, func(d *disk) error {
		if err := free(d); err != nil {
			return err
		}
		was := v.path()
		x := d.byID(v.ID)
		x.Name, x.Job = name, ""
		if err := d.save(); err != nil {
			return err
		}
		v.part = *x
		_ = os.Remove(was) // of a draft there is none
		return d.appear(x)
	})
}

// draft is a part with its mark.
type draft struct {
	*volume
	err   error
	ended bool
}

func (d *draft) Clean() bool { return false }

func (d *draft) Commit(ctx context.Context, record func(identity []byte) error) error {
	if d.err != nil {
		return d.err
	}
	if d.err = d.file.Sync(); d.err == nil {
		d.err = d.named(ctx, d.Name, record)
	}
	d.ended = d.err == nil
	return d.err
}

func (d *draft) Discard() error {
	if d.file == nil {
		return nil
	}
	if d.ended {
		return fmt.Errorf("volume %q is complete", d.path())
	}
	return d.Remove()
}

// tableBytes is what the table takes at the beginning of the disk: two halves, of
// which the one with the higher turn counts.
const tableBytes = 1 << 20

type table struct {
	ID    backends.Identity // "": there is no pool
	Turn  int
	Parts []part
}

// part is a part of the disk. Sizes are bytes.
type part struct {
	Name        string
	ID          backends.Identity
	Job         string // that makes it; "": it is complete
	Number      int
	Start, Size int64
}

func (x part) end() int64 { return x.Start + x.Size }

func (x part) info(p backends.Pool) backends.VolumeInfo {
	return backends.VolumeInfo{
		Name: x.Name, Path: filepath.Join(p.Target, x.Name), Key: string(x.ID), Type: "block", ID: x.ID,
		Capacity: x.Size, Size: x.Size, Allocation: x.Size,
	}
}

// disk is the open disk, locked, with its table.
type disk struct {
	*os.File
	table
	size   int64
	target string
	pool   backends.Pool
}

// withDisk opens the disk of a pool, and keeps all others away until do returns.
func withDisk(ctx context.Context, p backends.Pool, do func(*disk) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := os.OpenFile(p.Source.Devices[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() // what was changed is durable
	d := &disk{File: f, target: p.Target, pool: p}
	if d.size, err = f.Seek(0, 2); err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	for half := range int64(2) {
		b := make([]byte, tableBytes/2)
		var t table
		if _, wrong := f.ReadAt(b, half*tableBytes/2); wrong != nil {
			return wrong
		}
		if json.Unmarshal([]byte(strings.TrimRight(string(b), "\x00")), &t) == nil && t.Turn > d.Turn {
			d.table = t
		}
	}
	return cmp.Or(err, do(d))
}

// withPool is withDisk for one with a pool, which must be the one that is known.
func withPool(ctx context.Context, p backends.Pool, do func(*disk) error) error {
	return withDisk(ctx, p, func(d *disk) error {
		switch {
		case !d.there() && p.ID == "":
			return fmt.Errorf("pool on %q: %w", d.Name(), backends.ErrNotFound)
		case !d.there():
			return &backends.AwayError{Target: p.Target, Err: fmt.Errorf("there is no pool on %q", d.Name())}
		case !(loopDisk{}).Same(p.ID, d.ID):
			return &backends.AwayError{Target: p.Target, Err: fmt.Errorf("pool on %q %w", d.Name(), backends.ErrReplaced)}
		}
		return do(d)
	})
}

// withVolume is withPool for a complete volume.
func withVolume(ctx context.Context, p backends.Pool, name string, do func(*disk, *part) error) error {
	if err := (loopDisk{}).CheckName(name); err != nil {
		return err
	}
	return withPool(ctx, p, func(d *disk) error {
		x := d.find(name, "")
		if x == nil {
			return &backends.MissingError{Path: filepath.Join(p.Target, name)}
		}
		return do(d, x)
	})
}

func (d *disk) there() bool { return d.ID != "" }

// save writes the table into the other half, durably.
func (d *disk) save() error {
	d.Turn++
	b, err := json.Marshal(d.table)
	if err != nil {
		return err
	}
	_, err = d.WriteAt(append(b, make([]byte, tableBytes/2-len(b))...), int64(d.Turn%2)*tableBytes/2)
	return errors.Join(err, d.Sync())
}

// find gives the complete volume of a name, or what a job makes.
func (d *disk) find(name, job string) *part {
	for i, x := range d.Parts {
		if x.Job == job && (job != "" || x.Name == name) {
			return &d.Parts[i]
		}
	}
	return nil
}

func (d *disk) byID(id backends.Identity) *part {
	return &d.Parts[slices.IndexFunc(d.Parts, func(x part) bool { return x.ID == id })]
}

// carve makes a part with the mark of its job.
func (d *disk) carve(n backends.NewVolume) (*part, error) {
	const unit = 512
	if n.Size < 0 {
		return nil, errors.New("a part needs a size")
	}
	x := part{Name: n.Name, ID: backends.Identity(uuid.NewString()), Job: n.Job, Number: 1, Start: tableBytes, Size: max((n.Size+unit-1)/unit, 1) * unit}
	for _, other := range d.Parts { // in the order of their places
		if x.end() > other.Start {
			x.Start = other.end()
		}
	}
	for slices.ContainsFunc(d.Parts, func(other part) bool { return other.Number == x.Number }) {
		x.Number++
	}
	if x.end() > d.size {
		return nil, unix.ENOSPC
	}
	d.Parts = append(d.Parts, x)
	slices.SortFunc(d.Parts, func(a, b part) int { return cmp.Compare(a.Start, b.Start) })
	return d.byID(x.ID), d.save()
}

func (d *disk) node(x *part) string { return fmt.Sprintf("%sp%d", d.Name(), x.Number) }

// appear makes the device of a part, and its link if it is complete.
func (d *disk) appear(x *part) error {
	if _, err := os.Stat(d.node(x)); err != nil {
		out, err := exec.Command("addpart", d.Name(), fmt.Sprint(x.Number), fmt.Sprint(x.Start/512), fmt.Sprint(x.Size/512)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("addpart: %w: %s", err, out)
		}
	}
	if x.Job != "" {
		return nil
	}
	err := os.Symlink(d.node(x), filepath.Join(d.target, x.Name))
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// vanish is the opposite of appear.
func (d *disk) vanish(x *part) error {
	if _, err := os.Stat(d.node(x)); err == nil {
		out, err := exec.Command("delpart", d.Name(), fmt.Sprint(x.Number)).CombinedOutput()
		if err != nil {
			return &backends.BusyError{Object: d.node(x), Holder: string(out)}
		}
	}
	if x.Job == "" {
		_ = os.Remove(filepath.Join(d.target, x.Name)) // it may be gone
	}
	return nil
}

// stop takes away all devices, or none if one is in use.
func (d *disk) stop() error {
	for i := range d.Parts {
		v, err := d.open(&d.Parts[i], backends.WriteExclusive)
		if err != nil {
			return err
		}
		v.Close() // nothing was written, and nobody comes in: the disk is locked
	}
	for i := range d.Parts {
		if err := d.vanish(&d.Parts[i]); err != nil {
			return err
		}
	}
	return os.RemoveAll(d.target)
}

// open opens a part with the locks of the access.
func (d *disk) open(x *part, a backends.Access) (*volume, error) {
	flags, lock := os.O_RDWR, image.LockExclusive
	if a == backends.ReadShared {
		flags, lock = os.O_RDONLY, image.LockShared
	}
	if err := d.appear(x); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.node(x), flags, 0)
	if err != nil {
		return nil, err
	}
	err = lock(f)
	if used, ok := errors.AsType[*image.InUseError](err); ok {
		err = &backends.BusyError{Object: filepath.Join(d.target, x.Name), Holder: used.Holder, Release: used.Release}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &volume{pool: d.pool, part: *x, file: f}, nil
}
