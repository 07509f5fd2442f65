package qemu

import (
	"context"
	"net"

	"storaged/internal/diskio"
	"storaged/internal/nbd"
	"storaged/internal/tool"
)

// Source is what an image can pull from: another image, of the same capacity.
type Source struct {
	Layer
	Capacity int64 // bytes
}

const (
	marksName = "marks" // export of the node that is marked
	bitmap    = "pull"  // on both nodes
	// markBytes is the unit of a mark: that of a backup, which grows it to a cluster of
	// its target.
	markBytes = 64 << 10
	// Workers of a pull and the most that each moves at a time, bytes.
	pullWorkers = 8
	pullChunk   = 2 << 20
)

// pulls is how a child copies from one image to another by itself: by a block job
// (blockdev-backup) of what a bitmap says. No command sets the bits of one. A bitmap has
// what was written to its node: there is a node of nothing beside the images, which is
// written to, and its bitmap is merged into one of the source.
type pulls struct {
	source, target, marked any // names of nodes
	marks                  *nbd.Client
}

// beside adds a source, unless it is one that is copied faster through here: QEMU reads
// a vmdk grain by grain, and has one thread that unpacks what is compressed.
func (g *graph) beside(s *Source) *pulls {
	if s == nil || s.Format == "vmdk" || !direct(s.Layer, false) {
		return nil
	}
	p := &pulls{source: g.layer(s.Layer, false)}
	nothing := g.add("nothing", object{"driver": "null-co", "size": s.Capacity})
	p.marked = g.add("marked", object{"driver": "raw", "file": nothing, "discard": "unmap"})
	g.exports = append(g.exports, object{"type": "nbd", "id": marksName, "name": marksName, "node-name": p.marked, "writable": true})
	return p
}

// begin makes the bitmaps.
func (p *pulls) begin(ctx context.Context, d *tool.Daemon, target any) (err error) {
	p.target = target
	last := len(d.Link.Conns) - 1
	if p.marks, err = nbd.Connect(ctx, []net.Conn{d.Link.Conns[last]}, nbd.Export{Name: marksName}); err != nil {
		return err
	}
	for _, node := range []any{p.source, p.marked} {
		err = d.Do(ctx, "block-dirty-bitmap-add", object{"node": node, "name": bitmap, "granularity": markBytes})
		if err != nil {
			p.close()
			return err
		}
	}
	return nil
}

func (p *pulls) close() {
	if p != nil {
		p.marks.Close() // it has no error
	}
}

// Pulls reports whether the image can pull from its source.
func (i *Image) Pulls() bool { return i.pulls != nil }

// Pull makes extents of the image read as those of its source, to which the child copies
// them itself, and returns when it has: they are written, and not flushed. It is called by
// one goroutine at a time. After an error any of it may be written.
func (i *Image) Pull(extents []diskio.Extent) error {
	return i.ask(func() error { return i.pulls.pull(i.daemon, extents) })
}

func (p *pulls) pull(d *tool.Daemon, extents []diskio.Extent) error {
	bytes := int64(0)
	for _, x := range extents {
		if err := p.marks.Discard(x.Off, x.Len); err != nil {
			return err
		}
		bytes += x.Len
	}
	ctx, cancel := within(context.Background(), due(bytes))
	defer cancel()
	marks := object{"node": p.marked, "name": bitmap}
	err := d.Do(ctx, "block-dirty-bitmap-merge", object{"node": p.source, "target": bitmap, "bitmaps": []object{marks}})
	if err == nil {
		err = d.Do(ctx, "block-dirty-bitmap-clear", marks)
	}
	if err != nil {
		return err
	}
	return d.Job(ctx, bitmap, "blockdev-backup", object{
		"job-id": bitmap, "device": p.source, "target": p.target, "sync": "bitmap", "bitmap": bitmap, "bitmap-mode": "on-success",
		"auto-dismiss": false, "x-perf": object{"max-workers": pullWorkers, "max-chunk": pullChunk},
	})
}
