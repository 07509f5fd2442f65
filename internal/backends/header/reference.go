package header

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/format"
	"storaged/internal/record"
)

// lookTimeout is how long a file that an image names may take to be found. A
// local one takes microseconds; a server that does not answer, on which a guest
// may have put the name, must not keep the pool from being read.
const lookTimeout = 2 * time.Second

// finder finds out which files images name. It opens none of them.
type finder struct {
	locate func(path string, otherwise backends.Reference) backends.Reference
	known  map[string]backends.Reference // by path as named
	stuck  bool                          // one was not found in time, and none is looked for any more
}

// references are the files that the header of an image in the directory names.
func (f *finder) references(dir string, h format.Image) []backends.Reference {
	var all []backends.Reference
	if h.Backing != "" {
		all = f.named(dir, h.Backing, backends.Reference{Format: declared(h.BackingFormat)})
	}
	for i, name := range h.Data {
		all = append(all, f.named(dir, name, backends.Reference{Data: true, Format: h.DataFormat(i)})...)
	}
	return bounded(all)
}

// declared is a format as a header names it, among ours; "" for what we do not know.
func declared(name string) string {
	switch {
	case name == "file" || name == "host_device": // drivers of QEMU that take the bytes as they are
		return record.FormatRaw
	case slices.Contains(record.Formats, name):
		return name
	}
	return ""
}

// maxNames bounds the names and paths of one image's references, bytes: they
// have to fit a record, whatever the image says.
const maxNames = 64 << 10

func bounded(all []backends.Reference) []backends.Reference {
	size := 0
	for i, r := range all {
		if size += len(r.Name) + len(r.Path); i == record.MaxReferences || size > maxNames {
			return all[:i]
		}
	}
	return all
}

// named are the files that a name means, which are what as says.
func (f *finder) named(dir, name string, as backends.Reference) []backends.Reference {
	paths := format.Paths(name)
	if name == format.Unnamed || len(paths) == 0 {
		return []backends.Reference{{Name: record.Escape(name), Data: as.Data, Format: as.Format, Relative: name == format.Unnamed}}
	}
	var all []backends.Reference
	for _, path := range paths {
		relative := !filepath.IsAbs(path)
		if relative {
			path = dir + "/" + path // not joined: a name may lead through a link and back by ".."
		}
		r := f.find(path)
		r.Name, r.Data, r.Format, r.Relative = record.Escape(name), as.Data, as.Format, relative
		all = append(all, r)
	}
	return all
}

// find looks for the file once.
func (f *finder) find(path string) backends.Reference {
	r, ok := f.known[path]
	if ok {
		return r
	}
	r = backends.Reference{Path: text(filepath.Clean(path))}
	if !f.stuck {
		r = f.ask(path, r)
	}
	f.known[path] = r
	return r
}

// ask waits for what a goroutine finds out, which ends with the helper at the
// latest: nothing interrupts a system call that waits for a server.
func (f *finder) ask(path string, otherwise backends.Reference) backends.Reference {
	answer := make(chan backends.Reference, 1)
	go func() { answer <- f.locate(path, otherwise) }()
	late := time.NewTimer(lookTimeout)
	defer late.Stop()
	select {
	case r := <-answer:
		return r
	case <-late.C:
		f.stuck = true
		return otherwise
	}
}

// locate tells what the path leads to, as whoever opened it would get there.
func locate(path string, r backends.Reference) backends.Reference {
	f, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		return r
	}
	defer f.Close() // it is a path only
	st, err := blockdev.Statx(f)
	if err != nil {
		return r
	}
	r.ID = FileID(f, &st)
	buf := make([]byte, unix.PathMax)
	if n, err := unix.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), buf); err == nil {
		r.Path = text(string(buf[:n]))
	}
	return r
}

// FileID is by what an open file is known again that a header may name: as
// DEVICE:INODE, and :BIRTH where the file system keeps that, or on an overlay :=HANDLE.
func FileID(f *os.File, st *unix.Statx_t) backends.Identity {
	id := fmt.Sprintf("%d:%d", unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino)
	birth := BirthNS(st)
	if handle := Handle(f, st); handle != "" {
		id += ":" + handle
	} else if birth != 0 {
		id += fmt.Sprintf(":%d", birth)
	}
	return backends.Identity(id)
}

// Handle is by what alone a file or directory on an overlay is known again, "" elsewhere: a
// sum of its handle, which is longer than an identity may be.
func Handle(f *os.File, st *unix.Statx_t) string {
	if st.Dev_major != 0 { // that of a device, which an overlay has none of
		return ""
	}
	b, _, ok := blockdev.OverlayHandle(f)
	if !ok {
		return ""
	}
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%s%x", HandleMark, sum[:12])
}

// HandleMark begins what Handle gives.
const HandleMark = "="

// BirthNS is when a file was made, in ns since 1970; 0 on file systems that do not
// keep that.
func BirthNS(st *unix.Statx_t) int64 {
	if st.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)).UnixNano()
}

// text is a path as a message can carry it.
func text(path string) string {
	if utf8.ValidString(path) && len(path) < unix.PathMax {
		return path
	}
	return record.Escape(path)
}
