package qemu

import (
	"context"
	testflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// What the capabilities say can be made is what is made here: every format, with
// every value of every option.
func TestWhatIsSaidToBeMadeIsMade(t *testing.T) {
	testenv.Tool(t, "qemu-storage-daemon")
	for _, c := range record.Creations() {
		if c.Format == record.FormatRaw {
			continue // whose options are about storage alone
		}
		m, ok := makers[c.Format]
		if !ok || c.Backing && !m.backing {
			t.Errorf("format %s, that it can stand on others: %t, and here %t", c.Format, c.Backing, m.backing)
		}
		for _, o := range c.Options {
			_, ok := m.options[o.Name]
			if _, encrypts := makers["luks"].options[o.Name]; !ok && !(o.Secret && encrypts) {
				t.Errorf("format %s has no option %s here", c.Format, o.Name)
			}
			if c.Encryption == record.EncryptionRequired || o.Secret {
				continue // see below
			}
			for _, value := range values(o) {
				t.Run(fmt.Sprint(c.Format, ",", o.Name, "=", value), func(t *testing.T) { makes(t, c.Format, o.Name, value) })
			}
		}
	}
}

// values are some of an option, the extremes among them.
func values(o record.CreationOption) []string {
	if len(o.Values) > 0 {
		return o.Values
	}
	return []string{fmt.Sprint(o.Minimum), fmt.Sprint(o.Maximum)}
}

func makes(t *testing.T, format, option, value string) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := New{Format: format, Capacity: 8 << 20, Options: map[string]string{option: value}}
	if err := Create(context.Background(), f, n); err != nil {
		t.Error(err)
	}
}

var everyKey = testflag.Bool("every-key", false, "make encrypted images with every value of every option: each takes seconds, in which QEMU measures its processor")

// An encrypted image is made with every option that is said to be one, its last value at
// least. A qcow2 is given the same.
func TestWhatIsSaidOfEncryptionIsMade(t *testing.T) {
	testenv.Tool(t, "qemu-storage-daemon")
	luks, _ := record.CreationOf("luks")
	most := 1
	for _, o := range luks.Options {
		most = max(most, len(o.Values))
	}
	if !*everyKey {
		most = 1
	}
	for back := range most {
		n := New{Format: "luks", Capacity: 1 << 20, Secret: []byte("open, sesame"), Options: map[string]string{}}
		for _, o := range luks.Options {
			if n.Options[o.Name] = "10"; len(o.Values) > 0 {
				n.Options[o.Name] = o.Values[len(o.Values)-1-back%len(o.Values)]
			}
		}
		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := Create(t.Context(), f, n); err != nil {
			t.Errorf("%v: %v", n.Options, err)
		}
		n.Format = "qcow2"
		if _, err := n.options(new(graph)); err != nil {
			t.Errorf("qcow2: %v", err)
		}
	}
}
