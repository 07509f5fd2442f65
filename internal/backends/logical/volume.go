package logical

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/backends/deputy"
	"storaged/internal/backends/device"
	"storaged/internal/backends/header"
	"storaged/internal/diskio"
	"storaged/internal/record"
)

// device reports whether it is one that anybody may use: pools of thin volumes and of
// the like are none.
func (v *logicalVolume) device() bool { return strings.IndexByte("-oOsSVrRmMCwiI", v.kind) >= 0 }

// ignored says why it is no volume, "" if it is one.
func (v *logicalVolume) ignored() string {
	if !v.device() {
		text := "it holds other volumes, or is a part of one"
		if v.filled >= 0 {
			text += fmt.Sprintf("; %.1f %% of its data are taken, and %.1f %% of its metadata", v.filled, max(v.tables, 0))
		}
		return text
	}
	if err := (Backend{}).CheckName(v.name); err != nil && !record.Reserved(v.name) {
		return err.Error()
	}
	return ""
}

func (v *logicalVolume) info(p backends.Pool) backends.VolumeInfo {
	at := Backend{}.Locate(p, v.name)
	info := backends.VolumeInfo{
		Name: v.name, Path: at.Path, Key: string(v.uuid), Type: at.Type, ID: v.uuid,
		Capacity: v.size, Size: v.size, Allocation: v.size, Extents: v.lies,
	}
	if v.kind == thinVolume && v.filled >= 0 {
		info.Allocation = int64(float64(v.size) * v.filled / 100)
	}
	return info
}

// look tells what a volume is, and what it begins with.
func (v *logicalVolume) look(ctx context.Context, p backends.Pool, in *header.Reader) backends.VolumeInfo {
	info := v.info(p)
	if info.Ignored = v.ignored(); info.Ignored != "" {
		info.Name = record.Escape(v.name)
		return info
	}
	if f, err := v.file(ctx, p, lookAt); err == nil { // else it is a volume all the same
		_ = in.Read(f, &info)
		info.Permissions = device.Rights(f)
		f.Close() // nothing was written
	}
	return info
}

// file has the device opened.
func (v *logicalVolume) file(ctx context.Context, p backends.Pool, way string) (*os.File, error) {
	a, err := deputy.Do(ctx, Backend{}, p, backends.Errand{Do: doOpen, Args: []string{way, string(v.uuid), v.name}})
	return a.File, err
}

// remove has the volume removed, which nobody has open.
func (v *logicalVolume) remove(ctx context.Context, p backends.Pool) error {
	_, err := deputy.Do(ctx, Backend{}, p, backends.Errand{Do: doRemove, Args: []string{string(v.uuid), v.name}})
	if err != nil {
		return fmt.Errorf("cannot remove volume %q: %w", Backend{}.Locate(p, v.name).Path, err)
	}
	return nil
}

// Look asks LVM.
func (Backend) Look(ctx context.Context, p backends.Pool, name string) (backends.VolumeInfo, error) {
	_, v, err := volumeOf(ctx, p, name)
	if err != nil {
		return backends.VolumeInfo{}, err
	}
	return v.look(ctx, p, header.NewReader()), nil
}

// volumeOf finds the volume of a name, a *backends.MissingError if there is none.
func volumeOf(ctx context.Context, p backends.Pool, name string) (g group, v *logicalVolume, err error) {
	if g, err = enter(ctx, p, name); err != nil {
		return g, nil, err
	}
	if v = g.find(name); v == nil {
		return g, nil, &backends.MissingError{Path: Backend{}.Locate(p, name).Path}
	}
	return g, v, nil
}

// volume is an open volume.
type volume struct {
	pool backends.Pool
	logicalVolume
	file *os.File
}

var (
	_ backends.Volume  = (*volume)(nil)
	_ backends.Taken   = (*volume)(nil)
	_ backends.Resizer = (*volume)(nil)
	_ backends.Sharer  = (*volume)(nil)
	_ backends.Filler  = (*volume)(nil)
)

// Open opens a volume. One is not written to where that would change, or fill, what others
// have.
func (Backend) Open(ctx context.Context, p backends.Pool, name string, a backends.Access) (backends.Volume, error) {
	g, v, err := volumeOf(ctx, p, name)
	if err == nil && a != backends.ReadShared {
		err = g.writable(p, v)
	}
	if err != nil {
		return nil, err
	}
	return v.opened(ctx, p, a)
}

// Take opens a volume that is to leave its name. One that has snapshots has to stay.
func (Backend) Take(ctx context.Context, p backends.Pool, name string) (backends.Taken, error) {
	g, v, err := volumeOf(ctx, p, name)
	if err == nil {
		err = g.without(p, v)
	}
	if err != nil {
		return nil, err
	}
	return v.opened(ctx, p, backends.WriteExclusive)
}

func (v *logicalVolume) opened(ctx context.Context, p backends.Pool, a backends.Access) (*volume, error) {
	path := Backend{}.Locate(p, v.name).Path
	switch {
	case !v.device():
		return nil, record.Errorf(record.WrongState, "%q is no volume: %s", path, v.ignored())
	case !v.active:
		return nil, record.Errorf(record.WrongState, "volume %q is not active", path).WithHint("start its pool, or lvchange --activate y %s", path)
	}
	f, err := v.file(ctx, p, ways[a])
	if err != nil {
		return nil, err
	}
	return &volume{pool: p, logicalVolume: *v, file: f}, nil
}

func (v *volume) path() string { return Backend{}.Locate(v.pool, v.name).Path }

// node is for the words of errors.
func (v *volume) node() device.Node { return device.Node{Path: v.path()} }

func (v *volume) Content() diskio.Content { return v.content() }

func (v *volume) Info() (backends.VolumeInfo, error) {
	info := v.info(v.pool)
	info.Permissions = device.Rights(v.file)
	return info, nil
}

// Is compares uuids.
func (v *volume) Is(id backends.Identity) error {
	if (Backend{}).Same(id, v.uuid) {
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

// Identity is the uuid, and what was written.
func (v *volume) Identity() ([]byte, error) {
	written, err := device.Written(v.file)
	if err != nil {
		return nil, fmt.Errorf("volume %q: %w", v.path(), err)
	}
	return encode(identity{UUID: v.uuid, Written: written}), nil
}

// identity is how a volume is known after a crash.
type identity struct {
	UUID     backends.Identity `json:"uuid"`
	Written  string            `json:"written,omitempty"`
	Replaces backends.Identity `json:"replaces,omitempty"` // which volume of the name
}

func encode(id identity) []byte {
	b, err := json.Marshal(id)
	if err != nil {
		panic("internal error: " + err.Error()) // text
	}
	return b
}

func decode(b []byte) (id identity, err error) {
	if len(b) == 0 {
		return id, nil
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return id, fmt.Errorf("cannot read the identity of a volume: %w", err)
	}
	return id, nil
}

// Remove removes the volume, if the name still means it.
func (v *volume) Remove() error {
	if err := v.Close(); err != nil {
		return err
	}
	return v.remove(context.Background(), v.pool) // it ends by LVM's own time
}

// Rename is LVM's, within a group.
func (v *volume) Rename(ctx context.Context, to backends.Pool, name string, record func(identity []byte) error) error {
	if to.Type != v.pool.Type || groupOf(to) != groupOf(v.pool) {
		return fmt.Errorf("pool %q %w", to.Target, backends.ErrElsewhere)
	}
	id, err := v.Identity()
	if err != nil {
		return err
	}
	return v.rename(ctx, name, id, record)
}

// rename gives the volume a name that is free.
func (v *volume) rename(ctx context.Context, name string, id []byte, record func(identity []byte) error) error {
	g, err := enter(ctx, v.pool, name)
	if err == nil && g.find(name) != nil {
		err = taken(v.pool, name)
	}
	if err == nil {
		err = record(id)
	}
	if err != nil {
		return err
	}
	if err := v.becomes(context.WithoutCancel(ctx), v.pool, name); err != nil {
		return fmt.Errorf("cannot rename volume %q to %q: %w", v.path(), name, err)
	}
	return nil
}

// becomes has LVM give the volume another name.
func (v *logicalVolume) becomes(ctx context.Context, p backends.Pool, name string) error {
	_, err := deputy.Do(ctx, Backend{}, p, backends.Errand{Do: doRename, Args: []string{string(v.uuid), v.name, name}})
	if err == nil {
		v.name = name
	}
	return err
}

// SettleTaken removes the volume that is meant, if nobody has written to it.
func (Backend) SettleTaken(ctx context.Context, p backends.Pool, name string, taken []byte) error {
	was, err := decode(taken)
	if err != nil {
		return err
	}
	g, err := enter(ctx, p, name)
	if err != nil {
		return err
	}
	v := g.find(name)
	if v == nil || v.uuid != was.UUID {
		return nil
	}
	open, err := v.opened(ctx, p, backends.WriteExclusive)
	if err != nil {
		return err
	}
	defer open.Close()
	written, err := device.Written(open.file)
	if err != nil {
		return err
	}
	if written != was.Written {
		return fmt.Errorf("volume %q %w", open.path(), backends.ErrChanged)
	}
	return open.Remove()
}
