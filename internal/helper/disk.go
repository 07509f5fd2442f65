package helper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"storaged/internal/backends"
	"storaged/internal/backends/header"
	"storaged/internal/diskio"
	"storaged/internal/format"
	"storaged/internal/format/qemu"
	"storaged/internal/record"
	"storaged/internal/tool"
)

// Stored is what has the file of an image: a volume, a draft, or what was given.
type Stored interface {
	Content() diskio.Content
	Info() (backends.VolumeInfo, error)
}

var (
	_ Stored = backends.Volume(nil)
	_ Stored = backends.Draft(nil)
)

// Disk says how a volume or a draft is opened as an image. The format is the
// catalog's, or that of what somebody gave; no probe decides it here.
type Disk struct {
	Format   string
	Chain    Chain  // what it stands on
	Secret   string // name of the secret that opens it, "" for none
	Writable bool
	Compress bool // what is written is compressed, cluster by cluster
	Draft    bool // if the power fails, what was written since the last flush is to be repaired
	// Source is what the same process opens beside it, from which it can copy by itself.
	// nil: nothing.
	Source *Source
	Alone  bool // nothing is read of its content: what it stands on is neither given nor opened
	tables bool // nothing of it is read but its tables, which may name what is cut off
}

// Source is an image that another is made of.
type Source struct {
	Stored
	Disk
	Capacity int64 // bytes
}

// layer is the image with all that it stands on. Its secrets are given up by drop.
func (d Disk) layer(r *Run, s Stored) (top qemu.Layer, drop func(), err error) {
	var secrets [][]byte
	drop = func() {
		for _, s := range secrets {
			clear(s)
		}
	}
	add := func(c diskio.Content, format, secret string) (l qemu.Layer, err error) {
		if l = (qemu.Layer{File: diskio.FileOf(c), Format: format}); l.File == nil {
			return l, errors.New("it is no file and no device, which an image is opened from")
		}
		l.Secret, err = r.Secret(secret)
		secrets = append(secrets, l.Secret)
		return l, err
	}
	if top, err = add(s.Content(), d.Format, d.Secret); err != nil {
		return top, drop, err
	}
	above := &top
	for _, below := range d.Chain {
		l, err := add(below.Volume.Volume.Content(), below.Format, below.Secret)
		switch {
		case err != nil:
			return top, drop, fmt.Errorf("%q, which it stands on: %w", below.Path, err)
		case below.Data && above.Format == "vmdk":
			above.Extents = append(above.Extents, l.File)
		case below.Data:
			above.Data = l.File
		default:
			above.Backing = &l
			above = &l
		}
	}
	return top, drop, d.Sound(s)
}

// Sound refuses an image that must not be opened, by the headers of its layers as they
// are now, under their locks: each names what it is given, and nothing else. Others may
// have given one another backing since anybody read it last.
func (d Disk) Sound(s Stored) error {
	chain, in, name := d.Chain, d.Format, "the image"
	for {
		info, i, err := scrutinized(s, in, name)
		if err != nil && (!d.tables || i.Cut == 0) {
			return err
		}
		data, below := chain.split()
		switch {
		case !d.Alone:
			err = cmp.Or(asGiven(name, header.Named(filepath.Dir(info.Path), i), data, below), data.hold(name, in, d.Writable))
		case len(i.Data) > len(data):
			err = record.Errorf(record.Unsupported, "%s has content in %q, which is not opened", name, record.Escape(i.Data[0]))
		}
		if err != nil {
			return err
		}
		if len(below) == 0 {
			return nil
		}
		s, in, name, chain = below[0].Volume.Volume, below[0].Format, strconv.Quote(below[0].Path), below[1:]
	}
}

// Intact refuses a layer that has a problem itself, whatever it stands on.
func (l Layer) Intact() error {
	_, _, err := scrutinized(l.Volume.Volume, l.Format, strconv.Quote(l.Path))
	return err
}

// scrutinized is what the header and the tables of an image say, which has a problem if
// there is an error.
func scrutinized(s Stored, in, name string) (info backends.VolumeInfo, i format.Image, err error) {
	if info, i, err = inspected(s, in, format.Scrutinize); err != nil {
		return info, i, fmt.Errorf("cannot read the header of %s: %w", name, err)
	}
	if i.Problem != "" {
		err = record.Errorf(record.Unsupported, "%s cannot be opened as one in format %s: %s", name, in, i.Problem)
	}
	return info, i, err
}

// asGiven refuses an image that names other files than those that it is given: what holds
// its content, and what it stands on, of which the first counts.
func asGiven(image string, all []backends.Reference, data, below Chain) error {
	backing := func(r backends.Reference) bool { return !r.Data }
	content := func(r backends.Reference) bool { return r.Data }
	return cmp.Or(
		same(image+" has content in", slices.DeleteFunc(slices.Clone(all), backing), data),
		same(image+" stands on", slices.DeleteFunc(slices.Clone(all), content), below[:min(1, len(below))]),
	)
}

// same refuses files that are not the layers, in their order.
func same(what string, named []backends.Reference, layers Chain) error {
	var e *record.Error
	for i, r := range named {
		switch {
		case i >= len(layers):
			return record.Errorf(record.Unsupported, "%s %q, which is not opened", what, r.Name)
		case !layers[i].is(r.ID) || r.Data && layers[i].Format != cmp.Or(r.Format, record.FormatRaw):
			e = record.Errorf(record.Changed, "%s %q by its header, and not on what it was known to stand on; nothing was changed", what, r.Name)
		}
	}
	if e == nil && len(named) < len(layers) {
		e = record.Errorf(record.Changed, "%s %d files by its header, and not on what it was known to stand on; nothing was changed", what, len(named))
	}
	if e == nil {
		return nil
	}
	return e.WithHint("refresh its pool, and ask again")
}

// hold refuses files that cannot hold the content of an image in a format: those of a
// vmdk are parts of it, by their own headers.
func (c Chain) hold(image, in string, writable bool) error {
	for _, l := range c {
		if in != "vmdk" && (in != "qcow2" || len(c) > 1) || in == "vmdk" && writable {
			return record.Errorf(record.Unsupported, "content of %s, which is in format %s, is not opened in other files", image, in)
		}
		if record.Plain(l.Format) {
			continue
		}
		info, err := l.Volume.Volume.Info()
		if err != nil {
			return err
		}
		i, err := format.InspectExtent(l.Volume.Volume.Content(), info.Size)
		if err == nil && i.Problem != "" {
			err = record.Errorf(record.Unsupported, "%q, which has content of %s, cannot be opened: %s", l.Path, image, i.Problem)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inspected is what has the file of an image, and what its header says, by a look at that.
func inspected(s Stored, in string, look func(f io.ReaderAt, size int64, format string) (format.Image, error)) (info backends.VolumeInfo, i format.Image, err error) {
	if info, err = s.Info(); err == nil {
		i, err = look(s.Content(), info.Size, in)
	}
	return info, i, err
}

// child is what a process gets that opens an image. It moves data, so that it has the
// job's lock.
func (r *Run) child() (c qemu.Child) {
	c.Lock = r.lock
	if n := len(r.links); n > 0 {
		c.Link, r.links = r.links[n-1], r.links[:n-1]
	}
	return c
}

// prepareLinks makes the sockets for so many children, which a confined process cannot.
func (r *Run) prepareLinks(children int) error {
	for range children {
		l, err := tool.NewLink(qemu.Connections, r.private)
		if err != nil {
			return err
		}
		r.links = append(r.links, l)
	}
	return nil
}

func (r *Run) dropLinks() {
	for _, l := range r.links {
		l.Close()
	}
}

// imageTools are the programs that open images.
var imageTools = []tool.Program{tool.StorageDaemon, tool.QEMUImg}

// Image is the content of an image. Who opened it closes it, before the volume is
// committed or closed.
type Image struct {
	*qemu.Image
	run      *Run
	stored   Stored
	writable bool
	compress bool
}

// Beneath is its file. How much of it compressed data takes shows when it is written.
func (i *Image) Beneath() *os.File {
	if i.compress {
		return nil
	}
	return diskio.FileOf(i.stored.Content())
}

// Close closes it. What was written, and that it is closed in order, is durable then.
func (i *Image) Close() error {
	err := i.Image.Close()
	if !i.writable {
		return err
	}
	if errors.Is(err, qemu.ErrSilent) {
		i.run.leftOpen(i.stored)
	}
	return cmp.Or(err, i.stored.Content().Flush())
}

// leftOpen warns of a volume that a child was writing to which was ended. A draft nobody
// gets to see.
func (r *Run) leftOpen(s Stored) {
	v, volume := s.(backends.Volume)
	if _, draft := s.(backends.Draft); !volume || draft {
		return
	}
	if info, err := v.Info(); err == nil {
		r.Warn("%q was not closed in order, since the program that wrote to it did not answer: storagedctl vol verify %s --check says whether it has to be repaired", info.Path, info.Path)
	}
}

// Disk opens the content of an image.
func (r *Run) Disk(ctx context.Context, s Stored, d Disk) (*Image, error) {
	top, drop, err := d.layer(r, s)
	defer drop()
	if err != nil {
		return nil, err
	}
	_, says, err := inspected(s, d.Format, format.InspectAs)
	if err != nil {
		return nil, err
	}
	o := qemu.Options{
		Writable: d.Writable, Compress: d.Compress, Draft: d.Draft, Ahead: r.ahead,
		Capacity: says.Capacity, ClusterSize: says.ClusterSize,
	}
	if d.Source != nil {
		below, drop, err := d.Source.layer(r, d.Source.Stored)
		defer drop()
		if err != nil {
			return nil, err
		}
		o.Source = &qemu.Source{Layer: below, Capacity: d.Source.Capacity}
	}
	o.Child = r.child()
	i, err := qemu.Open(ctx, top, o)
	if err != nil {
		return nil, err
	}
	r.log.Info("an image is read by "+tool.StorageDaemon.Name, "confinement", i.Confinement().String())
	return &Image{Image: i, run: r, stored: s, writable: d.Writable, compress: d.Compress}, nil
}

// Blank is an image to be made.
type Blank struct {
	Format                     string
	Capacity                   int64             // bytes
	Options                    map[string]string // of qemu.New
	BackingName, BackingFormat string            // what its header names
	Secret                     string            // name of the one that it is encrypted by, "" for none
}

// MakeDisk writes an empty image into a draft.
func (r *Run) MakeDisk(ctx context.Context, s Stored, n Blank) error {
	f := diskio.FileOf(s.Content())
	if f == nil {
		return errors.New("it is no file and no device, which an image is made in")
	}
	secret, err := r.Secret(n.Secret)
	if err != nil {
		return err
	}
	defer clear(secret)
	err = qemu.Create(ctx, f, qemu.New{
		Child: r.child(), Format: n.Format, Capacity: n.Capacity, Options: n.Options,
		BackingName: n.BackingName, BackingFormat: n.BackingFormat, Secret: secret, Ahead: &r.ahead,
	})
	return cmp.Or(err, s.Content().Flush())
}

// ResizeDisk gives an image another capacity, in bytes.
func (r *Run) ResizeDisk(ctx context.Context, s Stored, d Disk, capacity int64) error {
	top, drop, err := d.layer(r, s)
	defer drop()
	if err != nil {
		return err
	}
	return cmp.Or(qemu.Resize(ctx, top, capacity, r.child()), s.Content().Flush())
}

// CheckDisk checks the tables of an image, and repairs them as far as it is said.
func (r *Run) CheckDisk(ctx context.Context, s Stored, d Disk, repair qemu.Repair) (qemu.Checked, error) {
	d.tables = repair != qemu.RepairLeaks // which would give back what is missing
	top, drop, err := d.layer(r, s)
	defer drop()
	if err != nil {
		return qemu.Checked{}, err
	}
	found, err := qemu.Check(ctx, top, repair, qemu.Child{Lock: r.lock})
	if repair != qemu.RepairNothing {
		err = cmp.Or(err, s.Content().Flush())
	}
	return found, err
}

// ErrBeyondRepair says that the tables of a draft cannot be repaired.
var ErrBeyondRepair = errors.New("its tables are corrupt")

// RepairDisk makes an image that an earlier helper of the job was writing, and may not
// have closed, one that can be written on. What it had flushed is there; what it wrote
// since may be there, or garbage, where the power failed.
func (r *Run) RepairDisk(ctx context.Context, s Stored, d Disk) error {
	found, err := r.CheckDisk(ctx, s, d, qemu.RepairAll)
	e, refused := errors.AsType[*record.Error](err)
	switch {
	case refused && e.Code == record.Unsupported:
		return nil // its format has nothing to be repaired
	case refused && e.Code == record.WrongState:
		return fmt.Errorf("%w: %w", ErrBeyondRepair, err)
	case err == nil && found.Bad():
		return fmt.Errorf("%w: %d clusters", ErrBeyondRepair, found.Errors+found.Corruptions)
	}
	return err
}
