package task

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"storaged/internal/confine"
	"storaged/internal/helper"
)

// outlet is where a download goes: what is open already, or a file that gets its
// name when it is complete.
type outlet struct {
	external
	run   *helper.Run
	comes *helper.Volume // what goes there
	file  *externalFile
	dir   *os.File // of the file that gets its name
	temp  string   // its name until then; "": it has it
}

// byName reports whether it is a file that gets its name in the end.
func (o *outlet) byName() bool { return o.form == "" && !o.isOpen() }

// Open opens it. A file is made in the directory in which it is to be.
func (o *outlet) Open(ctx context.Context, r *helper.Run) (err error) {
	o.run = r
	if !o.byName() {
		o.file, err = o.open(ctx, true)
		return err
	}
	path, err := absolute(o.given)
	if err != nil {
		return err
	}
	if o.dir, err = os.Open(filepath.Dir(path)); err != nil {
		return fmt.Errorf("cannot make a file beside %s: %w", o, err)
	}
	temp := "." + r.ID + ".download"
	fd, err := unix.Openat(int(o.dir.Fd()), temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return fmt.Errorf("cannot make a file beside %s: %w", o, err)
	}
	o.temp = temp
	o.file = &externalFile{File: os.NewFile(uintptr(fd), path), stop: func() bool { return true }}
	return nil
}

// Lock refuses the volume itself, which is locked by then.
func (o *outlet) Lock(context.Context, *helper.Run) error {
	if o.form != "" {
		return nil
	}
	return otherThan(o.file, o.comes.Volume)
}

// Needs is to give the file its name.
func (o *outlet) Needs(_ *helper.Run, p *confine.Policy) {
	if o.dir != nil {
		p.Names = append(p.Names, o.dir)
	}
}

// publish gives the file its name, durably.
func (o *outlet) publish() error {
	dir := int(o.dir.Fd())
	if err := unix.Renameat(dir, o.temp, dir, filepath.Base(o.file.Name())); err != nil {
		return fmt.Errorf("cannot give %s its name: %w", o, err)
	}
	o.temp = ""
	if err := o.dir.Sync(); err != nil {
		return fmt.Errorf("cannot make the name of %s durable: %w", o, err)
	}
	return nil
}

// Close closes it. What was to be durable is, and what is not complete has no
// business to stay.
func (o *outlet) Close() {
	if o.file != nil {
		o.file.Close()
	}
	if o.temp != "" {
		if err := unix.Unlinkat(int(o.dir.Fd()), o.temp, 0); err != nil {
			o.run.Warn("cannot remove %q, which is not complete: %v", o.temp, err)
		}
	}
	if o.dir != nil {
		o.dir.Close()
	}
}
