package catalog

import (
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
