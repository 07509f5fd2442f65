package tool

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	// exportsTime is how long showmount may take: it waits for a server that does not
	// answer.
	exportsTime = 30 * time.Second
	// maxExports bounds what it may say, bytes: some hundred bytes for each of many thousand.
	maxExports = 4 << 20
)

// Exports are the paths that a server of NFS says it exports, by the protocol MOUNT, which
// a server of NFS 4 alone need not have (showmount(8)).
func Exports(ctx context.Context, host string) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, exportsTime, fmt.Errorf("it has not ended within %v", exportsTime))
	defer cancel()
	out, err := Command{Program: Showmount, Options: []string{"--no-headers", "--exports"}, Operands: []string{host}, Output: maxExports}.Administer(ctx)
	if err != nil {
		return nil, err
	}
	return parseExports(string(out)), nil
}

// parseExports reads lines of a path, blanks, and without any the clients that may mount
// it, or (everyone). A path may have blanks itself.
func parseExports(said string) (paths []string) {
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if at := strings.LastIndexAny(line, " \t"); at > 0 && strings.HasPrefix(line, "/") {
			paths = append(paths, strings.TrimRight(line[:at], " \t"))
		}
	}
	return paths
}
