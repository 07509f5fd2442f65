// Package all is the list of the pool types there are.
package all

import (
	"fmt"
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

// list has one driver of each type, under its name: what a driver says of itself costs a look
// for programs.
var list = []struct {
	poolType string
	driver   backends.Backend
}{
	{"dir", dir.New()}, {"fs", fs.New()}, {"netfs", netfs.New()}, {"logical", logical.New()}, {"disk", disk.New()}, {"iscsi", iscsi.New()},
}

// Backends gives every driver, in the order of the list.
func Backends() (all []backends.Backend) {
	for _, b := range list {
		all = append(all, b.driver)
	}
	return all
}

// Lookup gives the driver of a pool type. The error of an unknown type is
// ErrUnsupported and names those there are.
func Lookup(poolType string) (backends.Backend, error) {
	var known []string
	for _, b := range list {
		if b.poolType == poolType {
			return b.driver, nil
		}
		known = append(known, b.poolType)
	}
	return nil, fmt.Errorf("pool type \"%s\" is %w; there is %s",
		record.Escape(poolType), backends.ErrUnsupported, strings.Join(known, ", "))
}
