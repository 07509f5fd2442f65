// Package all is the list of the pool types there are.
package all

import (
	"fmt"
	"slices"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/backends/dir"
	"storaged/internal/backends/disk"
	"storaged/internal/backends/fs"
	"storaged/internal/backends/iscsi"
	"storaged/internal/backends/logical"
	"storaged/internal/backends/netfs"
	"storaged/internal/record"
)

var list = unique(
	dir.New(), fs.New(), netfs.New(), logical.New(), disk.New(), iscsi.New(),
)

// Backends gives every driver, in the order of the list.
func Backends() []backends.Backend { return slices.Clone(list) }

// Lookup gives the driver of a pool type. The error of an unknown type is
// ErrUnsupported and names those there are.
func Lookup(poolType string) (backends.Backend, error) {
	var known []string
	for _, b := range list {
		t := b.Properties().Type
		if t == poolType {
			return b, nil
		}
		known = append(known, t)
	}
	return nil, fmt.Errorf("pool type \"%s\" is %w; there is %s",
		record.Escape(poolType), backends.ErrUnsupported, strings.Join(known, ", "))
}

// unique panics when two drivers claim one type.
func unique(list ...backends.Backend) []backends.Backend {
	seen := map[string]bool{}
	for _, b := range list {
		t := b.Properties().Type
		if seen[t] {
			panic("internal error: two drivers for pool type " + t)
		}
		seen[t] = true
	}
	return list
}
