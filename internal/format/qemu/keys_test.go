package qemu

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/testenv"
)

// encrypted are the formats that have keys, with options that make keys fast.
var encrypted = map[string]map[string]string{"luks": {"iter-time": "10"}, "qcow2": {"encrypt.iter-time": "10"}}

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

func TestKeysComeAndGo(t *testing.T) {
	testenv.Tool(t, "qemu-storage-daemon")
	for format, options := range encrypted {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			f, err := os.Create(filepath.Join(t.TempDir(), "image"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			ctx, first := t.Context(), []byte("first secret")
			if err := Create(ctx, f, New{Format: format, Capacity: 1 << 20, Options: options, Secret: first}); err != nil {
				t.Fatal(err)
			}
			layer := Layer{File: f, Format: format, Secret: first}
			keyOpens(t, f, format, "first secret", true)
			keyOpens(t, f, format, "second secret", false)
			if err := RemoveKey(ctx, layer, first, Child{}); err == nil {
				t.Error("the last key was removed")
			}
			if err := AddKey(ctx, Layer{File: f, Format: format, Secret: []byte("wrong")}, fast("second secret"), Child{}); err == nil {
				t.Error("a key was added by who has none")
			}
			if err := AddKey(ctx, layer, fast("second secret"), Child{}); err != nil {
				t.Fatal(err)
			}
			keyOpens(t, f, format, "first secret", true)
			keyOpens(t, f, format, "second secret", true)
			layer.Secret = []byte("second secret")
			if err := RemoveKey(ctx, layer, first, Child{}); err != nil {
				t.Fatal(err)
			}
			keyOpens(t, f, format, "first secret", false)
			keyOpens(t, f, format, "second secret", true)
		})
	}
}

// fast is a key that takes no time.
func fast(secret string) Key { return Key{[]byte(secret), 10} }

// A passphrase may be long, and have spaces and newlines.
func TestKeysOfAnyText(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	secret := " ä\n" + strings.Repeat("k", 200) + "\n"
	if err := Create(t.Context(), f, New{Format: "luks", Capacity: 1 << 20, Options: encrypted["luks"], Secret: []byte(secret)}); err != nil {
		t.Fatal(err)
	}
	keyOpens(t, f, "luks", secret, true)
	keyOpens(t, f, "luks", secret[:len(secret)-1], false)
}
