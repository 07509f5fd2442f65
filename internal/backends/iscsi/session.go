package iscsi

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
)

// session is one that the kernel has with a target.
type session struct {
	where
	dir   string // in sysfs, with what is reached by it
	id    string // its number
	state string // LOGGED_IN, or FAILED while it is to be made anew
}

// loggedIn is the state of a session that works.
const loggedIn = "LOGGED_IN"

// attribute reads one of a directory of sysfs, "" if it is not there.
func attribute(dir, name string) string {
	b, _ := os.ReadFile(filepath.Join(dir, name))
	return strings.TrimSpace(string(b))
}

// sessionWith finds the session with a target through a portal.
func sessionWith(sys blockdev.Sysfs, w where) (s session, ok bool) {
	all, _ := filepath.Glob(filepath.Join(string(sys), "class/iscsi_session/session*")) // the pattern is good
	for _, class := range all {
		if attribute(class, "targetname") != w.target {
			continue
		}
		dir, err := filepath.EvalSymlinks(filepath.Join(class, "device"))
		if err != nil {
			continue // it has gone
		}
		connections, _ := filepath.Glob(filepath.Join(dir, "connection*/iscsi_connection/connection*"))
		for _, c := range connections {
			if strings.EqualFold(attribute(c, "persistent_address"), w.Host) && attribute(c, "persistent_port") == w.Port {
				return session{where: w, dir: dir, id: strings.TrimPrefix(filepath.Base(class), "session"), state: attribute(class, "state")}, true
			}
		}
	}
	return s, false
}

// logicalUnit is one that the kernel has found.
type logicalUnit struct {
	lun    uint64
	dir    string // in sysfs
	number string // of its device, as major:minor; "" while it has none
	kernel string // name of that
	wwid   string // by which it is known everywhere: of page 83h of its vital product data
	size   int64  // bytes
}

// disk is the type of a unit that is one (SPC, peripheral device type).
const disk = "0"

// units are those of a session that are disks, by their numbers.
func (s session) units() (all []logicalUnit) {
	dirs, _ := filepath.Glob(filepath.Join(s.dir, "target*/*:*:*:*")) // the pattern is good
	for _, dir := range dirs {
		address := strings.Split(filepath.Base(dir), ":")
		lun, err := strconv.ParseUint(address[len(address)-1], 10, 32)
		if err != nil || len(address) != 4 || address[1] != "0" || address[2] != "0" || attribute(dir, "type") != disk {
			continue
		}
		all = append(all, unitAt(dir, lun))
	}
	slices.SortFunc(all, func(a, b logicalUnit) int { return cmp.Compare(a.lun, b.lun) })
	return all
}

// sector is the unit of sizes in sysfs, bytes.
const sector = 512

func unitAt(dir string, lun uint64) logicalUnit {
	u := logicalUnit{lun: lun, dir: dir, wwid: attribute(dir, "wwid")}
	if nodes, _ := filepath.Glob(filepath.Join(dir, "block/*")); len(nodes) == 1 {
		u.kernel, u.number = filepath.Base(nodes[0]), attribute(nodes[0], "dev")
		sectors, err := strconv.ParseInt(attribute(nodes[0], "size"), 10, 64)
		if err == nil {
			u.size = sectors * sector
		}
	}
	return u
}

// identity tells a unit from others, also of the same number.
func (s session) identity(u logicalUnit) backends.Identity {
	wwid := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '.' || r == ':' || r == '-' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z') {
			return r
		}
		return '_'
	}, u.wwid)
	return backends.Identity(s.target + "/" + strconv.FormatUint(u.lun, 10) + "/" + wwid)
}

// identity of the pool is the target, and where it is.
func (w where) identity() backends.Identity {
	return backends.Identity(w.target + "@" + w.Portal.String())
}

// key is libvirt's: what scsi_id(8) says of the unit.
func (u logicalUnit) key(path string) string {
	for prefix, kind := range map[string]string{"naa.": "3", "eui.": "2"} {
		if rest, ok := strings.CutPrefix(u.wwid, prefix); ok {
			return kind + rest
		}
	}
	return path
}

// info is a unit as a volume.
func (s session) info(p backends.Pool, u logicalUnit) backends.VolumeInfo {
	at := Backend{}.Locate(p, nameOf(u.lun))
	info := backends.VolumeInfo{
		Name: nameOf(u.lun), Path: at.Path, Key: u.key(at.Path), Type: at.Type, ID: s.identity(u),
		Capacity: u.size, Size: u.size, Allocation: u.size,
	}
	if u.number == "" || u.size == 0 {
		info.Ignored = "the kernel has no disk of it, or an empty one"
	}
	return info
}
