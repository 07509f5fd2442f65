package diskio

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// residency knows which pages of a file others have in the page cache, so that
// a transfer leaves the cache as it was. It maps the file without ever touching
// the mapping, and asks mincore(2). Where that is not possible, or not allowed
// (files of others), everything counts as cached and is left alone.
//
// Read-ahead is switched off for the file: it would bring pages in that then
// look like somebody else's.
type residency struct {
	f   *os.File
	mem []byte
}

func newResidency(f *os.File, size int64) *residency {
	r := &residency{f: f}
	if size == 0 {
		return r
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return r // absent will say that nothing is
	}
	r.mem = mem
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM) // advice
	return r
}

func (r *residency) close() {
	if r.mem == nil {
		return
	}
	_ = unix.Munmap(r.mem) // fails for wrong arguments only
	_ = unix.Fadvise(int(r.f.Fd()), 0, 0, unix.FADV_NORMAL)
}

// read fills buf from off and drops what that brought into the page cache.
func (r *residency) read(buf []byte, off int64) error {
	absent := r.absent(off, int64(len(buf)))
	if err := readFull(r.f, buf, off); err != nil {
		return err
	}
	for _, x := range absent {
		dropCache(r.f, x.off, x.len)
	}
	return nil
}

// absent gives the parts of the n bytes at off that are not in the page cache.
// Whoever reads them next may drop them after that. n is at most a chunk.
func (r *residency) absent(off, n int64) []extent {
	page := int64(os.Getpagesize())
	first := off &^ (page - 1)
	last := min(off+n, int64(len(r.mem)))
	if first >= last {
		return nil
	}
	var vec [chunkBytes/pageSize + 1]byte
	pages := (last - first + page - 1) / page
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&r.mem[first])),
		uintptr(last-first), uintptr(unsafe.Pointer(&vec[0])))
	if errno != 0 {
		return nil
	}
	return absentRuns(vec[:pages], first, page)
}

// absentRuns joins the pages that mincore reported as not resident.
func absentRuns(vec []byte, first, page int64) []extent {
	var runs []extent
	for i, v := range vec {
		if v&1 != 0 {
			continue
		}
		at := first + int64(i)*page
		if k := len(runs) - 1; k >= 0 && runs[k].off+runs[k].len == at {
			runs[k].len += page
			continue
		}
		runs = append(runs, extent{off: at, len: page})
	}
	return runs
}
