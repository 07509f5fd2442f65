package task

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"storaged/internal/backends"
	"storaged/internal/backends/header"
	"storaged/internal/confine"
	"storaged/internal/diskio"
	"storaged/internal/format"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/sparse"
)

// contentSpec is a content that comes from beyond the pools, and what must hold of it.
type contentSpec struct {
	from   external
	length int64  // bytes, -1: all
	exact  bool   // more than that is wrong
	format string // of the volume, as somebody has declared it
	as     string // what the content is taken for, "" for the volume's
	sum    checksum
	zeros  bool     // are looked for
	dense  bool     // it is a stream without holes
	unpack string   // the form that it is packed in, "" for none
	dir    string   // of the volume
	among  []string // directories of what an image may stand on; nil: nobody says
	// skipped is how much of the content is in place already. A file has it all
	// the same, a stream begins behind it.
	skipped int64
}

func contentOf(o Tasked, c operation.Content) (in contentSpec, err error) {
	if err := needed(o, "source", c.From != ""); err != nil {
		return in, err
	}
	if in.from, err = externalOf(c.From, c.Form); err != nil {
		return in, err
	}
	in.sum, err = checksumOf(c.Checksum)
	in.among = c.Among
	in.length, in.exact, in.format, in.as, in.zeros = bound(c.Length, -1), c.Exact, c.Format, c.AsFormat, c.DetectZeros
	in.dense = c.Dense || in.from.form == streamRaw
	if in.unpack = c.Unpack; in.unpack != "" { // it has no holes, and its length is none of the content
		in.zeros, in.dense = true, false
		err = cmp.Or(err, operation.CheckUnpack("--unpack", c.Unpack))
	}
	return in, err
}

// checksum is what is asked of the checksum of a content.
type checksum struct {
	algorithm string // "" is none
	want      string // "" is any
}

func checksumOf(text string) (checksum, error) {
	if text == "" {
		return checksum{algorithm: record.CRC32C}, nil
	}
	algorithm, want, err := record.ParseContentChecksum(text)
	if err != nil {
		return checksum{}, record.Errorf(record.Invalid, "--checksum: %v", err)
	}
	return checksum{algorithm, want}, nil
}

// hash is what the content has to be read in order for, nil if it has not.
func (s checksum) hash() hash.Hash {
	if s.algorithm == record.SHA256 {
		return sha256.New()
	}
	return nil
}

// judgeMoved judges the checksum of what was moved, which h was given too.
func (s checksum) judgeMoved(r *helper.Run, did diskio.PlaceStats, h hash.Hash) error {
	switch {
	case s.algorithm == "":
		return nil
	case h != nil:
		return s.judge(r, h.Sum(nil))
	}
	return s.judge(r, binary.BigEndian.AppendUint32(nil, did.CRC32C))
}

// judge reports a checksum, and fails if it is another than it should be.
func (s checksum) judge(r *helper.Run, sum []byte) error {
	got := record.ContentChecksum(s.algorithm, sum)
	r.Report.Checksum = got
	r.Report.Checked, r.Report.Verified = s.want != "", s.want == got
	if s.want != "" && s.want != got {
		return ipc.Errorf(record.Mismatch, "the content has checksum %s, not %s", got, s.want)
	}
	return nil
}

// content is one that a task works with.
type content struct {
	contentSpec
	goes   *helper.Volume // where it goes, nil: into a new one
	file   *externalFile
	locked *os.File      // the file with the locks of a reader, nil without
	kept   *sourceWatch  // the file, nil if it is none
	off    int64         // of the content in the file
	bytes  int64         // of the content, -1 while not known
	stream diskio.Stream // nil: it is a file
	head   []byte        // its first bytes

	touched bool // put has changed its target, or may have
}

// Open opens the source. One that comes from a file fails if that is changed
// meanwhile; a pipe or a socket cannot tell, nor can a device.
func (c *content) Open(ctx context.Context, r *helper.Run) (err error) {
	if c.file, err = c.from.open(ctx, false); err != nil {
		return err
	}
	st, err := c.file.Stat()
	if err == nil && st.Mode().IsRegular() {
		c.kept, err = watch(ctx, r, diskio.FileContent(c.file.File), c.from.String())
	}
	return err
}

// Lock refuses the volume itself, which is locked by then, and a file that somebody
// writes to who takes locks; such people are kept away until the end.
func (c *content) Lock(context.Context, *helper.Run) (err error) {
	if c.goes != nil {
		if err := otherThan(c.file, c.goes.Volume); err != nil {
			return err
		}
	}
	if c.kept != nil || c.from.form == "" {
		c.locked, err = lockSource(c.file.File, c.from.path())
	}
	return err
}

// Needs is to open the source as an image.
func (c *content) Needs(_ *helper.Run, p *confine.Policy) {
	if c.kept != nil {
		p.Read = append(p.Read, c.file.File)
	}
}

// Close gives up the source.
func (c *content) Close() {
	if c.file != nil {
		c.file.Close()
	}
	if c.locked != nil {
		c.locked.Close()
	}
}

// headBytes is the least that is looked at of a content before anything is
// written.
const headBytes = 512

// read finds out what can be known of the content without touching anything: its
// length and its beginning, wanted bytes or as much as there is, and not less than
// headBytes of one that begins here. One of nothing is refused.
func (c *content) read(wanted int64) (err error) {
	c.bytes = c.length
	if c.skipped == 0 {
		wanted = max(wanted, headBytes)
	}
	if c.from.form == "" && c.unpack == "" {
		if err = c.measure(); err == nil {
			c.head = make([]byte, max(0, min(wanted, c.bytes)))
			_, err = io.ReadFull(io.NewSectionReader(c.file.File, c.off, c.bytes), c.head)
		}
	} else if c.stream, err = c.inOrder(); err == nil {
		c.head, c.stream, err = peek(c.stream, wanted)
	}
	if err == nil && len(c.head) == 0 && c.skipped == 0 {
		err = c.empty()
	}
	if err != nil {
		return fmt.Errorf("cannot read the content from %s: %w", c.from, err)
	}
	return nil
}

// inOrder is the content as a stream.
func (c *content) inOrder() (s diskio.Stream, err error) {
	if c.unpack == "" {
		s = c.from.content(c.file)
	} else if s, err = c.unpacked(); err != nil {
		return nil, err
	}
	if c.length >= 0 {
		s = &firstPart{Stream: s, ends: c.unpack != "" || c.from.form == streamSparse, length: c.length, exact: c.exact}
	}
	return s, nil
}

// empty refuses a content of nothing. Whoever was to write the stream has
// failed, as often as not; and a volume of nothing cannot be made in other ways
// either.
func (in contentSpec) empty() error {
	return ipc.Errorf(record.Invalid, "%s is empty; nothing was written", in.from).
		WithHint("if a program was to write it, see whether that has failed")
}

// measure finds how long the content is. Where the descriptor stands means
// nothing: others may have it too.
func (c *content) measure() error {
	c.off = c.skipped
	end, err := c.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if end < c.skipped {
		return ipc.Errorf(record.Invalid, "%s has %s, and %s are in place already: it is another content", c.from, quantity.FormatBoth(end), quantity.FormatBoth(c.skipped))
	}
	there := end - c.off
	if c.bytes > there {
		return ipc.Errorf(record.Invalid, "%s has %s, not the %s that are to be uploaded", c.from, quantity.FormatBoth(there), quantity.FormatBoth(c.bytes))
	}
	if c.bytes >= 0 && c.exact && there > c.bytes {
		return longer(c.bytes)
	}
	if c.bytes < 0 {
		c.bytes = there
	}
	return nil
}

// into is where a content goes.
type into struct {
	content diskio.Content
	off     int64 // bytes
	room    int64 // bytes from off on; more is too large
	clean   bool  // it reads as zeros
	name    string
}

// fits refuses a content that is known to be too long.
func (c *content) fits(to into) error {
	if c.bytes <= to.room {
		return nil
	}
	return tooLarge(to, fmt.Sprintf("the content has %s", quantity.FormatBoth(c.bytes)))
}

func tooLarge(to into, why string) error {
	return ipc.Errorf(record.TooLarge, "%s, and %q has room for %s from byte %d on; nothing grows by an upload", why, to.name, quantity.FormatBoth(max(to.room, 0)), to.off)
}

// longer refuses a content of which more came than was announced, bytes.
func longer(announced int64) error {
	return ipc.Errorf(record.Invalid, "more bytes came than the %s that were announced", quantity.FormatBoth(announced))
}

// put moves the content. What came by the time of an error is durable, and
// reported as bytes.
func (c *content) put(ctx context.Context, r *helper.Run, to into) error {
	h := c.sum.hash()
	did, err := c.move(ctx, r, to, h)
	r.Report.Method, r.Report.Bytes = diskio.MethodCopy, did.Bytes
	c.touched, r.Report.Reach = c.touched || did.Touched, did.Reach
	if c.kept != nil {
		err = c.kept.ended(err)
	}
	switch {
	case errors.Is(err, diskio.ErrTooLong) && c.bytes < 0:
		return tooLarge(to, "the content is longer")
	case err != nil:
		return err
	}
	return c.sum.judgeMoved(r, did, h)
}

func (c *content) move(ctx context.Context, r *helper.Run, to into, h hash.Hash) (diskio.PlaceStats, error) {
	if c.stream == nil {
		return diskio.Place(ctx, r.Pacer, diskio.PlaceSpec{
			Dst: to.content, Src: diskio.FileContent(c.file.File), DstOff: to.off, SrcOff: c.off, Len: c.bytes,
			Clean: to.clean, DetectZeros: c.zeros, Keep: true, Hash: h,
		})
	}
	return diskio.Receive(ctx, r.Pacer, diskio.ReceiveSpec{
		Dst: to.content, Off: to.off, From: c.stream, Max: to.room, Want: c.bytes, Dense: c.dense,
		Clean: to.clean, DetectZeros: c.zeros, Hash: h,
	})
}

// checkHeader refuses a content that says to be in another format than the
// volume is declared to be: a virtual machine can write any header into a raw disk, and
// whoever believed it would open what the header names. v is the volume as it will
// be, and size its length; -1: v is only how it will begin.
func (in contentSpec) checkHeader(v io.ReaderAt, size int64) (format.Image, error) {
	want := in.kind()
	if in.as == record.FormatRaw {
		return format.Image{Format: want}, nil
	}
	h, err := format.Inspect(v, size)
	if err != nil {
		return h, err
	}
	same := h.Format == want || record.Plain(h.Format) && record.Plain(want)
	switch {
	case same && h.Problem != "":
		return h, badImage(want, h.Problem, h.Cut > 0)
	case same && record.Plain(want):
		return h, nil
	case same:
		return h, in.alone(header.Named(in.dir, h))
	}
	if h.Format == record.FormatRaw {
		return h, ipc.Errorf(record.Invalid, "the content does not begin like an image in format %s; nothing was written", want).
			WithHint("--as-format raw makes the volume a raw one")
	}
	return h, ipc.Errorf(record.Invalid, "the content begins like an image in format %s, and the volume is %s; nothing was written", h.Format, want).
		WithHint("--as-format raw takes it as it is, --as-format %s makes the volume one in that format", h.Format)
}

// alone refuses an image that refers to what it may not stand on: whoever opened
// the volume would open that.
func (in contentSpec) alone(all []backends.Reference) error {
	for _, r := range all {
		switch {
		case r.Data:
			return ipc.Errorf(record.Unsupported, "content of the image lies in %q, which would not come with it", r.Name).WithHint("%s", converts)
		case !stands(in.among, r):
			return ipc.Errorf(record.Unsupported, "the image stands on %q, which is no volume of a pool", r.Name).
				WithHint("put the file and what it stands on into pools, refresh those, and clone the volume")
		}
	}
	return nil
}

// converts is the hint where an image needs other files.
const converts = "qemu-img convert makes an image of it that needs no other file"

// badImage refuses a content that must not be opened as what it is to be.
func badImage(in, problem string, cut bool) error {
	e := ipc.Errorf(record.Invalid, "the content is no sound image in format %s: %s", in, problem)
	if cut {
		return e.WithHint("its end is missing: take it from where it came from again; --as-format raw takes the bytes as they are")
	}
	return e.WithHint("qemu-img check and convert may repair it; --as-format raw takes the bytes as they are")
}

// checkPacking refuses a content that is no disk's bytes but such as are still to
// be unpacked: nobody could use the volume. first says that the volume begins
// with it; a part of a disk may begin with anything that lies on one.
func (in contentSpec) checkPacking(head []byte, first bool) error {
	packing := format.Packed(head)
	switch {
	case in.as == record.FormatRaw || in.skipped > 0:
		return nil
	case sparse.Begins(head):
		return ipc.Errorf(record.Invalid, "the content is a stream in the form %s, which was to be taken for bytes; nothing was written", sparse.MediaType).
			WithHint("--sparse reads that form; --as-format raw takes the bytes as they are")
	case first && unpackers[packing.Name] != nil:
		return ipc.Errorf(record.Invalid, "the content is packed, in the form of %s; nothing was written", packing.Name).
			WithHint("--unpack %s takes what is in it; --as-format raw takes the bytes as they are", packing.Name)
	case first && packing.Name != "":
		return ipc.Errorf(record.Invalid, "the content is packed, in the form of %s; nothing was written", packing.Name).
			WithHint("upload what %s writes of it, through a pipe; --as-format raw takes the bytes as they are", packing.By)
	}
	return nil
}

// kind is the format that the content gives the volume.
func (in contentSpec) kind() string { return cmp.Or(in.as, in.format) }

// made reads what the content has made of the volume, to tell its format and what
// its header says.
func (c *content) made(r *helper.Run, v backends.Volume) error {
	if record.Plain(c.kind()) {
		return nil
	}
	info, err := reread(r, v, c.kind())
	switch { // of a stream not all could be seen before
	case err != nil:
		return err
	case info.Problem != "":
		return badImage(c.kind(), info.Problem, info.Cut)
	}
	return c.alone(info.References)
}

// overlaid is a volume as it will be when a content is in it.
type overlaid struct {
	io.ReaderAt // as it is
	off         int64
	content     io.ReaderAt
	bytes       int64 // of the content
}

func (o overlaid) ReadAt(b []byte, at int64) (int, error) {
	n, err := o.ReaderAt.ReadAt(b, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	begin, end := max(at, o.off), min(at+int64(len(b)), o.off+o.bytes)
	if begin < end {
		m, cerr := o.content.ReadAt(b[begin-at:end-at], begin-o.off)
		if cerr != nil && !errors.Is(cerr, io.EOF) {
			return 0, cerr
		}
		n = max(n, int(begin-at)+m)
	}
	if n == len(b) {
		err = nil
	}
	return n, err
}

// over is the volume with the content in it as far as both are known, and its
// length, -1 where only how it begins is known.
func (c *content) over(v io.ReaderAt, off, size int64) (io.ReaderAt, int64) {
	if c.stream == nil {
		return overlaid{v, off, io.NewSectionReader(c.file.File, c.off, c.bytes), c.bytes}, size
	}
	begins := overlaid{v, off, bytes.NewReader(c.head), int64(len(c.head))}
	return io.NewSectionReader(begins, 0, format.HeadSize), -1
}

// firstPart is the beginning of a content, as that of a file is taken: what
// follows it is not read, or, where it is to be exact, is refused. Holes behind it are
// left aside in any case.
type firstPart struct {
	diskio.Stream
	ends   bool  // the stream tells where it ends, and that it came as it was sent
	exact  bool  // data behind it are wrong
	length int64 // bytes
	came   int64 // bytes
	part   int64 // bytes of the current extent that are not read
	cut    bool  // the content goes on
	more   bool  // and that with data
}

func (c *firstPart) Next() (int64, bool, error) {
	rest := c.length - c.came
	if rest == 0 {
		return 0, false, c.end()
	}
	n, hole, err := c.Stream.Next()
	if err != nil {
		return 0, false, err
	}
	c.cut = n > rest
	c.more = c.cut && !hole
	n = min(n, rest)
	c.came += n
	c.part = n
	return n, hole, nil
}

// end looks at what follows, as far as it matters: whether the stream has the end that
// one of its form has, and that no data come.
func (c *firstPart) end() error {
	for c.exact && !c.more || c.ends && !c.cut {
		_, hole, err := c.Stream.Next()
		if err != nil {
			return err
		}
		c.cut, c.more = true, !hole
	}
	if c.exact && c.more {
		return longer(c.length)
	}
	return io.EOF
}

func (c *firstPart) Read(p []byte) (int, error) {
	if c.part == 0 {
		return 0, io.EOF
	}
	n, err := c.Stream.Read(p[:min(int64(len(p)), c.part)])
	c.part -= int64(n)
	return n, err
}

// peek reads the first n bytes of a content, or all, and gives the content as
// if nothing had been read.
func peek(c diskio.Stream, n int64) ([]byte, diskio.Stream, error) {
	p := &peeked{Stream: c}
	var head []byte
	for int64(len(head)) < n {
		size, hole, err := c.Next()
		if err == io.EOF {
			break // and it is told again
		}
		if err != nil {
			return nil, nil, err
		}
		some := min(size, n-int64(len(head)))
		data := make([]byte, some)
		if !hole {
			if _, err := io.ReadFull(c, data); err != nil {
				return nil, nil, err
			}
		}
		head = append(head, data...)
		p.parts = append(p.parts, peekedPart{size, hole, bytes.NewReader(data)})
	}
	return head, p, nil
}

// peeked is a content of which the beginning was read already.
type peeked struct {
	diskio.Stream
	parts []peekedPart
	data  io.Reader // of the current part
}

type peekedPart struct {
	size int64
	hole bool
	data *bytes.Reader // of it what was read
}

func (p *peeked) Next() (int64, bool, error) {
	if len(p.parts) == 0 {
		p.data = p.Stream
		return p.Stream.Next()
	}
	part := p.parts[0]
	p.parts = p.parts[1:]
	p.data = part.data
	if int64(part.data.Len()) < part.size { // it is the last, and not read to its end
		p.data = io.MultiReader(part.data, p.Stream)
	}
	return part.size, part.hole, nil
}

func (p *peeked) Read(b []byte) (int, error) { return p.data.Read(b) }
