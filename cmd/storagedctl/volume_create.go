package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/virtxml"
)

func (t *tool) createVerb() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make a volume", ArgsUsage: "POOL/NAME [SIZE]",
		Description: "A raw volume is fully allocated unless --allocation says otherwise, one in another format grows as it is\n" +
			"written. SIZE is what a virtual machine sees. With --backing it stands on that volume, which nobody may\n" +
			"change from then on, and is as large unless SIZE is given.\n" +
			"With --from it is written with that content before it appears under its name. It is then as large as the\n" +
			"content, or SIZE if that is more, and only the data is allocated. A file in another format than raw is\n" +
			"stored unchanged with --format FORMAT: it must begin like an image in FORMAT, and its header gives the\n" +
			"size. With --from-format it is converted to FORMAT. With --secret it is taken for a raw disk's, unless\n" +
			"--from-format says another, and is written encrypted.\n" +
			"With -f a document in libvirt's XML says all of it, as \"vol show -o xml\" prints one.\n" +
			"--as-format, --detect-zeros, --sparse, --unpack and --checksum are about that content.\n\n" +
			"Examples:\n  storagedctl vol create images/vm1.raw 10G\n  storagedctl vol create images/vm2.raw 10G --allocation none\n" +
			"  storagedctl vol create images/vm3.qcow2 20G --format qcow2 -O cluster_size=128K\n  storagedctl vol create images/vm8.luks 20G --format luks --secret disks -O iter_time=500\n  storagedctl vol create images/vm4.qcow2 --format qcow2 --backing images/base.qcow2\n  storagedctl vol create images/vm5.raw --from vm5.img\n  storagedctl vol create images/vm6.qcow2 --from vm6.qcow2 --format qcow2\n  storagedctl vol create images/vm7.qcow2 --from vm7.vmdk --from-format vmdk --format qcow2\n  storagedctl vol create images/vm9.luks --from vm9.img --format luks --secret disks",
		Flags: jobFlags(append(append(uploadFlags(), volumeRightsFlags()...),
			&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "make the volume that libvirt's XML in a file describes, under this name: `FILE|-`"},
			&cli.StringFlag{Name: "from", Usage: "`FILE|-` with its content"},
			&cli.StringFlag{Name: "format", Usage: "its format (default raw), of " + creatable() + ": `FORMAT`"},
			&cli.StringFlag{Name: "from-format", Usage: "convert the content, which is in `FORMAT`"},
			&cli.StringFlag{Name: "backing", Usage: "stand on `VOL`"},
			&cli.StringFlag{Name: "from-secret", Usage: "it opens the content, in --from-format luks or qcow2: `SECRET`"},
			&cli.StringFlag{Name: "secret", Usage: "encrypt it (formats luks and qcow2), so that this opens it: `SECRET`"},
			optionFlag(),
			&cli.StringFlag{Name: "allocation", Usage: "how much to allocate: `full|none|SIZE`"},
			&cli.BoolFlag{Name: "exist-ok", Usage: "no failure if there is the same volume already"})...),
		Action: t.changing(volumeCreate),
	}
}

func volumeCreate(ctx context.Context, s *session) error {
	r, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	if s.cli.IsSet("file") {
		return s.createDescribed(ctx, r)
	}
	capacity := int64(0)
	if s.arg(1) == "" && !s.cli.IsSet("from") && !s.cli.IsSet("backing") {
		return cmdline.Usagef("SIZE, --from, --backing or -f is missing")
	}
	if s.arg(1) != "" {
		if capacity, err = quantity.ParseSize(s.arg(1)); err != nil {
			return cmdline.Usagef("%s", err)
		}
	}
	if s.cli.IsSet("from") {
		return s.createFrom(ctx, r, capacity)
	}
	req, err := s.newVolume(ctx, r, capacity)
	if err != nil {
		return err
	}
	s.misnamed(r, cmp.Or(req.Format, record.FormatRaw))
	req.JobOptions = s.jobOptions()
	st := s.job(record.Object{Pool: r.pool}, &req)
	st.object = r.String()
	return s.run(ctx, st)
}

// createDescribed makes the volume that a document of libvirt's describes.
func (s *session) createDescribed(ctx context.Context, r volumeRef) error {
	for _, flag := range []string{"from", "format", "backing", "secret", "option", "allocation", "owner", "group", "mode", "selinux-label"} {
		if s.cli.IsSet(flag) {
			return cmdline.Usagef("--%s: the file with -f says all of the volume", flag)
		}
	}
	if s.arg(1) != "" {
		return cmdline.Usagef("SIZE: the file with -f says all of the volume")
	}
	p, err := s.client.Pool(ctx, r.pool)
	if err != nil {
		return err
	}
	b, err := s.readFile(s.cli.String("file"))
	if err != nil {
		return err
	}
	req, err := s.described(ctx, b, p)
	if err != nil {
		return err
	}
	req.Name, req.ExistOK, req.JobOptions = r.name, s.cli.Bool("exist-ok"), s.jobOptions()
	st := s.job(record.Object{Pool: r.pool}, &req)
	st.object = r.String()
	return s.run(ctx, st)
}

// described asks for the volume of a document.
func (s *session) described(ctx context.Context, doc []byte, p record.Pool) (req operation.CreateRequest, err error) {
	v, err := virtxml.ParseVolume(doc, p.Type)
	if err == nil {
		req, err = v.Create()
	}
	if err != nil {
		return req, cmdline.Usagef("bad description of a volume: %s", err)
	}
	if x := v.Target.Encryption; x != nil {
		req.Secret = x.Secret()
	}
	if v.Backing == nil {
		return req, nil
	}
	backing, err := s.volume(ctx, v.Backing.Path)
	req.Backing = backing.pool + "/" + backing.name
	return req, err
}

// misnamed warns of a new volume whose name ends with a format that it is not in: who reads
// the name would have it opened wrongly.
func (s *session) misnamed(r volumeRef, format string) {
	if s.cli.IsSet("format") || s.cli.IsSet("backing") { // which is refused for a raw one
		return
	}
	if s.otherwiseNamed(r, format) {
		s.note("storagedctl: hint: --format " + formatNamed(r) + " makes an image of it")
	}
}

// misnamedImage does so for an image that stands on another volume: one in format raw there
// cannot be.
func (s *session) misnamedImage(r volumeRef, format string) {
	if s.otherwiseNamed(r, format) {
		s.note(fmt.Sprintf("storagedctl: hint: call it %s.%s", strings.TrimSuffix(r.String(), filepath.Ext(r.name)), format))
	}
}

// otherwiseNamed warns of a name that ends with another format, and reports whether it does.
func (s *session) otherwiseNamed(r volumeRef, format string) bool {
	named := formatNamed(r)
	if _, ok := record.CreationOf(named); !ok || named == format {
		return false
	}
	s.note(fmt.Sprintf("storagedctl: warning: %s is made in format %s, whatever its name ends with", r, format))
	return true
}

// formatNamed is the format that the name of a volume ends with, if it is one.
func formatNamed(r volumeRef) string {
	named := strings.TrimPrefix(filepath.Ext(r.name), ".")
	if named == "vhd" {
		return "vpc"
	}
	return named
}

// newVolume asks for a volume as the flags say.
func (s *session) newVolume(ctx context.Context, r volumeRef, capacity int64) (operation.CreateRequest, error) {
	req := operation.CreateRequest{
		Name: r.name, Capacity: capacity, Format: s.cli.String("format"), Options: s.options(),
		Allocation: allocation(s.cli.String("allocation")), ExistOK: s.cli.Bool("exist-ok"), Secret: s.cli.String("secret"),
	}
	var err error
	if req.Rights, err = s.rights(); err != nil || !s.cli.IsSet("backing") {
		return req, err
	}
	backing, err := s.volume(ctx, s.cli.String("backing"))
	req.Backing = backing.pool + "/" + backing.name
	return req, err
}

// creatable are the formats that volumes are made in.
func creatable() string { return strings.Join(creatableFormats(), ", ") }

func creatableFormats() (all []string) {
	for _, c := range record.Creations() {
		all = append(all, c.Format)
	}
	return all
}

// optionFlag is that of every verb that makes a volume in a format.
func optionFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "option", Aliases: []string{"O"}, Usage: "an option of its format or pool type, of those that storagedctl capabilities -o json lists; may be repeated: `OPTION=VALUE`"}
}

// options reads it.
func (s *session) options() map[string]string {
	var all map[string]string
	for _, text := range s.cli.StringSlice("option") {
		if all == nil {
			all = map[string]string{}
		}
		name, value, _ := strings.Cut(text, "=")
		all[name] = value
	}
	return all
}

// allocation reads full, none or a size; the grammar has checked it.
func allocation(given string) *operation.Allocation {
	switch given {
	case "":
		return nil
	case "full":
		return &operation.Allocation{Full: true}
	case "none":
		return &operation.Allocation{}
	}
	n, err := quantity.ParseSize(given)
	if err != nil {
		panic("internal error: an allocation was not checked: " + err.Error())
	}
	return &operation.Allocation{Bytes: n}
}
