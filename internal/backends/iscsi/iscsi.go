// Package iscsi is the pool type iscsi: a target that this host logs in to, whose logical
// units are the volumes. The target decides how many there are, and how large: they are
// neither made nor removed here.
package iscsi

import (
	"cmp"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
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
	_ device.Driver         = Backend{}
	_ backends.SourceFinder = Backend{}
)

// New gives the driver.
func New() backends.Backend { return Backend{} }

// Properties are what iscsi pools can do.
func (Backend) Properties() record.Capabilities {
	return record.Capabilities{
		Type:       "iscsi",
		PoolVerbs:  []string{"start", "stop", "refresh", "verify"},
		VolVerbs:   []string{"clone", "upload", "download", "wipe", "trim", "verify"},
		Formats:    []string{record.FormatRaw},
		Creations:  record.CreationsIn("iscsi")[:1],
		Algorithms: wipe.Algorithms(),
		Contents:   record.ContentVerbs(),
		Needs:      []string{"source_hosts", "source_devices"},
		Takes:      []string{"target_path", "source_initiator", "source_username", "source_secret"},
		Finds:      &record.Search{Needs: []string{"source_hosts"}, Unavailable: tool.Lacking(tool.ISCSIAdm)},
	}
}

// Privileged: it logs in and out.
func (Backend) Privileged() {}

// names of targets and of initiators (RFC 3720, 3.2.6.3): no blank, and nothing by which
// text is quoted.
var (
	names = backends.Pattern(`^(iqn|eui|naa)\.[A-Za-z0-9._:-]{1,220}$`)
	hosts = backends.Pattern(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

// defaultPort is that of iSCSI.
const defaultPort = "3260"

// CheckSource wants one host and one target.
func (Backend) CheckSource(s record.Source) error {
	bad := func(format string, args ...any) *record.Error { return record.Errorf(record.Invalid, format, args...) }
	switch {
	case len(s.Hosts) != 1:
		return bad("a pool of type iscsi is at one host, not at %d", len(s.Hosts))
	case len(s.Devices) != 1:
		return bad("a pool of type iscsi is of one target, not of %d", len(s.Devices))
	case !names().MatchString(s.Devices[0]):
		return bad("%q is no name of an iSCSI target", s.Devices[0]).WithHint("%s lists them, such as iqn.2026-01.example:disks", record.Do("pool.sources", "iscsi").With("host", s.Hosts[0]))
	case s.Initiator != "" && !names().MatchString(s.Initiator):
		return bad("%q is no name of an iSCSI initiator", s.Initiator)
	case s.Username != "" && !plain(s.Username):
		return bad("the username of an iSCSI source has letters, digits and signs of ASCII only, and at most %d", maxLogin)
	}
	_, err := portalOf(s.Hosts[0])
	return err
}

// maxLogin is how long a username or a secret may be at open-iscsi, bytes.
const maxLogin = 255

// plain reports whether a text comes through a record of open-iscsi as it is.
func plain(text string) bool {
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return text != "" && len(text) <= maxLogin && strings.TrimSpace(text) == text
}

// portalOf reads NAME, NAME:PORT or [ADDRESS]:PORT.
func portalOf(host string) (tool.Portal, error) {
	p := tool.Portal{Host: strings.Trim(host, "[]"), Port: defaultPort}
	if name, port, err := net.SplitHostPort(host); err == nil {
		p = tool.Portal{Host: name, Port: port}
	}
	if n, err := strconv.ParseUint(p.Port, 10, 16); err != nil || n == 0 || !hosts().MatchString(p.Host) && net.ParseIP(p.Host) == nil {
		return p, record.Errorf(record.Invalid, "%q is no host of an iSCSI target: it is NAME, ADDRESS or [ADDRESS], with :PORT if that is not %s", host, defaultPort)
	}
	return p, nil
}

// where is the target of a pool, and how it is reached. By hand the path says it.
type where struct {
	tool.Portal
	target string
}

// placed are the targets of pools: what comes before the number of a unit in the links of
// udev.
var placed = backends.Pattern(`^` + linked + `ip-(.+):([0-9]+)-iscsi-(.+)$`)

// linked is where udev has links to disks by the way to them.
const linked = "/dev/disk/by-path/"

func whereOf(p backends.Pool) (w where, err error) {
	if m := placed().FindStringSubmatch(p.Target); m != nil && len(p.Source.Devices) == 0 {
		p.Source.Hosts, p.Source.Devices = []string{net.JoinHostPort(m[1], m[2])}, []string{m[3]}
	}
	if err := (Backend{}).CheckSource(p.Source); err != nil {
		return w, err
	}
	w.target = p.Source.Devices[0]
	w.Portal, err = portalOf(p.Source.Hosts[0])
	return w, err
}

// TargetOf is what the links to the units begin with.
func (Backend) TargetOf(s record.Source) string {
	w, err := whereOf(backends.Pool{Source: s})
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%sip-%s:%s-iscsi-%s", linked, w.Host, w.Port, w.target)
}

// Volumes have the names that libvirt gives them: open-iscsi has one bus and one target in
// a session.
const unit = "unit:0:0:"

var units = backends.Pattern(`^` + unit + `(0|[1-9][0-9]{0,9})$`)

// lunOf is the number of a volume.
func lunOf(name string) (uint64, error) {
	m := units().FindStringSubmatch(name)
	if m == nil {
		return 0, cmp.Or(record.CheckName(name), fmt.Errorf("bad name %q: logical units are called %sNUMBER", name, unit))
	}
	return strconv.ParseUint(m[1], 10, 32)
}

func nameOf(lun uint64) string { return unit + strconv.FormatUint(lun, 10) }

// CheckName is the rule for names: each is the number of a logical unit.
func (Backend) CheckName(name string) error {
	_, err := lunOf(name)
	return err
}

// flat is how many units are numbered in one byte. Others udev writes in eight.
const flat = 256

// Locate is by the link that udev makes.
func (b Backend) Locate(p backends.Pool, name string) backends.Location {
	lun, err := lunOf(name)
	if err != nil {
		return backends.Location{Path: filepath.Join(linked, name), Type: "block"}
	}
	number := strconv.FormatUint(lun, 10)
	if lun >= flat {
		number = fmt.Sprintf("0x%04x%04x00000000", lun&0xffff, lun>>16)
	}
	path := cmp.Or(b.TargetOf(p.Source), p.Target) + "-lun-" + number
	return backends.Location{Path: path, Type: "block"}
}

// LocateDraft is nowhere: there are none.
func (Backend) LocateDraft(backends.Pool, string) string { return "" }

// Parse reads such a link.
func (Backend) Parse(path string) (target, name string) {
	i := strings.LastIndex(path, "-lun-")
	if i < 0 {
		return filepath.Dir(path), filepath.Base(path)
	}
	target, number := path[:i], path[i+len("-lun-"):]
	lun, err := strconv.ParseUint(number, 10, 32)
	if hex, long := strings.CutPrefix(number, "0x"); long && len(hex) == 16 && strings.HasSuffix(hex, "00000000") {
		lun, err = strconv.ParseUint(hex[4:8]+hex[:4], 16, 32)
	}
	if err != nil {
		return filepath.Dir(path), filepath.Base(path)
	}
	return target, nameOf(lun)
}

// identities are those of targets, and of logical units: the target, the number, and what the
// unit says that it is.
var identities = backends.Pattern(`^(iqn|eui|naa)\.[A-Za-z0-9._:-]+(@.+:[0-9]+|/[0-9]+/[A-Za-z0-9._:-]*)$`)

// CheckIdentity says what is wrong with a text that is none.
func (Backend) CheckIdentity(id backends.Identity) error {
	if id != "" && !identities().MatchString(string(id)) {
		return fmt.Errorf("bad identity \"%s\": it is none of an iSCSI target or a logical unit", record.Escape(string(id)))
	}
	return nil
}

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

// Together: what is in a unit has to be copied.
func (Backend) Together(backends.Identity, backends.Identity) bool { return false }
