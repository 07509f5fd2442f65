package task

import (
	"slices"

	"storaged/internal/helper"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// chainOf finds the layers that the flags name.
func chainOf(o Tasked, c operation.Chain) (chain helper.Chain, err error) {
	if len(c.Layers) > operation.MaxLayers {
		return nil, record.Errorf(record.Invalid, "%d layers are more than %d", len(c.Layers), operation.MaxLayers)
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
