package qemu

import (
	"context"
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
			if _, ok := m.options[o.Name]; !ok {
				t.Errorf("format %s has no option %s here", c.Format, o.Name)
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
