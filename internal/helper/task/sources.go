package task

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
)

// FindSources makes the task of an operation.
func FindSources(o *operation.FindSources) (helper.Task, error) {
	if err := needed(o, "type", o.Type != ""); err != nil {
		return helper.Task{}, err
	}
	b, err := driver(o.Type)
	if err != nil {
		return helper.Task{}, err
	}
	find := func(ctx context.Context, r *helper.Run) error {
		return change(ctx, r, "find", func() error { return findSources(ctx, r, b, o) })
	}
	return helper.Task{
		Doing: fmt.Sprintf("find sources of pools of type %s", o.Type),
		Done:  fmt.Sprintf("looked for sources of pools of type %s", o.Type),
		Opens: []helper.Opening{outright{find}}, // by programs, and what others serve
		Work:  func(context.Context, *helper.Run) error { return nil },
	}, nil
}

func findSources(ctx context.Context, r *helper.Run, b backends.Backend, o *operation.FindSources) error {
	finder, err := helper.Able[backends.SourceFinder](b, "be looked for")
	if err != nil {
		return err
	}
	found, err := finder.FindSources(ctx, o.Near)
	for _, s := range found {
		r.Report.Items = append(r.Report.Items, ipc.Item{Source: &ipc.Source{
			Hosts: s.Hosts, Devices: s.Devices, Name: s.Name, Path: s.Path, Format: s.Format, Initiator: s.Initiator,
		}})
	}
	return err
}
