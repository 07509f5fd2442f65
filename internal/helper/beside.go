package helper

import (
	"context"
	"fmt"
	"os"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/record"
)

// By hand nobody but the helper looks for images that a volume belongs to: the
// daemon has a catalogue of all pools, and which of their volumes are images.
// Here the headers in the volume's own directory have to do.

// beside refuses, for a person, to destroy a volume that an image in its directory
// needs, and warns of a copy that would lack what the original needs.
func beside(ctx context.Context, t Task) error {
	if t.spares != nil {
		if err := spare(ctx, *t.spares); err != nil {
			return err
		}
	}
	if t.byHand != nil {
		return t.byHand(ctx)
	}
	if t.copies == nil {
		return nil
	}
	info, err := t.copies.backend.Look(ctx, t.copies.pool, t.copies.name)
	if err != nil {
		return nil // the task says why
	}
	for _, r := range info.References {
		c := copying{from: t.copies.path, to: t.makes, both: t.spares == nil}
		if why := c.lacks(r); why != "" {
			fmt.Fprintf(os.Stderr, "%s: warning: if %q is an image in format %s, %s\n", Program, t.copies.path, info.Format, why)
		}
	}
	return nil
}

// spare refuses to destroy a volume that an image beside it needs.
func spare(ctx context.Context, at place) error {
	victim, err := at.backend.Look(ctx, at.pool, at.name)
	if err != nil {
		return nil // the task says why
	}
	var names []string
	_, err = at.backend.Refresh(ctx, at.pool, func(v backends.VolumeInfo) error {
		for _, r := range v.References {
			if v.Name != at.name && r.Inode != 0 && r.Inode == victim.Inode && r.Device == victim.Device {
				names = append(names, fmt.Sprintf("%q", v.Path))
				break
			}
		}
		return nil
	})
	if err != nil || len(names) == 0 {
		return err
	}
	return record.Errorf(record.HasChildren, "%q backs %s; nothing was done", at.path, strings.Join(names, ", ")).
		WithHint("flatten or delete those first")
}

// bound are the volumes of a pool that cannot leave it: an image there needs
// them, or they would not find what they need; of what is only copied, also those
// that would share content with the original.
func bound(ctx context.Context, p pool, copied bool) (names []string, err error) {
	byFile := map[[2]uint64]string{}
	var images []backends.VolumeInfo
	_, err = p.backend.Refresh(ctx, p.Pool, func(v backends.VolumeInfo) error {
		byFile[[2]uint64{v.Device, v.Inode}] = v.Name
		if len(v.References) > 0 {
			images = append(images, v)
		}
		return nil
	})
	for _, v := range images {
		for _, r := range v.References {
			if base := byFile[[2]uint64{r.Device, r.Inode}]; base != "" && base != v.Name && !copied {
				names = append(names, base)
			}
			if r.Relative || r.Data && copied {
				names = append(names, v.Name)
			}
		}
	}
	return names, err
}
