package operation

import (
	"cmp"
	"fmt"
	"os"

	"storaged/internal/record"
)

// Download reads the content of a volume into a file or a stream.
type Download struct {
	Terms
	Volume
	View
	To       string `json:"-"`              // a path, - or fd:N
	Form     string `json:"form,omitempty"` // of a stream, or "file"
	Format   string `json:"format,omitempty"`
	Capacity int64  `json:"capacity,omitempty"` // bytes of the volume
	Offset   int64  `json:"offset,omitempty"`   // bytes
	Length   *int64 `json:"length,omitempty"`   // bytes; nil: up to the end
	Size     *int64 `json:"size,omitempty"`     // bytes that the volume must have; nil: any
	Checksum string `json:"checksum,omitempty"`
}

var _ interface {
	Operation
	Receiver
	Warning
} = (*Download)(nil)

// NewDownload gives one with the defaults of its task.
func NewDownload() *Download {
	return &Download{Volume: Volume{Type: defaultType}, View: View{As: record.AsFile}}
}

// Kind is volume.download.
func (*Download) Kind() record.Kind { return record.VolumeDownload }

// Class: it takes as long as there is to read, or its client takes.
func (*Download) Class() record.Class { return record.Async }

// Locks: others may read it too.
func (o *Download) Locks() []record.Object {
	return append([]record.Object{o.lock(record.ModeRead)}, o.Chain.locks()...)
}

// Effect: it reads.
func (*Download) Effect() Effect { return Reads }

// Allowed refuses a volume of which the file is not all.
func (o *Download) Allowed(k Known) error {
	if o.opens(o.Format) {
		return nil
	}
	return k.contained("a download of the volume's own file would leave out", k.whole())
}

// Relies on the content.
func (*Download) Relies() bool { return true }

// Moves what is read, as fast as the client takes it.
func (o *Download) Moves() (bytes int64, bounds bool) {
	if o.Length != nil {
		return *o.Length, false
	}
	return o.Capacity - o.Offset, false
}

// Receive says that the helper has the client's file or stream as a descriptor.
func (o *Download) Receive(fd int) { o.To = descriptor(fd) }

// Warnings tell what is not in it.
func (o *Download) Warnings(on record.Volume) []string {
	if o.opens(o.Format) {
		return exposed(on, o.Chain, "", "what is downloaded")
	}
	if on.Backing == "" {
		return nil
	}
	return []string{fmt.Sprintf("volume %s stands on %q, which is not part of what is downloaded: it is of use only together with that",
		record.Quoted(on.Pool, on.Name), on.Backing)}
}

// Task is download.
func (o *Download) Task() Task {
	return Task{
		Name:  "download",
		Usage: "read the content of a volume into a file",
		Description: "The file appears under its name when it is complete, and replaces another then. Holes stay holes,\n" +
			"but in a raw stream. Beside a content on standard output, the result is on standard error.",
		Example: "--volume vm1.raw --target vm1.img",
		Flags: append(append(o.Volume.named("volume", "volume-type", "pool-id"), o.View.flags()...), o.Volume.known(), imageFormat(&o.Format),
			text("target", &o.To, "`PATH` for the content; - is standard output, fd:N an open descriptor"),
			stream(&o.Form),
			bytes("offset", &o.Offset, "begin at `SIZE` of the volume, default 0"),
			Flag{Name: "length", Usage: "`SIZE` to read, default up to the end", value: bound{&o.Length}},
			Flag{Name: "size", Usage: "refuse unless the volume is `SIZE` long", value: bound{&o.Size}},
			contentSum(&o.Checksum),
		),
	}
}

// DownloadRequest asks for the content of a volume.
type DownloadRequest struct {
	Offset   int64
	Length   *int64 // bytes; nil: up to the end
	Checksum string // as in UploadRequest
	As       string // AsFile, which is the default, or AsRaw
	Data     Data
	JobOptions
}

var _ interface {
	Request
	Carrier
} = (*DownloadRequest)(nil)

// File is what it goes to.
func (r *DownloadRequest) File() *os.File { return r.Data.File }

// Fill puts in what it leaves out.
func (r *DownloadRequest) Fill() {
	r.JobOptions.Fill()
	r.As = cmp.Or(r.As, record.AsFile)
}

// Check refuses what no content has.
func (r *DownloadRequest) Check() error {
	return cmp.Or(checkContent(r.Offset, r.Checksum), checkAs(r.As), r.JobOptions.Check())
}

// Plan refuses what lies behind the end.
func (r *DownloadRequest) Plan(k Known) (Operation, error) {
	v := k.Volume
	view, err := k.view(r.As, record.VerbRead)
	if err != nil {
		return nil, err
	}
	o := &Download{Volume: k.On, View: view, Form: r.Data.Form, Format: v.Format, Capacity: v.Capacity, Offset: r.Offset, Length: r.Length, Checksum: r.Checksum}
	if v.Format != record.FormatRaw && !o.opens(v.Format) {
		return o, nil
	}
	o.Size = &o.Capacity // of the file of an image nobody here knows it
	if o.Offset > v.Capacity || o.Length != nil && *o.Length > v.Capacity-o.Offset {
		return nil, record.Errorf(record.RangeUnsat, "volume %s has %s, and ends before what is to be read", record.Quoted(v.Pool, v.Name), both(v.Capacity))
	}
	return o, nil
}
