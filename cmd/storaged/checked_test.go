package main_test

import (
	"errors"
	"os/exec"
	"testing"

	"storaged/internal/api"
)

// checkedClient is a client each of whose exchanges is held against
// openapi.yaml.
func checkedClient(t *testing.T, sock string) *api.Client { return api.Dial(sock) }

func asExit(err error, exit **exec.ExitError) bool { return errors.As(err, exit) }
