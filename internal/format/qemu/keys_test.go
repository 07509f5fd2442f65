package qemu

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"storaged/internal/testenv"
)

// passphrase is long, and has spaces and newlines.
var passphrase = []byte(" ä\n" + strings.Repeat("k", 200) + "\n")

// encrypted are the formats that have keys.
var encrypted = []string{"luks", "qcow2"}

// encryptedQCOW2 is an image that the passphrase opens, and that names a backing. It is
// made once: QEMU measures the processor for a second and more for each key, however
// fast that is to be.
var encryptedQCOW2 = sync.OnceValues(func() ([]byte, error) {
	f, err := os.CreateTemp("", "")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	err = Create(context.Background(), f, New{
		Format: "qcow2", Capacity: mib, Options: map[string]string{"iter_time": "10"}, Secret: passphrase,
		BackingName: "/nowhere/base", BackingFormat: "raw",
	})
	if err != nil {
		return nil, err
	}
	return os.ReadFile(f.Name())
})

// locked is a new image of a MiB that the passphrase opens.
func locked(t *testing.T, format string) Layer {
	t.Helper()
	path := filepath.Join(t.TempDir(), format)
	if format == "luks" {
		testenv.LUKS(t, path, string(passphrase))
	} else {
		testenv.Tool(t, "qemu-storage-daemon")
		b, err := encryptedQCOW2()
		must(t, err)
		must(t, os.WriteFile(path, b, 0o600))
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return Layer{File: f, Format: format, Secret: passphrase}
}

// keyOpens holds what cryptsetup says of an image against what we do: whether a secret
// opens it.
func keyOpens(t *testing.T, f *os.File, format, secret string, want bool) {
	t.Helper()
	err := TryKey(t.Context(), Layer{File: f, Format: format, Secret: []byte(secret)}, Child{})
	if (err == nil) != want {
		t.Errorf("%s: %q opens it: %v", format, secret, err)
	}
	if err != nil && (!strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), secret)) {
		t.Errorf("%s: %v", format, err)
	}
	if format != "luks" {
		return
	}
	cmd := exec.Command(testenv.Tool(t, "cryptsetup"), "open", "--test-passphrase", "--key-file", "-", f.Name())
	cmd.Stdin = strings.NewReader(secret)
	if out, err := cmd.CombinedOutput(); (err == nil) != want {
		t.Errorf("cryptsetup: %q opens it: %v %s", secret, err, out)
	}
}

// Where blocks are shared xfs writes whole blocks only, and a luks may end within one.
func TestAKeyComesIntoAnImageThatEndsWithinABlock(t *testing.T) {
	image := locked(t, "luks")
	path := filepath.Join(testenv.Mount(t, "xfs"), "luks")
	b, err := os.ReadFile(image.File.Name())
	must(t, err)
	must(t, os.WriteFile(path, append(b, make([]byte, sector)...), 0o600))
	out, err := exec.Command("cp", "--reflink=always", path, path+".snapshot").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if image.File, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	defer image.File.Close()
	must(t, AddKey(t.Context(), image, Key{Secret: []byte("another"), Time: 1}, Child{}))
	keyOpens(t, image.File, "luks", "another", true)
}

func TestKeysComeAndGo(t *testing.T) {
	for _, format := range encrypted {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			ctx, layer := t.Context(), locked(t, format)
			f, first := layer.File, string(passphrase)
			keyOpens(t, f, format, first, true)
			keyOpens(t, f, format, "second secret", false)
			if err := RemoveKey(ctx, layer, passphrase, Child{}); err == nil {
				t.Error("the last key was removed")
			}
			if err := AddKey(ctx, Layer{File: f, Format: format, Secret: []byte("wrong")}, fast("second secret"), Child{}); err == nil {
				t.Error("a key was added by who has none")
			}
			must(t, AddKey(ctx, layer, fast("second secret"), Child{}))
			keyOpens(t, f, format, first, true)
			keyOpens(t, f, format, "second secret", true)
			layer.Secret = []byte("second secret")
			must(t, RemoveKey(ctx, layer, passphrase, Child{}))
			keyOpens(t, f, format, first, false)
			keyOpens(t, f, format, "second secret", true)
		})
	}
}

// fast is a key that takes no time.
func fast(secret string) Key { return Key{[]byte(secret), 10} }

// A passphrase may be long, and have spaces and newlines.
func TestKeysOfAnyText(t *testing.T) {
	l := locked(t, "luks")
	keyOpens(t, l.File, "luks", string(passphrase), true)
	keyOpens(t, l.File, "luks", string(passphrase[:len(passphrase)-1]), false)
}

// A child is not given up while it tries keys, however long that takes.
func TestKeysThatTakeLong(t *testing.T) {
	if !*all { // it takes a minute of the processor
		return
	}
	n := New{Format: "luks", Capacity: mib, Secret: passphrase, Options: map[string]string{"iter_time": "14000"}}
	l := Layer{File: made(t, n), Format: "luks", Secret: passphrase}
	i := opened(t, l, Options{Writable: true})
	_, err := i.WriteAt(pattern(1, mib), 0)
	must(t, err)
	must(t, i.Close())
}

// seen is all that other processes see of the arguments and environments of children.
func seen(t *testing.T) (all string) {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	must(t, err)
	for _, list := range lists {
		pids, err := os.ReadFile(list)
		must(t, err)
		for pid := range strings.FieldsSeq(string(pids)) {
			for _, name := range []string{"cmdline", "environ"} {
				b, err := os.ReadFile(filepath.Join("/proc", pid, name))
				must(t, err)
				all += string(b)
			}
		}
	}
	return all
}
