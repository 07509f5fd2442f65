package all

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"storaged/internal/backends"
)

func TestLookupFindsEveryListedDriver(t *testing.T) {
	for _, b := range Backends() {
		got, err := Lookup(b.Properties().Type)
		if err != nil || got.Properties().Type != b.Properties().Type {
			t.Errorf("%s: %v, %v", b.Properties().Type, got, err)
		}
	}
}

func TestUnknownTypeNamesKnownOnes(t *testing.T) {
	_, err := Lookup("floppy\n")
	if !errors.Is(err, backends.ErrUnsupported) {
		t.Fatalf("error %v", err)
	}
	if msg := err.Error(); !strings.Contains(msg, "dir") || strings.Contains(msg, "\n") {
		t.Fatalf("error %q", msg)
	}
}

func TestCallerCannotChangeTheList(t *testing.T) {
	Backends()[0] = nil
	if Backends()[0] == nil {
		t.Fatal("the list was changed")
	}
}

func TestEachTypeHasOneDriverUnderItsName(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range list {
		if is := b.driver.Properties().Type; is != b.poolType || seen[is] {
			t.Errorf("the driver of type %q is listed as %q, and there is another: %v", is, b.poolType, seen[is])
		}
		seen[b.poolType] = true
	}
}

func TestDriversDoWhatTheyDeclare(t *testing.T) {
	for _, b := range Backends() {
		p := b.Properties()
		_, builds := b.(backends.Builder)
		_, deletes := b.(backends.Deleter)
		if builds != slices.Contains(p.PoolVerbs, "build") || deletes != slices.Contains(p.PoolVerbs, "delete") {
			t.Errorf("%s builds: %v, deletes: %v, and declares %q", p.Type, builds, deletes, p.PoolVerbs)
		}
		if _, finds := b.(backends.SourceFinder); finds != (p.Finds != nil) {
			t.Errorf("%s finds sources: %v, and declares %+v", p.Type, finds, p.Finds)
		}
		_, creates := b.(backends.Creator)
		_, takes := b.(backends.Taker)
		if creates != slices.Contains(p.VolVerbs, "create") || takes != slices.Contains(p.VolVerbs, "delete") {
			t.Errorf("%s creates: %v, takes: %v, and declares %q", p.Type, creates, takes, p.VolVerbs)
		}
	}
}
