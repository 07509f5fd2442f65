package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/record"
)

// journal makes the daemon take its log file for the journal.
func (h *host) journal() {
	h.t.Helper()
	info := must(h.logFile().Stat())(h.t)
	st := info.Sys().(*syscall.Stat_t)
	h.env = append(h.env, fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
}

// ends are the log's lines about the end of a job.
func (h *host) ends(j record.Job) (lines []string) {
	for line := range strings.Lines(h.log()) {
		if strings.Contains(line, "job ended") && strings.Contains(line, fmt.Sprintf("job=%d ", j.Number)) {
			lines = append(lines, line)
		}
	}
	return lines
}

// The end of every job is a line of the journal, with the priority that it is
// worth.
func TestEndOfAJobIsALineOfTheJournal(t *testing.T) {
	t.Parallel()
	h := unbegun(t)
	h.journal()
	h.begin()
	h.random("base", 4<<20)
	cloned := h.succeed(h.clone("base", "copy"))
	deleted := h.succeed(h.remove("copy"))
	st := h.began(h.clone("base", "slow", noReflink, slowly()))
	h.cancel(st)
	canceled := h.end(st, nil)
	h.must(os.Remove(filepath.Join(h.pool, "base")))
	failed := h.end(h.clone("base", "other"))
	for _, c := range []struct {
		job      record.Job
		priority string
		says     []string
	}{
		{cloned, "<6>", []string{"kind=volume.clone", "object=pool/copy", "outcome=succeeded", "owner=", "took="}},
		{deleted, "<5>", []string{"kind=volume.delete", "object=pool/copy", "outcome=succeeded"}},
		{canceled, "<5>", []string{"object=pool/slow", "outcome=canceled", "canceled_by="}},
		{failed, "<4>", []string{"object=pool/other", "outcome=failed", "code=not_found", "error="}},
	} {
		lines := h.ends(c.job)
		if len(lines) != 1 || !strings.HasPrefix(lines[0], c.priority) {
			t.Errorf("of job %d (%s) there are %q, not one line with %s", c.job.Number, c.job.State, lines, c.priority)
			continue
		}
		for _, part := range c.says {
			if !strings.Contains(lines[0], part) {
				t.Errorf("%q lacks %q", lines[0], part)
			}
		}
	}
	h.runs(record.ExitFailed, "volume.clone pool/other failed", "status", "--check")
	for line := range strings.Lines(h.log()) {
		if len(line) < 3 || line[0] != '<' || line[2] != '>' {
			t.Errorf("a line has no priority: %q", line)
		}
	}
}

// Elsewhere lines are plain.
func TestLogHasPrioritiesInTheJournalOnly(t *testing.T) {
	t.Parallel()
	h := unbegun(t)
	h.env = []string{"JOURNAL_STREAM=8:1"} // of whoever started the tests
	h.begin()
	if log := h.log(); strings.Contains(log, "<6>") || !strings.Contains(log, "[INFO]  storaged: job ended: job=1 kind=pool.start object=pool outcome=succeeded") {
		t.Errorf("the log is\n%s", log)
	}
}

// Who reads the log may go away: the daemon and its jobs go on, and what could
// not be written is counted.
func TestDaemonOutlivesTheReaderOfItsLog(t *testing.T) {
	t.Parallel()
	h := unbegun(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	h.stderr = writer
	drained := make(chan struct{})
	go func() { // as much as fits is not enough for a start
		defer close(drained)
		buf := make([]byte, 4096)
		for {
			if _, err := reader.Read(buf); err != nil {
				return
			}
		}
	}()
	h.begin()
	h.must(writer.Close())
	h.must(reader.Close())
	<-drained
	h.random("base", 4<<20)
	for _, name := range []string{"a", "b"} {
		h.succeed(h.clone("base", name))
	}
	status, err := h.client.Status(h.ctx())
	if err != nil || status.PID != h.daemon.Process.Pid {
		t.Errorf("the daemon is %s (%v)", shown(status), err)
	}
	text := must(h.client.Metrics(h.ctx()))(t)
	if !strings.Contains(string(text), "storaged_log_lines_lost_total ") || strings.Contains(string(text), "storaged_log_lines_lost_total 0\n") {
		t.Error("no line is counted as lost")
	}
	h.stderr = nil
}
