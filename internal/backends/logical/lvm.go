package logical

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"storaged/internal/backends"
	"storaged/internal/backends/deputy"
	"storaged/internal/record"
	"storaged/internal/tool"
)

// maxReport bounds what LVM reports of a group, bytes: some 60 000 volumes.
const maxReport = 64 << 20

// lvmTime is how long LVM may take: it waits for its own lock, and for each device of the
// host that answers slowly.
const lvmTime = 5 * time.Minute

// settings hold for each call. What lies in volumes is their owners': no groups are
// looked for there, and none is ever activated (lvm.conf(5)). Partitions of volumes are left
// out by filtered.
const settings = "devices/scan_lvs=0 report/compact_output=0 report/output_format=json"

// command is one of LVM's. Nothing is asked of anybody: standard input is empty.
type command struct {
	verb     string
	options  []string
	operands []string
}

// run gives what it says. The job's lock, if there is one, is inherited: as long as the
// command is at work the job is.
func (c command) run(ctx context.Context, p backends.Pool) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lvmTime, fmt.Errorf("it took longer than %v", lvmTime))
	defer cancel()
	config, err := filtered(ctx)
	if err != nil {
		return nil, err
	}
	return tool.Command{
		Program: tool.LVM, Verb: c.verb, Options: append([]string{"--config", config}, c.options...), Operands: c.operands,
		Lock: p.JobLock, Output: maxReport,
	}.Administer(ctx)
}

// change runs a command that changes something: it is let come to its end.
func change(ctx context.Context, p backends.Pool, c command) error {
	_, err := c.run(context.WithoutCancel(ctx), p)
	return err
}

// group is a volume group as LVM reports it. Sizes are bytes.
type group struct {
	name    string
	uuid    backends.Identity
	size    int64
	free    int64
	extent  int64
	missing int64    // devices of it that are not there
	devices []string // the others, by their paths
	volumes []logicalVolume
}

// logicalVolume is one of a group.
type logicalVolume struct {
	name   string
	uuid   backends.Identity
	size   int64
	filled float64 // percent that has storage of a thin volume, or is taken of a pool of such or of a snapshot; -1: it is none
	tables float64 // percent that is taken of a pool's metadata, likewise
	chunk  int64   // bytes that a pool of thin volumes gives at a time, to this one too; 0: it is neither
	meta   int64   // bytes that such a pool has for its metadata
	kind   byte    // first of lv_attr (lvs(8))
	zeroes bool    // what a thin pool gives reads as zeros where it is not written
	active bool
	origin string
	thin   string // pool that it takes its storage from
	lies   []record.Extent
}

// What is asked for of the group, and of each volume and device.
const (
	groupColumns  = "vg_name,vg_uuid,vg_size,vg_free,vg_extent_size,vg_missing_pv_count"
	volumeColumns = "lv_name,lv_uuid,lv_size,lv_attr,lv_active,origin,pool_lv,data_percent,metadata_percent,lv_metadata_size"
)

// report is all that there is of a group, at one moment. The part that is not needed is
// reported in any case (lvm-fullreport(8)), and so that it is short.
func report(group string) command {
	options := []string{"--reportformat", "json", "--units", "b", "--nosuffix"}
	for _, part := range [][2]string{{"vg", groupColumns}, {"lv", volumeColumns}, {"pv", "pv_name,pv_missing,pe_start"}, {"pvseg", "pvseg_size"}, {"seg", "lv_name,lv_uuid,seg_pe_ranges,chunk_size"}} {
		options = append(options, "--configreport", part[0], "--options", part[1])
	}
	return command{"fullreport", options, []string{group}}
}

// look reads the pool's group.
func look(ctx context.Context, p backends.Pool) (g group, err error) {
	if err := ctx.Err(); err != nil {
		return g, err
	}
	name := groupOf(p)
	a, err := deputy.Do(ctx, Backend{}, p, backends.Errand{Do: doReport})
	if err != nil {
		return g, fmt.Errorf("cannot look at volume group %q: %w", name, err)
	}
	if g, err = parse(a.Text); err != nil {
		return g, fmt.Errorf("cannot read what LVM reports of volume group %q: %w", name, err)
	}
	if !(Backend{}).Same(p.ID, g.uuid) {
		return g, replaced(p, g.uuid)
	}
	return g, nil
}

// replaced says that the pool's group has become another.
func replaced(p backends.Pool, is backends.Identity) error {
	return &backends.AwayError{Target: p.Target, Err: fmt.Errorf("volume group %q %w: its uuid was %s, and is %s", groupOf(p), backends.ErrReplaced, p.ID, is)}
}

// parse reads a report, in which each value is text.
func parse(report []byte) (g group, err error) {
	var is struct {
		Report []struct {
			VG  []map[string]string `json:"vg"`
			PV  []map[string]string `json:"pv"`
			LV  []map[string]string `json:"lv"`
			Seg []map[string]string `json:"seg"`
		} `json:"report"`
	}
	if err := json.Unmarshal(report, &is); err != nil {
		return g, err
	}
	if len(is.Report) != 1 || len(is.Report[0].VG) != 1 {
		return g, errors.New("it is not of one group")
	}
	all := is.Report[0]
	r := row{values: all.VG[0]}
	g = group{
		name: r.text("vg_name"), uuid: backends.Identity(r.text("vg_uuid")), size: r.number("vg_size"),
		free: r.number("vg_free"), extent: r.number("vg_extent_size"), missing: r.number("vg_missing_pv_count"),
	}
	if r.err == nil && g.extent == 0 {
		r.err = errors.New("its extents have no size")
	}
	begins := map[string]int64{}
	for _, r.values = range all.PV {
		if r.text("pv_missing") == "" {
			g.devices = append(g.devices, r.text("pv_name"))
			begins[r.text("pv_name")] = r.number("pe_start")
		}
	}
	for _, r.values = range all.LV {
		g.volumes = append(g.volumes, r.volume())
	}
	for _, r.values = range all.Seg {
		g.place(backends.Identity(r.text("lv_uuid")), r.text("seg_pe_ranges"), begins)
		if v := g.find(r.text("lv_name")); v != nil {
			v.chunk = max(v.chunk, r.bytes("chunk_size"))
		}
	}
	for i := range g.volumes {
		if v := &g.volumes[i]; v.kind == thinVolume && g.find(v.thin) != nil {
			v.chunk = g.find(v.thin).chunk
		}
	}
	slices.SortFunc(g.volumes, func(a, b logicalVolume) int { return cmp.Compare(a.name, b.name) })
	return g, cmp.Or(r.err, (Backend{}).CheckIdentity(g.uuid))
}

// ranges are parts of devices, in extents of the group: DEVICE:FIRST-LAST.
var ranges = regexp.MustCompile(`(/\S+):([0-9]+)-([0-9]+)`)

// place says where a segment of a volume lies. Of volumes that are made of other volumes
// nothing is said. Where the extents of a device begin is LVM's.
func (g *group) place(uuid backends.Identity, on string, begins map[string]int64) {
	i := slices.IndexFunc(g.volumes, func(v logicalVolume) bool { return v.uuid == uuid })
	if i < 0 {
		return
	}
	for _, m := range ranges.FindAllStringSubmatch(on, -1) {
		first, _ := strconv.ParseInt(m[2], 10, 48) // they are numbers, and one that is too large is none that LVM has
		last, _ := strconv.ParseInt(m[3], 10, 48)
		begin, ok := begins[m[1]]
		if ok && len(g.volumes[i].lies) < record.MaxExtents {
			g.volumes[i].lies = append(g.volumes[i].lies, record.Extent{Device: m[1], Start: begin + first*g.extent, End: begin + (last+1)*g.extent})
		}
	}
}

// row reads the values of a row, and keeps the first error.
type row struct {
	values map[string]string
	err    error
}

func (r *row) text(name string) string {
	v, ok := r.values[name]
	if !ok && r.err == nil {
		r.err = fmt.Errorf("it has no %s", name)
	}
	return v
}

func (r *row) number(name string) int64 {
	v := r.text(name)
	n, err := strconv.ParseInt(v, 10, 64)
	if r.err == nil && (err != nil || n < 0) {
		r.err = fmt.Errorf("bad %s %q", name, v)
	}
	return n
}

// percent is -1 where there is none.
func (r *row) percent(name string) float64 {
	part, err := strconv.ParseFloat(r.text(name), 64)
	if err != nil {
		return -1
	}
	return part
}

// bytes are 0 where there are none.
func (r *row) bytes(name string) int64 {
	n, err := strconv.ParseInt(r.text(name), 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

func (r *row) volume() logicalVolume {
	v := logicalVolume{
		name: r.text("lv_name"), uuid: backends.Identity(r.text("lv_uuid")), size: r.number("lv_size"),
		active: r.text("lv_active") == "active", origin: named(r.text("origin")), thin: r.text("pool_lv"),
		filled: r.percent("data_percent"), tables: r.percent("metadata_percent"),
		meta: r.bytes("lv_metadata_size"),
	}
	if attributes := r.text("lv_attr"); attributes != "" {
		v.kind, v.zeroes = attributes[0], len(attributes) > 7 && attributes[7] == 'z'
	}
	if v.kind == thinVolume {
		v.name = named(v.name)
	}
	return v
}

// find gives the volume of a name, nil if there is none.
func (g *group) find(name string) *logicalVolume {
	for i := range g.volumes {
		if g.volumes[i].name == name {
			return &g.volumes[i]
		}
	}
	return nil
}

// enter looks at the group for an operation on a volume.
func enter(ctx context.Context, p backends.Pool, name string) (g group, err error) {
	if err := cmp.Or(ctx.Err(), checkName(name)); err != nil {
		return g, err
	}
	return look(ctx, p)
}
