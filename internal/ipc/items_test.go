package ipc

import (
	"os"
	"path/filepath"
	"testing"
)

func TestItemsAreReadAsFarAsTheyAreWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "items")
	if items, err := ReadItems(path); items != nil || err != nil {
		t.Errorf("without a file: %v, %v", items, err)
	}
	names := []string{"a", "b", "c"}
	file := NewItemFile(path)
	for _, name := range names {
		if err := file.Add(Item{Name: name, State: "succeeded"}); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	one := len(whole) / len(names)
	for n := 0; n <= len(whole); n++ {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		items, err := ReadItems(path)
		if err != nil || len(items) != n/one || len(items) > 0 && items[len(items)-1].Name != names[len(items)-1] {
			t.Errorf("%d bytes: %v, %v", n, items, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", path); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadItems(path); err == nil {
		t.Error("a link was followed")
	}
	if err := file.Add(Item{Name: "a"}); err == nil {
		t.Error("a link was written to")
	}
}
