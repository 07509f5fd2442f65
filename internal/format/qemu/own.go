package qemu

import (
	"storaged/internal/diskio"
	"storaged/internal/nbd"
)

// own is the content of which only what the image itself has is known to be data.
type own struct{ *Image }

// Own is the content without what the image stands on: that is a hole, which nobody
// who goes over what has storage comes to.
func (i *Image) Own() diskio.Content { return own{i} }

// Extents are those of the image itself.
func (o own) Extents(list []diskio.Extent, off, end int64) (n int, err error) {
	var first [1]nbd.Depth
	if _, err := o.Depths(first[:], off, end); err != nil {
		return 0, err
	}
	if len(list) > 0 && first[0].Layer != 1 {
		list[0] = diskio.Extent{Off: off, Len: first[0].Len, Kind: diskio.Hole}
		return 1, nil
	}
	return o.Image.Extents(list, off, off+first[0].Len)
}
