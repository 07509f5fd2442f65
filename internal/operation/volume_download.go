package operation

import "storaged/internal/record"

// Download reads the content of a volume into something outside.
type Download struct {
	Terms
	Volume
	To       string `json:"-"`              // a path, - or fd:N
	Form     string `json:"form,omitempty"` // of a stream, or "file"
	Format   string `json:"format,omitempty"`
	Capacity int64  `json:"capacity,omitempty"` // bytes of the volume
	Offset   int64  `json:"offset,omitempty"`   // bytes
	Length   *int64 `json:"length,omitempty"`   // bytes; nil: up to the end
	Size     *int64 `json:"size,omitempty"`     // bytes that the volume must have; nil: any
	Checksum string `json:"checksum,omitempty"`
}

var _ Operation = (*Download)(nil)

// NewDownload gives one with the defaults of its task.
func NewDownload() *Download { return &Download{Volume: Volume{Type: defaultType}} }

// Kind is volume.download.
func (*Download) Kind() record.Kind { return record.VolumeDownload }

// Class: it takes as long as there is to read, or its client takes.
func (*Download) Class() record.Class { return record.Async }

// Locks: others may read it too.
func (o *Download) Locks() []record.Object { return []record.Object{o.lock(record.ModeRead)} }

// Destroys nothing.
func (*Download) Destroys() bool { return false }

// Settle: nothing of the pool was touched.
func (*Download) Settle() *Settle { return nil }

// Task is download.
func (o *Download) Task() Task {
	return Task{
		Name:  "download",
		Usage: "read the content of a volume into a file",
		Description: "The file appears under its name when it is complete, and replaces another then. Holes stay holes,\n" +
			"but in a raw stream. To standard output the result is told on standard error.",
		Example: "--volume vm1.raw --target vm1.img",
		Flags: append(o.Volume.named("volume", "volume-type", "pool-id"), o.Volume.known(), imageFormat(&o.Format),
			text("target", &o.To, "`PATH` for the content; - is standard output, fd:N an open descriptor"),
			stream(&o.Form),
			bytes("offset", &o.Offset, "begin at `SIZE` of the volume, default 0"),
			Flag{Name: "length", Usage: "`SIZE` to read, default up to the end", value: bound{&o.Length}},
			Flag{Name: "size", Usage: "refuse unless the volume is `SIZE` long", value: bound{&o.Size}},
			contentSum(&o.Checksum),
		),
	}
}
