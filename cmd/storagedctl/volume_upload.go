package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
)

func (t *tool) uploadVerb() *cli.Command {
	return &cli.Command{
		Name: "upload", Usage: "write a file or a stream into a volume", ArgsUsage: "VOL FILE|-",
		Description: "A raw volume keeps its size; what the content does not cover stays as it was. Holes of a file cost no time.\n" +
			"A FILE that qemu has open for writing is refused, also as a loop device. If its size or times change meanwhile, the\n" +
			"upload fails. What changes behind a pipe cannot be noticed. With --host only changes are noticed.\n" +
			"A volume that is an image becomes the image that is uploaded. With --as raw it keeps its format, and gets the\n" +
			"content that a guest is to see.\n" +
			"- is standard input, which ends with this command. --resume goes on where the last upload broke off;\n" +
			"it needs the same content again, from its start, and compares it with what is in the volume. With\n" +
			"--checksum, or if the first upload had one to hold, the whole is read back at the end.\n\n" +
			"Examples:\n  storagedctl vol upload images/vm1.raw vm1.img --yes\n  storagedctl vol upload images/vm1.raw vm1.img.gz --yes\n  bzcat vm1.img.bz2 | storagedctl vol upload images/vm1.raw - --yes",
		Flags: jobFlags(append(uploadFlags(),
			&cli.StringFlag{Name: "offset", Usage: "begin at `SIZE` of the volume"},
			&cli.StringFlag{Name: "length", Usage: "take `SIZE` of the content (default all of it)"},
			asFlag("of an image write the content that a guest sees, or its file as it is (default): `raw|file`"),
			&cli.BoolFlag{Name: "resume", Usage: "go on where the last upload broke off"}, yesFlag())...),
		Action: t.changing(volumeUpload),
	}
}

// uploadFlags are those of every verb that takes a content.
func uploadFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "as-format", Usage: "take a content in `FORMAT` although the volume is in another; raw is anything"},
		&cli.BoolFlag{Name: "detect-zeros", Usage: "make holes where the content is zeros"},
		&cli.BoolFlag{Name: "sparse", Usage: "the stream is in the form of vol download --sparse"},
		&cli.StringFlag{Name: "unpack", Usage: "the content is packed in that form, by default as the name of FILE ends (.gz .xz .zst): `" + strings.Join(packings(), "|") + "`"},
		checksumFlag(),
	}
}

// asFlag says what of a volume that is an image is meant.
func asFlag(usage string) cli.Flag { return &cli.StringFlag{Name: "as", Usage: usage} }

func checksumFlag() cli.Flag {
	return &cli.StringFlag{Name: "checksum", Usage: "give the checksum by sha256 or crc32c; with :HEX fail if it is another: `ALGORITHM[:HEX]`"}
}

// unpackNone is a FILE that is not unpacked, whatever its name ends with.
const unpackNone = "none"

func packings() []string { return append(slices.Clone(operation.Packings), unpackNone) }

// endings are how the names of packed files end.
var endings = map[string]string{".gz": "gzip", ".xz": "xz", ".zst": "zstd"}

// unpack is the form that a content is packed in, "" for none: as it is given, or as
// the name of its file says, unless the bytes are wanted as they are.
func (s *session) unpack(name string) string {
	switch given := s.cli.String("unpack"); {
	case given == unpackNone || given == "" && s.cli.String("as-format") == record.FormatRaw:
		return ""
	case given != "":
		return given
	}
	return endings[filepath.Ext(name)]
}

// source is what is uploaded: an open file to be handed over, or a stream.
type source struct {
	file   *os.File // to be handed over; nil: it is a stream
	of     *os.File // the file that it is, also where it is a stream
	stream io.Reader
	sparse bool
	close  func()
}

// source opens what is to be uploaded, length of it if that is not nil; bounded is
// how one says that. A stream ends with this command.
func (s *session) source(given string, length *int64, bounded string) (source, error) {
	src := source{stream: s.in, sparse: s.cli.Bool("sparse"), close: func() {}}
	if given != "-" {
		f, err := os.Open(given)
		if err != nil {
			return src, openError("open", err)
		}
		src.stream, src.close = f, func() { f.Close() }
		st, err := f.Stat()
		switch {
		case err != nil:
			src.close()
			return src, openError("open", err)
		case st.IsDir():
			src.close()
			return src, cmdline.Usagef("%q is a directory", given)
		case st.Mode().IsRegular() && !src.sparse:
			src.of = f
			if src.file = f; s.client.Far() {
				most := cmdline.Size(s.cli, "length")
				src.file, src.sparse = nil, most == nil && s.unpack(given) == "" && !s.cli.Bool("resume")
				src.stream, src.close = fileStream(f, most, src.sparse)
			}
		}
	}
	if src.file == nil && length == nil && endless(src.stream) {
		src.close()
		return src, cmdline.Usagef("%q is a device that may never end: say how much of it is wanted", given).WithHint("%s", bounded)
	}
	if src.file == nil && s.cli.Bool("detach") {
		src.close()
		return src, cmdline.Usagef("a stream ends with this command: --detach is for files of the daemon's host")
	}
	return src, nil
}

// endless holds for a device that gives bytes for as long as somebody reads, like
// /dev/zero. People at a terminal come to an end, and /dev/null is at it.
func endless(stream io.Reader) bool {
	f, ok := stream.(*os.File)
	if !ok || isTerminal(f) {
		return false
	}
	st, err := f.Stat()
	null, nerr := os.Stat(os.DevNull)
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && (nerr != nil || !os.SameFile(st, null))
}

// openError tells why a file of the user cannot be used.
func openError(verb string, err error) error {
	code := record.FailedCode
	switch {
	case errors.Is(err, os.ErrNotExist):
		code = record.NotFound
	case errors.Is(err, os.ErrPermission):
		code = record.Denied
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		code = record.NoSpace
	}
	if inner, ok := errors.AsType[*os.PathError](err); ok {
		return record.Errorf(code, "cannot %s %q: %v", verb, inner.Path, inner.Err)
	}
	return record.Errorf(code, "cannot %s a file: %v", verb, err)
}

// uploadRequest asks for an upload of what has that name.
func (s *session) uploadRequest(name string) operation.UploadRequest {
	r := operation.UploadRequest{
		Checksum: s.cli.String("checksum"), AsFormat: s.cli.String("as-format"), DetectZeros: s.cli.Bool("detect-zeros"), Unpack: s.unpack(name),
		Length: cmdline.Size(s.cli, "length"), JobOptions: s.jobOptions(),
	}
	if n := cmdline.Size(s.cli, "offset"); n != nil {
		r.Offset = *n
	}
	return r
}

func volumeUpload(ctx context.Context, s *session) error {
	r, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	if s.cli.Bool("resume") && s.cli.IsSet("offset") {
		return cmdline.Usagef("--resume goes on with a whole upload; it takes no --offset")
	}
	req := s.uploadRequest(s.arg(1))
	req.As = s.cli.String("as")
	src, err := s.source(s.arg(1), req.Length, "--length SIZE")
	if err != nil {
		return err
	}
	defer src.close()
	if err := s.confirm(ctx, s.overwriting(r)); err != nil {
		return err
	}
	if s.cli.Bool("resume") {
		if err := s.resume(ctx, r, &req, src); err != nil {
			return err
		}
	}
	return s.run(ctx, start{object: r.String(), ask: s.uploading(r, req, src), streams: src.file == nil})
}

// uploading asks for an upload: by handing the file over, or by a stream, which
// the daemon asks for when it has answered with its job, so that until then the
// request can be made again.
func (s *session) uploading(r volumeRef, req operation.UploadRequest, src source) func(context.Context, contract.Submit) (contract.Started, error) {
	if req.Length != nil && src.of == nil && !src.sparse { // no more is asked of who writes the stream
		src.stream = io.LimitReader(src.stream, *req.Length)
	}
	return func(ctx context.Context, sub contract.Submit) (contract.Started, error) {
		if src.file != nil || sub.DryRun { // which needs no file
			req := req
			if err := src.measure(&req); err != nil {
				return contract.Started{}, err
			}
			return s.client.Start(ctx, sub, r.pool, r.name, &req)
		}
		up := client.StreamUpload{Pool: r.pool, Volume: r.name, UploadRequest: req, Body: src.stream, Sparse: src.sparse}
		if err := src.measure(&up.UploadRequest); err != nil {
			return contract.Started{}, err
		}
		t, err := s.client.Upload(ctx, sub, up)
		if err != nil {
			return contract.Started{}, err
		}
		if t.Unchanged != nil {
			return contract.Started{Unchanged: t.Unchanged}, nil
		}
		return contract.Started{Job: &t.Job}, nil // whose end tells how the stream ended
	}
}

// measure says with a request how much a file has, so that what cannot fit is
// refused without a job.
func (src source) measure(r *operation.UploadRequest) error {
	if r.Data.File = src.file; src.of == nil || r.Length != nil || r.Unpack != "" {
		return nil
	}
	st, err := src.of.Stat()
	if err != nil {
		return openError("look at", err)
	}
	n := st.Size()
	if r.Continues != "" {
		n -= r.Offset
	}
	if n < 0 {
		return tooShort(st.Size(), r.Offset)
	}
	r.Length = &n
	return nil
}

// resume makes a request the rest of the volume's last upload.
func (s *session) resume(ctx context.Context, r volumeRef, req *operation.UploadRequest, src source) error {
	jobs, err := s.client.Jobs(ctx, contract.JobFilter{Kinds: []string{string(record.VolumeUpload)}, Volumes: []string{r.String()}}, contract.Page{Limit: 1})
	if err != nil {
		return err
	}
	if len(jobs.Items) == 0 {
		return record.Errorf(record.NotFound, "nothing was uploaded to %s that could go on", r)
	}
	last := &jobs.Items[0]
	switch done := last.Progress.Done; {
	case last.Error != nil && last.Error.Code == record.Mismatch:
		return record.Errorf(record.WrongState, "%s brought a content that is not the one it should be; there is nothing to go on with", jobTitle(last)).
			WithHint("upload the right content, from its start")
	case last.State == record.Succeeded:
		return record.Errorf(record.WrongState, "%s has succeeded; there is nothing to go on with", jobTitle(last))
	case !last.State.Terminal():
		return record.Errorf(record.Busy, "%s has not ended", jobTitle(last)).WithHint("storagedctl job wait %d", last.Number)
	case done == 0:
		s.note(fmt.Sprintf("storagedctl: nothing of %s is in place for certain; beginning anew", jobTitle(last)))
		req.Continues = last.ID // so that one that began elsewhere is refused
		return nil
	default:
		s.note(fmt.Sprintf("storagedctl: going on with %s at %s", jobTitle(last), quantity.FormatBoth(done)))
		req.Offset, req.Continues = done, last.ID
		if req.Length != nil { // given for the whole content
			if *req.Length < done {
				return tooShort(*req.Length, done)
			}
			*req.Length -= done
		}
		req.Beginning, err = src.skip(done)
		return err
	}
}

// tooShort refuses what has not even what is in place already.
func tooShort(size, done int64) error {
	return record.Errorf(record.Invalid, "the content has %s, and %s are in place already: it is another content", quantity.FormatBoth(size), quantity.FormatBoth(done)).
		WithHint("upload it from its start, without --resume")
}

// skip passes over the first n bytes, and gives their checksum.
func (src source) skip(n int64) (string, error) {
	switch {
	case src.sparse:
		return "", cmdline.Usagef("a stream in the sparse form cannot go on in its middle")
	case src.file != nil: // the helper knows where to go on, and compares
		return "", nil
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	passed, err := io.CopyN(sum, src.stream, n)
	if errors.Is(err, io.EOF) {
		return "", tooShort(passed, n)
	}
	if err != nil {
		return "", record.Errorf(record.FailedCode, "cannot pass over the first %s of the content: %v", quantity.FormatBoth(n), err)
	}
	return record.ContentChecksum(record.CRC32C, sum.Sum(nil)), nil
}

// createFrom makes a volume with a content.
func (s *session) createFrom(ctx context.Context, r volumeRef, capacity int64) error {
	var length *int64
	if capacity != 0 {
		length = &capacity
	}
	src, err := s.source(s.cli.String("from"), length, "vol create POOL/NAME SIZE --from …")
	if err != nil {
		return err
	}
	defer src.close()
	req := s.uploadRequest(s.cli.String("from"))
	if endless(src.stream) {
		req.Length = length
	}
	made, err := s.newVolume(ctx, r, capacity)
	if err != nil {
		return err
	}
	req.Create, req.FromFormat, req.FromSecret = &made, s.cli.String("from-format"), s.cli.String("from-secret")
	if err := made.CheckOfContent(); err != nil { // which is not sent with one
		return err
	}
	return s.run(ctx, start{object: r.String(), ask: s.uploading(r, req, src), streams: src.file == nil})
}
