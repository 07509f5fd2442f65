package testenv

import (
	"context"
	"os/exec"
	"testing"
)

// Mounting is a shell that runs a script where it can mount: what it mounts nobody else
// sees, and what others unmount it does not hold, as far as the host's mounts are shared
// with those of its processes (mount_namespaces(7)), as scripts/test has them. The
// arguments are the script's "$@". It needs root.
func Mounting(ctx context.Context, t testing.TB, script string, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(ctx, Tool(t, "unshare"), append([]string{"--mount", "--propagation", "slave", "--", "/bin/sh", "-c", script, "sh"}, args...)...)
}
