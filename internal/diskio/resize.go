package diskio

import (
	"context"
	"fmt"
	"os"
)

// ResizeSpec says what size a file shall have, in bytes.
type ResizeSpec struct {
	Capacity int64
	Shrink   bool // a smaller capacity is meant, not a mistake
	Allocate bool // the range that is new gets its blocks
}

// Resize changes the size of a regular file, durably. What is new reads as
// zeros; what is cut off is gone. When allocating fails the size stays as asked
// and the new range partly without blocks; the caller may resize it back.
func Resize(ctx context.Context, p *Pacer, f *os.File, spec ResizeSpec) (AllocateStats, error) {
	size, err := fileSize(f)
	if err != nil {
		return AllocateStats{}, err
	}
	if spec.Capacity < 0 || spec.Capacity < size && !spec.Shrink {
		return AllocateStats{}, fmt.Errorf("a capacity of %d bytes is less than the %d that the file has", spec.Capacity, size)
	}
	a := &allocation{p: p, f: f, capacity: spec.Capacity, from: min(size, spec.Capacity), want: spec.Capacity}
	if !spec.Allocate {
		a.want = a.from
	}
	return a.run(ctx)
}
