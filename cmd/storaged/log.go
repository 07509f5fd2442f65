package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"storaged/internal/daemon"
)

// priorities are those of syslog(3), by which the journal sorts: sd-daemon(3).
var priorities = map[hclog.Level]int{hclog.Trace: 7, hclog.Debug: 7, hclog.Info: information, hclog.Warn: 4, hclog.Error: 3}

const (
	notable     = 5
	information = 6
)

// logs are the daemon's.
type logs struct {
	// log is for everything, notes for what is worth a notice, which is no level
	// of hclog: their lines differ in the journal.
	log, notes hclog.Logger
	lost       *atomic.Int64 // lines that could not be written
}

// newLogs logs to out, and if that is the journal to that, with fields where it can be
// reached, else in lines with priorities.
func newLogs(config daemon.Config, out io.Writer) logs {
	inJournal := false
	if f, ok := out.(*os.File); ok && f == os.Stderr {
		surviveReader()
		inJournal, _ = journal.StderrIsJournalStream() // if it is not known, lines are plain
	}
	made := func(w *logWriter) hclog.Logger {
		w.out, w.journal = out, inJournal
		o := &hclog.LoggerOptions{
			Name: "storaged", Level: hclog.LevelFromString(config.LogLevel), Output: w, JSONFormat: config.LogFormat == "json",
			TimeFormat: "2006-01-02T15:04:05.000Z07:00",
		}
		if inJournal {
			if log, ok := native(w, o); ok {
				return log
			}
		}
		return hclog.New(o)
	}
	l := logs{lost: new(atomic.Int64)}
	l.log, l.notes = made(&logWriter{lost: l.lost, info: information}), made(&logWriter{lost: l.lost, info: notable})
	return l
}

// surviveReader keeps the daemon alive when who read its stderr has gone: by
// default Go takes SIGPIPE of it as an end. It is caught and not ignored, which
// helpers would inherit.
func surviveReader() { signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) }

// logWriter writes the lines of a log. A line that cannot be written is counted,
// and lost: the daemon does not depend on who reads it.
type logWriter struct {
	out     io.Writer
	journal bool
	info    int // priority of what is for information
	lost    *atomic.Int64
}

// LevelWrite is hclog.LevelWriter's. p is a message, of one line or several.
func (w *logWriter) LevelWrite(level hclog.Level, p []byte) (int, error) {
	text := p
	if w.journal {
		text = nil
		for line := range bytes.Lines(p) {
			text = append(fmt.Appendf(text, "<%d>", w.priority(level)), line...)
		}
	}
	if _, err := w.out.Write(text); err != nil {
		w.lost.Add(1)
	}
	return len(p), nil
}

// priority is that of a level in this log.
func (w *logWriter) priority(level hclog.Level) int {
	priority, known := priorities[level]
	if !known || priority == information {
		return w.info
	}
	return priority
}

// Write is for what has no level.
func (w *logWriter) Write(p []byte) (int, error) { return w.LevelWrite(hclog.Info, p) }
