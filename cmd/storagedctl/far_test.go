package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/record"
	"storaged/internal/sparse"
)

// meddler is written to, and does something before the first byte.
type meddler struct {
	bytes.Buffer
	meddle func()
}

func (m *meddler) Write(b []byte) (int, error) {
	if m.meddle != nil {
		m.meddle()
		m.meddle = nil
	}
	return m.Buffer.Write(b)
}

// A file that somebody writes to while it is sent has no end that could be taken for one.
func TestFileThatChangesWhileItIsSentIsNotWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	whole := func(to *meddler) error {
		in := sparse.NewReader(to)
		for {
			if _, _, err := in.Next(); err != nil {
				return err
			}
		}
	}
	as := &meddler{}
	if err := packFile(as, f); err != nil || !errors.Is(whole(as), io.EOF) {
		t.Errorf("one that stays as it is: %v", err)
	}
	other := &meddler{meddle: func() { _, _ = f.WriteAt([]byte("x"), 2<<20) }}
	if err := packFile(other, f); record.CodeOf(err) != record.Changed {
		t.Errorf("it is sent, %v", err)
	}
	if err := whole(other); !errors.Is(err, sparse.ErrTorn) {
		t.Errorf("its end is %v", err)
	}
}
