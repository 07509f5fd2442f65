package main

import (
	"context"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/term"
	"storaged/internal/virtxml"
)

func (t *tool) sourcesVerb() *cli.Command {
	return &cli.Command{
		Name: "sources", Usage: "find storage that pools could be made of", ArgsUsage: "TYPE",
		Description: "A helper looks; nothing is changed. Which types there is something to be found of, and what\nthey want to know, \"capabilities -o json\" says (finds).\n\n" +
			"Example: storagedctl pool sources netfs --host server",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "host", Aliases: []string{"source-host"}, Usage: "look on a host; may be repeated: `HOST`"},
			&cli.StringFlag{Name: "initiator", Aliases: []string{"source-initiator"}, Usage: "by which name this host logs in: `NAME`"},
		},
		Action: t.changing(poolSources), // not for everybody
	}
}

var sourceShape = shape[record.Source]{
	columns: []term.Column[record.Source]{
		{Name: "host", Weight: 2, Cell: func(r record.Source) string { return strings.Join(r.Hosts, ",") }},
		{Name: "name", Weight: 2, Cell: func(r record.Source) string { return r.Name }},
		{Name: "path", Weight: 4, Middle: true, Cell: func(r record.Source) string { return r.Path }},
		{Name: "devices", Weight: 4, Cell: func(r record.Source) string { return strings.Join(r.Devices, ",") }},
		{Name: "format", Cell: func(r record.Source) string { return r.Format }},
		{Name: "initiator", Extra: true, Cell: func(r record.Source) string { return r.Initiator }},
	},
	name: sourceName,
}

// sourceName is the part of a source that is its own.
func sourceName(r record.Source) string {
	for _, text := range append([]string{r.Path, r.Name}, r.Devices...) {
		if text != "" {
			return text
		}
	}
	return strings.Join(r.Hosts, ",")
}

func poolSources(ctx context.Context, s *session) error {
	kind := s.arg(0)
	near := record.Source{Hosts: s.cli.StringSlice("host"), Initiator: s.cli.String("initiator")}
	found, err := s.client.FindSources(ctx, contract.SourcesFind{Type: kind, Source: near})
	if err != nil {
		return err
	}
	if s.format == "xml" {
		_, err := io.WriteString(s.out, virtxml.FormatSources(kind, found))
		return err
	}
	return printList(s, sourceShape, found)
}
