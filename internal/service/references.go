package service

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

// childless refuses a volume that others stand on.
func childless(tx *store.Tx, v *store.Volume) error {
	names, err := childrenOf(tx, v)
	if err != nil || len(names) == 0 {
		return err
	}
	return record.Errorf(record.HasChildren, "volume \"%s/%s\" backs %s", v.Pool, v.Name, list(names, 5)).
		WithHint("delete those first, or make them independent of it: qemu-img rebase -b '' FILE")
}

// childrenOf lists the volumes of all pools that need v: it is their backing, or
// holds some of their content.
func childrenOf(tx *store.Tx, v *store.Volume) ([]string, error) {
	all, err := tx.VolumesOnOthers()
	if err != nil {
		return nil, err
	}
	p, err := tx.Pool(v.Pool)
	if err != nil {
		return nil, err
	}
	children := []string{}
	for _, c := range all {
		own := c.Pool == v.Pool && c.Name == v.Name // whatever it says, it does not keep itself
		if !own && slices.ContainsFunc(referencesOf(c), func(r store.Reference) bool { return means(r, v, p) }) {
			children = append(children, c.Pool+"/"+c.Name)
		}
	}
	return children, nil
}

// means reports whether a reference is to the volume v of the pool p. A name that
// leads to its path means it, whatever file was there when that was looked at,
// and so does one that led to its file by another path.
func means(r store.Reference, v *store.Volume, p *store.Pool) bool {
	if r.Path == "" {
		return false
	}
	if r.Path == v.Path || p.Real != "" && r.Path == locate(p.Type, p.Real, v.Name).Path {
		return true
	}
	return r.Identity != "" && v.Identity != "" && sameObject(p.Type, v.Identity, r.Identity)
}

// referencesOf are the files that an image names. Of one that was read by an
// earlier version only the name of its backing is known; relative, it means the
// directory of the image.
func referencesOf(v *store.Volume) []store.Reference {
	if len(v.References) > 0 || v.Backing == "" {
		return v.References
	}
	r := store.Reference{Name: v.Backing, Path: v.Backing, Relative: !filepath.IsAbs(v.Backing)}
	if r.Relative {
		r.Path = filepath.Join(filepath.Dir(v.Path), v.Backing)
	}
	return []store.Reference{r}
}

// portable refuses a volume whose header names what it stands on relative to
// where it lies.
func portable(v *store.Volume, to *store.Pool) error {
	for _, r := range referencesOf(v) {
		if !r.Relative || v.Pool == to.Name {
			continue
		}
		e := record.Errorf(record.Unsupported, "volume %s stands on %q, which it would not find from pool %q", quoted(v.Pool, v.Name), r.Name, to.Name)
		if r.Data {
			return e.WithHint("qemu-img convert makes an image of it that needs no other file")
		}
		return e.WithHint("give it an absolute path to its backing: qemu-img rebase -u")
	}
	return nil
}

// contained refuses to do something with the content of a volume that lies in
// other files too.
func contained(v *store.Volume, what string) error {
	for _, r := range referencesOf(v) {
		if r.Data {
			return record.Errorf(record.Unsupported, "content of volume %s lies in %q, which %s", quoted(v.Pool, v.Name), r.Name, what)
		}
	}
	return nil
}

// copyable refuses a volume of which a copy would not be one: it would not find
// what it stands on, or share files with the original and change them.
func copyable(v *store.Volume, to *store.Pool) error {
	if err := contained(v, "a copy of the volume's own file would share with it"); err != nil {
		return withHint(err, "qemu-img convert makes an image of it that needs no other file")
	}
	return portable(v, to)
}

// erasable refuses to wipe a volume whose content lies elsewhere.
func erasable(v *store.Volume) error {
	return withHint(contained(v, "a wipe of the volume's own file would leave as it is"), "delete the volume, then wipe that file")
}

func withHint(err error, hint string) error {
	var refusal *record.Error
	if errors.As(err, &refusal) {
		return refusal.WithHint("%s", hint)
	}
	return err
}

// unneeded refuses a pool whose volumes others stand on that lie elsewhere.
func unneeded(tx *store.Tx, p *store.Pool) error {
	all, err := tx.VolumesOnOthers()
	if err != nil || len(all) == 0 {
		return err
	}
	vols, err := tx.Volumes(p.Name)
	if err != nil {
		return err
	}
	var names []string
	for _, c := range all {
		if c.Pool != p.Name && slices.ContainsFunc(referencesOf(c), func(r store.Reference) bool { return within(r, p, vols) }) {
			names = append(names, c.Pool+"/"+c.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return record.Errorf(record.HasChildren, "volumes of pool %q back %s", p.Name, list(names, 5)).
		WithHint("delete those first, or make them independent of it: qemu-img rebase -b '' FILE")
}

// within reports whether a reference leads to a file of the pool, known as a
// volume or not.
func within(r store.Reference, p *store.Pool, vols []*store.Volume) bool {
	if dir := targetOf(p.Type, r.Path); r.Path != "" && (dir == p.Target.Path || p.Real != "" && dir == p.Real) {
		return true
	}
	return slices.ContainsFunc(vols, func(v *store.Volume) bool { return means(r, v, p) })
}

// needed refuses work that destroys what others stand on.
func (w work) needed(tx *store.Tx) error {
	p, err := findPool(tx, w.Pool)
	if err != nil {
		return err
	}
	if w.Volume == "" {
		return unneeded(tx, p)
	}
	v, err := findVolume(tx, w.Pool, w.Volume)
	if err != nil {
		return err
	}
	return childless(tx, v)
}

// destroys reports whether the work takes away what others may stand on.
func (w work) destroys() bool {
	switch w.Kind {
	case record.VolumeDelete, record.VolumeWipe, record.VolumeUpload, record.VolumeMove:
		return true
	case record.VolumeResize:
		return w.Shrink
	case record.PoolDelete:
		return w.WithVolumes
	case record.PoolEvacuate:
		return !w.KeepSource
	}
	return false
}

// childrenTimeout bounds the look for images that stand on a volume. It takes
// milliseconds; a pool that hangs must not keep a request from its answer.
const childrenTimeout = 3 * time.Second

// spareChildren has all pools read before something is destroyed, since others
// than us make images too, and refuses the work if one stands on what would go.
// A pool that cannot be read now does not keep others from their work: for what
// lies in it the catalogue's word stands.
func (s *Service) spareChildren(ctx context.Context, w *work) error {
	if !w.destroys() {
		return nil
	}
	unread, err := s.seekChildren(ctx)
	if err != nil {
		return err
	}
	w.Warnings = append(w.Warnings, unknownIn(unread)...)
	if err := ctx.Err(); err != nil || w.Kind == record.PoolEvacuate { // which leaves those volumes behind that must stay
		return err
	}
	return s.store.View(w.needed)
}

// seekChildren reads all pools and takes over what is new of their images. It
// gives those that it could not read, by name, and why.
func (s *Service) seekChildren(ctx context.Context) (unread map[string]error, err error) {
	var pools []*store.Pool
	err = s.store.View(func(tx *store.Tx) (err error) {
		pools, err = tx.Pools()
		return err
	})
	if err != nil {
		return nil, err
	}
	unread = map[string]error{}
	pools = slices.DeleteFunc(pools, func(p *store.Pool) bool { return !lookable(p) })
	for i, err := range s.seekIn(ctx, pools) {
		if err != nil {
			unread[pools[i].Name] = err
		}
	}
	return unread, nil
}

func (s *Service) seekIn(ctx context.Context, pools []*store.Pool) []error {
	ctx, cancel := context.WithTimeout(ctx, childrenTimeout)
	defer cancel()
	now := time.Now()
	errs := make([]error, len(pools))
	places := make(chan struct{}, freshAtOnce)
	var all sync.WaitGroup
	for i, p := range pools {
		places <- struct{}{}
		all.Go(func() {
			errs[i] = s.seekInOne(ctx, p, now)
			<-places
		})
	}
	all.Wait()
	return errs
}

func (s *Service) seekInOne(ctx context.Context, p *store.Pool, since time.Time) error {
	if p.State == record.PoolUnreachable {
		return fmt.Errorf("it is unreachable: %s", p.Reason)
	}
	report, began, err := s.lookSince(ctx, &p.Pool, since)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("it does not answer within %v", childrenTimeout)
	}
	if err != nil {
		return err
	}
	var news bool
	err = s.store.View(func(tx *store.Tx) (err error) {
		news, err = imagesNew(tx, p, report.Items)
		return err
	})
	if err != nil || !news {
		return err
	}
	return s.store.Update(func(tx *store.Tx) error { return s.keeper.freshened(tx, p, finding{report: report, began: began}) })
}

// imagesNew reports whether a reading of a pool has references that the catalogue
// has not, or lacks an image that the catalogue has. Those of a raw volume mean
// nothing.
func imagesNew(tx *store.Tx, p *store.Pool, items []ipc.Item) (bool, error) {
	known, err := tx.VolumesOnOthers()
	if err != nil {
		return false, err
	}
	there := map[string]bool{}
	for _, it := range items {
		there[it.Name] = true
	}
	if slices.ContainsFunc(known, func(v *store.Volume) bool { return v.Pool == p.Name && !there[v.Name] }) {
		return true, nil
	}
	for _, it := range items {
		if len(it.References) == 0 || it.Ignored != "" {
			continue
		}
		v, err := tx.Volume(p.Name, it.Name)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return true, nil
		case err != nil:
			return false, err
		case !sameVolume(p.Type, v.Identity, it.Identity), v.Format != record.FormatRaw && !slices.Equal(v.References, referencesIn(it)):
			return true, nil
		}
	}
	return false, nil
}

// referencesIn are those that a helper found.
func referencesIn(it ipc.Item) []store.Reference {
	var out []store.Reference
	for _, r := range it.References {
		out = append(out, store.Reference(r))
	}
	return out
}
