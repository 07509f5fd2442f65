package main

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
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
	"storaged/internal/procfs"
	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
)

func (t *tool) downloadVerb() *cli.Command {
	return &cli.Command{
		Name: "download", Usage: "read a volume's content into a file or a stream", ArgsUsage: "VOL FILE|-",
		Description: "The file gets its name when it is complete, and replaces another then; holes stay holes. One that does\nnot come to its end leaves nothing: only an upload can be resumed. - is standard output.\n\n" +
			"Examples:\n  storagedctl vol download images/vm1.raw vm1.img\n" +
			"  storagedctl vol download images/vm1.qcow2 vm1.img --as raw\n" +
			"  storagedctl vol download images/vm1.raw - --sparse | ssh host storagedctl vol upload images/vm1.raw - --sparse --yes",
		Flags: jobFlags(
			&cli.StringFlag{Name: "offset", Usage: "begin at `SIZE` of the volume"},
			&cli.StringFlag{Name: "length", Usage: "`SIZE` to read (default up to the end)"},
			asFlag("of an image read the content that a guest sees, or its file as it is (default): `raw|file`"),
			&cli.BoolFlag{Name: "sparse", Usage: "send holes as holes, in a form that vol upload --sparse reads"}, checksumFlag()),
		Action: t.changing(volumeDownload),
	}
}

func volumeDownload(ctx context.Context, s *session) error {
	r, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	req := operation.DownloadRequest{Checksum: s.cli.String("checksum"), As: s.cli.String("as"), Length: cmdline.Size(s.cli, "length"), JobOptions: s.jobOptions()}
	if n := cmdline.Size(s.cli, "offset"); n != nil {
		req.Offset = *n
	}
	if req.Length != nil && *req.Length == 0 {
		return cmdline.Usagef("--length 0 is nothing to download")
	}
	path := s.arg(1)
	toStream, err := isStream(path)
	switch {
	case err != nil:
		return err
	case s.cli.Bool("sparse") && !toStream:
		return cmdline.Usagef("--sparse does nothing with a file, which has holes anyway")
	case s.cli.Bool("dry-run"):
		return s.run(ctx, start{object: r.String(), ask: func(ctx context.Context, sub contract.Submit) (contract.Started, error) {
			return s.client.Start(ctx, sub, r.pool, r.name, &req)
		}})
	case s.cli.Bool("detach"):
		return cmdline.Usagef("a download needs this command up to its end: it gives the file its name; --detach does not wait")
	case toStream:
		return s.downloadStream(ctx, r, req, path)
	}
	return s.downloadFile(ctx, download{r, req, path})
}

// download is what is asked for a file.
type download struct {
	volumeRef
	operation.DownloadRequest
	path string
}

// isStream reports whether a content cannot be put there by a name.
func isStream(path string) (bool, error) {
	if path == "-" {
		return true, nil
	}
	if path == "" {
		return false, cmdline.Usagef("FILE is empty: name a file, or - for standard output")
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, openError("look at", err)
	case st.IsDir():
		return false, cmdline.Usagef("%q is a directory", path)
	}
	return !st.Mode().IsRegular(), nil
}

// downloadFile downloads into a file beside the one that is wanted, and gives
// it the name in the end.
func (s *session) downloadFile(ctx context.Context, d download) error {
	if real, err := filepath.EvalSymlinks(d.path); err == nil {
		d.path = real // the link stays one
	}
	dir := filepath.Dir(d.path)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return record.Errorf(record.NotFound, "cannot make %q: there is no directory %q", d.path, dir).WithHint("mkdir -p makes it")
	}
	fill := s.lendFile
	if s.client.Far() {
		fill = s.fillFile
	} else if err := s.inNoPool(ctx, d.volumeRef, d.path); err != nil {
		return err
	}
	temp := filepath.Join(filepath.Dir(d.path), "."+filepath.Base(d.path)+"."+uuid.NewString()+".part")
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return openError("make", err)
	}
	defer f.Close() // it was made durable
	job, err := fill(ctx, d, f)
	if err == nil {
		err = s.keepDownload(ctx, job, temp, d.path)
	}
	switch {
	case err == nil:
		return nil
	case !s.client.Far() && slices.Contains([]record.Code{record.TimedOut, record.Unreachable}, record.CodeOf(err)):
		s.note("storagedctl: if the job goes on, the content will be in " + temp) // the helper has it open
		return err
	}
	return errors.Join(underItsName(err, f, d.path), discard(temp))
}

// lendFile has the helper write into the file.
func (s *session) lendFile(ctx context.Context, d download, f *os.File) (job string, err error) {
	d.Data.File = f
	err = s.run(ctx, start{object: d.String(), ask: func(ctx context.Context, sub contract.Submit) (contract.Started, error) {
		st, err := s.client.Start(ctx, sub, d.pool, d.name, &d.DownloadRequest)
		if st.Job != nil {
			job = st.Job.ID
		}
		return st, err
	}})
	return job, err
}

// fillFile writes into the file what a daemon of another host sends.
func (s *session) fillFile(ctx context.Context, d download, f *os.File) (job string, err error) {
	to := newHoleSink(f, d.path)
	var filling sync.WaitGroup // f is the caller's again when that is over
	defer filling.Wait()
	err = s.stream(ctx, d.volumeRef, client.StreamDownload{DownloadRequest: d.DownloadRequest, Sparse: true}, func(t *client.Transfer) func() error {
		job = t.Job.ID
		filling.Add(1)
		return func() error {
			defer filling.Done()
			return t.To(to.unpack)
		}
	})
	if to.err.Load() != nil {
		err = to.err.Load() // and therefore the job has failed
	}
	return job, err
}

// underItsName tells an error about the open file f by the name that it was to
// have.
func underItsName(err error, f *os.File, name string) error {
	e, ok := errors.AsType[*record.Error](err)
	is := linked(int(f.Fd()))
	if !ok || is == "" {
		return err
	}
	known := *e
	known.Message, known.Path = strings.ReplaceAll(e.Message, is, name), strings.ReplaceAll(e.Path, is, name)
	return &known
}

// linked is the path of what a descriptor of ours has open, "" if it has none.
func linked(fd int) string {
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil || !filepath.IsAbs(path) {
		return ""
	}
	return path
}

// inNoPool refuses a file that would take the place of one in a pool: no job
// would hold it, and the catalog would know nothing of it. What the daemon
// knows of the pools is enough: to look at one might take for ever.
func (s *session) inNoPool(ctx context.Context, r volumeRef, path string) error {
	dir, err := filepath.Abs(filepath.Dir(path))
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return openError("make", err)
	}
	pools, err := s.client.Pools(ctx)
	if err != nil {
		return err
	}
	mounted := slices.Collect(procfs.Mounts(procfs.OwnMounts))
	for _, p := range pools {
		if at := cmp.Or(p.Real, p.Target.Path); at != "" && locationOf(mounted, at) == locationOf(mounted, dir) {
			return record.Errorf(record.Invalid, "cannot download to %q: that is in pool %q", path, p.Name).
				WithHint("storagedctl vol clone %s %s/%s", r, p.Name, filepath.Base(path))
		}
	}
	return nil
}

// discard removes a file that may be gone already.
func discard(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// keepDownload gives a file its name if the job has ended well; one that was
// left running will fill it, and somebody else has to give it its name.
func (s *session) keepDownload(ctx context.Context, job, temp, path string) error {
	j, err := s.client.Job(ctx, job)
	if err != nil {
		return err
	}
	if j.State != record.Succeeded {
		s.note(fmt.Sprintf("storagedctl: the content will be in %s when %s has ended", temp, jobTitle(&j)))
		return nil
	}
	if err := os.Rename(temp, path); err != nil {
		return openError("name", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return openError("name", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return openError("name", err)
	}
	return nil
}

// sink is where a stream is written to. Why that failed is known before the job
// hears that nobody takes its content any more.
type sink struct {
	io.Writer
	name string // for people
	err  atomic.Pointer[record.Error]
}

func (w *sink) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err == nil {
		return n, nil
	}
	return n, w.failed(err)
}

// failed keeps why nothing more is written.
func (w *sink) failed(err error) error {
	code, why := record.FailedCode, err
	if inner, ok := errors.AsType[*os.PathError](err); ok {
		why = inner.Err
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		code = record.NoSpace
	}
	w.err.Store(record.Errorf(code, "cannot write the content to %s: %v", w.name, why).WithHint("what it has of the content is not all of it"))
	return w.err.Load()
}

// sink opens what a stream is written to.
func (s *session) sink(path string) (to *sink, done func(), err error) {
	if path == "-" {
		name := "standard output"
		if at := linked(unix.Stdout); at != "" {
			name += " (" + strconv.Quote(at) + ")"
		}
		return &sink{Writer: s.out, name: name}, func() {}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, nil, openError("open", err)
	}
	return &sink{Writer: f, name: strconv.Quote(path)}, func() { f.Close() }, nil // it is no file that could lose anything
}

// downloadStream writes a content to standard output, or to what is no regular
// file. The result is not printed there.
func (s *session) downloadStream(ctx context.Context, r volumeRef, req operation.DownloadRequest, path string) error {
	out, done, err := s.sink(path)
	if err != nil {
		return err
	}
	defer done()
	silent := *s.tool
	silent.out = io.Discard
	s.tool = &silent
	err = s.stream(ctx, r, client.StreamDownload{DownloadRequest: req, Sparse: s.cli.Bool("sparse")}, func(t *client.Transfer) func() error {
		return func() error { return t.CopyTo(out) }
	})
	if out.err.Load() != nil {
		return out.err.Load() // and therefore the job has failed
	}
	return err
}

// stream has a content sent, and taken by what begin gives. When it has failed, that ends
// soon.
func (s *session) stream(ctx context.Context, r volumeRef, down client.StreamDownload, begin func(*client.Transfer) (take func() error)) error {
	down.Pool, down.Volume = r.pool, r.name
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	taken := make(chan error, 1)
	err := s.run(ctx, start{object: r.String(), streams: true, ask: func(asking context.Context, sub contract.Submit) (contract.Started, error) {
		// The bytes may come after the job has ended, and asking is over then.
		defer context.AfterFunc(asking, cancel)()
		t, err := s.client.Download(ctx, sub, down)
		if err != nil {
			return contract.Started{}, err
		}
		take := begin(t)
		go func() { taken <- take() }()
		return contract.Started{Job: &t.Job}, nil
	}})
	if err != nil {
		return err
	}
	return <-taken
}
