package virtxml

import (
	"encoding/hex"
	"path"
	"strings"

	"github.com/google/uuid"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// Pool is a pool as libvirt describes it. Sizes are bytes, and only written: libvirt
// ignores those of a document that it reads.
type Pool struct {
	Type        string
	Name        string
	UUID        string // "": none is said
	Capacity    int64
	Allocation  int64
	Available   int64
	CopyOnWrite string // yes or no: whether the directory is to have it; "": nothing is said
	Source      Source
	Path        string
	Permissions Permissions
	Refresh     string   // how allocations are looked up: default or capacity; "": nothing is said
	Options     []string // of the mount, NAME or NAME=VALUE
}

// spaceOptions is the name space of the options of a mount.
const spaceOptions = "http://libvirt.org/schemas/storagepool/fs/1.0"

// ParsePool reads the document of a pool. Refusals are of type *Error.
func ParsePool(doc []byte) (p Pool, err error) {
	e, err := document(doc, "storage_pool_definition", "pool")
	if err != nil {
		return p, err
	}
	t, err := typeOf(e)
	if err != nil {
		return p, err
	}
	p.Type = t.name
	if p.Source, err = t.sourceOf(e.child("source")); err != nil {
		return p, err
	}
	if err := p.identify(e, t); err != nil {
		return p, err
	}
	if err := p.features(e, t); err != nil {
		return p, err
	}
	if err := t.check(p.Source); err != nil {
		return p, err
	}
	if err := p.target(e.child("target"), t); err != nil {
		return p, err
	}
	return p, p.options(e)
}

// typeOf is the type that the root's attribute names.
func typeOf(e *element) (poolType, error) {
	name := e.attr("type")
	if name == "" {
		return poolType{}, refuse(Shape, "Missing required attribute 'type' in element 'pool'")
	}
	t, ok := poolTypeOf(name)
	if !ok {
		return t, refuse(Shape, "Invalid value for attribute 'type' in element 'pool': '%s'.", name)
	}
	return t, nil
}

// identify reads the name and the UUID. A pool whose source has a name is called so too,
// and the other way round.
func (p *Pool) identify(e *element, t poolType) (err error) {
	p.Name = e.of("name")
	if p.Name == "" && t.sourceName {
		p.Name = p.Source.Name
	}
	switch {
	case p.Name == "":
		return refuse(Wrong, "missing pool source name element")
	case strings.Contains(p.Name, "/"):
		return refuse(Wrong, "name %s cannot contain '/'", p.Name)
	}
	if t.sourceName && p.Source.Name == "" {
		p.Source.Name = p.Name
	}
	if text := e.of("uuid"); text != "" {
		p.UUID, err = parseUUID(text)
	}
	return err
}

// parseUUID gives a UUID as it is written. It takes what libvirt takes: blanks and
// hyphens anywhere between the digits (virUUIDParse).
func parseUUID(text string) (string, error) {
	digits := strings.NewReplacer("-", "", " ", "", "\t", "", "\n", "").Replace(text)
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != 16 {
		return "", refuse(Wrong, "malformed uuid element")
	}
	return uuid.UUID(raw).String(), nil
}

func (p *Pool) features(e *element, t poolType) error {
	p.CopyOnWrite = e.child("features").child("cow").attr("state")
	if err := yesNo(p.CopyOnWrite, "state", "cow"); err != nil {
		return err
	}
	if p.CopyOnWrite != "" && t.name != "fs" && t.name != "dir" {
		return refuse(Impossible, "cow feature may only be used for 'fs' and 'dir' pools")
	}
	return nil
}

// target reads where the volumes are to be, unless the type says it.
func (p *Pool) target(e *element, t poolType) (err error) {
	switch {
	case t.targetless:
		return nil
	case t.under != "":
		p.Path = t.beneath(p.Source.Name)
	default:
		if p.Path = e.of("path"); p.Path == "" {
			return refuse(Wrong, "missing storage pool target path")
		}
		p.Path = sanitized(p.Path)
	}
	p.Permissions, err = permissionsOf(e.child("permissions"))
	return err
}

// options reads how the pool is to be read, and mounted.
func (p *Pool) options(e *element) error {
	p.Refresh = e.child("refresh").child("volume").attr("allocation")
	if p.Refresh != "" && p.Refresh != "default" && p.Refresh != "capacity" {
		return refuse(Unsupported, "unknown storage pool volume refresh allocation type %s", p.Refresh)
	}
	for _, o := range e.childOf(spaceOptions, "mount_opts").all("option") {
		name := o.attr("name")
		if name == "" {
			return refuse(Wrong, "no fs mount option name specified")
		}
		p.Options = append(p.Options, name)
	}
	return nil
}

// Format writes the document. Types that libvirt has no name for are written too.
func (p Pool) Format() string {
	t, ok := poolTypeOf(p.Type)
	if !ok {
		t = poolType{name: p.Type}
	}
	attrs := []attribute{attr("type", p.Type)}
	if len(p.Options) > 0 {
		attrs = append(attrs, attr("xmlns:fs", spaceOptions))
	}
	w := &writer{}
	w.with("pool", func() { p.write(w, t) }, attrs...)
	return w.String()
}

func (p Pool) write(w *writer, t poolType) {
	w.text("name", p.Name)
	w.text("uuid", p.UUID)
	w.bytes("capacity", p.Capacity)
	w.bytes("allocation", p.Allocation)
	w.bytes("available", p.Available)
	if p.CopyOnWrite != "" {
		w.with("features", func() { w.named("cow", "state", p.CopyOnWrite) })
	}
	p.Source.write(w, t)
	if !t.targetless {
		w.with("target", func() {
			w.text("path", p.Path)
			p.Permissions.write(w)
		})
	}
	if p.Refresh != "" {
		w.with("refresh", func() { w.named("volume", "allocation", p.Refresh) })
	}
	p.writeOptions(w)
}

func (p Pool) writeOptions(w *writer) {
	if len(p.Options) == 0 {
		return
	}
	w.with("fs:mount_opts", func() {
		for _, o := range p.Options {
			w.named("fs:option", "name", o)
		}
	})
}

// Define asks for the pool that the document describes. Unlike one that is asked for
// over REST it is not started at boot unless somebody says so, as libvirt has it.
func (p Pool) Define() contract.PoolDefine {
	if t, _ := poolTypeOf(p.Type); t.auth == "" {
		p.Source.Auth = nil
	}
	r := contract.PoolDefine{
		Name:      p.Name,
		UUID:      p.UUID,
		Type:      p.Type,
		Target:    record.Target{Path: p.Path, Rights: p.Permissions.Rights().Rights},
		Source:    p.Source.record(p.Options),
		Autostart: new(false),
	}
	if p.Type == typeDisk && len(p.Source.Devices) == 1 {
		r.Target = record.Target{Path: p.Source.Devices[0].Path}
		if p.Source.Format == unknownFormat { // with which libvirt does so
			r.Source.Format = dosFormat
		}
	}
	if p.Type == typeISCSI && p.Path == byPath {
		r.Target = record.Target{}
	}
	return r
}

// byPath is the target that libvirt's documents give to pools of type iscsi. Where in it the
// units of a pool are follows from its source.
const (
	typeISCSI = "iscsi"
	byPath    = "/dev/disk/by-path"
)

// A disk's partitions lie for libvirt in the directory of its node, for us at the node: so two
// disks are two targets.
const (
	typeDisk      = "disk"
	unknownFormat = "unknown"
	dosFormat     = "dos"
)

// OfPool describes a pool: with the permissions of its directory as they are, or until
// anybody has looked as they are to be.
func OfPool(r record.Pool) Pool {
	p := Pool{Type: r.Type, Name: r.Name, UUID: r.UUID, Capacity: r.Capacity, Allocation: r.Allocation, Available: r.Available, Path: r.Target.Path}
	if p.Type == typeDisk || p.Type == typeISCSI {
		p.Path = path.Dir(p.Path)
	}
	p.Source, p.Options = sourceFrom(r.Source)
	if len(p.Source.Devices) == 1 {
		for _, x := range r.FreeExtents {
			p.Source.Devices[0].Free = append(p.Source.Devices[0].Free, Extent{x.Start, x.End})
		}
	}
	if p.Permissions = permissionsFrom(r.Permissions); p.Permissions.none() {
		p.Permissions = permissionsIn(r.Target.Rights)
	}
	return p
}
