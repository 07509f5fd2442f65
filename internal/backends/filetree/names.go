package filetree

import (
	"path/filepath"

	"storaged/internal/backends"
	"storaged/internal/record"
)

// CheckName has the common rule: whatever passes is a name of a file.
func (Tree) CheckName(name string) error { return record.CheckName(name) }

// checkStored is the rule for names of files that hold volumes or snapshots.
func checkStored(name string) error {
	if _, _, ok := record.ParseSnapshot(name); ok {
		return nil
	}
	return (Tree{}).CheckName(name)
}

// Locate gives the file of that name in the directory.
func (Tree) Locate(p backends.Pool, name string) backends.Location {
	return fileAt(filepath.Join(p.Target, name))
}

// LocateDraft gives the file by its temporary name.
func (Tree) LocateDraft(p backends.Pool, job string) string {
	return filepath.Join(p.Target, record.DraftName(job))
}

// Parse takes the directory that a file lies in for the pool's.
func (Tree) Parse(path string) (target, name string) {
	return filepath.Dir(path), filepath.Base(path) // before "." and ".." are resolved, so that they are refused as names
}

func fileAt(path string) backends.Location {
	return backends.Location{Path: path, Key: path, Type: "file"}
}
