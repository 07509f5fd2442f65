package format

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"storaged/internal/testenv"
)

// What the programs that pack make is told by its beginning, whatever is in it.
func TestPacked(t *testing.T) {
	for name, args := range map[string][]string{
		"gzip": {"gzip", "-c"}, "xz": {"xz", "-c"}, "bzip2": {"bzip2", "-c"}, "tar": {"tar", "-cf", "-"},
		"zstd": {"zstd", "-c"}, "lz4": {"lz4", "-c"}, "zip": {"zip", "-q", "-"},
	} {
		for size, content := range map[string][]byte{"empty": nil, "one": {0}, "large": bytes.Repeat([]byte("storaged"), 100_000)} {
			path := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(testenv.Tool(t, args[0]), append(args[1:], filepath.Base(path))...)
			cmd.Dir = filepath.Dir(path)
			packed, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if got := Packed(packed[:min(len(packed), 512)]).Name; got != name {
				t.Errorf("%s, %s: %q", name, size, got)
			}
		}
	}
	for name, head := range map[string]string{
		"zstd": "\x28\xb5\x2f\xfd\x04\x58", "lz4": "\x04\x22\x4d\x18\x64", "zip": "PK\x03\x04\x14\x00", "7z": "7z\xbc\xaf\x27\x1c\x00\x04", "lzip": "LZIP\x01\x0c",
	} {
		if got := Packed([]byte(head)).Name; got != name {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// What a disk begins with is no packing, however it is cut.
func TestNotPacked(t *testing.T) {
	mbr := make([]byte, 512)
	mbr[510], mbr[511] = 0x55, 0xaa
	for name, head := range map[string][]byte{
		"nothing": nil, "zeros": make([]byte, 512), "mbr": mbr, "boot code": []byte("\xeb\x63\x90"), "luks": []byte("LUKS\xba\xbe\x00\x02"),
		"half a magic": []byte("\x1f\x8b"), "gzip with reserved flags": []byte("\x1f\x8b\x08\xff\x00\x00\x00\x00\x00\x03"),
		"a text": []byte("BZhello, world"), "qcow2": []byte("QFI\xfb\x00\x00\x00\x03"),
	} {
		if got := Packed(head).Name; got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
}
