package iscsi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/blockdev"
	"storaged/internal/record"
	"storaged/internal/tool"
)

// Errands, and their arguments.
const (
	doLook = "look" // what the kernel has of the target
	doScan = "scan" // has it look anew, and tells
	doPeek = "peek" // NAME: opens a unit to read what it begins with
	doOpen = "open" // NAME ACCESS
)

// Grants are what a job needs.
func (Backend) Grants(_ backends.Pool, u backends.Use) []backends.Errand {
	may := []backends.Errand{{Do: doLook}, {Do: doScan}}
	if u.Reads {
		may = append(may, backends.Errand{Do: doPeek, Args: []string{u.Name}},
			backends.Errand{Do: doOpen, Args: []string{u.Name, device.Word(backends.ReadShared)}})
	}
	return may
}

// Errand does one.
func (Backend) Errand(ctx context.Context, p backends.Pool, e backends.Errand) (a backends.Answer, err error) {
	arity := map[string]int{doLook: 0, doScan: 0, doPeek: 1, doOpen: 2}
	if n, ok := arity[e.Do]; !ok || n != len(e.Args) {
		return a, fmt.Errorf("%q with %d arguments is nothing that is done to a target", e.Do, len(e.Args))
	}
	s, err := enter(ctx, p)
	if err != nil {
		return a, err
	}
	switch e.Do {
	case doLook:
		a.Text, err = s.look(p)
	case doScan:
		if err = s.scan(ctx, p); err == nil {
			a.Text, err = s.look(p)
		}
	case doPeek:
		a, err = s.peek(p, e.Args[0])
	case doOpen:
		a, err = s.open(ctx, p, e.Args)
	}
	return a, err
}

// scan has the kernel look for units, and for what has become of those that it knows.
func (s session) scan(ctx context.Context, p backends.Pool) error {
	if err := tool.Rescan(ctx, s.id); err != nil {
		return fmt.Errorf("cannot look for the logical units of target %q at %s: %w", s.target, s.Portal, err)
	}
	return s.appear(ctx, p)
}

func (s session) look(p backends.Pool) ([]byte, error) {
	is := device.Seen{Pool: backends.PoolInfo{Path: Backend{}.TargetOf(p.Source), ID: s.identityOf()}}
	if is.Pool.Path == "" {
		is.Pool.Path = p.Target
	}
	for _, u := range s.units() {
		is.Pool.Capacity += u.size
		is.Volumes = append(is.Volumes, s.info(p, u))
	}
	is.Pool.Allocation = is.Pool.Capacity // all of it is somebody's
	return json.Marshal(is)
}

func (s session) identityOf() backends.Identity { return s.where.identity() }

// find gives the unit of a name, which has a disk.
func (s session) find(p backends.Pool, name string) (u logicalUnit, err error) {
	lun, err := lunOf(name)
	if err != nil {
		return u, err
	}
	all := s.units()
	i := slices.IndexFunc(all, func(u logicalUnit) bool { return u.lun == lun && u.number != "" && u.size > 0 })
	if i < 0 {
		return u, &backends.MissingError{Path: Backend{}.Locate(p, name).Path}
	}
	return all[i], nil
}

// peek opens a unit for its header alone, and shuts nobody out.
func (s session) peek(p backends.Pool, name string) (a backends.Answer, err error) {
	u, err := s.find(p, name)
	if err != nil {
		return a, err
	}
	if n, err := blockdev.OpenNode(filepath.Join("/dev", u.kernel)); err == nil { // else it is a volume all the same
		if n.Number == u.number {
			a.File = n.File
		} else {
			n.Close()
		}
	}
	a.Text, err = json.Marshal(s.info(p, u))
	return a, err
}

// open opens a unit with the locks of the access. What it is the unit is asked once more:
// the target may have another by that number, which the kernel notices when it looks.
func (s session) open(ctx context.Context, p backends.Pool, args []string) (a backends.Answer, err error) {
	access, err := strconv.Atoi(args[1])
	if err != nil {
		return a, fmt.Errorf("bad access %q", args[1])
	}
	u, err := s.find(p, args[0])
	if err != nil {
		return a, err
	}
	n := device.Node{Path: filepath.Join("/dev", u.kernel), Number: u.number}
	if a.File, err = n.Open(ctx, backends.Access(access)); err != nil {
		return a, s.named(p, args[0], err)
	}
	is, err := s.again(p, u)
	if err == nil {
		a.Text, err = json.Marshal(s.info(p, is))
	}
	if err != nil {
		a.File.Close() // nothing was written
		return backends.Answer{}, err
	}
	return a, nil
}

// named says of which volume an error is: the kernel's names of disks say nothing.
func (s session) named(p backends.Pool, name string, err error) error {
	path := Backend{}.Locate(p, name).Path
	if busy, ok := errors.AsType[*backends.BusyError](err); ok {
		busy.Object = path
	}
	if missing, ok := errors.AsType[*backends.MissingError](err); ok {
		missing.Path = path
	}
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
		return record.Errorf(record.Denied, "volume %q can only be read: the target gives it so to this host (%v)", path, err)
	}
	return err
}

// again looks at a unit whose device is open, and so has its number until it is closed.
func (s session) again(p backends.Pool, u logicalUnit) (is logicalUnit, err error) {
	path := Backend{}.Locate(p, nameOf(u.lun)).Path
	if err := os.WriteFile(filepath.Join(u.dir, "rescan"), []byte("1"), 0); err != nil {
		return is, fmt.Errorf("volume %q does not say what it is: %w", path, err)
	}
	is = unitAt(u.dir, u.lun)
	if is.number != u.number || is.wwid != u.wwid {
		return is, &backends.AnotherError{Path: path}
	}
	return is, nil
}

// Refresh has the kernel look for units, and reads their beginnings.
func (b Backend) Refresh(ctx context.Context, p backends.Pool, found func(backends.VolumeInfo) error) (backends.PoolInfo, error) {
	var s device.Seen
	if err := s.Ask(ctx, b, p, doScan); err != nil {
		return backends.PoolInfo{}, err
	}
	return s.Refresh(ctx, b, p, doPeek, found)
}

// Space is what the kernel has.
func (b Backend) Space(ctx context.Context, p backends.Pool) (backends.PoolInfo, error) {
	var s device.Seen
	err := s.Ask(ctx, b, p, doLook)
	return s.Pool, err
}

// Look reads what a unit begins with.
func (b Backend) Look(ctx context.Context, p backends.Pool, name string) (backends.VolumeInfo, error) {
	if err := b.CheckName(name); err != nil {
		return backends.VolumeInfo{}, err
	}
	return device.Look(ctx, b, p, backends.Errand{Do: doPeek, Args: []string{name}})
}

// Open opens a unit.
func (b Backend) Open(ctx context.Context, p backends.Pool, name string, a backends.Access) (backends.Volume, error) {
	if err := b.CheckName(name); err != nil {
		return nil, err
	}
	v, err := device.Ask(ctx, b, p, backends.Errand{Do: doOpen, Args: []string{name, device.Word(a)}})
	if err != nil {
		return nil, err
	}
	return v, nil
}
