package blockdev

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/procfs"
)

// Use is what a block device is used for.
type Use struct {
	Who     string // for people: what has it
	Release string // how to have it let go of the device, "" where nobody can tell
	Passing bool   // it may let go by itself in a moment: a program that has it open
	Looks   bool   // it is udev, and does so when it has looked what the device carries
}

// maxNamed bounds how many uses are named.
const maxNamed = 5

// Named lists uses for people, and gives the first way that is known to end one; "" each
// where there is none.
func Named(uses []Use) (who, release string) {
	var names []string
	for _, u := range uses[:min(len(uses), maxNamed)] {
		names = append(names, u.Who)
		release = cmp.Or(release, u.Release)
	}
	who = strings.Join(names, ", ")
	if more := len(uses) - maxNamed; more > 0 {
		who += fmt.Sprintf(" and %d more", more)
	}
	return who, release
}

// Uses are those of a device, given as major:minor: of itself, of its partitions, of the
// disk that it is a partition of, and of loop devices over the same part of a file or
// device. What stands on them, such as a volume group, is named and not gone through
// further. This process is not among them.
//
// The kernel keeps two who want a device for themselves apart (O_EXCL of open(2)), and
// mounts, swap space, LVM, RAID and multipath all do. Virtual machines, and programs that
// just read or write, do not: they are found by what they have open (/proc/PID/fd).
func (s Sysfs) Uses(number string) []Use {
	d, ok := s.Device(number)
	if !ok {
		return nil
	}
	group := s.meeting(d)
	uses := slices.Concat(mountsOn(group), swapOn(group), s.looped(group))
	for _, g := range group {
		uses = append(uses, g.held()...)
	}
	return append(uses, openers(group)...)
}

// among finds a device by its major:minor.
func among(group []Device, number string) (d Device, ok bool) {
	i := slices.IndexFunc(group, func(g Device) bool { return number != "" && g.Attribute("dev") == number })
	if i < 0 {
		return d, false
	}
	return group[i], true
}

// mountsOn are mounts of file systems on devices.
func mountsOn(group []Device) (uses []Use) {
	for _, m := range Mounts() {
		if d, ok := among(group, m.Carrier()); ok {
			uses = append(uses, Use{Who: fmt.Sprintf("the file system mounted at %q%s", m.Point, d.as(group)), Release: "umount " + m.Point})
		}
	}
	return uses
}

// as says which device of the group is meant, where that is not the first.
func (d Device) as(group []Device) string {
	if d == group[0] {
		return ""
	}
	return " (" + d.Node() + ")"
}

// swapOn are devices that memory is written to.
func swapOn(group []Device) (uses []Use) {
	b, _ := os.ReadFile("/proc/swaps") // there is none where there is no swap space
	for _, line := range strings.Split(string(b), "\n") {
		path, _, _ := strings.Cut(line, " ")
		path = procfs.Unescape(path)
		var st unix.Stat_t
		if !filepath.IsAbs(path) || unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
			continue
		}
		if d, ok := among(group, number(unix.Major(st.Rdev), unix.Minor(st.Rdev))); ok {
			uses = append(uses, Use{Who: "the kernel as swap space" + d.as(group), Release: "swapoff " + path})
		}
	}
	return uses
}

// held are devices that stand on the device.
func (d Device) held() (uses []Use) {
	holders, _ := filepath.Glob(filepath.Join(d.path, "holders", "*")) // the pattern is good
	for _, h := range holders {
		path, err := filepath.EvalSymlinks(h)
		if err == nil {
			uses = append(uses, Device{path}.asHolder())
		}
	}
	return uses
}

// mapped says what a mapped device is by the beginning of its uuid, which those who make
// one give it (libdevmapper.h).
var mapped = []struct{ prefix, what, release string }{
	{"LVM-", "the logical volume", "vgchange -an of its volume group"},
	{"mpath-", "the multipath device", "multipath -f"},
	{"CRYPT-", "the encrypted device", "cryptsetup close"},
}

// asHolder is what the device is to one that it stands on.
func (d Device) asHolder() Use {
	if d.Attribute("md/level") != "" {
		return Use{Who: "the RAID array " + d.Node(), Release: "mdadm --stop " + d.Node()}
	}
	uuid := d.Attribute("dm/uuid")
	for _, m := range mapped {
		if strings.HasPrefix(uuid, m.prefix) {
			return Use{Who: m.what + " " + d.Node(), Release: m.release}
		}
	}
	return Use{Who: "the device " + d.Node()}
}

// openers are other processes that have a device open. What is open on a file system
// that somebody else answers for is not looked at: it may never answer.
func openers(group []Device) (uses []Use) {
	self := strconv.Itoa(os.Getpid())
	remote := remoteMounts()
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is good
	for _, fd := range fds {
		pid := strings.Split(fd, "/")[2]
		path, err := os.Readlink(fd)
		var st unix.Stat_t
		if pid == self || err != nil || !filepath.IsAbs(path) || slices.ContainsFunc(remote, func(at string) bool { return beneath(path, at) }) ||
			unix.Stat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
			continue
		}
		d, ok := among(group, number(unix.Major(st.Rdev), unix.Minor(st.Rdev)))
		if u := (Use{Who: procfs.Process(pid) + d.as(group), Passing: true, Looks: procfs.Looks(pid)}); ok && !slices.Contains(uses, u) {
			uses = append(uses, u)
		}
	}
	return uses
}

// beneath reports whether a path is a directory or below it.
func beneath(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// remoteMounts are where such file systems are mounted.
func remoteMounts() (points []string) {
	for _, m := range Mounts() {
		if m.Answered() {
			points = append(points, m.Point)
		}
	}
	return points
}

// Inside are other processes that are in a mount, with files of it open or a directory of
// it as their own, and what is mounted beneath it. Nothing of the mount is looked at.
func Inside(m Mount) (uses []Use) {
	for _, other := range Mounts() {
		if other.ID != m.ID && other.Point != m.Point && beneath(other.Point, m.Point) {
			uses = append(uses, Use{Who: fmt.Sprintf("what is mounted at %q", other.Point), Release: "umount " + other.Point})
		}
	}
	infos, _ := filepath.Glob("/proc/[0-9]*/fdinfo/*") // the pattern is good
	for _, info := range infos {
		if pid := strings.Split(info, "/")[2]; openedIn(info, m.ID) {
			uses = addProcess(uses, pid)
		}
	}
	for _, name := range []string{"cwd", "root", "exe"} {
		links, _ := filepath.Glob("/proc/[0-9]*/" + name) // the pattern is good
		for _, link := range links {
			if path, err := os.Readlink(link); err == nil && beneath(path, m.Point) {
				uses = addProcess(uses, strings.Split(link, "/")[2])
			}
		}
	}
	return uses
}

func addProcess(uses []Use, pid string) []Use {
	u := Use{Who: procfs.Process(pid), Passing: true}
	if pid == strconv.Itoa(os.Getpid()) || slices.Contains(uses, u) {
		return uses
	}
	return append(uses, u)
}

// openedIn reports whether a descriptor was opened below a mount (proc_pid_fdinfo(5)).
func openedIn(info string, mount uint64) bool {
	f, err := os.Open(info)
	if err != nil {
		return false // it has gone
	}
	defer f.Close() // opened for reading
	for in := bufio.NewScanner(f); in.Scan(); {
		if id, ok := strings.CutPrefix(in.Text(), "mnt_id:"); ok {
			return strings.TrimSpace(id) == strconv.FormatUint(mount, 10)
		}
	}
	return false
}
