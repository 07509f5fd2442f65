package task

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/backends/header"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// By hand nobody but the helper looks for images that a volume belongs to: the
// daemon has a catalog of all pools, and which of their volumes are images.
// Here the headers in the volume's own directory have to do.

// spares refuses to destroy a volume that an image in its directory needs.
func spares(at helper.Location) func(ctx context.Context) error {
	return sparesBut([]helper.Location{at}, nil)
}

// sparesBut is spares of several, but for those that go too, or need them no more when
// they go.
func sparesBut(gone, aside []helper.Location) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		for _, at := range gone {
			if err := spared(ctx, at, aside); err != nil {
				return err
			}
		}
		return nil
	}
}

func spared(ctx context.Context, at helper.Location, aside []helper.Location) error {
	victim, err := at.Pool.Backend.Look(ctx, at.Pool.Pool, at.Name)
	if err != nil {
		return nil // the task says why
	}
	var names []string
	_, err = at.Pool.Backend.Refresh(ctx, at.Pool.Pool, func(v backends.VolumeInfo) error {
		needs := slices.ContainsFunc(v.References, func(r backends.Reference) bool { return r.ID != "" && r.ID == victim.ID })
		also := slices.ContainsFunc(aside, func(l helper.Location) bool { return l.Path == v.Path })
		if needs && !also && v.Name != at.Name {
			names = append(names, fmt.Sprintf("%q", v.Path))
		}
		return nil
	})
	if err != nil || len(names) == 0 {
		return err
	}
	return record.Errorf(record.HasChildren, "%q backs %s; nothing was done", at.Path, strings.Join(names, ", ")).
		WithHint("delete those first, or make them independent of it: storage-helper flatten")
}

// copies warns of a copy that would lack what the original needs; both says that
// the original stays.
func copies(from, to helper.Location, both bool) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		info, err := from.Pool.Backend.Look(ctx, from.Pool.Pool, from.Name)
		if err != nil {
			return nil // the task says why
		}
		for _, r := range info.References {
			if why := (copying{from: from.Path, to: to.Path, both: both}).lacks(r); why != "" {
				fmt.Fprintf(os.Stderr, "%s: warning: if %q is an image in format %s, %s\n", helper.Program, from.Path, info.Format, why)
			}
		}
		return nil
	}
}

// fixed are the volumes of a pool that cannot leave it: an image there needs
// them, or they would not find what they need; of what is only copied, also those
// that would share content with the original.
func fixed(ctx context.Context, p *helper.Pool, copied bool) (names []string, err error) {
	byFile := map[backends.Identity]string{}
	var images []backends.VolumeInfo
	_, err = p.Backend.Refresh(ctx, p.Pool, func(v backends.VolumeInfo) error {
		byFile[v.ID] = v.Name
		if len(v.References) > 0 {
			images = append(images, v)
		}
		return nil
	})
	for _, v := range images {
		for _, r := range v.References {
			if base := byFile[r.ID]; r.ID != "" && base != "" && base != v.Name && !copied {
				names = append(names, base)
			}
			if r.Relative || r.Data && copied {
				names = append(names, v.Name)
			}
		}
	}
	return names, err
}

// copying is what is to become of an image: what its header names counts.
type copying struct {
	from, to string   // paths; the latter "" for what is no volume
	format   string   // of both; "": it is raw
	both     bool     // the original stays
	among    []string // directories of what it may stand on; nil: nobody says
}

// admit refuses an image of which a copy would not be one. Others may have given
// it another backing since anybody read it last: so the header is read of what is
// open and locked. That of a raw volume is a virtual machine's, and means nothing.
func (c copying) admit(v backends.Volume) error {
	if c.format == "" || c.format == record.FormatRaw {
		return nil
	}
	info, err := header.Inspect(v, c.format)
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
	case r.Relative && c.leaves():
		return fmt.Sprintf("it does not find %q from its new place", r.Name)
	case c.to != "" && (c.both || c.leaves()) && !stands(c.among, r):
		return fmt.Sprintf("it stands on %q, which is no volume of a pool", r.Name)
	}
	return ""
}

// leaves reports whether it gets into another directory.
func (c copying) leaves() bool { return c.to != "" && filepath.Dir(c.from) != filepath.Dir(c.to) }

// stands reports whether a reference leads to a volume in one of the directories, or
// nobody has said which those are. One in JSON may mean more than its path.
func stands(among []string, r backends.Reference) bool {
	return among == nil || r.ID != "" && !strings.HasPrefix(r.Name, "json:") && slices.Contains(among, filepath.Dir(r.Path))
}
