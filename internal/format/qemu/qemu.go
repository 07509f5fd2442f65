// Package qemu has images as contents: a qemu-storage-daemon opens them, over
// descriptors that its caller opened, checked and locked, and serves what a guest
// would see over NBD.
//
// Nothing in an image is followed. What it stands on is given as Layers; without one
// it stands on nothing, whatever its header says. Formats are given too, and never
// probed. It runs in helper processes.
package qemu

import (
	"context"
	"fmt"
	"math/bits"
	"os"
	"time"

	"storaged/internal/confine"
	"storaged/internal/nbd"
	"storaged/internal/tool"
)

// Layer is an image, or what one stands on: open, checked and locked.
type Layer struct {
	File    *os.File
	Format  string   // QEMU's name
	Secret  []byte   // that opens it; nil: it is not encrypted
	Data    *os.File // of a qcow2 whose content is in another file, raw
	Backing *Layer   // what it stands on; nil: nothing
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
	// Capacity is what its header says, in bytes: its file grows no further than that
	// needs. 0: nobody knows.
	Capacity int64
	// ClusterSize is what its header says, in bytes: the unit in which it gives storage
	// back. 0: nobody knows.
	ClusterSize int64
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

// Connections are how many connections to an image are fastest.
const Connections = 2

// Limits of a child. The image is not trusted: without them its tables could take
// all memory, or opening it all time.
const (
	// addressSpace is twice what images of 8 TiB of every format took at most, 760 MiB,
	// most of it stacks of 64 threads, of which little is used: memory was 25 MiB, and
	// 60 of a vdi.
	addressSpace = 1536 << 20
	// openingTime is what one may work before its content is there, or for each secret by
	// which layers of it are opened. A key of LUKS takes a second or two, and all eight
	// are tried; tables take some milliseconds.
	openingTime = 30 * time.Second
	// startTime is what a child may take beside that until its images are open: 5 ms
	// on an idle machine, and what a device takes to read tables.
	startTime = 2 * time.Minute
	// waitsFor is how many processes may share its processor.
	waitsFor = 8
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

const (
	exportID   = "export"
	exportName = "content"
)

// Image is the content of an image. Its methods may be called by several goroutines
// at once. Close ends the child.
type Image struct {
	*nbd.Client
	daemon *tool.Daemon
	graph  *graph
}

// Confinement is how far the process is confined that reads the image.
func (i *Image) Confinement() confine.Level { return i.daemon.Level }

// Open opens an image. It may take what openingTime says, of processor time.
func Open(ctx context.Context, top Layer, o Options) (_ *Image, err error) {
	g := &graph{}
	if o.Writable {
		g.limit = bound(top.File, o.Capacity)
	}
	node := g.layer(top, o.Writable)
	if o.Compress {
		node = g.add("compress", object{"driver": "compress", "file": node})
	}
	d, err := g.open(ctx, o.Child, object{
		"type": "nbd", "id": exportID, "name": exportName, "node-name": node, "writable": o.Writable, "allocation-depth": true,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open the image of format %s: %w", top.Format, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot serve the image of format %s: %w", top.Format, d.Explain(err))
			d.Abandon()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, tool.CommandTime)
	defer cancel()
	c, err := nbd.Connect(ctx, d.Link.Conns, nbd.Export{Name: exportName, Granularity: o.unit(), Depths: true})
	if err != nil {
		return nil, err
	}
	if err := d.LiftCPU(); err != nil {
		c.Close() // it has no error
		return nil, err
	}
	return &Image{Client: c, daemon: d, graph: g}, nil
}

// closing is how long an image may take to be closed. It is not canceled: what was
// written has to be in order. Contents were flushed before.
const closing = 5 * time.Minute

// Close makes what was written durable, closes the image, so that it is marked as
// closed in order, and ends the child. After an error the image may have to be
// repaired.
func (i *Image) Close() error {
	err := i.Flush()
	i.Client.Close() // it has no error
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	if err == nil {
		err = i.daemon.Unexport(ctx, exportID)
	}
	if err == nil {
		err = i.graph.close(ctx, i.daemon)
	}
	if end := i.daemon.Quit(ctx); err == nil {
		err = end
	}
	if err != nil {
		return fmt.Errorf("cannot close the image: %w", err)
	}
	return nil
}

// ReadAt reads.
func (i *Image) ReadAt(p []byte, off int64) (int, error) {
	n, err := i.Client.ReadAt(p, off)
	return n, i.daemon.Explain(err)
}

// WriteAt writes.
func (i *Image) WriteAt(p []byte, off int64) (int, error) {
	n, err := i.Client.WriteAt(p, off)
	return n, i.daemon.Explain(err)
}

// Zero makes a part read as zeros.
func (i *Image) Zero(off, n int64, unmap bool) error {
	return i.daemon.Explain(i.Client.Zero(off, n, unmap))
}

// Flush makes what was written durable.
func (i *Image) Flush() error { return i.daemon.Explain(i.Client.Flush()) }

// isDevice tells whether a file is a block device, which QEMU opens otherwise.
func isDevice(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode().Type() == os.ModeDevice
}
