package task

import (
	"slices"

	"storaged/internal/backends"
	"storaged/internal/backends/header"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// chainOf finds the layers that the flags name.
func chainOf(o Tasked, c operation.Chain) (chain helper.Chain, err error) {
	if len(c.Layers) > operation.MaxDepth {
		return nil, record.Errorf(record.Invalid, "%d layers are more than %d", len(c.Layers), operation.MaxDepth)
	}
	for _, l := range c.Layers {
		at, err := volume(o, "layer", l.Volume)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(record.Formats, l.Format) {
			return nil, record.Errorf(record.Invalid, "the layer %q has no format that is known: %q", at.Path, l.Format)
		}
		chain = append(chain, helper.Layer{Volume: &helper.Volume{Location: at}, Format: l.Format, Secret: l.Secret, Data: l.Data})
	}
	return chain, nil
}

// standsOn refuses an image that stands on something else than its layers, all of which
// are open and locked: others may have given it another backing since its header was
// read last.
func standsOn(v backends.Volume, format string, chain helper.Chain) error {
	info, err := header.Inspect(v, format)
	if err != nil {
		return err
	}
	var named []backends.Identity
	for _, r := range info.References {
		if !r.Data {
			named = append(named, r.ID)
		}
	}
	var is []backends.Identity
	if i := slices.IndexFunc(chain, func(l helper.Layer) bool { return !l.Data }); i >= 0 {
		below, err := chain[i].Volume.Volume.Info()
		if err != nil {
			return err
		}
		is = append(is, below.ID)
	}
	if slices.Equal(named, is) {
		return nil
	}
	return ipc.Errorf(record.Changed, "%q stands on %q by its header, and not on what it was known to stand on; nothing was changed", info.Path, info.Backing).
		WithHint("refresh its pool, and ask again")
}
