package diskio

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// surveyBytes is the unit in which the page cache is looked at. It is done
	// one unit ahead of the reads, farther than the kernel reads ahead, because
	// what read-ahead brings in would look like somebody else's.
	surveyBytes = 64 << 20
	// dropBytes is the unit in which pages are dropped. The kernel drops no
	// folio in part; they are aligned and smaller than this.
	dropBytes = 8 << 20
	// dropLag is how many chunks behind the reads pages are dropped. What is
	// dropped before it was read is read twice and stays, which a lag larger than
	// what the workers hold makes rare. It counts chunks, because the next one may
	// lie gigabytes ahead, behind a hole.
	dropLag = 16
)

// residency leaves the page cache as a reader found it: it looks which pages
// others have there before they are read, and drops all the rest behind. It
// asks cachestat(2), and mincore(2) on a mapping that is never touched. Where
// neither is allowed (files of others) everything counts as cached and is left.
//
// It is used by one goroutine, which passes through the file in order.
type residency struct {
	f        *os.File
	size     int64
	mem      []byte   // nil where the file cannot be mapped
	surveyed int64    // up to here absent is known
	dropped  int64    // up to here it is dropped
	absent   []Extent // to be dropped, in order
	recent   []int64  // where the last reads began, the oldest first
}

// newResidency begins with the page cache of c, nil if that has none.
func newResidency(c Content, size int64) *residency {
	f := FileOf(c)
	if f == nil {
		return nil
	}
	r := &residency{f: f, size: size}
	if size > 0 {
		r.mem, _ = unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_SEQUENTIAL) // advice
	}
	return r
}

// close drops the rest. A nil residency does nothing.
func (r *residency) close() {
	if r == nil {
		return
	}
	r.dropUpTo(r.size)
	if r.mem != nil {
		_ = unix.Munmap(r.mem) // fails for wrong arguments only
	}
	_ = unix.Fadvise(int(r.f.Fd()), 0, 0, unix.FADV_NORMAL)
}

// reach says that reading has come to off. A nil residency does nothing.
func (r *residency) reach(off int64) {
	if r == nil {
		return
	}
	for goal := min(off/surveyBytes*surveyBytes+2*surveyBytes, r.size); r.surveyed < goal; {
		r.surveyed = max(r.surveyed, off/surveyBytes*surveyBytes)
		n := min(surveyBytes, r.size-r.surveyed)
		r.survey(r.surveyed, n)
		r.surveyed += n
	}
	r.recent = append(r.recent, off)
	if len(r.recent) <= dropLag {
		return
	}
	limit := r.recent[0] / dropBytes * dropBytes
	r.recent = r.recent[1:]
	if limit > r.dropped {
		r.dropUpTo(limit)
	}
}

func (r *residency) dropUpTo(limit int64) {
	r.dropped = limit
	for len(r.absent) > 0 {
		x := &r.absent[0]
		n := min(x.End(), limit) - x.Off
		if n <= 0 {
			return
		}
		dropCache(r.f, x.Off, n)
		x.Off += n
		x.Len -= n
		if x.Len > 0 {
			return
		}
		r.absent = r.absent[1:]
	}
}

// survey notes which of the n bytes at off are not in the page cache. A range
// of which a part is cached is halved until it is small enough to look at every
// page: most ranges are cached as a whole or not at all.
func (r *residency) survey(off, n int64) {
	var stat unix.Cachestat_t
	err := unix.Cachestat(uint(r.f.Fd()), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &stat, 0)
	switch {
	case err == nil && stat.Cache == 0:
		r.absent = appendExtent(r.absent, off, n)
	case err == nil && int64(stat.Cache) == pagesOf(n):
	case err == nil && n > chunkBytes:
		half := (n/2 + chunkBytes - 1) / chunkBytes * chunkBytes
		r.survey(off, half)
		r.survey(off+half, n-half)
	case err == nil || errors.Is(err, unix.ENOSYS): // before Linux 6.5
		r.surveyPages(off, n)
	}
}

// surveyPages is survey page by page.
func (r *residency) surveyPages(off, n int64) {
	if r.mem == nil {
		return
	}
	vec := make([]byte, pagesOf(n))
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&r.mem[off])),
		uintptr(n), uintptr(unsafe.Pointer(&vec[0])))
	if errno != 0 {
		return
	}
	page := int64(os.Getpagesize())
	for i, v := range vec {
		if v&1 == 0 {
			r.absent = appendExtent(r.absent, off+int64(i)*page, page)
		}
	}
}

func pagesOf(n int64) int64 {
	page := int64(os.Getpagesize())
	return (n + page - 1) / page
}

// appendExtent appends to list, joining with the last extent where they touch.
func appendExtent(list []Extent, off, n int64) []Extent {
	if k := len(list) - 1; k >= 0 && list[k].Off+list[k].Len == off {
		list[k].Len += n
		return list
	}
	return append(list, Extent{Off: off, Len: n})
}
