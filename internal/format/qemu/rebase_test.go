package qemu

import (
	"bytes"
	"encoding/json"
	"testing"

	"storaged/internal/format"
	"storaged/internal/record"
)

// What a header names is changed, and nothing is opened for that.
func TestRebaseChangesTheNameAlone(t *testing.T) {
	for _, in := range record.FormatsDetachable {
		t.Run(in, func(t *testing.T) {
			f := made(t, New{Format: in, Capacity: mib, BackingName: "/nowhere/base", BackingFormat: "raw"})
			i := opened(t, Layer{File: f, Format: in}, Options{Writable: true})
			want := pattern(1, 64<<10)
			if _, err := i.WriteAt(want, 128<<10); err != nil {
				t.Fatal(err)
			}
			must(t, i.Close())
			for _, name := range []string{"/elsewhere/other", "", "/once/more"} {
				must(t, Rebase(t.Context(), Layer{File: f, Format: in}, name, "qcow2", Child{}))
				st, err := f.Stat()
				must(t, err)
				is, err := format.InspectAs(f, st.Size(), in)
				if err != nil || is.Backing != name || is.Problem != "" || name != "" && in == "qcow2" && is.BackingFormat != "qcow2" {
					t.Errorf("it stands on %q (%s), %q, %v; not on %q", is.Backing, is.BackingFormat, is.Problem, err, name)
				}
				var said struct {
					Backing string `json:"backing-filename"`
				}
				must(t, json.Unmarshal([]byte(qemuIMG(t, "info", "-f", in, "--output=json", f.Name())), &said))
				if said.Backing != name {
					t.Errorf("qemu-img says %q, not %q", said.Backing, name)
				}
			}
			if got := content(t, opened(t, Layer{File: f, Format: in}, Options{})); !bytes.Equal(got[128<<10:][:64<<10], want) {
				t.Error("its content has changed")
			}
		})
	}
	l := locked(t, "qcow2") // which stands on something
	must(t, Rebase(t.Context(), l, "", "", Child{}))
	if is, err := format.InspectAs(l.File, 1<<30, "qcow2"); err != nil || is.Backing != "" {
		t.Errorf("an encrypted one stands on %q, %v", is.Backing, err)
	}
	if err := Rebase(t.Context(), Layer{File: file(t, "x"), Format: "vmdk"}, "", "", Child{}); err == nil {
		t.Error("a vmdk was rebased")
	}
}
