package qemu

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/confine"
	"storaged/internal/format"
	"storaged/internal/tool"
)

// object is one of JSON.
type object map[string]any

// graph is what a child opens: nodes of QEMU's block layer, each before what stands
// on it.
type graph struct {
	files   []*os.File
	policy  confine.Policy
	nodes   []object
	exports []object
	secrets [][]byte
	limit   int64  // of the file that is written, bytes; 0: there is none
	texts   []byte // what the child reads of memory, in which each begins at a sector
	memory  int    // which of the files that is
	err     error  // why a node cannot be
	draft   bool   // what is written is a draft
	ahead   bool   // and room for it is allocated ahead
}

const (
	// aheadBytes is how much room is allocated at a time for a file that grows. The
	// rest of it is given back when the file is closed.
	aheadBytes = 64 << 20
	// aheadDriver is QEMU's for that. A build may be without.
	aheadDriver = "preallocate"
	// aheadFormat is the only one that it is used for. That of a vhdx makes its file longer
	// while others write, and above a file that is allocated ahead loses what they wrote.
	aheadFormat = "qcow2"
)

// backs are the formats that can stand on another image.
var backs = []string{"qcow", "qcow2", "qed", "vmdk"}

// add adds a node and gives its name.
func (g *graph) add(kind string, node object) string {
	name := fmt.Sprintf("%s%d", kind, len(g.nodes))
	node["node-name"] = name
	g.nodes = append(g.nodes, node)
	return name
}

// file adds a file. It is opened anew by its descriptor, so that it has its own flags
// and position. Locks are the caller's.
//
// Direct keeps contents from being kept twice, and leaves a flush little to do: it is
// about twice as fast, with requests that the kernel queues (aio). It writes in a file
// that need not grow each time, which the kernel does for one request after the other.
// A draft is flushed by Image.Flush, and not between one table and the next.
func (g *graph) file(f *os.File, writable, direct bool) string {
	g.files = append(g.files, f)
	if writable {
		g.policy.Write = append(g.policy.Write, f)
	} else {
		g.policy.Read = append(g.policy.Read, f)
	}
	driver := "file"
	if isDevice(f) {
		driver = "host_device"
	}
	node := object{
		"driver": driver, "filename": inChild(len(g.files) - 1), "locking": "off",
		"read-only": !writable, "discard": "unmap",
	}
	direct = direct && takesDirect(f)
	if direct {
		node["aio"] = "native"
	}
	node["cache"] = object{"direct": direct, "no-flush": writable && g.draft}
	name := g.add(driver, node)
	if writable && g.ahead && direct && driver == "file" {
		name = g.add(aheadDriver, object{"driver": aheadDriver, "file": name, "prealloc-size": aheadBytes})
	}
	return name
}

// takesDirect tries whether the file system has direct I/O. QEMU has no way to do
// without where it has not.
func takesDirect(f *os.File) bool {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd) // nothing was written
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return false
	}
	defer unix.Munmap(page)
	_, err = unix.Pread(fd, page, 0)
	return err == nil
}

// scattered is the format of which every 64 KiB that are allocated are a write of four bytes
// into two tables: past the page cache each is a block read and written, which took three
// times as long.
const scattered = "vmdk"

// direct says whether a layer is best read or written past the page cache. What is
// compressed is read in small pieces, to which the kernel reads ahead. QEMU writes to no luks
// directly whose last block is a part of one, since it must not make that longer.
func direct(l Layer, writable bool) bool {
	st, err := l.File.Stat()
	switch {
	case err != nil:
		return writable
	case writable:
		return l.Format != scattered && (l.Format != "luks" || st.Size()%block == 0)
	}
	return !format.Compressed(l.File, st.Size(), l.Format)
}

// block is the largest unit of direct I/O that file systems have, bytes.
const block = 4096

// layer adds an image with all that it stands on.
func (g *graph) layer(l Layer, writable bool) string {
	node := object{"driver": l.Format, "read-only": !writable, "discard": "unmap"}
	if len(l.Extents) > 0 {
		node["file"] = g.described(l)
	} else {
		node["file"] = g.file(l.File, writable, direct(l, writable))
	}
	if l.Data != nil {
		node["data-file"] = g.file(l.Data, writable, true)
	}
	if l.Secret != nil {
		g.encrypted(node, l)
	}
	switch {
	case l.Backing != nil:
		node["backing"] = g.layer(*l.Backing, false)
	case slices.Contains(backs, l.Format):
		node["backing"] = nil
	}
	return g.add("image", node)
}

// described is the descriptor of a vmdk whose content is in other files. QEMU opens those
// by their names: it is given a descriptor of ours, in which they have the names that the
// child has them by, and no other.
func (g *graph) described(l Layer) string {
	var names []string
	for _, f := range l.Extents {
		g.files, g.policy.Read = append(g.files, f), append(g.policy.Read, f)
		names = append(names, inChild(len(g.files)-1))
	}
	text, err := descriptor(l.File, names)
	if err != nil {
		g.err = fmt.Errorf("the descriptor cannot be given to %s: %w", tool.StorageDaemon.Name, err)
	}
	if g.texts == nil {
		g.files, g.memory = append(g.files, nil), len(g.files)
	}
	at := len(g.texts)
	g.texts = append(g.texts, text...)
	for len(g.texts)%sector != 0 {
		g.texts = append(g.texts, '\n')
	}
	file := g.add("file", object{"driver": "file", "filename": inChild(g.memory), "locking": "off", "read-only": true})
	return g.add("text", object{"driver": "raw", "offset": at, "size": len(g.texts) - at, "file": file, "read-only": true})
}

// sector is QEMU's unit of places, bytes.
const sector = 512

func descriptor(f *os.File, names []string) (string, error) {
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	return format.Descriptor(f, st.Size(), names)
}

// inChild is the name of a file as the child has it.
func inChild(file int) string { return fmt.Sprintf("/proc/self/fd/%d", tool.FD(file)) }

// remembered puts the texts into the memory of a link.
func (g *graph) remembered(l *tool.Link) error {
	if g.err != nil || g.texts == nil {
		return g.err
	}
	g.files[g.memory] = l.Memory
	_, err := l.Memory.WriteAt(g.texts, 0)
	return err
}

// encrypted says by which secret a node is opened.
func (g *graph) encrypted(node object, l Layer) {
	secret := g.secret(l.Secret)
	switch l.Format {
	case "luks":
		node["key-secret"] = secret
	default:
		node["encrypt"] = object{"format": "luks", "key-secret": secret}
	}
}

// secret adds a secret and gives its name.
func (g *graph) secret(s []byte) string {
	g.secrets = append(g.secrets, s)
	return tool.SecretName(len(g.secrets) - 1)
}

// limits are those of a child that opens the graph.
func (g *graph) limits() tool.Limits {
	return tool.Limits{AddressSpace: addressSpace, FileSize: g.limit, CPU: openingTime + keyTime*time.Duration(len(g.secrets)), Files: descriptors}
}

// open starts a child that opens all nodes, and serves the exports.
func (g *graph) open(ctx context.Context, c Child) (d *tool.Daemon, err error) {
	link := c.Link
	if link == nil {
		if link, err = tool.NewLink(Connections, ""); err != nil {
			return nil, err
		}
	}
	if err := g.remembered(link); err != nil {
		link.Close()
		return nil, err
	}
	limits := g.limits()
	most := startTime + waitsFor*limits.CPU
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("it was not open within %v: %w", most, context.DeadlineExceeded))
	defer cancel()
	opens := tool.Graph{}
	for _, node := range g.nodes {
		opens.Nodes = append(opens.Nodes, node)
	}
	for _, export := range g.exports {
		opens.Exports = append(opens.Exports, export)
	}
	return tool.StartDaemon(ctx, link, tool.Command{Files: g.files, Secrets: g.secrets, Policy: g.policy, Lock: c.Lock, Limits: limits}, opens)
}

// close closes all nodes, which writes what is left of them.
func (g *graph) close(ctx context.Context, d *tool.Daemon) error {
	for _, node := range slices.Backward(g.nodes) {
		if err := d.Do(ctx, "blockdev-del", object{"node-name": node["node-name"]}); err != nil {
			return err
		}
	}
	return nil
}
