package ipc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ItemFile is the file of what a job over many objects is done with, as its
// helper writes it.
type ItemFile struct {
	path  string
	count uint64 // of the items in it
	size  int64  // of those, in bytes
}

// NewItemFile begins a file. There is none before the first Add.
func NewItemFile(path string) *ItemFile { return &ItemFile{path: path} }

// Add adds an item and returns when it is durable. After an error it is not
// added, and may be again.
func (f *ItemFile) Add(it Item) error {
	b, err := Encode(Frame{Seq: f.count, Body: it.tidied()}, MaxRecord)
	if err == nil {
		err = f.write(b)
	}
	if err != nil {
		return fmt.Errorf("cannot note that an item is done: %w", err)
	}
	f.count++
	f.size += int64(len(b))
	return nil
}

func (f *ItemFile) write(b []byte) error {
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(b, f.size)
	if err == nil {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err == nil && f.count == 0 {
		err = SyncDir(filepath.Dir(f.path))
	}
	return err
}

// ReadItems gives the items of such a file, none if there is no file. What is
// behind the last complete one was never durable, and is passed over.
func ReadItems(path string) ([]Item, error) {
	f, err := openPlain(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read what is done: %w", err)
	}
	defer f.Close()
	in := NewReader(f, MaxRecord)
	var items []Item
	for len(items) < maxItems {
		frame, err := in.Next()
		it, ok := frame.Body.(Item)
		if err != nil || !ok || frame.Seq != uint64(len(items)) {
			break
		}
		items = append(items, it)
	}
	return items, nil
}
