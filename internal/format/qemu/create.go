package qemu

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"storaged/internal/record"
	"storaged/internal/tool"
)

// New is an image to be made.
type New struct {
	Child
	Format   string
	Capacity int64 // bytes
	// Options are those of qemu-img(1) for the format, sizes in bytes. Beside them
	// there is "compression" of a qcow2: off, zlib or zstd. Those of encryption are
	// of luks and of an encrypted qcow2, and have _ for -.
	Options map[string]string
	// BackingName is what its header shall name as what it stands on, "" for nothing.
	// It is not looked at.
	BackingName, BackingFormat string
	Secret                     []byte // encrypts it, by LUKS; nil: it is not encrypted
	// Ahead becomes whether QEMU can allocate a file ahead; nil: nobody asks.
	Ahead *bool
}

// maker is how a format is made.
type maker struct {
	options map[string]option
	always  object // what QEMU's own tool would do otherwise
	backing bool   // it can stand on another
}

// option is one of an image that is made.
type option struct {
	name string // of QMP
	as   func(value string) (any, error)
}

// makers has every format that can be made in one file.
var makers = map[string]maker{
	"raw": {},
	"qcow2": {backing: true, options: map[string]option{
		"cluster_size": {"cluster-size", number}, "refcount_bits": {"refcount-bits", number},
		"compat":         {"version", one(map[string]any{"0.10": "v2", "1.1": "v3", "v2": "v2", "v3": "v3"})},
		"lazy_refcounts": {"lazy-refcounts", flag}, "extended_l2": {"extended-l2", flag},
		"preallocation": {"preallocation", text}, "compression_type": {"compression-type", text},
		"compression": {"compression-type", one(map[string]any{"off": nil, "zlib": "zlib", "zstd": "zstd"})},
	}},
	"qcow": {backing: true},
	"qed":  {backing: true, options: map[string]option{"cluster_size": {"cluster-size", number}, "table_size": {"table-size", number}}},
	"vmdk": {options: map[string]option{
		"adapter_type": {"adapter-type", text}, "hwversion": {"hwversion", text}, "zeroed_grain": {"zeroed-grain", flag},
		"subformat": {"subformat", one(map[string]any{"monolithicSparse": "monolithicSparse", "streamOptimized": "streamOptimized"})},
	}},
	"vdi": {options: map[string]option{
		"static":        {"preallocation", one(map[string]any{"on": "metadata", "off": "off"})},
		"preallocation": {"preallocation", text},
	}},
	// Without force-size the capacity is rounded up to what cylinders, heads and
	// sectors can tell.
	"vpc": {always: object{"force-size": true}, options: map[string]option{"subformat": {"subformat", text}}},
	"vhdx": {options: map[string]option{
		"subformat": {"subformat", text}, "block_size": {"block-size", number}, "log_size": {"log-size", number},
		"block_state_zero": {"block-state-zero", flag},
	}},
	"luks": {options: map[string]option{
		"cipher_alg": {"cipher-alg", text}, "cipher_mode": {"cipher-mode", text}, "hash_alg": {"hash-alg", text},
		"ivgen_alg": {"ivgen-alg", text}, "ivgen_hash_alg": {"ivgen-hash-alg", text}, "iter_time": {"iter-time", number},
		"preallocation": {"preallocation", text},
	}},
	"parallels": {options: map[string]option{"cluster_size": {"cluster-size", number}}},
}

func number(value string) (any, error) { return strconv.ParseInt(value, 10, 64) }

func text(value string) (any, error) { return value, nil }

var flag = one(map[string]any{"on": true, "off": false})

// one is an option of few values.
func one(values map[string]any) func(string) (any, error) {
	return func(value string) (any, error) {
		v, ok := values[value]
		if !ok {
			return nil, fmt.Errorf("%q is no value of it", value)
		}
		return v, nil
	}
}

// Create writes an empty image into an open file. What it reserves it does at once:
// that can take as long as writing its capacity.
func Create(ctx context.Context, f *os.File, n New) (err error) {
	defer func() { err = failed("make", n.Format, f, err) }()
	if n.Format == record.FormatRaw {
		return f.Truncate(n.Capacity)
	}
	g := &graph{limit: bound(f, n.Capacity)}
	file := g.file(f, true, false) // sizes that are no multiple of a block are in its way
	options, err := n.options(g)
	if err != nil {
		return err
	}
	options["file"] = file
	ctx, cancel := within(ctx, due(n.Capacity))
	defer cancel()
	d, err := g.open(ctx, n.Child)
	if err != nil {
		return err
	}
	defer d.Abandon()
	if err := d.LiftCPU(); err != nil { // it reads nothing that somebody else wrote
		return err
	}
	if n.Ahead != nil {
		*n.Ahead = canAllocate(ctx, d, file)
	}
	err = timed(func() error {
		return d.Job(ctx, "create", "blockdev-create", object{"job-id": "create", "options": options})
	})
	if err != nil {
		return err
	}
	return end(ctx, d, g)
}

// canAllocate tries whether this build of QEMU has what allocates ahead. An error that
// is of something else comes again.
func canAllocate(ctx context.Context, d *tool.Daemon, file string) bool {
	node := object{"node-name": aheadDriver}
	add := object{"driver": aheadDriver, "file": file, "node-name": aheadDriver}
	return d.Do(ctx, "blockdev-add", add) == nil && d.Do(ctx, "blockdev-del", node) == nil
}

// end closes what is open, in order, and ends the child.
func end(ctx context.Context, d *tool.Daemon, g *graph) error {
	if err := g.close(ctx, d); err != nil {
		return err
	}
	return d.Quit(ctx)
}

// options are those of blockdev-create, without the file.
func (n New) options(g *graph) (object, error) {
	m, ok := makers[n.Format]
	if !ok {
		return nil, record.Errorf(record.Unsupported, "images of format %q are not made", n.Format)
	}
	out := object{"driver": n.Format, "size": n.Capacity}
	for name, value := range m.always {
		out[name] = value
	}
	if err := n.stands(m, g, out); err != nil {
		return nil, err
	}
	for name, value := range n.Options {
		if err := n.option(m, out, name, value); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// option adds one.
func (n New) option(m maker, out object, name, value string) error {
	known := m.options
	if _, ok := known[name]; !ok && n.Secret != nil && n.Format == "qcow2" {
		known, out = makers["luks"].options, out["encrypt"].(object)
	}
	o, ok := known[name]
	if !ok {
		return record.Errorf(record.Invalid, "format %s has no option %q", n.Format, name)
	}
	v, err := o.as(value)
	if err != nil {
		return record.Errorf(record.Invalid, "option %s of format %s: %v", name, n.Format, err)
	}
	if v != nil {
		out[o.name] = v
	}
	return nil
}

// stands adds what the image stands on, and what encrypts it.
func (n New) stands(m maker, g *graph, out object) error {
	if n.BackingName != "" {
		if !m.backing {
			return record.Errorf(record.Unsupported, "an image of format %s that stands on another is not made", n.Format)
		}
		out["backing-file"] = n.BackingName
		if n.Format != "qcow" { // it keeps no format
			out["backing-fmt"] = n.BackingFormat
		}
	}
	switch {
	case n.Format == "luks":
		out["key-secret"] = g.secret(n.Secret)
	case n.Secret != nil && n.Format != "qcow2":
		return record.Errorf(record.Unsupported, "images of format %s are not encrypted", n.Format)
	case n.Secret != nil:
		out["encrypt"] = object{"format": "luks", "key-secret": g.secret(n.Secret)}
	}
	return nil
}

// Resize gives an image another capacity, in bytes. What a smaller one cuts off is
// lost; that the caller wants it is for him to make sure. It is canceled by killing
// the child, after which the image may have to be repaired.
func Resize(ctx context.Context, top Layer, capacity int64, c Child) error {
	g := &graph{limit: bound(top.File, capacity)}
	node := g.layer(top, true)
	ctx, cancel := within(ctx, due(max(capacity, sizeOf(top.File))))
	defer cancel()
	d, err := g.open(ctx, c)
	if err == nil {
		defer d.Abandon()
		err = d.LiftCPU() // to cut off takes as long as there is
	}
	if err == nil {
		err = d.Execute(ctx, "block_resize", object{"node-name": node, "size": capacity}, nil)
	}
	if err == nil {
		err = end(ctx, d, g)
	}
	return failed("resize", top.Format, top.File, err)
}
