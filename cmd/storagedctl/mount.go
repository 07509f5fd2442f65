package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mountinfo is where the kernel tells what is mounted where, without asking any
// file system: proc_pid_mountinfo(5).
const mountinfo = "/proc/self/mountinfo"

// mount is one of its lines: the part of a file system, from root on, that is
// seen at point.
type mount struct{ device, root, point string }

// mounts are what is mounted, in order; nothing where the kernel does not tell.
func mounts() []mount {
	b, err := os.ReadFile(mountinfo)
	if err != nil {
		return nil
	}
	return parseMounts(string(b))
}

func parseMounts(text string) (list []mount) {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 4 {
			list = append(list, mount{words[2], unescape(words[3]), unescape(words[4])})
		}
	}
	return list
}

// unescape gives a path of mountinfo, in which blanks are written \040.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// locationOf says where a directory without symbolic links in its path is: on which
// file system, and there. By a bind mount a directory has several paths, but one
// place. Nothing of the directory is looked at: what it lies on may be away.
func locationOf(list []mount, dir string) string {
	at, rest := mount{point: "/", root: "/"}, dir
	for _, m := range list { // of mounts at one point the last is seen
		if below, ok := under(dir, m.point); ok && len(m.point) >= len(at.point) {
			at, rest = m, below
		}
	}
	return fmt.Sprintf("%s %s", at.device, filepath.Join(at.root, rest))
}

// under gives the rest of a path that is point or below it.
func under(path, point string) (rest string, ok bool) {
	if rest, ok = strings.CutPrefix(path, strings.TrimSuffix(point, "/")); !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return rest, true
}
