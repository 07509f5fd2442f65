package logical

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/blockdev"
	"storaged/internal/record"
	"storaged/internal/tool"
)

// Errands, and their arguments.
const (
	doReport     = "report"      // what LVM has of the group
	doOpen       = "open"        // access, uuid and name
	doCreate     = "create"      // name and number of extents
	doCreateThin = "create-thin" // name, size in bytes and thin pool
	doShare      = "share"       // name, and uuid and name of what it is to be a thin snapshot of
	doRename     = "rename"      // uuid, name and new name
	doRemove     = "remove"      // uuid and name
	doResize     = "resize"      // uuid, name and size in bytes
	doMend       = "mend"        // name, of which a command that was killed has left the device suspended
)

// lookAt opens a volume for its header alone, and shuts nobody out.
const lookAt = "look"

// ways are how a volume may be opened.
var ways = map[backends.Access]string{backends.ReadShared: "read", backends.WriteExclusive: "write", backends.Grow: "grow"}

// Grants are what a job is to ask for.
func (Backend) Grants(_ backends.Pool, u backends.Use) []backends.Errand {
	may := []backends.Errand{{Do: doReport}}
	add := func(do string, args ...string) { may = append(may, backends.Errand{Do: do, Args: args}) }
	if u.Reads {
		add(doOpen, lookAt, "", u.Name)
		add(doOpen, ways[backends.ReadShared], "", u.Name)
	}
	if u.Makes {
		temp := draftOf(u.Job)
		if u.Origin != "" {
			add(doShare, temp, "", u.Origin)
			add(doResize, "", temp, "")
		}
		add(doCreate, temp, "")
		add(doCreateThin, temp, "", "")
		add(doOpen, ways[backends.WriteExclusive], "", temp)
		add(doRename, "", temp, u.Name)
		add(doRemove, "", temp)
		add(doMend, temp)
		add(doMend, u.Name)
	}
	if u.Replaces {
		away := awayOf(u.Job)
		add(doRename, "", u.Name, away)
		add(doRename, "", away, u.Name)
		add(doRemove, "", away)
		add(doMend, away)
	}
	if u.Left != "" {
		add(doOpen, ways[backends.WriteExclusive], "", draftOf(u.Left))
		add(doRename, "", draftOf(u.Left), draftOf(u.Job))
		add(doRemove, "", draftOf(u.Left))
		add(doMend, draftOf(u.Left))
	}
	if u.Takes {
		add(doOpen, ways[backends.WriteExclusive], "", u.Name)
		add(doRemove, "", u.Name)
		add(doMend, u.Name)
	}
	if u.Takes && (u.To != "" || u.Name == "") {
		add(doRename, "", u.Name, u.To)
	}
	for _, size := range u.Sizes {
		add(doResize, "", u.Name, strconv.FormatInt(size, 10))
	}
	return may
}

// draftOf is the temporary name of a job's volume, "" for any.
func draftOf(job string) string {
	if job == "" {
		return ""
	}
	return record.DraftName(job)
}

// awayOf is the name that a volume has while a job gives its own to another.
func awayOf(job string) string {
	if job == "" {
		return ""
	}
	return record.DraftName(job + "-replaced")
}

// Errand does one.
func (Backend) Errand(ctx context.Context, p backends.Pool, e backends.Errand) (a backends.Answer, err error) {
	if err := checkGroup(groupOf(p)); err != nil {
		return a, err
	}
	arity := map[string]int{doReport: 0, doOpen: 3, doCreate: 2, doCreateThin: 3, doShare: 3, doRename: 3, doRemove: 2, doResize: 3, doMend: 1}
	if n, ok := arity[e.Do]; !ok || n != len(e.Args) {
		return a, fmt.Errorf("no errand of logical volumes is called %q and has %d arguments", e.Do, len(e.Args))
	}
	switch e.Do {
	case doReport:
		a.Text, err = report(groupOf(p)).run(ctx, p)
		if ended, ok := errors.AsType[*tool.EndError](err); ok && strings.Contains(ended.Said, "not found") {
			err = device.Lacking(p, fmt.Errorf("volume group %q is not there, or the devices that it is on are not", groupOf(p)))
		}
	case doOpen:
		a.File, err = openNode(ctx, p, e.Args)
	case doCreate:
		err = makeVolume(ctx, p, e.Args[0], e.Args[1])
	case doCreateThin:
		err = makeThin(ctx, p, e.Args)
	case doShare:
		err = share(ctx, p, e.Args)
	case doMend:
		err = mend(ctx, p, e.Args[0])
	default:
		err = changeVolume(ctx, p, e)
	}
	return a, err
}

// openNode opens the device of a volume, which is still the one of that uuid.
func openNode(ctx context.Context, p backends.Pool, args []string) (*os.File, error) {
	way, uuid, name := args[0], backends.Identity(args[1]), args[2]
	m, err := mappedAs(p, name)
	if err != nil {
		return nil, err
	}
	var f *os.File
	if way == lookAt {
		f, err = os.Open(m.node.Path)
	} else {
		err = fmt.Errorf("a volume is not opened to %q", way)
		for access, word := range ways {
			if word == way {
				f, err = m.node.Open(ctx, access)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if err := is(f, uuid); err != nil {
		f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// makeVolume makes a volume by a temporary name. What lies on it is seen by nobody before
// it was written: LVM need not look.
func makeVolume(ctx context.Context, p backends.Pool, name, extents string) error {
	n, err := strconv.ParseUint(extents, 10, 63)
	if err != nil || !record.Reserved(name) || !fit().MatchString(name) {
		return fmt.Errorf("no volume %q of %q extents is made", name, extents)
	}
	return change(ctx, p, command{"lvcreate", []string{
		"--yes", "--wipesignatures", "n", "--zero", "n", "--activate", "y", "--name", name, "--extents", strconv.FormatUint(n, 10),
	}, []string{groupOf(p)}})
}

// making are the options of a volume that is made, and used at once.
func making(name string, more ...string) []string {
	return append([]string{"--yes", "--activate", "y", "--setactivationskip", "n", "--name", name}, more...)
}

// makeThin makes a thin volume by a temporary name.
func makeThin(ctx context.Context, p backends.Pool, args []string) error {
	name, size, pool := args[0], args[1], args[2]
	n, err := strconv.ParseUint(size, 10, 63)
	if err != nil || !record.Reserved(name) || !fit().MatchString(name) || (Backend{}).CheckName(pool) != nil {
		return fmt.Errorf("no thin volume %q of %q bytes is made in %q", name, size, pool)
	}
	options := making(name, "--wipesignatures", "n", "--type", "thin", "--virtualsize", fmt.Sprintf("%db", n), "--thinpool", pool)
	return change(ctx, p, command{"lvcreate", options, []string{groupOf(p)}})
}

// share makes a thin snapshot, by a temporary name, of a thin volume that is still the one of
// that uuid. Of another kind LVM makes none without a size.
func share(ctx context.Context, p backends.Pool, args []string) error {
	name, uuid, origin := args[0], backends.Identity(args[1]), args[2]
	if !record.Reserved(name) || !fit().MatchString(name) {
		return fmt.Errorf("no snapshot is called %q", name)
	}
	m, err := mappedAs(p, origin)
	if err != nil {
		return err
	}
	if m.volume != uuid {
		return &backends.AnotherError{Path: m.node.Path}
	}
	return change(ctx, p, command{"lvcreate", making(name, "--snapshot"), []string{operand(p, origin)}})
}

// changeVolume does something to a volume that is still the one of that uuid.
func changeVolume(ctx context.Context, p backends.Pool, e backends.Errand) error {
	uuid, name := backends.Identity(e.Args[0]), e.Args[1]
	m, err := mappedAs(p, name)
	if _, missing := errors.AsType[*backends.MissingError](err); missing && e.Do == doRemove {
		return removeInactive(ctx, p, uuid, name)
	}
	if err != nil {
		return err
	}
	if m.volume != uuid {
		return &backends.AnotherError{Path: m.node.Path}
	}
	switch e.Do {
	case doRename:
		return renameVolume(ctx, p, m, [2]string{name, e.Args[2]})
	case doRemove:
		return removeVolume(ctx, p, m, name)
	}
	size, err := strconv.ParseUint(e.Args[2], 10, 63)
	if err != nil {
		return fmt.Errorf("bad size %q", e.Args[2])
	}
	return change(ctx, p, command{"lvresize", []string{"--force", "--yes", "--size", fmt.Sprintf("%db", size)}, []string{operand(p, name)}})
}

// renameVolume gives it a name that is free. Where LVM was ended in the middle it may have
// it all the same.
func renameVolume(ctx context.Context, p backends.Pool, m mapped, names [2]string) error {
	to := names[1]
	if err := checkName(to); err != nil && (!record.Reserved(to) || !fit().MatchString(inLVM(to))) {
		return err
	}
	err := change(ctx, p, command{"lvrename", nil, []string{groupOf(p), inLVM(names[0]), inLVM(to)}})
	if err == nil {
		return nil
	}
	has, wrong := mappedAs(p, to)
	switch {
	case wrong != nil:
		return err
	case has.volume == m.volume:
		return nil
	}
	return taken(p, to)
}

// taken says that a name is another volume's.
func taken(p backends.Pool, name string) error {
	return fmt.Errorf("volume %q %w", Backend{}.Locate(p, name).Path, backends.ErrExists)
}

// removeInactive has LVM remove a volume that has no device: its command was killed before
// that was made, or after it was taken away.
func removeInactive(ctx context.Context, p backends.Pool, uuid backends.Identity, name string) error {
	g, err := look(ctx, p)
	if err != nil {
		return err
	}
	path := Backend{}.Locate(p, name).Path
	switch v := g.find(name); {
	case v == nil:
		return &backends.MissingError{Path: path}
	case v.uuid != uuid:
		return &backends.AnotherError{Path: path}
	}
	return change(ctx, p, command{"lvremove", []string{"--yes"}, []string{operand(p, name)}})
}

// mend has the devices of the group be what its metadata say, if that of a volume is
// suspended: a command of LVM was killed between the two. Who only suspends one for a
// moment holds LVM's lock of the group, for which this waits.
func mend(ctx context.Context, p backends.Pool, name string) error {
	m, err := mappedAs(p, name)
	if err != nil || attribute(filepath.Join("/sys/dev/block", m.node.Number), "dm/suspended") != "1" {
		return nil // there is none, or nothing is wrong with it
	}
	return change(ctx, p, command{"vgchange", []string{"--refresh"}, []string{groupOf(p)}})
}

// removeVolume has LVM remove a volume that nobody has open: it refuses else.
func removeVolume(ctx context.Context, p backends.Pool, m mapped, name string) error {
	err := change(ctx, p, command{"lvremove", []string{"--yes"}, []string{operand(p, name)}})
	if ended, ok := errors.AsType[*tool.EndError](err); ok && (strings.Contains(ended.Said, "in use") || strings.Contains(ended.Said, "is used by another device")) {
		who, release := blockdev.Named(blockdev.System.Uses(m.node.Number))
		return &backends.BusyError{Object: Backend{}.Locate(p, name).Path, Holder: who, Release: release}
	}
	return err
}
