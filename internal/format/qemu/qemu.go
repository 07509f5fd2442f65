// Package qemu has images as contents: a qemu-storage-daemon opens them, over
// descriptors that its caller opened, checked and locked, and serves what a guest
// would see over NBD.
//
// Nothing in an image is followed. What it stands on is given as Layers; without one
// it stands on nothing, whatever its header says. Formats are given too, and never
// probed. It runs in helper processes.
package qemu

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"os"
	"sync"
	"time"

	"storaged/internal/confine"
	"storaged/internal/diskio"
	"storaged/internal/nbd"
	"storaged/internal/tool"
)

// Layer is an image, or what one stands on: open, checked and locked.
type Layer struct {
	File    *os.File
	Format  string     // QEMU's name
	Secret  []byte     // that opens it; nil: it is not encrypted
	Data    *os.File   // of a qcow2 whose content is in another file, raw
	Extents []*os.File // of a vmdk whose content is in other files, in its descriptor's order
	Backing *Layer     // what it stands on; nil: nothing
}

// Child is what the process gets that opens an image.
type Child struct {
	// Link is how it is spoken to. It becomes the child's. nil: one is made, for
	// which this process must be able to make sockets.
	Link *tool.Link
	Lock *os.File // the job's, which it inherits; nil: there is none
}

// Options are those of Open.
type Options struct {
	Child
	Writable bool
	Compress bool // clusters that are written at once are compressed
	// Draft says that the image is of no use before a flush and after what was written
	// behind one, if the power fails: its tables are written in no order, and are to be
	// repaired then.
	Draft bool
	Ahead bool // its file is allocated ahead, which QEMU can by New.Ahead
	// Capacity is what its header says, in bytes: its file grows no further than that
	// needs. 0: nobody knows.
	Capacity int64
	// ClusterSize is what its header says, in bytes: the unit in which it gives storage
	// back. 0: nobody knows.
	ClusterSize int64
	// Source is what the child opens beside the image, to be read, so that Pull can copy
	// from it. nil: nothing.
	Source *Source

	patience time.Duration // 0: as everywhere
}

// Bounds of a cluster that is believed, bytes.
const (
	leastCluster = 512
	mostCluster  = 2 << 20
)

// unit is the cluster size if it is one that a content can have, else 0.
func (o Options) unit() int64 {
	if size := o.ClusterSize; size >= leastCluster && size <= mostCluster && bits.OnesCount64(uint64(size)) == 1 {
		return size
	}
	return 0
}

// Connections are how many connections to an image there may be: as many as calls of a
// transfer. To most of them more than usual are no faster.
const (
	Connections = 4
	usual       = 2
)

// oneWriter is the format whose driver loses an entry of its table where two requests
// allocate: each writes the sector that has both, as it was, in no order.
const oneWriter = "vdi"

// Limits of a child. The image is not trusted: without them its tables could take
// all memory, or opening it all time.
const (
	// addressSpace is twice what images of 8 TiB of every format took at most, 760 MiB,
	// most of it stacks of 64 threads, of which little is used: memory was 25 MiB, and
	// 60 of a vdi.
	addressSpace = 1536 << 20
	// openingTime is what one may work before its content is there. Tables take some
	// milliseconds.
	openingTime = 30 * time.Second
	// keyTime is what it may work beside that for each layer that a secret opens: two
	// keys that take the minute which they take at most here, or eight usual ones of
	// two seconds.
	keyTime = 150 * time.Second
	// descriptors are for a chain of 64 layers with a data file each, all inherited and
	// opened anew, sockets, and what the daemon has itself.
	descriptors = 512
	// tables is more than those of any format take beside a sixteenth of the capacity:
	// a qed may have a GiB in each of two levels, and a vhdx as much in its log.
	tables = 4 << 30
)

// bound is how long the file of an image may become, in bytes, by what it has and what
// its capacity needs; 0 where that is not known.
func bound(f *os.File, capacity int64) int64 {
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || capacity <= 0 || capacity > 1<<61 {
		return 0
	}
	return fi.Size() + capacity + capacity/16 + tables
}

const exportName = "content"

// Image is the content of an image. Its methods may be called by several goroutines
// at once. Close ends the child.
type Image struct {
	*nbd.Client
	name     string // of its file
	daemon   *tool.Daemon
	graph    *graph
	pulls    *pulls     // nil: there is nothing to pull from
	drafts   []*os.File // that QEMU does not flush
	asked    asked
	watching sync.WaitGroup

	alone   bool       // one call at a time writes
	writing sync.Mutex // held by that
}

// Confinement is how far the process is confined that reads the image.
func (i *Image) Confinement() confine.Level { return i.daemon.Level }

// Open opens an image. It may take what openingTime and keyTime say, of processor time.
// When ctx is canceled the image stays open, to be closed in order; a child that does
// not answer then is ended, and the image closed.
func Open(ctx context.Context, top Layer, o Options) (_ *Image, err error) {
	g := &graph{draft: o.Draft, ahead: o.Draft && o.Ahead && top.Format == aheadFormat}
	if o.Writable {
		g.limit = bound(top.File, o.Capacity)
	}
	for range twins(top, o) {
		g.export(top, o)
	}
	served := len(g.exports)
	pulls := g.beside(o.Source)
	d, err := g.open(ctx, o.Child)
	if err != nil {
		return nil, failed("open", top.Format, top.File, err)
	}
	defer func() {
		if err != nil {
			err = failed("serve", top.Format, top.File, d.Explain(err))
			d.Abandon()
		}
	}()
	connecting, cancel := within(ctx, tool.CommandTime)
	defer cancel()
	c, err := nbd.Connect(connecting, d.Link.Conns[:max(usual, served)], nbd.Export{Name: exportName, Twins: served, Granularity: o.unit(), Depths: true})
	if err != nil {
		return nil, err
	}
	if err := d.LiftCPU(); err != nil {
		c.Close() // it has no error
		return nil, err
	}
	if pulls != nil {
		if err := pulls.begin(connecting, d, g.exports[0]["node-name"]); err != nil {
			c.Close() // it has no error
			return nil, err
		}
	}
	i := &Image{Client: c, name: top.File.Name(), daemon: d, graph: g, pulls: pulls, alone: o.Writable && top.Format == oneWriter}
	if o.Draft {
		i.drafts = g.policy.Write
	}
	i.watching.Go(func() { i.asked.watch(ctx, cmp.Or(o.patience, patience), d.Ended(), d.End) })
	return i, nil
}

// twins is how often the image is opened, for a connection each. The driver of a vmdk
// reads grain by grain, and one request after the other.
func twins(top Layer, o Options) int {
	if o.Writable || top.Format != "vmdk" || top.Backing != nil || len(top.Extents) > 0 {
		return 1
	}
	return Connections
}

// export adds the image, and serves it.
func (g *graph) export(top Layer, o Options) {
	node := g.layer(top, o.Writable)
	if o.Compress {
		node = g.add("compress", object{"driver": "compress", "file": node})
	}
	n := len(g.exports)
	g.exports = append(g.exports, object{
		"type": "nbd", "id": fmt.Sprintf("export%d", n), "name": nbd.Export{Name: exportName, Twins: n + 1}.Of(n), "node-name": node,
		"writable": o.Writable, "allocation-depth": true,
	})
}

// exported are the names that the child has for the exports.
func (g *graph) exported() (ids []string) {
	for _, export := range g.exports {
		ids = append(ids, export["id"].(string))
	}
	return ids
}

// Close makes what was written durable, closes the image, so that it is marked as
// closed in order, and ends the child. After an error the image may have to be
// repaired.
func (i *Image) Close() error {
	defer i.watching.Wait()
	err := i.Flush()
	i.Client.Close() // it has no error
	i.pulls.close()
	ctx, cancel := within(context.Background(), closing)
	defer cancel()
	if err == nil {
		err = i.asked.do(func() error { return i.daemon.Unexport(ctx, i.graph.exported()...) })
	}
	if err == nil {
		err = i.asked.do(func() error { return i.graph.close(ctx, i.daemon) })
	}
	if end := i.asked.do(func() error { return i.daemon.Quit(ctx) }); err == nil {
		err = end
	}
	if err == nil {
		err = i.flushDrafts()
	}
	if err != nil {
		return fmt.Errorf("cannot close the image: %w", explained(i.name, err))
	}
	return nil
}

// ask asks the child for something.
func (i *Image) ask(what func() error) error { return i.daemon.Explain(i.asked.do(what)) }

// write is ask for what writes.
func (i *Image) write(what func() error) error {
	if i.alone {
		i.writing.Lock()
		defer i.writing.Unlock()
	}
	return i.ask(what)
}

// ReadAt reads.
func (i *Image) ReadAt(p []byte, off int64) (n int, err error) {
	err = i.ask(func() error { n, err = i.Client.ReadAt(p, off); return err })
	return n, err
}

// WriteAt writes.
func (i *Image) WriteAt(p []byte, off int64) (n int, err error) {
	err = i.write(func() error { n, err = i.Client.WriteAt(p, off); return err })
	return n, err
}

// Zero makes a part read as zeros.
func (i *Image) Zero(off, n int64, unmap bool) error {
	return i.write(func() error { return i.Client.Zero(off, n, unmap) })
}

// Discard says that nobody needs a part any more.
func (i *Image) Discard(off, n int64) error {
	return i.write(func() error { return i.Client.Discard(off, n) })
}

// Flush makes what was written durable.
func (i *Image) Flush() error { return cmp.Or(i.ask(i.Client.Flush), i.flushDrafts()) }

func (i *Image) flushDrafts() error {
	for _, f := range i.drafts {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// Extents are a map of the content.
func (i *Image) Extents(list []diskio.Extent, off, end int64) (n int, err error) {
	err = i.ask(func() error { n, err = i.Client.Extents(list, off, end); return err })
	return n, err
}

// Depths are a map of the layers.
func (i *Image) Depths(list []nbd.Depth, off, end int64) (n int, err error) {
	err = i.ask(func() error { n, err = i.Client.Depths(list, off, end); return err })
	return n, err
}

// sizeOf is how long a file or device is, bytes; 0 where that cannot be found out.
func sizeOf(f *os.File) int64 {
	size, _ := diskio.FileContent(f).Size()
	return size
}

// isDevice tells whether a file is a block device, which QEMU opens otherwise.
func isDevice(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode().Type() == os.ModeDevice
}
