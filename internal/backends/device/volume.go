package device

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strconv"

	"storaged/internal/backends"
	"storaged/internal/backends/deputy"
	"storaged/internal/backends/header"
	"storaged/internal/diskio"
	"storaged/internal/image"
)

// Driver is one whose volumes are devices: what it takes to make them reachable a process
// that is confined cannot do.
type Driver interface {
	backends.Backend
	backends.SourceChecker
	backends.Placed
	backends.Privileged
	backends.Readier
	backends.Deputed
}

// Maker is a Driver that makes pools, and volumes in them.
type Maker interface {
	Driver
	backends.Builder
	backends.Deleter
	backends.Creator
	backends.Taker
}

// Seen is what there is of a pool, before anything of its volumes is read.
type Seen struct {
	Pool    backends.PoolInfo
	Volumes []backends.VolumeInfo
}

// Ask has an errand done that is answered by such.
func (s *Seen) Ask(ctx context.Context, d Driver, p backends.Pool, do string) error {
	a, err := deputy.Do(ctx, d, p, backends.Errand{Do: do})
	if err == nil {
		err = json.Unmarshal(a.Text, s)
	}
	return err
}

// Refresh tells of each volume, after it has read what that begins with: the errand opens
// one for it. Those that have gone meanwhile are left out.
func (s Seen) Refresh(ctx context.Context, d Driver, p backends.Pool, peek string, found func(backends.VolumeInfo) error) (backends.PoolInfo, error) {
	in := header.NewReader()
	for _, v := range s.Volumes {
		if err := ctx.Err(); err != nil {
			return backends.PoolInfo{}, context.Cause(ctx)
		}
		if v.Ignored == "" {
			var err error
			if v, err = look(ctx, d, p, backends.Errand{Do: peek, Args: []string{v.Name}}, in); errors.Is(err, backends.ErrNotFound) {
				continue
			} else if err != nil {
				return backends.PoolInfo{}, err
			}
		}
		if err := found(v); err != nil {
			return backends.PoolInfo{}, err
		}
	}
	return s.Pool, nil
}

// Look tells what a volume is by an errand that opens it, and what it begins with.
func Look(ctx context.Context, d Driver, p backends.Pool, e backends.Errand) (backends.VolumeInfo, error) {
	return look(ctx, d, p, e, header.NewReader())
}

func look(ctx context.Context, d Driver, p backends.Pool, e backends.Errand, in *header.Reader) (backends.VolumeInfo, error) {
	v, err := Ask(ctx, d, p, e)
	if err != nil {
		return backends.VolumeInfo{}, err
	}
	defer v.Close()
	if v.File != nil {
		_ = in.Read(v.File, &v.VolumeInfo) // what cannot be read now is a volume all the same
	}
	return v.Info()
}

// Volume is a volume whose device is open.
type Volume struct {
	backends.VolumeInfo
	File *os.File // nil: it was not opened
	of   Driver
}

// Ask has an errand done that is answered by a volume, or by nothing.
func Ask(ctx context.Context, d Driver, p backends.Pool, e backends.Errand) (*Volume, error) {
	a, err := deputy.Do(ctx, d, p, e)
	if err != nil {
		return nil, err
	}
	v := &Volume{File: a.File, of: d}
	if len(a.Text) > 0 {
		err = json.Unmarshal(a.Text, &v.VolumeInfo)
	}
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// Word is an access as the argument of an errand.
func Word(a backends.Access) string { return strconv.Itoa(int(a)) }

// Content is that of the device.
func (v *Volume) Content() diskio.Content { return diskio.FileContent(v.File) }

// Info is what it was when it was opened, and whose its node is.
func (v *Volume) Info() (backends.VolumeInfo, error) {
	info := v.VolumeInfo
	info.Permissions = Rights(v.File)
	return info, nil
}

// Is compares identities.
func (v *Volume) Is(id backends.Identity) error {
	if v.of.Same(id, v.ID) {
		return nil
	}
	return &backends.AnotherError{Path: v.Path}
}

// Close closes the device.
func (v *Volume) Close() error {
	f := v.File
	v.File = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

// ShareGrowth lets others make it larger meanwhile.
func (v *Volume) ShareGrowth() error { return v.busy(image.ShareGrowth(v.File)) }

// KeepSize ends that.
func (v *Volume) KeepSize() error { return v.busy(image.KeepSize(v.File)) }

func (v *Volume) busy(err error) error { return Node{Path: v.Path}.Busy(err) }
