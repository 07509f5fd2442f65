package virtxml

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"storaged/internal/record"
)

// Source is where the storage of a pool comes from. What a type does not have is empty.
type Source struct {
	Hosts     []Host
	Devices   []Device
	Directory string // exported, say
	Name      string // of a volume group, say
	Initiator string // by which this host logs in
	Format    string
	Auth      *Auth
	Protocol  string // version of NFS
}

// Host is a server. Port 0 is the usual one.
type Host struct {
	Name string
	Port int
}

// Device is a disk, or the name of an iSCSI target. Separator says whether a p stands
// before the number of a partition; "" where that is not said.
type Device struct {
	Path      string
	Separator string
	Free      []Extent // of a disk, what no partition has: written only
	Used      []Extent // what a volume has of it: written only
}

// Extent is a part of a device, in bytes.
type Extent struct{ Start, End int64 }

// Auth is by whom and with which secret this host logs in. The secret is named by its
// usage or by its UUID.
type Auth struct {
	Type     string // chap or ceph; "" to be written is that of the pool's type
	Username string
	Usage    string
	UUID     string
}

// sourceOf reads the element source of a pool, which need not be there.
func (t poolType) sourceOf(e *element) (s Source, err error) {
	s.Name = e.of("name")
	if s.Format, err = t.ofSource(e.child("format").attr("type")); err != nil {
		return s, err
	}
	if s.Hosts, err = hostsOf(e); err != nil {
		return s, err
	}
	s.Initiator = e.child("initiator").child("iqn").attr("name")
	if s.Devices, err = devicesOf(e); err != nil {
		return s, err
	}
	if dir := e.child("dir").attr("path"); dir != "" {
		s.Directory = sanitized(dir)
	}
	if s.Auth, err = authOf(e.child("auth")); err != nil {
		return s, err
	}
	s.Protocol, err = s.protocolOf(e)
	return s, err
}

func hostsOf(e *element) (hosts []Host, err error) {
	for _, c := range e.all("host") {
		h := Host{Name: c.attr("name")}
		if h.Name == "" {
			return nil, refuse(Wrong, "missing storage pool host name")
		}
		if port := c.attr("port"); port != "" {
			if h.Port, err = strconv.Atoi(port); err != nil {
				return nil, refuse(Shape, "Invalid value for attribute 'port' in element 'host': '%s'. Expected integer value", port)
			}
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

func devicesOf(e *element) (devices []Device, err error) {
	for _, c := range e.all("device") {
		d := Device{Path: c.attr("path"), Separator: c.attr("part_separator")}
		if d.Path == "" {
			return nil, refuse(Wrong, "missing storage pool source device path")
		}
		if err := yesNo(d.Separator, "part_separator", "device"); err != nil {
			return nil, err
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// yesNo refuses a value of an attribute that is neither, unless there is none.
func yesNo(value, attribute, element string) error {
	if slices.Contains([]string{"", "yes", "no"}, value) {
		return nil
	}
	return refuse(Shape, "Invalid value for attribute '%s' in element '%s': '%s'.", attribute, element, value)
}

func authOf(e *element) (*Auth, error) {
	if e == nil {
		return nil, nil
	}
	secret := e.child("secret")
	a := &Auth{Type: e.attr("type"), Username: e.attr("username"), Usage: secret.attr("usage"), UUID: secret.attr("uuid")}
	switch {
	case a.Username == "":
		return nil, refuse(Wrong, "missing username for auth")
	case a.Type == "":
		return nil, refuse(Unsupported, "storage pool missing auth type")
	case a.Type != "chap" && a.Type != "ceph":
		return nil, refuse(Unsupported, "unknown auth type '%s'", a.Type)
	}
	return a, nil
}

// protocolOf is the version of NFS that the source is to be mounted with.
func (s Source) protocolOf(e *element) (string, error) {
	version := e.child("protocol").attr("ver")
	if version == "" {
		return "", nil
	}
	if s.Format != "nfs" && s.Format != "auto" {
		return "", refuse(Unsupported, "storage pool protocol ver unsupported for pool type '%s'", s.Format)
	}
	if strings.Trim(version, ".0123456789") != "" {
		return "", refuse(Wrong, "storage pool protocol ver '%s' is malformed", version)
	}
	return version, nil
}

// check refuses a source that lacks what the type needs.
func (t poolType) check(s Source) error {
	switch a := s.Auth; {
	case a != nil && t.auth != "" && a.Type != t.auth:
		return refuse(Unsupported, "%s pool only supports '%s' auth type", t.name, t.auth)
	case a != nil && t.auth != "" && a.Usage == "" && a.UUID == "":
		return refuse(Wrong, "missing secret uuid or usage attribute")
	case t.hosts && len(s.Hosts) == 0:
		return refuse(Wrong, "missing storage pool source host name")
	case t.directory && s.Directory == "" && t.name != "gluster":
		return refuse(Wrong, "missing storage pool source path")
	case t.devices && !t.hosts && !t.sourceName && len(s.Devices) == 0:
		return refuse(Wrong, "missing storage pool source device name")
	}
	return nil
}

// write writes the element source of a pool of a type.
func (s Source) write(w *writer, t poolType) {
	w.with("source", func() {
		if t.hosts {
			s.writeHosts(w)
		}
		if t.devices {
			writeDevices(w, s.Devices)
		}
		if t.directory {
			w.named("dir", "path", s.Directory)
		}
		if t.sourceName {
			w.text("name", s.Name)
		}
		if t.initiator && s.Initiator != "" {
			w.with("initiator", func() { w.named("iqn", "name", s.Initiator) })
		}
		if t.format != "" {
			w.named("format", "type", s.Format)
		}
		s.Auth.write(w, t)
		w.named("protocol", "ver", s.Protocol)
	})
}

func (s Source) writeHosts(w *writer) {
	for _, h := range s.Hosts {
		attrs := []attribute{attr("name", h.Name)}
		if h.Port != 0 {
			attrs = append(attrs, attr("port", strconv.Itoa(h.Port)))
		}
		w.empty("host", attrs...)
	}
}

func writeDevices(w *writer, devices []Device) {
	for _, d := range devices {
		attrs := []attribute{attr("path", d.Path)}
		if d.Separator != "" {
			attrs = append(attrs, attr("part_separator", d.Separator))
		}
		if len(d.Free) == 0 && len(d.Used) == 0 {
			w.empty("device", attrs...)
			continue
		}
		w.with("device", func() {
			writeExtents(w, "freeExtent", d.Free)
			writeExtents(w, "extent", d.Used)
		}, attrs...)
	}
}

func writeExtents(w *writer, name string, all []Extent) {
	for _, x := range all {
		w.empty(name, attr("start", fmt.Sprint(x.Start)), attr("end", fmt.Sprint(x.End)))
	}
}

func (a *Auth) write(w *writer, t poolType) {
	if a == nil {
		return
	}
	w.with("auth", func() {
		switch {
		case a.UUID != "":
			w.named("secret", "uuid", a.UUID)
		case a.Usage != "":
			w.named("secret", "usage", a.Usage)
		}
	}, attr("type", cmp.Or(a.Type, t.auth)), attr("username", a.Username))
}

// sanitized is a path without doubled and trailing slashes, but for two at its start,
// which POSIX lets mean something of their own (virFileSanitizePath).
func sanitized(p string) string {
	lead := ""
	if strings.HasPrefix(p, "//") && !strings.HasPrefix(p, "///") {
		lead = "/"
	}
	parts := strings.FieldsFunc(p, func(r rune) bool { return r == '/' })
	if strings.HasPrefix(p, "/") {
		lead += "/"
	}
	return lead + strings.Join(parts, "/")
}

// Options of a source that other elements of a document say.
const (
	optionSeparator = "part_separator"
	optionVersion   = "nfsvers"
)

// record gives the source in our words. Options are those of the mount.
func (s Source) record(options []string) record.Source {
	r := record.Source{Name: s.Name, Path: s.Directory, Format: s.Format, Initiator: s.Initiator, Options: map[string]string{}}
	for _, h := range s.Hosts {
		r.Hosts = append(r.Hosts, h.text())
	}
	for _, d := range s.Devices {
		r.Devices = append(r.Devices, d.Path)
		if d.Separator != "" {
			r.Options[optionSeparator] = d.Separator
		}
	}
	if s.Auth != nil {
		r.Username, r.Secret = s.Auth.Username, cmp.Or(s.Auth.UUID, s.Auth.Usage)
	}
	if s.Protocol != "" {
		r.Options[optionVersion] = s.Protocol
	}
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		r.Options[name] = value
	}
	return r
}

func (h Host) text() string {
	if h.Port == 0 {
		return h.Name
	}
	return h.Name + ":" + strconv.Itoa(h.Port)
}

// sourceFrom is the other way: a source in libvirt's words, and the options of its mount.
func sourceFrom(r record.Source) (s Source, options []string) {
	s = Source{Name: r.Name, Directory: r.Path, Format: r.Format, Initiator: r.Initiator, Protocol: r.Options[optionVersion]}
	if r.Secret != "" {
		s.Auth = &Auth{Username: r.Username}
		s.Auth.UUID, s.Auth.Usage = named(r.Secret)
	}
	for _, h := range r.Hosts {
		s.Hosts = append(s.Hosts, hostFrom(h))
	}
	for _, d := range r.Devices {
		s.Devices = append(s.Devices, Device{Path: d, Separator: r.Options[optionSeparator]})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Options)) {
		switch value := r.Options[name]; {
		case name == optionSeparator || name == optionVersion:
		case value == "":
			options = append(options, name)
		default:
			options = append(options, name+"="+value)
		}
	}
	return s, options
}

func hostFrom(text string) Host {
	i := strings.LastIndexByte(text, ':')
	if i < 0 || strings.HasSuffix(text, "]") {
		return Host{Name: text}
	}
	port, err := strconv.Atoi(text[i+1:])
	if err != nil {
		return Host{Name: text}
	}
	return Host{Name: text[:i], Port: port}
}

// beneath is the target of a type whose pools are all in one directory.
func (t poolType) beneath(name string) string { return t.under + path.Clean(name) }

// ParseSource reads the document that says where to look for sources of pools of a type.
func ParseSource(poolType string, doc []byte) (r record.Source, err error) {
	e, err := document(doc, "storage_source_specification", "source")
	if err != nil {
		return r, err
	}
	t, _ := poolTypeOf(poolType)
	s, err := t.sourceOf(e)
	if err != nil {
		return r, err
	}
	r = s.record(nil)
	r.Format, r.Username, r.Secret, r.Options = "", "", "", nil
	return r, nil
}

// FormatSources writes the document of the sources that were found for pools of a type.
func FormatSources(poolType string, found []record.Source) string {
	t, _ := poolTypeOf(poolType)
	w := &writer{}
	w.with("sources", func() {
		for _, r := range found {
			s, _ := sourceFrom(r)
			s.write(w, t)
		}
	})
	return w.String()
}
