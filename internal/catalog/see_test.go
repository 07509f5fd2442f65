package catalog

import (
	"strings"
	"testing"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Of a header in another format than the volume's nothing is believed: a guest
// writes any into a fixed VHD or a raw disk.
func TestHeaderOfAnotherFormatIsNotBelieved(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct {
		format, says string
		want         int64
		backing      string
	}{
		{"raw", "qcow2", 7, ""}, {"iso", "qcow2", 7, ""}, {"vpc", "qcow2", 4, ""}, {"qcow2", "vmdk", 4, ""},
		{"vpc", "vpc", 9, "base"}, {"", "qcow2", 9, "base"}, {"qcow2", "", 4, ""},
	} {
		v := &store.Volume{Volume: record.Volume{Format: c.format, Capacity: 4}}
		d.see(v, ipc.Item{Format: c.says, Capacity: 9, Size: 7, Backing: "base", References: []ipc.Reference{{Name: "base", Path: "/p/base"}}})
		if v.Capacity != c.want || v.Backing != c.backing || (len(v.References) > 0) != (c.backing != "") {
			t.Errorf("a volume in format %q whose header says %q: capacity %d, backing %q, references %v", c.format, c.says, v.Capacity, v.Backing, v.References)
		}
	}
}

// What a volume is whose format is known is read by that, whatever its guest, or another,
// makes it look like; of what was found in several formats at once nobody knows it.
func TestHeaderIsReadByTheKnownFormat(t *testing.T) {
	d := newDesk(t)
	probed := ipc.Item{Format: "qcow2", Capacity: 9, Backing: "/p/other", Problem: "it is two things at once", Twofold: true, Identity: "1:2:3",
		References: []ipc.Reference{{Name: "/p/other", Path: "/p/other"}}, As: []ipc.Header{{Format: "vpc", Capacity: 8}, {Format: "vdi", Problem: "its map cannot be"}}}
	for _, c := range []struct {
		format, was string // format and problem
		origin      record.Origin
		item        ipc.Item
		capacity    int64
		backing     string
		problem     string
	}{
		{"vpc", "", record.Made, probed, 8, "", ""},
		{"vpc", "", record.Found, probed, 8, "", ""},
		{"vpc", "its footer cannot be", record.Found, probed, 8, "", "its footer cannot be"},
		{"vdi", "", record.Made, probed, 0, "", "its map cannot be"},
		{"qcow2", "", record.Made, probed, 9, "/p/other", ""},
		{"qcow2", "", record.Found, probed, 9, "/p/other", ""},
		{"qcow2", "it is two things at once", record.Found, probed, 9, "/p/other", "it is two things at once"},
		{"qed", "", record.Made, probed, 4, "", "none of an image in format qed"},
		{"qcow2", "its tables cannot be", record.Made, ipc.Item{Format: "qcow2", Capacity: 9}, 9, "", ""},
		{"qcow2", "its tables cannot be", record.Made, ipc.Item{Size: 9}, 4, "", "its tables cannot be"},
	} {
		v := &store.Volume{Identity: "1:2:3", Volume: record.Volume{Format: c.format, Problem: c.was, Capacity: 4, Origin: c.origin}}
		d.see(v, c.item)
		if v.Format != c.format || v.Capacity != c.capacity || v.Backing != c.backing || !strings.Contains(v.Problem, c.problem) || (v.Problem == "") != (c.problem == "") {
			t.Errorf("%s, %s, that had the problem %q: capacity %d, backing %q, problem %q", c.format, c.origin, c.was, v.Capacity, v.Backing, v.Problem)
		}
	}
}
