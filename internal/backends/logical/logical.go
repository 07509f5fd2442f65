// Package logical is the pool type logical: a volume group of LVM whose logical volumes
// are the volumes. A volume in the making is one by the temporary name of its job.
//
// LVM is a program that needs all of root. All that it is wanted for is an errand, which
// the deputy of a confined helper does.
package logical

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/record"
	"storaged/internal/tool"
	"storaged/internal/wipe"
)

// Backend is the driver. It keeps no state.
type Backend struct{}

var (
	_ device.Maker          = Backend{}
	_ backends.SourceFinder = Backend{}
	_ backends.Cloner       = Backend{}
)

// New gives the driver.
func New() backends.Backend { return Backend{} }

// format is that of a source.
const format = "lvm2"

// Properties are what logical pools can do.
func (Backend) Properties() record.Capabilities {
	return record.Capabilities{
		Type:          "logical",
		PoolVerbs:     []string{"build", "start", "stop", "refresh", "verify", "evacuate", "delete"},
		VolVerbs:      []string{"create", "clone", "upload", "download", "resize", "wipe", "trim", "verify", "move", "delete"},
		Formats:       []string{record.FormatRaw},
		Creations:     record.CreationsIn("logical")[:1],
		Algorithms:    wipe.Algorithms(),
		Contents:      record.ContentVerbs(),
		Needs:         []string{"source_name"},
		Takes:         []string{"target_path", "source_devices", "source_format"},
		SourceFormats: []string{format, "unknown"},
		Snapshots:     []string{"thin"},
		Finds:         &record.Search{Needs: []string{}, Takes: []string{}, Unavailable: tool.Lacking(tool.LVM)},
		Builds:        []record.Building{{Format: format, Unavailable: tool.Lacking(tool.LVM, tool.Wipefs)}},
	}
}

// Privileged: groups are made, activated and removed by LVM.
func (Backend) Privileged() {}

// CheckSource wants a group that LVM can have, and devices by their paths.
func (Backend) CheckSource(s record.Source) error {
	if err := checkGroup(s.Name); err != nil {
		return record.Errorf(record.Invalid, "%v", err)
	}
	for _, device := range s.Devices {
		if err := record.CheckPath(device); err != nil {
			return record.Errorf(record.Invalid, "source device: %v", err)
		}
	}
	return nil
}

// TargetOf is where LVM has the nodes of a group's volumes.
func (Backend) TargetOf(s record.Source) string { return filepath.Join("/dev", s.Name) }

// groupOf is the volume group of a pool. Who works by hand names it by its directory.
func groupOf(p backends.Pool) string { return cmp.Or(p.Source.Name, filepath.Base(p.Target)) }

// CheckIdentity says what is wrong with a text that is no uuid of LVM.
func (Backend) CheckIdentity(id backends.Identity) error {
	if id != "" && !uuids().MatchString(string(id)) {
		return fmt.Errorf("bad identity \"%s\": it is no uuid of LVM", record.Escape(string(id)))
	}
	return nil
}

// uuids are those of LVM: 32 letters and digits in groups.
var uuids = backends.Pattern(`^[A-Za-z0-9]{6}(-[A-Za-z0-9]{4}){5}-[A-Za-z0-9]{6}$`)

// Same compares uuids.
func (b Backend) Same(known, found backends.Identity) bool {
	return b.CheckIdentity(known) == nil && (known == "" || known == found)
}

// Recognizes compares them.
func (b Backend) Recognizes(known, found backends.Identity) bool {
	return known != "" && b.Same(known, found)
}

// Lasting is all of it: uuids last.
func (Backend) Lasting(id backends.Identity) backends.Identity { return id }

// Together reports whether both are one volume group.
func (Backend) Together(a, b backends.Identity) bool { return a != "" && a == b }

// Apart reports whether both are known, and not one volume group.
func (Backend) Apart(a, b backends.Identity) bool { return a != "" && b != "" && a != b }

var (
	fit = backends.Pattern(`^[A-Za-z0-9_.+-]+$`)
	// inner are parts of names that LVM keeps for what volumes are made of (lvm(8)).
	inner = backends.Pattern(`_(mlog|mimage|rimage|rmeta|tdata|tmeta|cdata|cmeta|cvol|corig|wcorig|vdata|vorigin|pmspare|imeta|iorig)`)
)

// With the name of a group and dashes that of a volume is a name of the device mapper, of
// at most 127 bytes. A group's leaves room for those of volumes in the making.
const (
	maxName  = 100 // bytes
	maxGroup = 60
)

// CheckName is LVM's rule too (lvm(8), "VALID NAMES").
func (Backend) CheckName(name string) error {
	if err := record.CheckName(name); err != nil {
		return err
	}
	bad := func(why string) error { return fmt.Errorf("bad name %q: %s", name, why) }
	switch {
	case !fit().MatchString(name):
		return bad("of a logical volume it has only letters, digits and _ . + -")
	case len(name) > maxName:
		return bad(fmt.Sprintf("%d bytes are more than %d", len(name), maxName))
	case strings.HasPrefix(name, "snapshot") || strings.HasPrefix(name, "pvmove") || inner().MatchString(name):
		return bad("LVM keeps it for its own use")
	}
	return nil
}

// checkGroup is LVM's rule for names of groups.
func checkGroup(name string) error {
	switch {
	case !fit().MatchString(name) || strings.HasPrefix(name, "-") || name == "." || name == "..":
		return fmt.Errorf("bad name of a volume group %q: it has only letters, digits and _ . + -, and begins with no -", name)
	case len(name) > maxGroup:
		return fmt.Errorf("bad name of a volume group %q: %d bytes are more than %d", name, len(name), maxGroup)
	}
	return nil
}

// Locate is by the links that LVM makes in /dev.
func (Backend) Locate(p backends.Pool, name string) backends.Location {
	return backends.Location{Path: filepath.Join(dir(p), inLVM(name)), Type: "block"}
}

func dir(p backends.Pool) string { return filepath.Join("/dev", groupOf(p)) }

// LocateDraft is nowhere that people need to look at.
func (Backend) LocateDraft(backends.Pool, string) string { return "" }

// Parse takes the path for one in the group's directory.
func (Backend) Parse(path string) (target, name string) {
	return filepath.Dir(path), named(filepath.Base(path))
}
