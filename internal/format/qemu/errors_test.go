package qemu

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/record"
)

// What QEMU refuses is said so that people know what failed, and what to do.
func TestWhatQEMURefusesIsExplained(t *testing.T) {
	image := func(format string) Layer {
		return Layer{File: made(t, New{Format: format, Capacity: mib}), Format: format}
	}
	nothing := Layer{File: file(t, "nothing"), Format: "qcow2"}
	must(t, nothing.File.Truncate(mib))
	corrupt := image("qcow2")
	_, err := corrupt.File.WriteAt([]byte{0xff, 0xff, 0xff, 0}, 40) // where its table is
	must(t, err)
	open := func(l Layer) error { _, err := Open(t.Context(), l, Options{}); return err }
	check := func(l Layer, r Repair) error { _, err := Check(t.Context(), l, r, Child{}); return err }
	for name, c := range map[string]struct {
		err        error
		code       record.Code
		says, hint string
	}{
		"leaks of a corrupt one": {check(Layer{File: leaking(t, true), Format: "qcow2"}, RepairLeaks), record.WrongState, "cannot check the image of format qcow2: its tables are corrupt: more has to be", "--check --repair all"},
		"check of none":          {check(nothing, RepairNothing), record.WrongState, "does not begin as one in that format", "refresh its pool"},
		"none":                   {open(nothing), record.WrongState, "cannot open the image of format qcow2: its file does not begin", "refresh its pool"},
		"corrupt":                {open(corrupt), record.WrongState, "its tables are corrupt (QEMU says: Active L1 table offset invalid)", "--repair all"},
		"too large":              {Create(t.Context(), file(t, "f"), New{Format: "qcow2", Capacity: 1 << 60}), record.TooLarge, "cannot make the image of format qcow2: its tables have no room", "cluster_size"},
		"larger than vpc has":    {Create(t.Context(), file(t, "f"), New{Format: "vpc", Capacity: 1 << 50}), record.TooLarge, "QEMU says: Disk size is too large", ""},
		"other options":          {Create(t.Context(), file(t, "f"), New{Format: "qcow2", Capacity: mib, Options: map[string]string{"cluster_size": "77"}}), record.FailedCode, "QEMU says: Cluster size must be", ""},
		"no resize":              {Resize(t.Context(), image("vdi"), 2*mib, Child{}), record.Unsupported, "cannot resize the image of format vdi: the capacity", "vol clone"},
		"rebase of none":         {Rebase(t.Context(), nothing, "x", "qcow2", Child{}), record.WrongState, "does not begin as one", "refresh its pool"},
		"too long a name":        {Rebase(t.Context(), image("qcow2"), strings.Repeat("n", 2000), "qcow2", Child{}), record.FailedCode, "QEMU says: ", ""},
	} {
		e, ok := errors.AsType[*record.Error](c.err)
		if !ok || e.Code != c.code || !strings.Contains(c.err.Error(), c.says) || !strings.Contains(e.Hint.String(), c.hint) || (c.hint == "") != (len(e.Hint) == 0) {
			t.Errorf("%s: %v, %+v", name, c.err, e)
		}
		if ok && strings.Contains(e.Hint.String(), "--check") && !strings.Contains(e.Hint.String(), "vol verify "+filepath.Dir(filepath.Dir(corrupt.File.Name()))) {
			t.Errorf("%s: the hint names no image: %v", name, e.Hint)
		}
		if strings.Contains(c.err.Error(), "json:") || strings.Contains(c.err.Error(), "qemu-") {
			t.Errorf("%s: %v", name, c.err)
		}
	}
}
