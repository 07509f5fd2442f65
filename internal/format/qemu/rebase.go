package qemu

import (
	"context"
	"slices"

	"storaged/internal/record"
)

// Rebase changes what the header of an image names as what it stands on, and nothing
// else: whether the content stays the same is for the caller to make sure. "" is
// nothing. The name is not looked at. The image must be closed meanwhile.
func Rebase(ctx context.Context, l Layer, name, format string, c Child) error {
	if !slices.Contains(record.FormatsDetachable, l.Format) {
		return record.Errorf(record.Unsupported, "an image in format %s cannot be given another backing", l.Format)
	}
	l.Backing = nil
	g := &graph{}
	cmd := g.img(g.layer(l, true), c)
	cmd.Verb, cmd.Options, cmd.Output = "rebase", []string{"-u", "-b", name}, rebaseOutput
	if name != "" {
		cmd.Options = append(cmd.Options, "-F", format)
	}
	ctx, cancel := within(ctx, rebaseTime)
	defer cancel()
	_, err := cmd.Run(ctx)
	return failed("give another backing to", l.Format, l.File, err)
}

// rebaseOutput is more than a rebase says, bytes.
const rebaseOutput = 4 << 10
