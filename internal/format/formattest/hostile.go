package formattest

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
)

// Bait is what hostile images try to get at.
type Bait struct {
	File   string // absolute path of a file with a canary
	Socket string // absolute path at which an NBD server would listen
}

// Hostile is an image that no sound tool would make, or that nobody should open
// without looking at what it names.
type Hostile struct {
	Name string
	Head []byte           // the beginning of the file
	More map[int64][]byte // of the rest what is not zeros
	Size int64            // bytes of the file
	// Format is what it is to be recognised as, and Problem a part of what is to be
	// said against it; "": nothing, and what it names is to be refused, or how much
	// it is.
	Format, Problem string
	Backing         string
	Data            []string
	// Bomb says that it is as it should be, but more than anybody wants: opened, it
	// has to be bounded by what it may use.
	Bomb bool
}

// ReadAt reads the file.
func (h Hostile) ReadAt(b []byte, off int64) (int, error) {
	if off >= h.Size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), h.Size-off))
	clear(b[:n])
	overlay(b[:n], off, 0, h.Head)
	for at, part := range h.More {
		overlay(b[:n], off, at, part)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// overlay puts part, which lies at at, into b, which lies at off.
func overlay(b []byte, off, at int64, part []byte) {
	begin, end := max(off, at), min(off+int64(len(b)), at+int64(len(part)))
	if begin < end {
		copy(b[begin-off:end-off], part[begin-at:end-at])
	}
}

// Write makes the file.
func (h Hostile) Write(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(h.Size); err != nil {
		return err
	}
	if _, err := f.WriteAt(h.Head[:min(int64(len(h.Head)), h.Size)], 0); err != nil {
		return err
	}
	for at, part := range h.More {
		if _, err := f.WriteAt(part, at); err != nil {
			return err
		}
	}
	return nil
}

// Corpus gives all of them.
func Corpus(b Bait) (all []Hostile) {
	for _, some := range [][]Hostile{
		qcow2References(b), qcow2DataFiles(b), qcow2Headers(), qcow2Tables(), polyglots(b), planted(b), qcows(b), qeds(b),
		vmdkDescriptors(b), vmdkExtents(b), vdis(), vpcs(), vhdxs(b), lukses(), parallelses(), bombs(),
	} {
		all = append(all, some...)
	}
	return all
}

// Numbers of a patch; plain ones are big-endian.
type (
	le16 uint16
	le32 uint32
	le64 uint64
)

// patch is values at offsets.
type patch map[int]any

// with gives a copy of an image with values at offsets.
func with(b []byte, p patch) []byte {
	b = append([]byte(nil), b...)
	for at, v := range p {
		switch v := v.(type) {
		case string:
			copy(b[at:], v)
		case byte:
			b[at] = v
		case uint16:
			binary.BigEndian.PutUint16(b[at:], v)
		case uint32:
			binary.BigEndian.PutUint32(b[at:], v)
		case uint64:
			binary.BigEndian.PutUint64(b[at:], v)
		case le16:
			binary.LittleEndian.PutUint16(b[at:], uint16(v))
		case le32:
			binary.LittleEndian.PutUint32(b[at:], uint32(v))
		case le64:
			binary.LittleEndian.PutUint64(b[at:], uint64(v))
		default:
			panic(fmt.Sprintf("internal error: a patch of type %T", v))
		}
	}
	return b
}

// made is a hostile image in the format that is the first word of its name.
func made(name string, b []byte, problem string) Hostile {
	format, _, _ := strings.Cut(name, " ")
	return Hostile{Name: name, Head: b, Size: int64(len(b)), Format: format, Problem: problem}
}

// patched are variations of one image.
func patched(base []byte, variations []variation) (all []Hostile) {
	for _, v := range variations {
		all = append(all, made(v.name, with(base, v.patch), v.problem))
	}
	return all
}

type variation struct {
	name    string
	patch   patch
	problem string
}

func (h Hostile) on(backing string) Hostile {
	h.Backing = backing
	return h
}

func (h Hostile) in(data ...string) Hostile {
	h.Data = data
	return h
}

func (h Hostile) cut(size int64) Hostile {
	h.Size = size
	return h
}

// shown is in what a name lies that is not to be opened.
func references(b Bait) []string {
	return []string{
		b.File, "../../../../../.." + b.File, "file:" + b.File, "host_device:" + b.File,
		`json:{"driver":"raw","file":{"driver":"file","filename":"` + b.File + `"}}`,
		`json:{"driver":"raw","file.driver":"file","file.filename":"` + b.File + `"}`,
		`json:{"driver":"nbd","server":{"type":"unix","path":"` + b.Socket + `"}}`,
		"nbd:unix:" + b.Socket, "nbd+unix:///?socket=" + b.Socket, "nbd://127.0.0.1:10809/x", "http://127.0.0.1:10809/x", "ssh://root@127.0.0.1/etc/shadow",
		"iscsi://127.0.0.1/target/0", "fat:rw:/etc", "null-co://", "blkdebug::" + b.File, "/proc/self/environ", "/dev/fd/0", "-",
	}
}
