package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"storaged/internal/record"
)

// Whose a new volume is, and who may open it, is said when it is made, and shown.
func TestNewVolumesBelongToWhomTheyAreMadeFor(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	file := filepath.Join(t.TempDir(), "content")
	h.must(os.WriteFile(file, noise(mib), 0o644))
	rights := []string{"--owner", "107", "--group", "108", "--mode", "0640"}
	h.runs(0, "", append([]string{"vol", "create", "pool/raw", "1M"}, rights...)...)
	h.runs(0, "", append([]string{"vol", "create", "pool/image", "1M", "--format", "qcow2"}, rights...)...)
	h.runs(0, "", append([]string{"vol", "create", "pool/filled", "--from", file}, rights...)...)
	h.runs(0, "", "vol", "clone", "pool/raw", "pool/copied")
	h.runs(0, "", "vol", "clone", "pool/image", "pool/converted", "--format", "raw")
	for _, name := range []string{"raw", "image", "filled", "copied", "converted"} {
		h.belongs(name, record.Permissions{Mode: "0640", Owner: 107, Group: 108})
	}
	h.runs(0, "", "vol", "clone", "pool/raw", "pool/other", "--owner", "root", "--mode", "600")
	h.belongs("other", record.Permissions{Mode: "0600", Owner: 0, Group: 108})
	h.runs(0, "", "vol", "clone", "pool/image", "pool/linked", "--linked", "--group", "109")
	h.belongs("linked", record.Permissions{Mode: "0600", Owner: 0, Group: 109})
	h.runs(0, "", "vol", "create", "pool/plain", "1M")
	h.belongs("plain", record.Permissions{Mode: "0600"})

	h.runs(record.ExitUsage, "octal", "vol", "create", "pool/no", "1M", "--mode", "1777")
	h.runs(record.ExitUsage, "--owner", "vol", "create", "pool/no", "1M", "--owner", "nobody-of-this-name")
	h.unknown("no")

	h.must(os.Chmod(h.path("plain"), 0o644))
	h.runs(0, "", "pool", "refresh", "pool")
	h.belongs("plain", record.Permissions{Mode: "0644"})
}

// belongs fails unless a volume has those permissions, and its record says so.
func (h *host) belongs(volume string, want record.Permissions) {
	h.t.Helper()
	st := must(os.Stat(h.path(volume)))(h.t)
	v := h.entry(volume)
	if v.Permissions == nil || *v.Permissions != want || v.Times == nil || v.Times.Modified == nil || v.Length != st.Size() {
		h.t.Errorf("%s has %v %v, %d bytes, want %v, %d", volume, v.Permissions, v.Times, v.Length, want, st.Size())
	}
	if got := ownership(st); got != want {
		h.t.Errorf("the file of %s has %v, want %v", volume, got, want)
	}
}

func ownership(st os.FileInfo) record.Permissions {
	raw := st.Sys().(*syscall.Stat_t)
	return record.Permissions{Mode: fmt.Sprintf("%04o", st.Mode().Perm()), Owner: raw.Uid, Group: raw.Gid}
}
