package disk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/blockdev"
	"storaged/internal/diskio"
)

// volume is an open partition.
type volume struct {
	*device.Volume
	pool backends.Pool
}

var (
	_ backends.Taken   = (*volume)(nil)
	_ backends.Resizer = (*volume)(nil)
	_ backends.Sharer  = (*volume)(nil)
)

// ask has something done to the pool's disk.
func ask(ctx context.Context, p backends.Pool, do string, args ...string) (*volume, error) {
	v, err := device.Ask(ctx, Backend{}, p, backends.Errand{Do: do, Args: args})
	if err != nil {
		return nil, err
	}
	return &volume{v, p}, nil
}

// Open opens a volume.
func (b Backend) Open(ctx context.Context, p backends.Pool, name string, a backends.Access) (backends.Volume, error) {
	v, err := b.open(ctx, p, name, a)
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (b Backend) open(ctx context.Context, p backends.Pool, name string, a backends.Access) (*volume, error) {
	if err := b.CheckNameIn(p, name); err != nil {
		return nil, err
	}
	return ask(ctx, p, doOpen, name, device.Word(a))
}

// Take opens a volume that is to leave its name.
func (b Backend) Take(ctx context.Context, p backends.Pool, name string) (backends.Taken, error) {
	v, err := b.open(ctx, p, name, backends.WriteExclusive)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// Look reads the table, and what the volume begins with.
func (b Backend) Look(ctx context.Context, p backends.Pool, name string) (backends.VolumeInfo, error) {
	if err := b.CheckNameIn(p, name); err != nil {
		return backends.VolumeInfo{}, err
	}
	return device.Look(ctx, b, p, backends.Errand{Do: doPeek, Args: []string{name}})
}

// identity is how a volume is known after a crash.
type identity struct {
	ID backends.Identity `json:"id"`
	// Device tells the partition from a later one at the same place, which in a table of DOS
	// has the same identity: the inode of what sysfs says of it is another's then.
	Device  uint64 `json:"device,omitempty"`
	Written string `json:"written,omitempty"` // device.Written
}

func (id identity) bytes() []byte {
	b, err := json.Marshal(id)
	if err != nil {
		panic("internal error: " + err.Error()) // numbers and text
	}
	return b
}

func identityIn(b []byte) (id identity, err error) {
	if len(b) == 0 {
		return id, nil
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return id, fmt.Errorf("cannot read the identity of a volume: %w", err)
	}
	return id, (Backend{}).CheckIdentity(id.ID)
}

// identity is that of the volume as it is now.
func (v *volume) identity() (id identity, err error) {
	id.ID = v.ID
	if id.Written, err = device.Written(v.File); err != nil {
		return id, err
	}
	number, err := blockdev.Of(v.File)
	var st unix.Stat_t
	if err == nil {
		err = unix.Stat("/sys/dev/block/"+number, &st)
	}
	id.Device = st.Ino
	return id, err
}

// Identity is what tells it from others, and that nobody has written to it.
func (v *volume) Identity() ([]byte, error) {
	id, err := v.identity()
	if err != nil {
		return nil, fmt.Errorf("volume %q: %w", v.Path, err)
	}
	return id.bytes(), nil
}

// Rename is nothing for partitions: their names are their numbers.
func (v *volume) Rename(context.Context, backends.Pool, string, func(identity []byte) error) error {
	return fmt.Errorf("volume %q keeps its name, which is the partition's number: another one %w", v.Path, backends.ErrElsewhere)
}

// Remove removes the partition, if the name still means it.
func (v *volume) Remove() error {
	if err := v.Close(); err != nil {
		return err
	}
	_, err := ask(context.Background(), v.pool, doDrop, v.Name, string(v.ID)) // it ends by the kernel's own time
	return err
}

// SettleTaken removes the volume that is meant, if nobody has written to it.
func (b Backend) SettleTaken(ctx context.Context, p backends.Pool, name string, taken []byte) error {
	was, err := identityIn(taken)
	if err != nil {
		return err
	}
	v, err := b.open(ctx, p, name, backends.WriteExclusive)
	if _, gone := errors.AsType[*backends.MissingError](err); gone {
		return nil
	}
	if err != nil {
		return err
	}
	defer v.Close()
	now, err := v.identity()
	switch {
	case err != nil:
		return fmt.Errorf("volume %q: %w", v.Path, err)
	case now.ID != was.ID || now.Device != was.Device && now.Written == was.Written:
		return nil // another's
	case now != was:
		return fmt.Errorf("volume %q %w", v.Path, backends.ErrChanged)
	}
	return v.Remove()
}

// Resize changes where the partition ends. What is new is cleared before the table has it.
func (v *volume) Resize(ctx context.Context, p *diskio.Pacer, spec diskio.ResizeSpec) (did diskio.AllocateStats, err error) {
	if spec.Capacity < v.Size && !spec.Shrink {
		return did, fmt.Errorf("a capacity of %d bytes is less than the %d that the volume has", spec.Capacity, v.Size)
	}
	change := func(do string, size int64) error {
		_, err := ask(context.WithoutCancel(ctx), v.pool, do, v.Name, string(v.ID), strconv.FormatInt(size, 10))
		return err
	}
	did = diskio.AllocateStats{Method: diskio.MethodNone, Kept: true}
	if spec.Capacity > v.Size {
		if err := change(doExtend, spec.Capacity); err != nil {
			return did, err
		}
		if did, err = diskio.Clear(ctx, p, v.Content(), v.Size); err != nil {
			return did, errors.Join(err, change(doExtend, v.Size))
		}
	}
	if err := change(doResize, spec.Capacity); err != nil {
		return did, err
	}
	size, err := v.Content().Size()
	v.Size, v.Capacity, v.Allocation, did.Allocated = size, size, size, size
	return did, err
}
