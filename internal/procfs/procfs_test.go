package procfs

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPathsOfTheKernel(t *testing.T) {
	for in, want := range map[string]string{`/a\040b\012c\134d`: "/a b\nc\\d", `/a\04`: `/a\04`, `\999`: `\999`, "": ""} {
		if got := Unescape(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestMountsAreReadAsTheKernelWritesThem(t *testing.T) {
	table := filepath.Join(t.TempDir(), "mountinfo")
	text := `22 1 8:1 /sub / rw shared:1 master:2 - ext4 /dev/sda1 rw,errors=remount-ro
31 22 0:51 / /srv/a\040b rw - fuse.sshfs host:\040x rw
32 22 0:52 / /srv/none rw - tmpfs none
not a line
x 22 0:53 / /srv/x rw - tmpfs none rw
`
	if err := os.WriteFile(table, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []Mount{
		{ID: 22, Device: "8:1", Root: "/sub", Point: "/", Kind: "ext4", Source: "/dev/sda1", Options: "rw,errors=remount-ro"},
		{ID: 31, Device: "0:51", Root: "/", Point: "/srv/a b", Kind: "fuse.sshfs", Source: "host: x", Options: "rw"},
		{ID: 32, Device: "0:52", Root: "/", Point: "/srv/none", Kind: "tmpfs", Source: "none"},
	}
	if got := slices.Collect(Mounts(table)); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	for m := range Mounts(table) {
		if m != want[0] || m.Answered() || !want[1].Answered() {
			t.Errorf("the first is %+v", m)
		}
		break
	}
	for m := range Mounts(table + ".none") {
		t.Errorf("%+v without a table", m)
	}
}
