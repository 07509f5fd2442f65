package main

import (
	"os/user"
	"strconv"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
)

// Flags of verbs that make volumes: whose their files are to be.
func ownerFlag() cli.Flag {
	return &cli.StringFlag{Name: "owner", Usage: "`USER` that its file is to belong to"}
}

func groupFlag() cli.Flag {
	return &cli.StringFlag{Name: "group", Usage: "`GROUP` that its file is to belong to"}
}

func modeFlag() cli.Flag {
	return &cli.StringFlag{Name: "mode", Usage: "permissions of its file (default: the source's, or 0600): `MODE`"}
}

// rights reads them.
func (s *session) rights() (r operation.Rights, err error) {
	r.Mode = s.cli.String("mode")
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
