package filetree

import (
	"testing"

	"storaged/internal/backends"
)

// What a client of NFS calls a file that is deleted and in use is no volume, and no name of
// one; names that only begin so are.
func TestFileDeletedInUseIsNoVolume(t *testing.T) {
	p := newPool(t)
	const deleted = ".nfs00000000002a8c1100000003"
	for _, name := range []string{deleted, ".nfs", ".nfsroot", ".nfs00000000002A8C1100000003", "a"} {
		put(t, p, name)
		if err := (Tree{}).CheckName(name); (err != nil) != (name == deleted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	found := 0
	_, err := Tree{}.Refresh(t.Context(), p, func(v backends.VolumeInfo) error {
		found++
		if v.Name == deleted || v.Ignored != "" {
			t.Errorf("%+v is found", v)
		}
		return nil
	})
	if err != nil || found != 4 {
		t.Errorf("%d are found: %v", found, err)
	}
}
