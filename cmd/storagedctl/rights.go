package main

import (
	"os/user"
	"strconv"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// rightsFlags are those of verbs that make something: whose that is to be. mode says what
// permissions it has without.
func rightsFlags(of, mode string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "owner", Usage: "`USER` that " + of + " is to belong to"},
		&cli.StringFlag{Name: "group", Usage: "`GROUP` that " + of + " is to belong to"},
		&cli.StringFlag{Name: "mode", Usage: "permissions of " + of + " (default: " + mode + "): `MODE`"},
		&cli.StringFlag{Name: "selinux-label", Usage: "`LABEL` of SELinux for " + of + ", where the kernel has it"},
	}
}

// volumeRightsFlags are those of verbs that make a volume.
func volumeRightsFlags() []cli.Flag { return rightsFlags("its file", "the source's, or 0600") }

// rights reads them.
func (s *session) rights() (r operation.Rights, err error) {
	r.Mode, r.Label = s.cli.String("mode"), s.cli.String("selinux-label")
	if r.Owner, err = s.id("owner", func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	}); err != nil {
		return r, err
	}
	r.Group, err = s.id("group", func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	return r, err
}

// id is the number that a flag says, or that one of that name has.
func (s *session) id(flag string, lookup func(name string) (string, error)) (*uint32, error) {
	given := s.cli.String(flag)
	if given == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(given, 10, 32)
	if err == nil {
		return new(uint32(n)), nil
	}
	text, err := lookup(given)
	if err != nil {
		return nil, cmdline.Usagef("--%s: %v", flag, err)
	}
	if n, err = strconv.ParseUint(text, 10, 32); err != nil {
		return nil, cmdline.Usagef("--%s: %s has no number but %q", flag, given, text)
	}
	return new(uint32(n)), nil
}

// permissions says who may do what with a file, and whose it is, where that is known.
func permissions(p *record.Permissions) string {
	if p == nil {
		return ""
	}
	return p.String()
}
