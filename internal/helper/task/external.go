package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/sparse"
)

// Forms of a stream.
const (
	streamRaw    = "raw"    // bytes; its end says nothing of whether all came
	streamSparse = "sparse" // as package sparse has it
)

// external is a file or stream beyond the pools that a content comes from or
// goes to, as the command line names it.
type external struct {
	given string // a path, - or fd:N
	form  string // of a stream; "": it is a file
	name  string // the path of what is open as fd:N, where there is one
}

// externalOf reads a flag and --stream.
func externalOf(given, form string) (external, error) {
	o := external{given: given, form: form}
	if given == "-" && form == "" {
		o.form = streamRaw
	}
	if digits, ok := strings.CutPrefix(given, "fd:"); ok {
		if n, err := strconv.ParseUint(digits, 10, 16); err != nil || n < 3 {
			return o, record.Errorf(record.Invalid, "%q is no descriptor: it is fd:N, from 3 on", given)
		}
		if to, err := os.Readlink("/proc/self/fd/" + digits); err == nil && filepath.IsAbs(to) {
			o.name = to // the user's own; who opened it knows nothing of fd:N
		}
	}
	if o.form != "" && !o.isOpen() {
		return o, record.Errorf(record.Invalid, "a stream is - or fd:N, not %q", given)
	}
	return o, nil
}

// String names it for people.
func (o external) String() string {
	switch {
	case o.given == "-":
		return "the standard stream"
	case o.form != "":
		return "the stream"
	}
	return strconv.Quote(o.path())
}

// path is that of the file, as far as it is known.
func (o external) path() string { return cmp.Or(o.name, o.given) }

// isOpen reports whether it is open already.
func (o external) isOpen() bool { return o.given == "-" || strings.HasPrefix(o.given, "fd:") }

// externalFile is an open external: of a stream, reading and writing ends when
// the context does.
type externalFile struct {
	*os.File
	ctx  context.Context
	stop func() bool // of who watches the context
}

// open opens it for reading, or else for writing. What is no stream is a
// regular file, or by its path a block device to read.
func (o external) open(ctx context.Context, write bool) (*externalFile, error) {
	f, err := o.descriptor(write)
	if err != nil {
		return nil, err
	}
	if err = o.check(f, write); err == nil && o.form != "" {
		f, err = pollable(f, write)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	out := &externalFile{File: f, ctx: ctx, stop: func() bool { return true }}
	if o.form != "" {
		out.stop = context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) }) // what takes none does not block
	}
	return out, nil
}

func (o external) descriptor(write bool) (*os.File, error) {
	fd, handed := strings.CutPrefix(o.given, "fd:")
	switch {
	case handed:
		n, err := strconv.Atoi(fd)
		if err != nil {
			panic("internal error: a descriptor was not checked: " + err.Error())
		}
		unix.CloseOnExec(n)
		return os.NewFile(uintptr(n), o.path()), nil
	case o.given == "-":
		n, err := unix.FcntlInt(uintptr(standard(write)), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("cannot use the standard stream: %w", err)
		}
		return os.NewFile(uintptr(n), o.given), nil
	case write:
		panic("internal error: a path to write is opened by who renames it")
	}
	f, err := os.OpenFile(o.given, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0) // a FIFO would wait for its writer
	if err != nil {
		return nil, fmt.Errorf("cannot open what is to be uploaded: %w", err)
	}
	return f, nil
}

// standard is the descriptor of the standard stream.
func standard(write bool) int {
	if write {
		return unix.Stdout
	}
	return unix.Stdin
}

// unusable are flags of a descriptor under which it cannot be read or written
// by offsets.
var unusable = map[int]string{
	unix.O_PATH:   "it is open as a path only (O_PATH)",
	unix.O_APPEND: "it is open for appending (O_APPEND)",
	unix.O_DIRECT: "it is open for direct I/O (O_DIRECT)",
}

// check refuses what a descriptor must not be: who handed it over chose it.
func (o external) check(f *os.File, write bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("cannot look at %s: %w", o, err)
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Errorf("cannot look at %s: %w", o, err)
	}
	for flag, why := range unusable {
		if flags&flag != 0 && (o.form == "" || flag == unix.O_PATH) {
			return ipc.Errorf(record.Invalid, "%s cannot be used: %s", o, why)
		}
	}
	if mode := flags & unix.O_ACCMODE; mode != unix.O_RDWR && (mode == unix.O_WRONLY) != write {
		return ipc.Errorf(record.Invalid, "%s is not open for %s", o, map[bool]string{true: "writing", false: "reading"}[write])
	}
	kind := st.Mode & unix.S_IFMT
	if o.form != "" && (kind == unix.S_IFIFO || kind == unix.S_IFSOCK || o.given == "-") || o.form == "" && o.isFile(kind) {
		return nil
	}
	what := "a stream: a pipe or a socket"
	if o.form == "" {
		what = "a regular file"
	}
	return ipc.Errorf(record.Invalid, "%s is %s, not %s", o, kinds[kind], what)
}

func (o external) isFile(kind uint32) bool {
	return kind == unix.S_IFREG || kind == unix.S_IFBLK && !strings.HasPrefix(o.given, "fd:")
}

var kinds = map[uint32]string{
	unix.S_IFREG: "a regular file", unix.S_IFDIR: "a directory", unix.S_IFBLK: "a block device", unix.S_IFCHR: "a character device",
	unix.S_IFIFO: "a pipe", unix.S_IFSOCK: "a socket", unix.S_IFLNK: "a symbolic link",
}

// pollable gives a stream that takes deadlines. A pipe is opened anew, lest
// those who share it with us find it non-blocking; other things that a shell
// gives as a standard stream do not wait, or are a terminal's, which ends with
// Ctrl-C itself.
func pollable(f *os.File, write bool) (*os.File, error) {
	st, err := f.Stat()
	if err != nil {
		return f, fmt.Errorf("cannot look at a stream: %w", err)
	}
	switch st.Mode().Type() {
	case os.ModeNamedPipe:
		again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), pipeFlags(write), 0)
		if err != nil { // another user's, or there is nobody at its other end
			return f, nil
		}
		f.Close() // the new one is the same pipe
		return again, nil
	case os.ModeSocket:
		n, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			err = unix.SetNonblock(n, true)
		}
		if err != nil {
			return f, fmt.Errorf("cannot use a socket: %w", err)
		}
		f.Close() // the new one is the same socket
		return os.NewFile(uintptr(n), "socket"), nil
	}
	return f, nil
}

func pipeFlags(write bool) int {
	if write {
		return os.O_WRONLY | unix.O_NONBLOCK
	}
	return os.O_RDONLY | unix.O_NONBLOCK
}

func (f *externalFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	return n, f.ended(err)
}

func (f *externalFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.ended(err)
}

// ended says of an end by the context why it came.
func (f *externalFile) ended(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return context.Cause(f.ctx)
	case errors.Is(err, unix.EPIPE):
		return fmt.Errorf("nobody takes the content any more: %w", unix.EPIPE)
	}
	return err
}

// Close closes it; what was to be durable is by then.
func (f *externalFile) Close() error {
	f.stop()
	return f.File.Close()
}

// content gives the stream f as extents, from the form that the stream has.
func (o external) content(f *externalFile) diskio.Stream {
	if o.form == streamSparse {
		return sparse.NewReader(f)
	}
	return &rawContent{r: f}
}

// rawContent is a stream of bytes as extents, as they come.
type rawContent struct {
	r    io.Reader
	buf  [256 << 10]byte
	rest []byte
}

func (c *rawContent) Next() (int64, bool, error) {
	for {
		n, err := c.r.Read(c.buf[:])
		if n > 0 {
			c.rest = c.buf[:n]
			return int64(n), false, nil // an error comes again
		}
		if err != nil {
			return 0, false, err
		}
	}
}

func (c *rawContent) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// rawSink writes a content as bytes.
type rawSink struct{ io.Writer }

var zeros [256 << 10]byte

func (s rawSink) Hole(n int64) error {
	for n > 0 {
		some := min(n, int64(len(zeros)))
		if _, err := s.Write(zeros[:some]); err != nil {
			return err
		}
		n -= some
	}
	return nil
}
