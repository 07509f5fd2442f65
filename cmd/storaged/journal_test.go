package main

import (
	"bytes"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/testenv"
)

// journalLogs are two logs of a journal at a socket, for information and for what is worth a
// notice, and what gets the lines that it does not take.
func journalLogs(t *testing.T, socket string) (log, notes hclog.Logger, lines *bytes.Buffer) {
	t.Helper()
	lines = new(bytes.Buffer)
	made := func(info int) hclog.Logger {
		w := &logWriter{out: lines, journal: true, info: info, lost: new(atomic.Int64)}
		log, ok := nativeAt(socket, w, &hclog.LoggerOptions{Name: "storaged", Level: hclog.Info, Output: w})
		if !ok {
			t.Fatal("there is no log")
		}
		return log
	}
	return made(information), made(notable), lines
}

// What goes to the journal is found there by its fields, with the priority that it is worth.
func TestLinesAreEntriesWithFields(t *testing.T) {
	socket, read := testenv.Journal(t)
	log, notes, lines := journalLogs(t, socket)
	log.Named("supervisor").Warn("job ended", "job", 12, "kind", "volume.clone", "object", "images/vm 1", "outcome", "failed", "owner", "alice", "error", errors.New("it broke\non two lines"))
	notes.Info("job ended", "job", 13, "outcome", "canceled")
	log.Info("ready", "0 odd", "x", "a-b", "c")
	log.Debug("request", "job", 12)
	log.SetLevel(hclog.Debug)
	log.Debug("request", "job", 14)
	for _, c := range []struct {
		match string
		want  map[string]string
	}{
		{"JOB=12", map[string]string{
			"PRIORITY": "4", "SYSLOG_IDENTIFIER": "storaged", "KIND": "volume.clone", "OBJECT": "images/vm 1", "OUTCOME": "failed", "OWNER": "alice", "ERROR": "it broke\non two lines",
			"MESSAGE": `supervisor: job ended: job=12 kind=volume.clone object="images/vm 1" outcome=failed owner=alice error="it broke\non two lines"`,
		}},
		{"JOB=13", map[string]string{"PRIORITY": "5", "OUTCOME": "canceled", "MESSAGE": "job ended: job=13 outcome=canceled"}},
		{"JOB=14", map[string]string{"PRIORITY": "7"}},
		{"A_B=c", map[string]string{"PRIORITY": "6", "ODD": "x"}},
	} {
		entries := read(c.match)
		if len(entries) != 1 {
			t.Errorf("%s is in %d entries", c.match, len(entries))
			continue
		}
		for field, want := range c.want {
			if got := entries[0][field]; got != want {
				t.Errorf("%s: %s is %q, want %q", c.match, field, got, want)
			}
		}
	}
	if got := read("PRIORITY=3", "PRIORITY=4", "SYSLOG_IDENTIFIER=storaged"); len(got) != 1 {
		t.Errorf("what went wrong is %q", got)
	}
	if lines.Len() > 0 {
		t.Errorf("lines beside it: %s", lines)
	}
}

// A journal that is not there, or does not read, costs no line and no time to speak of.
func TestLinesThatTheJournalDoesNotTakeAreWritten(t *testing.T) {
	dir := t.TempDir()
	mute, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "mute"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for name, socket := range map[string]string{"none": filepath.Join(dir, "none"), "mute": mute.LocalAddr().String()} {
		log, _, lines := journalLogs(t, socket)
		for range 20 {
			if lines.Len() == 0 {
				log.Warn("first", "text", strings.Repeat("x", 60<<10)) // fills the buffer of a socket soon
			}
		}
		if !strings.HasPrefix(lines.String(), "<4>first: text=xxx") {
			t.Errorf("%s: the line is %.40q", name, lines)
		}
	}
}
