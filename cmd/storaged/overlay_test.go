package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// naming is how an overlay that others made names what it stands on.
type naming struct {
	what, backing string
	known         bool // it is a volume of a pool
}

// namings are of bases in a pool, and of such that are in none.
func (h *host) namings() []naming {
	outside := filepath.Join(h.dir, "outside")
	return []naming{
		{"absolute", h.path("base"), true},
		{"relative", "base", true},
		{"json", `json:{"driver":"raw","file":{"driver":"file","filename":"` + h.path("base") + `"}}`, false},
		{"outside", outside, false},
		{"link to outside", h.path("link"), false},
		{"nothing", h.path("nothing"), false},
		{"nbd", "nbd:unix:" + filepath.Join(h.dir, "socket"), false},
	}
}

// An overlay that others made is copied and moved so that the result has its
// content, or not at all.
func TestNoOverlayIsBroken(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	other := filepath.Join(h.dir, "pool2")
	h.define("other", other)
	h.random("base", mib)
	base := must(os.ReadFile(h.path("base")))(t)
	h.must(os.WriteFile(filepath.Join(h.dir, "outside"), base, 0o600))
	h.must(os.Symlink("../outside", h.path("link")))
	for _, n := range h.namings() {
		t.Run(n.what, func(t *testing.T) {
			for verb, do := range map[string]func() (started, error){
				"clone beside":           func() (started, error) { return h.clone("over", "new") },
				"clone to another pool":  func() (started, error) { return h.clone("over", "other/new") },
				"move beside":            func() (started, error) { return h.move("over", "new") },
				"move to another pool":   func() (started, error) { return h.move("over", "other/new") },
				"evacuation":             func() (started, error) { return h.evacuatePool("pool", "other", only("over")) },
				"evacuation with copies": func() (started, error) { return h.evacuatePool("pool", "other", only("over"), keepSource) },
				"upload into a new one":  func() (started, error) { return h.overlayUploaded(t, "other/new") },
			} {
				qemuImage(t, "-u", "-f", "qcow2", "-F", "raw", "-b", n.backing, h.path("over"), "1M")
				h.must(h.refresh("pool"))
				h.overlayHolds(t, n, verb, do)
				for _, left := range []string{h.path("over"), h.path("new"), filepath.Join(other, "over"), filepath.Join(other, "new")} {
					if err := os.Remove(left); err != nil && !errors.Is(err, os.ErrNotExist) {
						t.Fatal(err)
					}
				}
				h.must(h.refresh("other"))
			}
		})
	}
}

// overlayUploaded makes a volume of the overlay's file.
func (h *host) overlayUploaded(t *testing.T, volume string) (started, error) {
	f := must(os.Open(h.path("over")))(t)
	defer f.Close()
	return h.hand(volume, f, creating(format("qcow2")))
}

// overlayHolds does something with the overlay, and fails if that succeeded and
// made what has not its content, or if it should not have succeeded.
func (h *host) overlayHolds(t *testing.T, n naming, verb string, do func() (started, error)) {
	t.Helper()
	st, err := do()
	if err == nil {
		if j := h.end(st, nil); j.Error != nil {
			err = j.Error
		}
	}
	var made []string
	for _, path := range []string{h.path("new"), filepath.Join(h.dir, "pool2/new"), filepath.Join(h.dir, "pool2/over")} {
		if _, err := os.Lstat(path); err == nil {
			made = append(made, path)
		}
	}
	switch {
	case err != nil && len(made) > 0:
		t.Errorf("%s of %s: %v, and %q is there", verb, n.what, err, made)
	case err != nil && record.CodeOf(err) != record.Unsupported && record.CodeOf(err) != record.Partial:
		t.Errorf("%s of %s: %v", verb, n.what, err)
	case err != nil && n.known && !strings.Contains(n.what, "relative"):
		t.Errorf("%s of %s: %v", verb, n.what, err)
	case err == nil && len(made) != 1:
		t.Errorf("%s of %s made %q", verb, n.what, made)
	case err == nil && !n.known && verb != "move beside": // which leaves it as it was
		t.Errorf("%s of %s succeeded", verb, n.what)
	case err == nil && n.known:
		cmd := exec.Command(testenv.Tool(t, "qemu-img"), "compare", "-f", "qcow2", "-F", "raw", made[0], h.path("base"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s of %s: %v\n%s", verb, n.what, err, out)
		}
	}
}
