package task

import (
	"fmt"
	"path/filepath"

	"storaged/internal/backends"
	"storaged/internal/backends/header"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// copying is what is to become of an image: what its header names counts.
type copying struct {
	from, to string // paths; the latter "" for what is no volume
	format   string // of both; "": it is raw
	both     bool   // the original stays
}

// admit refuses an image of which a copy would not be one. Others may have given
// it another backing since anybody read it last: so the header is read of what is
// open and locked. That of a raw volume is a virtual machine's, and means nothing.
func (c copying) admit(v backends.Volume) error {
	if c.format == "" || c.format == record.FormatRaw {
		return nil
	}
	info, err := header.Inspect(v)
	if err != nil {
		return err
	}
	for _, r := range info.References {
		if why := c.lacks(r); why != "" {
			return ipc.Errorf(record.Unsupported, "%q is an image in format %s: %s; nothing was done", c.from, c.format, why)
		}
	}
	return nil
}

// lacks says what a copy of an image would lack, "" if nothing.
func (c copying) lacks(r backends.Reference) string {
	switch {
	case r.Data && c.both:
		return fmt.Sprintf("the copy shares its content in %q", r.Name)
	case r.Relative && c.to != "" && filepath.Dir(c.from) != filepath.Dir(c.to):
		return fmt.Sprintf("it does not find %q from its new place", r.Name)
	}
	return ""
}
