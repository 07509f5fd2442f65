package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/record"
)

// editorOf makes an editor that replaces a text by another.
func editorOf(t *testing.T, was, is string) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "editor")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec sed -i 's|"+was+"|"+is+"|' \"$2\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VISUAL", "")
	t.Setenv("EDITOR", script+" --wait")
	t.Setenv("TMPDIR", t.TempDir())
}

func TestPoolIsEdited(t *testing.T) {
	for _, form := range []string{"", " -o json"} {
		d := newDaemon(t)
		editorOf(t, "/srv/images", "/srv/other")
		if _, errs, code := d.run("pool edit images" + form); code != 0 || !strings.Contains(errs, "defined anew") {
			t.Errorf("%q: exit %d: %s", form, code, errs)
		}
		if p, err := d.Pool(t.Context(), "images"); err != nil || p.Target.Path != "/srv/other" {
			t.Errorf("%q: its target is %q, %v", form, p.Target.Path, err)
		}
		if left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*")); err != nil || len(left) != 0 {
			t.Errorf("%q: left behind %q, %v", form, left, err)
		}
	}
}

func TestWhatCannotBeDefinedIsNotThrownAway(t *testing.T) {
	d := newDaemon(t)
	editorOf(t, "/srv/images", "/refused")
	_, errs, code := d.run("pool edit images")
	if code != record.ExitUsage {
		t.Errorf("exit %d: %s", code, errs)
	}
	left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*"))
	if err != nil || len(left) != 1 || !strings.Contains(errs, left[0]) {
		t.Fatalf("left is %q, %v: %s", left, err, errs)
	}
	if b, err := os.ReadFile(left[0]); err != nil || !strings.Contains(string(b), "/refused") {
		t.Errorf("it holds %s, %v", b, err)
	}
}

func TestNothingIsDefinedThatWasNotEdited(t *testing.T) {
	d := newDaemon(t)
	editorOf(t, "no such text", "")
	if _, errs, code := d.run("pool edit images"); code != 0 || !strings.Contains(errs, "nothing was changed") {
		t.Errorf("exit %d: %s", code, errs)
	}
	t.Setenv("EDITOR", "/no/such/editor")
	if _, errs, code := d.run("pool edit images"); code != record.ExitUsage || !strings.Contains(errs, "set EDITOR") {
		t.Errorf("exit %d: %s", code, errs)
	}
}
