// Package disk is the pool type disk: a disk with a partition table, whose partitions are
// the volumes. A volume has the name of its partition's node in /dev, as the kernel or udev
// makes it: sda1, nvme0n1p1, wwn-0x5000c500a1b2c3d4-part1.
//
// Tables are written here, through the descriptor of the disk, and not by a program: a
// partition appears in one step then, from one that is marked as the draft of its job, and
// nothing that the table has beside is touched. Whether the kernel can read the table, or
// there is a udev, makes no difference: it is told of each partition.
package disk

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/partition"
	"storaged/internal/record"
	"storaged/internal/tool"
	"storaged/internal/wipe"
)

// Backend is the driver. It keeps no state.
type Backend struct{}

var (
	_ device.Maker   = Backend{}
	_ backends.Namer = Backend{}
)

// New gives the driver.
func New() backends.Backend { return Backend{} }

// Properties are what disk pools can do.
func (Backend) Properties() record.Capabilities {
	return record.Capabilities{
		Type:          "disk",
		PoolVerbs:     []string{"build", "start", "stop", "refresh", "verify", "evacuate", "delete"},
		VolVerbs:      []string{"create", "clone", "upload", "download", "resize", "wipe", "trim", "verify", "move", "delete"},
		Formats:       []string{record.FormatRaw},
		Creations:     record.CreationsIn("disk")[:1],
		Algorithms:    wipe.Algorithms(),
		Contents:      record.ContentVerbs(),
		Needs:         []string{"source_devices"},
		Takes:         []string{"target_path", "source_format"},
		SourceFormats: labels,
		Builds:        builds(),
	}
}

// labels are the kinds of tables, as libvirt calls them too.
var labels = []string{partition.GPT, partition.DOS}

func builds() (all []record.Building) {
	for _, label := range labels {
		all = append(all, record.Building{Format: label, Unavailable: tool.Lacking(tool.Wipefs)})
	}
	return all
}

// Privileged: it tells the kernel of partitions.
func (Backend) Privileged() {}

// CheckSource wants one device, by a path from which the names of its partitions follow.
func (Backend) CheckSource(s record.Source) error {
	if len(s.Devices) != 1 {
		return record.Errorf(record.Invalid, "a pool of type disk is on one device, not on %d", len(s.Devices))
	}
	if err := record.CheckPath(s.Devices[0]); err != nil {
		return record.Errorf(record.Invalid, "source device: %v", err)
	}
	return nil
}

// CheckIdentity says what is wrong with a text that is neither of a table nor of a partition.
func (Backend) CheckIdentity(id backends.Identity) error {
	if id != "" && !identities().MatchString(string(id)) {
		return fmt.Errorf("bad identity \"%s\": it is none of a partition table or a partition", record.Escape(string(id)))
	}
	return nil
}

const guid = `[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`

// identities are those of tables, and of partitions: of DOS these have nothing of their own
// but their number and their place.
var identities = backends.Pattern(`^(gpt:` + guid + `|dos:[0-9a-f]{8}|` + guid + `|[0-9a-f]{8}-[0-9a-f]{2}@[0-9]+)$`)

// Same compares them.
func (b Backend) Same(known, found backends.Identity) bool {
	return b.CheckIdentity(known) == nil && (known == "" || known == found)
}

// Recognizes compares them.
func (b Backend) Recognizes(known, found backends.Identity) bool {
	return known != "" && b.Same(known, found)
}

// Lasting is all of it.
func (Backend) Lasting(id backends.Identity) backends.Identity { return id }

// Together: a partition is where it is.
func (Backend) Together(backends.Identity, backends.Identity) bool { return false }

// Apart: no partition shares anything.
func (Backend) Apart(backends.Identity, backends.Identity) bool { return true }

// numbered are names that end in the number of a partition, with what comes before it.
var numbered = backends.Pattern(`^(.+)-part([1-9][0-9]{0,2})$|^(.*[0-9])p([1-9][0-9]{0,2})$|^(.*[^0-9])([1-9][0-9]{0,2})$`)

// divided is a name as that of a disk and a number; ok is false where it is none.
func divided(name string) (disk string, number int, ok bool) {
	m := numbered().FindStringSubmatch(name)
	if m == nil {
		return "", 0, false
	}
	number, err := strconv.Atoi(cmp.Or(m[2], m[4], m[6]))
	return cmp.Or(m[1], m[3], m[5]), number, err == nil
}

// CheckName is the rule for names, as far as it is the same for all disks.
func (Backend) CheckName(name string) error {
	if err := record.CheckName(name); err != nil {
		return err
	}
	if _, _, ok := divided(name); !ok {
		return fmt.Errorf("bad name %q: it ends in the number of no partition", name)
	}
	return nil
}

// CheckNameIn is all of the rule.
func (b Backend) CheckNameIn(p backends.Pool, name string) error {
	if err := b.CheckName(name); err != nil {
		return err
	}
	_, number, _ := divided(name)
	if is := nameOf(p, number); name != is {
		return fmt.Errorf("bad name %q: partition %d of %q is called %q", name, number, pathOf(p), is)
	}
	return nil
}

// pathOf is the path of the pool's disk. By hand it is the target.
func pathOf(p backends.Pool) string {
	if len(p.Source.Devices) == 1 {
		return p.Source.Devices[0]
	}
	return p.Target
}

// linked is where udev makes links to disks, and to their partitions.
const linked = "/dev/disk/"

// nameOf is what the partition of a number is called.
func nameOf(p backends.Pool, number int) string {
	name, between := filepath.Base(pathOf(p)), ""
	switch last := name[len(name)-1]; {
	case strings.HasPrefix(pathOf(p), linked):
		between = "-part"
	case '0' <= last && last <= '9':
		between = "p"
	}
	return name + between + strconv.Itoa(number)
}

// Locate is beside the disk's node.
func (Backend) Locate(p backends.Pool, name string) backends.Location {
	return backends.Location{Path: filepath.Join(filepath.Dir(pathOf(p)), name), Key: filepath.Join(filepath.Dir(pathOf(p)), name), Type: "block"}
}

// LocateDraft is nowhere that people need to look at.
func (Backend) LocateDraft(backends.Pool, string) string { return "" }

// TargetOf is the disk's node: partitions of several disks lie in one directory.
func (Backend) TargetOf(s record.Source) string {
	if len(s.Devices) != 1 {
		return ""
	}
	return s.Devices[0]
}

// Parse finds the disk of a partition.
func (Backend) Parse(path string) (target, name string) {
	name = filepath.Base(path)
	disk, _, ok := divided(name)
	if !ok {
		return filepath.Dir(path), name
	}
	return filepath.Join(filepath.Dir(path), disk), name
}
