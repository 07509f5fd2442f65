// Package task has what a storage-helper can do, one file a kind: each makes a task
// of the fields of an operation, which package helper runs.
package task

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/backends/all"
	"storaged/internal/helper"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Deputizes does the work of a helper's deputy, if it is what this process was started as.
func Deputizes(args []string) (was bool) { return helper.Deputizes(args, all.Lookup) }

// Tasked is an operation, or its settlement: what a helper's task is made of.
type Tasked interface{ Task() operation.Task }

// afterCancel says what a cancel leaves of a new volume.
func afterCancel(keep bool, at helper.Location) string {
	if keep {
		return fmt.Sprintf("what is written of %q is kept; it is not complete", at.Path)
	}
	return fmt.Sprintf("%q is not made", at.Path)
}

// needed refuses a task without a flag that must be there.
func needed(o Tasked, flag string, given bool) error {
	if given {
		return nil
	}
	name := o.Task().Name
	return record.Errorf(record.Invalid, "%q needs --%s", helper.Program+" "+name, flag).
		WithHint("%s %s --help", helper.Program, name)
}

// volume finds the volume of a flag.
func volume(o Tasked, flag string, v operation.Volume) (helper.Location, error) {
	if err := needed(o, flag, v.Path != ""); err != nil {
		return helper.Location{}, err
	}
	at, err := locate(v)
	if err == nil {
		at.ID, err = identity(at.Pool.Backend, v.ID)
	}
	return at, err
}

// checkName refuses what is neither the name of a volume nor that of a snapshot's file.
func checkName(b backends.Backend, name string) error {
	if _, _, snapshot := record.ParseSnapshot(name); snapshot {
		return nil
	}
	if err := b.CheckName(name); err != nil {
		return record.Errorf(record.Invalid, "%s", err)
	}
	return nil
}

// ends finds the volume of --source and that of --target.
func ends(o Tasked, source operation.Volume, target operation.Target) (from, to helper.Location, err error) {
	if from, err = volume(o, "source", source); err == nil {
		to, err = volume(o, "target", operation.Volume(target))
	}
	return from, to, err
}

// identity reads which object is meant; without it any will do.
func identity(b backends.Backend, text string) (backends.Identity, error) {
	id := backends.Identity(text)
	if err := b.CheckIdentity(id); err != nil {
		return "", record.Errorf(record.Invalid, "%s", err)
	}
	return id, nil
}

// bound is what a flag says, or else what its absence means.
func bound(bytes *int64, absent int64) int64 {
	if bytes == nil {
		return absent
	}
	return *bytes
}

// poolOf finds the pool of a flag.
func poolOf(o Tasked, flag string, v operation.Volume) (*helper.Pool, error) {
	if err := needed(o, flag, v.Path != ""); err != nil {
		return nil, err
	}
	backend, err := driver(v.Type)
	if err != nil {
		return nil, err
	}
	path, err := absolute(v.Path)
	if err != nil {
		return nil, err
	}
	return poolAt(backend, v, path)
}

// locate finds the volume of a path.
func locate(v operation.Volume) (helper.Location, error) {
	backend, err := driver(v.Type)
	if err != nil {
		return helper.Location{}, err
	}
	if strings.HasSuffix(v.Path, "/") {
		return helper.Location{}, record.Errorf(record.Invalid, "%q is no path of a volume: it ends with a slash", v.Path)
	}
	target, name := backend.Parse(v.Path)
	if err := checkName(backend, name); err != nil {
		return helper.Location{}, err
	}
	target, err = absolute(target)
	if err == nil && target == "/" {
		err = record.Errorf(record.Invalid, "%q is no path of a volume: it lies in the root directory, which is never a pool", v.Path)
	}
	if err != nil {
		return helper.Location{}, err
	}
	pool, err := poolAt(backend, v, target)
	if err != nil {
		return helper.Location{}, err
	}
	return pool.At(name), nil
}

// driver finds that of a pool type.
func driver(poolType string) (backends.Backend, error) {
	b, err := all.Lookup(poolType)
	if err != nil {
		return nil, record.Errorf(record.Unsupported, "%s", err)
	}
	return b, nil
}

// poolAt is the pool that a volume is in, or is about.
func poolAt(b backends.Backend, v operation.Volume, target string) (*helper.Pool, error) {
	id, err := identity(b, v.PoolID)
	return &helper.Pool{Pool: backends.Pool{Type: v.Type, Target: target, Source: v.PoolSource, ID: id}, Backend: b}, err
}

// absolute is the path seen from the root, clean.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("cannot tell the directory of %q: %w", path, err)
	}
	return abs, nil
}

// length is the size of what a person is asked about, as far as it can be
// seen.
func length(path string) string {
	st, err := os.Lstat(path)
	if err != nil {
		return "size not known"
	}
	return quantity.FormatBytes(st.Size())
}

// sizeOf is how much there is to read of a volume, for the plan.
func sizeOf(v backends.Volume) (int64, error) {
	info, err := v.Info()
	return info.Size, err
}
