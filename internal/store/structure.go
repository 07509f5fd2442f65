package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
)

// The layout of a bbolt file, version 2 (go.etcd.io/bbolt/internal/common):
// pages with a header of 16 bytes (id u64, flags u16, count u16, overflow
// u32), followed by count elements of 16 bytes and then the keys and values
// they point to, one after the other without gaps. Numbers are in the byte
// order of the machine.
const (
	headerSize  = 16
	elementSize = 16

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf's element: the value is a bucket

	boltMagic   = 0xED0CDAED
	boltVersion = 2

	// manyFree as the count of a freelist means that the first id is the count.
	manyFree = 0xFFFF
)

var native = binary.NativeEndian

// checkFile reads every page of a bbolt file that is not open and refuses what
// bbolt would not notice, or notice by crashing: pages that are not where they
// belong, used twice or both used and free, elements and keys out of order, a
// meta page that does not hold; and every value whose seal is broken.
func checkFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c := &checker{f: f, visit: func(bucket string, key, value []byte) error {
		_, err := unseal(bucket, key, value)
		return err
	}}
	if err := c.check(info.Size()); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	return nil
}

// checker walks the pages of a file.
type checker struct {
	f        *os.File
	visit    func(bucket string, key, value []byte) error // is shown each value
	forgive  func(bucket string, err error)               // is shown damage that the walk goes past; nil: damage ends it
	pageSize int64
	meta     metaPage
	seen     []bool // by page id: reached or free
	bucket   string // whose pages are being read
}

// pass gives err, unless the walk goes past it.
func (c *checker) pass(err error) error {
	if err == nil || c.forgive == nil {
		return err
	}
	c.forgive(c.bucket, err)
	return nil
}

// metaPage is the roots as of the newest transaction.
type metaPage struct {
	root, freelist, pages, txid uint64
}

func broken(format string, args ...any) error {
	return &DamageError{Cause: fmt.Sprintf(format, args...)}
}

func (c *checker) check(size int64) error {
	if err := c.readMetas(); err != nil {
		return err
	}
	if need := int64(c.meta.pages) * c.pageSize; size < need || c.meta.pages > uint64(size) {
		return broken("it has %d bytes, %d are in use", size, need)
	}
	c.seen = make([]bool, c.meta.pages)
	c.seen[0], c.seen[1] = true, true
	if err := c.walk(c.meta.root, nil, nil); err != nil {
		return err
	}
	if err := c.walkFreelist(); err != nil {
		return err
	}
	for id, seen := range c.seen {
		if !seen {
			return broken("page %d is neither used nor free", id)
		}
	}
	return nil
}

// readMetas reads both meta pages, of which the newer counts. Both must hold:
// each was written at once or not at all, since what matters of it lies in one
// sector, so one that does not hold may have been the newer one.
func (c *checker) readMetas() error {
	c.pageSize = int64(os.Getpagesize())
	for i := range int64(2) {
		m, err := c.readMeta(i)
		if err := c.pass(err); err != nil {
			return err
		}
		if err == nil && m.txid >= c.meta.txid {
			c.meta = m
		}
	}
	return nil
}

func (c *checker) readMeta(i int64) (metaPage, error) {
	b := make([]byte, headerSize+64)
	if _, err := c.f.ReadAt(b, i*c.pageSize); err != nil {
		return metaPage{}, broken("meta page %d: %v", i, err)
	}
	m := b[headerSize:]
	sum := fnv.New64a()
	sum.Write(m[:56]) // never fails
	switch {
	case native.Uint32(m) != boltMagic || native.Uint32(m[4:]) != boltVersion || native.Uint64(m[56:]) != sum.Sum64():
		return metaPage{}, broken("meta page %d does not hold; the last change may be missing", i)
	case native.Uint32(m[8:]) != uint32(c.pageSize):
		return metaPage{}, fmt.Errorf("it was made with pages of %d bytes, here they have %d", native.Uint32(m[8:]), c.pageSize)
	}
	return metaPage{root: native.Uint64(m[16:]), freelist: native.Uint64(m[32:]), pages: native.Uint64(m[40:]), txid: native.Uint64(m[48:])}, nil
}

// read gives a page with all its overflow, and marks it as used.
func (c *checker) read(id uint64) ([]byte, error) {
	if id < 2 || id >= c.meta.pages {
		return nil, broken("page %d does not exist", id)
	}
	p := make([]byte, c.pageSize)
	if _, err := c.f.ReadAt(p, int64(id)*c.pageSize); err != nil {
		return nil, broken("page %d: %v", id, err)
	}
	overflow := uint64(native.Uint32(p[12:]))
	if native.Uint64(p) != id || id+overflow >= c.meta.pages {
		return nil, broken("page %d is not what it should be", id)
	}
	for i := id; i <= id+overflow; i++ {
		if err := c.mark(i); err != nil {
			return nil, err
		}
	}
	if overflow > 0 {
		p = make([]byte, int64(overflow+1)*c.pageSize)
		if _, err := c.f.ReadAt(p, int64(id)*c.pageSize); err != nil {
			return nil, broken("page %d: %v", id, err)
		}
	}
	return p, nil
}

func (c *checker) mark(id uint64) error {
	if id >= c.meta.pages || c.seen[id] {
		return broken("page %d is used twice or does not exist", id)
	}
	c.seen[id] = true
	return nil
}

// walk checks the tree below page id, whose keys must lie in [low, high); nil
// is no bound.
func (c *checker) walk(id uint64, low, high []byte) error {
	p, err := c.read(id)
	if err != nil {
		return err
	}
	elements, used, err := parsePage(p, low, high)
	if pages := (int64(used) + c.pageSize - 1) / c.pageSize; err == nil && pages != int64(len(p))/c.pageSize {
		err = fmt.Errorf("%d bytes are used of %d", used, len(p))
	}
	if err != nil {
		if err := c.pass(broken("page %d: %v", id, err)); err != nil {
			return err
		}
	}
	return c.descend(elements, high)
}

// descend goes on with what the elements of a page lead to.
func (c *checker) descend(elements []element, high []byte) error {
	for i, e := range elements {
		end := high
		if i+1 < len(elements) {
			end = elements[i+1].key
		}
		if err := c.pass(c.enter(e, end)); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) enter(e element, end []byte) error {
	switch {
	case e.child != 0:
		return c.walk(e.child, e.key, end)
	case e.bucket:
		c.bucket = string(e.key)
		defer func() { c.bucket = "" }()
		return c.pass(c.walkBucket(e))
	}
	return c.visit(c.bucket, e.key, e.value)
}

// walkBucket checks the bucket in e: a header of root page id (0: the only
// page follows inline) and sequence.
func (c *checker) walkBucket(e element) error {
	if len(e.value) < headerSize {
		return broken("bucket %q has no header", e.key)
	}
	if root := native.Uint64(e.value); root != 0 {
		return c.walk(root, nil, nil)
	}
	inline := e.value[headerSize:]
	if len(inline) < headerSize {
		return broken("bucket %q has no page", e.key)
	}
	elements, used, err := parsePage(inline, nil, nil)
	if err != nil || used != len(inline) {
		return broken("bucket %q: its page is %d bytes, %d used: %v", e.key, len(inline), used, err)
	}
	return c.descend(elements, nil)
}

func (c *checker) walkFreelist() error {
	p, err := c.read(c.meta.freelist)
	if err != nil {
		return err
	}
	if native.Uint16(p[8:]) != flagFreelist {
		return broken("page %d is no list of free pages", c.meta.freelist)
	}
	count, ids := uint64(native.Uint16(p[10:])), p[headerSize:]
	if count == manyFree {
		count, ids = native.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return broken("list of free pages is too long")
	}
	for i := range count {
		if err := c.mark(native.Uint64(ids[8*i:])); err != nil {
			return err
		}
	}
	return nil
}

// element is an entry of a branch (child set) or leaf page.
type element struct {
	key, value []byte
	child      uint64
	bucket     bool
}

// parsePage gives the elements of a branch or leaf page and how many bytes
// they and the header take; with an error, those before the first bad one.
func parsePage(p []byte, low, high []byte) (elements []element, used int, err error) {
	flags, count := native.Uint16(p[8:]), int(native.Uint16(p[10:]))
	if flags != flagBranch && flags != flagLeaf || flags == flagBranch && count == 0 {
		return nil, 0, fmt.Errorf("flags %#x, %d elements", flags, count)
	}
	used = headerSize + count*elementSize
	if used > len(p) {
		return nil, 0, fmt.Errorf("%d elements do not fit", count)
	}
	for i := range count {
		e, size, err := parseElement(p, flags, i, used)
		if err != nil {
			return elements, used, err
		}
		above := bytes.Compare(e.key, low) > 0 || i == 0 && bytes.Equal(e.key, low)
		if !above || high != nil && bytes.Compare(e.key, high) >= 0 {
			return elements, used, fmt.Errorf("key %d is out of order", i)
		}
		elements, low, used = append(elements, e), e.key, used+size
	}
	return elements, used, nil
}

// parseElement reads element i, whose data must begin at offset at.
func parseElement(p []byte, flags uint16, i, at int) (e element, size int, err error) {
	header := headerSize + i*elementSize
	h := p[header : header+elementSize]
	pos, ksize, vsize := native.Uint32(h), native.Uint32(h[4:]), uint32(0)
	if flags == flagBranch {
		e.child = native.Uint64(h[8:])
	} else {
		e.bucket = pos&flagBucket != 0
		if pos&^flagBucket != 0 {
			return e, 0, fmt.Errorf("element %d has flags %#x", i, pos)
		}
		pos, ksize, vsize = ksize, native.Uint32(h[8:]), native.Uint32(h[12:])
	}
	end := int64(at) + int64(ksize) + int64(vsize)
	if header+int(pos) != at || ksize == 0 || end > int64(len(p)) || flags == flagBranch && e.child == 0 {
		return e, 0, fmt.Errorf("element %d is not where it should be", i)
	}
	e.key, e.value = p[at:at+int(ksize)], p[at+int(ksize):end]
	return e, int(ksize) + int(vsize), nil
}
