package testenv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// journald is the journal of systemd, which is in no PATH.
const journald = "/usr/lib/systemd/systemd-journald"

// Journal starts a journal that nobody else writes to, with directories of its own. It gives
// the socket where it takes entries, and what reads those that match (journalctl(1)), in
// order.
func Journal(t testing.TB) (socket string, read func(match ...string) []map[string]string) {
	t.Helper()
	Root(t)
	_, err := os.Stat(journald)
	Need(t, "systemd-journald", err == nil)
	journalctl, nsenter := Tool(t, "journalctl"), Tool(t, "nsenter")
	s := spawn(t, `set -e
mount --make-rprivate /
mkdir -p /run/systemd /run/log
mount -t tmpfs none /run/systemd
mount -t tmpfs none /run/log
exec `+journald)
	root := fmt.Sprintf("/proc/%d/root", s.cmd.Process.Pid)
	socket = root + "/run/systemd/journal/socket"
	varlink := root + "/run/systemd/journal/io.systemd.journal"
	until(t, s, func() bool {
		_, err := os.Stat(varlink) // the last that it makes
		return err == nil
	})
	within := func(args ...string) []byte {
		t.Helper()
		enter := []string{"--target", fmt.Sprint(s.cmd.Process.Pid), "--mount", "--", journalctl}
		out, err := exec.Command(nsenter, append(enter, args...)...).Output()
		if err != nil {
			t.Fatalf("journalctl %q: %v", args, err)
		}
		return out
	}
	return socket, func(match ...string) (entries []map[string]string) {
		t.Helper()
		within("--sync")
		out := within(append([]string{"--directory=/run/log/journal", "--output=json", "--no-pager"}, match...)...)
		for line := range bytes.Lines(out) {
			fields := map[string]any{}
			if err := json.Unmarshal(line, &fields); err != nil {
				t.Fatal(err)
			}
			entry := map[string]string{}
			for name, value := range fields {
				entry[name] = fmt.Sprint(value)
			}
			entries = append(entries, entry)
		}
		return entries
	}
}
