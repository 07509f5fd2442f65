package task

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/helper"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// packers are programs that pack, by the form that they make.
var packers = map[string][]string{"gzip": {"gzip", "-c"}, "xz": {"xz", "-c"}, "zstd": {"zstd", "-qc"}}

func packed(t *testing.T, content io.Reader, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, args[0]), args[1:]...)
	cmd.Stdin = content
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return out
}

// unpackAll unpacks a file with those bytes.
func unpackAll(t *testing.T, form string, b []byte) ([]byte, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "packed")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	from, err := externalOf(path, "")
	if err != nil {
		t.Fatal(err)
	}
	c := &content{contentSpec: contentSpec{from: from, unpack: form}}
	if c.file, err = from.open(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.unpacked()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(&inOrder{Stream: s})
}

func TestEveryPackingIsUnpacked(t *testing.T) {
	if len(packers) != len(unpackers) || len(unpackers) != len(operation.Packings) {
		t.Fatalf("%d forms are unpacked here, %d by name, %d packed", len(unpackers), len(operation.Packings), len(packers))
	}
	want := bytes.Repeat([]byte("a volume "), 100_000)
	for form, args := range packers {
		b := packed(t, bytes.NewReader(want), args...)
		for what, c := range map[string][]byte{"one": b, "two": append(bytes.Clone(b), b...)} {
			got, err := unpackAll(t, form, c)
			if err != nil || !bytes.Equal(got, bytes.Repeat(want, len(c)/len(b))) {
				t.Errorf("%s, %s: %d bytes, %v", form, what, len(got), err)
			}
		}
		for what, c := range map[string][]byte{
			"cut off": b[:len(b)-5], "cut off early": b[:len(b)/2], "damaged": damaged(b), "followed by something": append(bytes.Clone(b), "something"...),
			"another": []byte(strings.Repeat("x", 600)), "nothing": nil,
		} {
			if _, err := unpackAll(t, form, c); codeOf(err) != record.Invalid {
				t.Errorf("%s, %s: %v", form, what, err)
			}
		}
	}
}

func codeOf(err error) record.Code {
	if err == nil {
		return ""
	}
	return record.Code(helper.Fault(err, helper.Task{}).Code)
}

// damaged has another byte in its middle.
func damaged(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 0x55
	return b
}

func TestWhatTakesTooMuchMemoryIsNotUnpacked(t *testing.T) {
	for form, args := range map[string][]string{"xz": {"xz", "-c", "-0", "--lzma2=preset=0,dict=256MiB"}, "zstd": {"zstd", "-qc", "-1", "--long=29"}} {
		b := packed(t, io.LimitReader(zeroes{}, 300<<20), args...)
		if _, err := unpackAll(t, form, b); codeOf(err) != record.Unsupported || !strings.Contains(err.Error(), "memory") {
			t.Errorf("%s: %v", form, err)
		}
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
