package wire

import (
	"net/http"
	"strings"

	"storaged/internal/record"
)

// Call is the method, and the segments of the path below /v1, by which a job of a kind
// is asked for: POST to the kind's verb below what it is about, except where HTTP has
// a method for it. A snapshot that is there is volume as VOLUME@NAME; without a name it
// is a pattern with {snapshot}.
func Call(k record.Kind, pool, volume string) (method string, path []string) {
	about, verb, _ := strings.Cut(string(k), ".")
	path = []string{"pools", pool}
	switch {
	case k == record.VolumeCreate:
		return http.MethodPost, append(path, "volumes")
	case k == record.VolumeDelete:
		return http.MethodDelete, append(path, "volumes", volume)
	case k == record.SnapshotCreate:
		return http.MethodPost, append(path, "volumes", volume, "snapshots")
	case about == "snapshot":
		name := "{snapshot}"
		if at := strings.LastIndexByte(volume, '@'); at >= 0 {
			volume, name = volume[:at], volume[at+1:]
		}
		path = append(path, "volumes", volume, "snapshots", name)
		if k == record.SnapshotDelete {
			return http.MethodDelete, path
		}
	case about == "volume":
		path = append(path, "volumes", volume)
	}
	return http.MethodPost, append(path, verb)
}
