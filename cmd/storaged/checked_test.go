package main_test

import (
	"errors"
	"os/exec"
	"testing"

	"storaged/internal/rest/apitest"
	"storaged/internal/rest/client"
)

// checkedClient is a client each of whose exchanges is held against
// openapi.yaml.
func checkedClient(t *testing.T, sock string) *client.Client {
	c := client.Dial(sock)
	c.Wrap(apitest.New(t).Transport)
	t.Cleanup(c.Close)
	return c
}

func asExit(err error, exit **exec.ExitError) bool { return errors.As(err, exit) }
