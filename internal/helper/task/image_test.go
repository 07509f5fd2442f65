package task

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// written is a draft that somebody has written to whom nobody trusts.
type written struct {
	backends.Draft
	file *os.File
}

func (w written) Content() diskio.Content { return diskio.FileContent(w.file) }

func (w written) Info() (backends.VolumeInfo, error) {
	st, err := w.file.Stat()
	if err != nil {
		return backends.VolumeInfo{}, err
	}
	return backends.VolumeInfo{Path: w.file.Name(), Size: st.Size()}, nil
}

// Who copies a hostile source into a new image could write anything into its file. One
// whose header names a file, or is not what was to be made, becomes no volume.
func TestANewImageNamesNoFile(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		options []string
		says    string // "": it is as it should be
	}{
		"sound":            {nil, ""},
		"stands":           {[]string{"-u", "-F", "raw", "-b", "/etc/shadow"}, `names "/etc/shadow"`},
		"stands on nobody": {[]string{"-u", "-F", "raw", "-b", "gone"}, `names "gone"`},
		"by JSON":          {[]string{"-u", "-F", "raw", "-b", `json:{"driver":"raw","file":{"driver":"file","filename":"/etc/shadow"}}`}, "names"},
		"of a network":     {[]string{"-u", "-F", "raw", "-b", "nbd://127.0.0.1/x"}, "names"},
		"elsewhere":        {[]string{"-o", "data_file=" + filepath.Join(dir, "data")}, "names"},
	} {
		path := filepath.Join(dir, name)
		args := append(append([]string{"create", "-q", "-f", "qcow2"}, c.options...), path, "1M")
		if out, err := exec.Command(testenv.Tool(t, "qemu-img"), args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		judgeDraft(t, path, 1<<20, c.says)
	}
	judgeDraft(t, filepath.Join(dir, "sound"), 2<<20, "its header says 1.00 MiB")
	if err := os.Truncate(filepath.Join(dir, "sound"), 1000); err != nil {
		t.Fatal(err)
	}
	judgeDraft(t, filepath.Join(dir, "sound"), 1<<20, "does not lie within the file")
}

// judgeDraft fails unless a draft of which that capacity is expected is refused in those
// words, or taken if there are none.
func judgeDraft(t *testing.T, path string, capacity int64, says string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := newImage{draft: &helper.Draft{Location: helper.Location{Path: path}, Draft: written{file: f}, As: backends.NewVolume{Format: "qcow2"}}, capacity: capacity}
	err = n.describe(&helper.Run{})
	if says == "" && err != nil || says != "" && (record.CodeOf(err) != record.Internal || !strings.Contains(err.Error(), says)) {
		t.Errorf("%s: %v, want %q", path, err, says)
	}
}
