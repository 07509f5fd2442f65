package main_test

import (
	"errors"
	"os/exec"
	"testing"

	"storaged/internal/api"
	"storaged/internal/api/apitest"
)

// checkedClient is a client each of whose exchanges is held against
// openapi.yaml.
func checkedClient(t *testing.T, sock string) *api.Client {
	c := api.Dial(sock)
	c.Wrap(apitest.New(t).Transport)
	t.Cleanup(c.Close)
	return c
}

func asExit(err error, exit **exec.ExitError) bool { return errors.As(err, exit) }
