package mount

import (
	"context"
	"errors"
	"fmt"
	"os"

	"storaged/internal/backends"
	"storaged/internal/backends/filetree"
	"storaged/internal/blockdev"
)

// Pool is a pool whose file system is mounted at its target, and how its type does that.
type Pool struct {
	backends.Pool
	Tree filetree.Tree
	// Ours reports whether a mount is that of the pool's source. It asks the source
	// nothing.
	Ours func(m blockdev.Mount) bool
	// Detached mounts the file system nowhere.
	Detached func() (*os.File, error)
}

// Mounted is what is mounted at the target; ok is false where nothing is. What is not the
// pool's is refused.
func (p Pool) Mounted() (m blockdev.Mount, ok bool, err error) {
	m, ok, err = At(p.Target)
	if err == nil && ok && !p.Ours(m) {
		err = Other(p.Target, m)
	}
	return m, ok, err
}

// Start mounts the file system, unless it is mounted at the target already. A directory
// that is missing is made: nothing but the mount is ever in it. What cannot be started is
// unmounted again.
func (p Pool) Start(ctx context.Context) error {
	_, mounted, err := p.Mounted()
	switch {
	case err != nil:
		return err
	case mounted:
		return p.Tree.Start(ctx, p.Pool)
	}
	if err := p.appear(ctx); err != nil {
		return err
	}
	if err := p.Tree.Start(ctx, p.Pool); err != nil {
		return errors.Join(err, p.Stop(context.WithoutCancel(ctx)))
	}
	return nil
}

// appear mounts the file system at the target, if it is the pool's.
func (p Pool) appear(ctx context.Context) error {
	root, err := p.known()
	if err != nil {
		return err
	}
	defer root.Close() // it stays mounted, or is gone
	if err := (filetree.Tree{}).Build(ctx, backends.Pool{Target: p.Target}, false); err != nil {
		return err
	}
	dir, err := directory(p.Target)
	if err != nil {
		return err
	}
	defer dir.Close() // it is only a place
	return attach(root, dir)
}

// known mounts the file system nowhere, and refuses another one than the pool is known by.
func (p Pool) known() (*os.File, error) {
	root, err := p.Detached()
	if err != nil || p.ID == "" {
		return root, err
	}
	id, err := p.Tree.Identify(root)
	switch {
	case err != nil:
		err = fmt.Errorf("cannot look at the file system of %q: %w", root.Name(), err)
	case !p.Tree.Same(p.ID, id):
		err = &backends.AwayError{Target: p.Target, Err: fmt.Errorf("what %q carries %w: it is another file system", root.Name(), backends.ErrReplaced)}
	default:
		return root, nil
	}
	root.Close()
	return nil, err
}

// Stop unmounts the file system, as often as it is mounted there. Where somebody is in it,
// it stays.
func (p Pool) Stop(ctx context.Context) error {
	for unmounted := false; ; unmounted = true {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, mounted, err := At(p.Target)
		switch {
		case err != nil || !mounted:
			return err
		case !p.Ours(m) && unmounted:
			return nil // what was below it
		case !p.Ours(m):
			return Other(p.Target, m)
		}
		if err := Detach(p.Target, m); err != nil {
			return err
		}
	}
}

// Clear makes sure that the file system holds nothing, or with volumes removes them if
// there is nothing else, wherever it is mounted, and unmounts it.
func (p Pool) Clear(ctx context.Context, withVolumes bool) error {
	m, mounted, err := p.Mounted()
	if err != nil {
		return err
	}
	if mounted {
		if err := p.Tree.Clear(ctx, p.Pool, withVolumes); err != nil {
			return err
		}
		return Detach(p.Target, m)
	}
	root, err := p.known()
	if err != nil {
		return err
	}
	defer root.Close() // it is unmounted by that
	return p.Tree.Clear(ctx, p.Tree.At(p.Pool, root), withVolumes)
}

// RemoveDirectory removes the target, which nothing is mounted at any more.
func (p Pool) RemoveDirectory(ctx context.Context) error {
	return filetree.Tree{}.Delete(ctx, backends.Pool{Type: p.Type, Target: p.Target, Others: p.Others}, false)
}
