package logical

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/blockdev"
)

// mapped is the device that the kernel has of an active logical volume. What it says of it
// holds for what is open, whatever LVM's metadata or names in /dev say.
type mapped struct {
	node   device.Node
	group  backends.Identity
	volume backends.Identity
}

// mappedAs finds the device of a volume of a pool by its name, and fails if there is none,
// or it is that of another group.
func mappedAs(p backends.Pool, name string) (mapped, error) {
	path := Backend{}.Locate(p, name).Path
	called := escaped(groupOf(p)) + "-" + escaped(inLVM(name))
	m, ok := numbered(path, called)
	if !ok { // the name in /dev may be late, or be missing since somebody was killed
		if m, ok = searched(called); !ok {
			return m, &backends.MissingError{Path: path}
		}
	}
	if p.ID != "" && m.group != p.ID {
		return m, replaced(p, m.group)
	}
	return m, nil
}

// escaped is a part of the name of a mapped device, whose parts a dash separates.
func escaped(part string) string { return strings.ReplaceAll(part, "-", "--") }

// numbered is the device of a node, if it is called so.
func numbered(path, called string) (m mapped, ok bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return m, false
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	m, ok = at(filepath.Join("/sys/dev/block", number), called)
	m.node.Path = path
	return m, ok
}

// searched finds a device by what the kernel calls it.
func searched(called string) (m mapped, ok bool) {
	all, _ := filepath.Glob("/sys/block/dm-*") // the pattern is good
	for _, dir := range all {
		if m, ok = at(dir, called); ok {
			m.node.Path = filepath.Join("/dev", filepath.Base(dir))
			return m, true
		}
	}
	return m, false
}

// at reads the device of a directory of the kernel, if it is called so.
func at(dir, called string) (m mapped, ok bool) {
	if attribute(dir, "dm/name") != called {
		return m, false
	}
	m.node.Number = attribute(dir, "dev")
	m.group, m.volume, ok = identified(attribute(dir, "dm/uuid"))
	return m, ok
}

func attribute(dir, name string) string {
	b, _ := os.ReadFile(filepath.Join(dir, name)) // "" where there is none
	return strings.TrimSpace(string(b))
}

// identified reads what LVM calls a device by: the uuids of group and volume, without
// dashes. What is behind them is of what a volume is made of.
func identified(uuid string) (group, volume backends.Identity, ok bool) {
	const digits = 32
	text, ours := strings.CutPrefix(uuid, "LVM-")
	if !ours || len(text) != 2*digits {
		return "", "", false
	}
	return dashed(text[:digits]), dashed(text[digits:]), true
}

// dashed writes a uuid as LVM reports it.
func dashed(digits string) backends.Identity {
	parts, at := []string{}, 0
	for _, n := range []int{6, 4, 4, 4, 4, 4, 6} {
		parts, at = append(parts, digits[at:at+n]), at+n
	}
	return backends.Identity(strings.Join(parts, "-"))
}

// is fails unless an open device is that volume.
func is(f *os.File, volume backends.Identity) error {
	number, err := blockdev.Of(f)
	if err != nil {
		return err
	}
	_, found, _ := identified(attribute(filepath.Join("/sys/dev/block", number), "dm/uuid"))
	if found != volume {
		return &backends.AnotherError{Path: f.Name()}
	}
	return nil
}
