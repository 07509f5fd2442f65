package format

import (
	"encoding/json"
	"strings"
)

// Paths gives the paths of the local files that a name in an image's header
// means to QEMU (block.c, block/file-posix.c): plain, behind "file:", or within
// "json:{…}". A relative one is so from the directory of the image. What lies
// behind another protocol, such as nbd, is no local file.
func Paths(name string) []string {
	if text, ok := strings.CutPrefix(name, "json:"); ok {
		var v any
		if json.Unmarshal([]byte(text), &v) != nil {
			return nil
		}
		return filenames(v)
	}
	for _, protocol := range []string{"file:", "host_device:", "host_cdrom:"} {
		if path, ok := strings.CutPrefix(name, protocol); ok {
			return plain(path)
		}
	}
	if i := strings.IndexAny(name, ":/"); i >= 0 && name[i] == ':' {
		return nil
	}
	return plain(name)
}

// plain is a path, unless there is none or no file can have it.
func plain(path string) []string {
	if path == "" || strings.Contains(path, "\x00") {
		return nil
	}
	return []string{path}
}

// filenames finds the files of a description of block nodes, which may be nested
// or have dotted keys.
func filenames(v any) []string {
	var found []string
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			found = append(found, filenames(e)...)
		}
	case map[string]any:
		for key, e := range v {
			s, text := e.(string)
			if text && (key == "filename" || strings.HasSuffix(key, ".filename")) {
				found = append(found, Paths(s)...)
			} else {
				found = append(found, filenames(e)...)
			}
		}
	}
	return found
}
