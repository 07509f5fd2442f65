package main

import (
	"fmt"
	"path/filepath"
	"storaged/internal/procfs"
	"strings"
)

// locationOf says where a directory without symbolic links in its path is: on which
// file system, and there. By a bind mount a directory has several paths, but one
// place. Nothing of the directory is looked at: what it lies on may be away.
func locationOf(list []procfs.Mount, dir string) string {
	at, rest := procfs.Mount{Point: "/", Root: "/"}, dir
	for _, m := range list { // of mounts at one point the last is seen
		if below, ok := under(dir, m.Point); ok && len(m.Point) >= len(at.Point) {
			at, rest = m, below
		}
	}
	return fmt.Sprintf("%s %s", at.Device, filepath.Join(at.Root, rest))
}

// under gives the rest of a path that is point or below it.
func under(path, point string) (rest string, ok bool) {
	if rest, ok = strings.CutPrefix(path, strings.TrimSuffix(point, "/")); !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return rest, true
}
