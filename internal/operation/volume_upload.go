package operation

import "storaged/internal/record"

// Upload writes a content from outside into a volume.
type Upload struct {
	Terms
	Volume
	Content
	Capacity  int64 `json:"capacity,omitempty"`  // bytes of the volume
	Offset    int64 `json:"offset,omitempty"`    // bytes of the volume before the content
	Skipped   int64 `json:"skipped,omitempty"`   // bytes before Offset that Continues has uploaded
	Continues int64 `json:"continues,omitempty"` // number of the job of the same content that marked the volume, or was the first
	// Beginning is the checksum of the Skipped bytes as the client has them, with
	// its algorithm; "": not known.
	Beginning string `json:"beginning,omitempty"`
}

var _ Operation = (*Upload)(nil)

// NewUpload gives one with the defaults of its task.
func NewUpload() *Upload { return &Upload{Volume: Volume{Type: defaultType}, Content: newContent()} }

// Kind is volume.upload.
func (*Upload) Kind() record.Kind { return record.VolumeUpload }

// Class: it takes as long as there is to write, or its client takes.
func (*Upload) Class() record.Class { return record.Async }

// Locks the volume against everybody.
func (o *Upload) Locks() []record.Object { return []record.Object{o.lock(record.ModeWrite)} }

// Destroys what was there.
func (*Upload) Destroys() bool { return true }

// Settle looks what it is now.
func (o *Upload) Settle() *Settle { return &Settle{Volume: o.Volume} }

// Partial reports whether it began in the middle of the volume, and not as the
// rest of one that broke off there.
func (o *Upload) Partial() bool { return o.Offset != o.Skipped }

// Task is upload.
func (o *Upload) Task() Task {
	return Task{
		Name:  "upload",
		Usage: "write a content into a volume",
		Description: "The volume keeps its size; what the content does not cover stays as it was. Holes of a file are\n" +
			"neither read nor written. A file that is open for writing elsewhere is refused as busy, and one that\n" +
			"changes meanwhile makes the upload fail; of a stream that cannot be noticed. A content that begins\n" +
			"like an image of another format than the volume's is refused.",
		Example: "--target vm1.raw --source vm1.img --yes",
		Flags: append(append(o.Volume.flags("target"), o.Content.flags()...), o.Volume.known(),
			bytes("offset", &o.Offset, "where in the volume the content begins (default 0): `SIZE`"),
			bytes("skipped", &o.Skipped, "`SIZE` of the content that an earlier upload has written counts as done: a stream begins behind it, and all of the content is read back for --checksum"),
			text("beginning", &o.Beginning, "refuse unless what was written before has this checksum; that of a file is compared in any case: `ALGORITHM:HEX`"),
		),
		Asks: true,
	}
}
