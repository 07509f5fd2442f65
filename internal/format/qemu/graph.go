package qemu

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

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
	secrets [][]byte
	limit   int64 // of the file that is written, bytes; 0: there is none
}

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
// about twice as fast, with requests that the kernel queues (aio).
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
		"driver": driver, "filename": fmt.Sprintf("/proc/self/fd/%d", tool.FD(len(g.files)-1)), "locking": "off",
		"read-only": !writable, "discard": "unmap",
	}
	if direct {
		node["cache"], node["aio"] = object{"direct": true}, "native"
	}
	return g.add(driver, node)
}

// direct says whether a layer is best read past the page cache. What is compressed is
// read in small pieces, to which the kernel reads ahead.
func direct(l Layer, writable bool) bool {
	if writable {
		return true
	}
	st, err := l.File.Stat()
	return err == nil && !format.Compressed(l.File, st.Size(), l.Format)
}

// layer adds an image with all that it stands on.
func (g *graph) layer(l Layer, writable bool) string {
	node := object{"driver": l.Format, "file": g.file(l.File, writable, direct(l, writable)), "read-only": !writable, "discard": "unmap"}
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
	return secretName(len(g.secrets) - 1)
}

func secretName(i int) string { return fmt.Sprintf("secret%d", i) }

// open starts a child and has it open all nodes.
func (g *graph) open(ctx context.Context, c Child) (d *tool.Daemon, err error) {
	link := c.Link
	if link == nil {
		if link, err = tool.NewLink(Connections); err != nil {
			return nil, err
		}
	}
	d, err = tool.StartDaemon(ctx, link, tool.Command{
		Files: g.files, Policy: g.policy, Lock: c.Lock,
		Limits: tool.Limits{AddressSpace: addressSpace, FileSize: g.limit, CPU: openingTime, Files: descriptors},
	})
	if err != nil {
		return nil, err
	}
	if err := g.build(ctx, d); err != nil {
		d.Abandon()
		return nil, err
	}
	return d, nil
}

func (g *graph) build(ctx context.Context, d *tool.Daemon) error {
	for i, s := range g.secrets {
		if err := d.Secret(ctx, secretName(i), s); err != nil {
			return err
		}
	}
	for _, node := range g.nodes {
		if err := g.node(ctx, d, node); err != nil {
			return ofKeys(err)
		}
	}
	return nil
}

// node adds a node. A file system that cannot do direct I/O has it in its cache.
func (g *graph) node(ctx context.Context, d *tool.Daemon, node object) error {
	err := d.Do(ctx, "blockdev-add", node)
	cache, _ := node["cache"].(object)
	if _, refused := errors.AsType[*tool.CommandError](err); !refused || cache["direct"] != true {
		return err
	}
	cached := maps.Clone(node)
	delete(cached, "cache")
	delete(cached, "aio")
	if d.Do(ctx, "blockdev-add", cached) != nil {
		return err
	}
	return nil
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
