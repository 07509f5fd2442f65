// Package blockdevtest makes trees of devices as sysfs has them.
package blockdevtest

import (
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/blockdev"
)

// Tree is one that a test adds devices to.
type Tree struct {
	t    testing.TB
	root string
}

// New makes one without devices.
func New(t testing.TB) Tree {
	t.Helper()
	tree := Tree{t, t.TempDir()}
	tree.must(os.MkdirAll(filepath.Join(tree.root, "dev/block"), 0o755))
	return tree
}

// Sysfs is the tree for what reads it.
func (t Tree) Sysfs() blockdev.Sysfs { return blockdev.Sysfs(t.root) }

// Attributes of a device by their names.
type Attributes map[string]string

// Device adds one with its attributes, on top of those below, which are there
// already. path is its place among all devices.
func (t Tree) Device(path, number string, attributes Attributes, below ...string) {
	t.t.Helper()
	dir := filepath.Join(t.root, "devices", path)
	t.must(os.MkdirAll(filepath.Join(dir, "slaves"), 0o755))
	t.attribute(dir, "dev", number)
	for name, value := range attributes {
		t.attribute(dir, name, value)
	}
	for _, b := range below {
		holders := filepath.Join(t.root, "devices", b, "holders")
		t.must(os.MkdirAll(holders, 0o755))
		t.must(os.Symlink(filepath.Join(t.root, "devices", b), filepath.Join(dir, "slaves", filepath.Base(b))))
		t.must(os.Symlink(dir, filepath.Join(holders, filepath.Base(dir))))
	}
	t.must(os.Symlink(dir, filepath.Join(t.root, "dev/block", number)))
}

func (t Tree) attribute(dir, name, value string) {
	t.t.Helper()
	file := filepath.Join(dir, name)
	t.must(os.MkdirAll(filepath.Dir(file), 0o755))
	t.must(os.WriteFile(file, []byte(value+"\n"), 0o600))
}

func (t Tree) must(err error) {
	t.t.Helper()
	if err != nil {
		t.t.Fatal(err)
	}
}
