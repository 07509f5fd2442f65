package format

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompressedIsSeen(t *testing.T) {
	dir := t.TempDir()
	content := make([]byte, 8<<20)
	copy(content[1<<20:], bytes.Repeat([]byte("storaged"), 500_000))
	if err := os.WriteFile(filepath.Join(dir, "content"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]bool{
		"raw": false, "qcow2": false, "qcow2 -c": true, "qcow2 -c -o compat=0.10": true, "qcow2 -c -o cluster_size=4096": true,
		"qcow2 -c -o compression_type=zstd": true, "qcow2 -o extended_l2=on": false,
		"vmdk": false, "vmdk -o subformat=streamOptimized": true, "vdi": false,
	} {
		format, path := strings.Fields(args)[0], filepath.Join(dir, "image")
		qemuImg(t, dir, append(append([]string{"convert", "-f", "raw", "-O"}, strings.Fields(args)...), "content", "image")...)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := Compressed(bytes.NewReader(b), int64(len(b)), format); got != want {
			t.Errorf("%s: %v", args, got)
		}
		for n := range 200 { // any beginning of it is an image that lies
			Compressed(bytes.NewReader(b[:min(n*997, len(b))]), int64(len(b)), format)
		}
	}
}
