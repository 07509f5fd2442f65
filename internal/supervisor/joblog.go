package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"storaged/internal/ipc"
)

const (
	// maxLog bounds a job's log; when it is longer, the oldest part goes.
	maxLog = 1 << 20
	// keptLog is what stays then: the last words say most.
	keptLog = 256 << 10
)

// jobLog is the log of a job: standard error of the helper and its tools, and
// the lines that the helper logs. The helper writes to the file directly, so
// that its words survive the daemon; the bound is kept by looking at the
// length once a second. RLIMIT_FSIZE would bound the helper's data too, and a
// pipe would kill it when the daemon dies. nil is the log of a helper that we do
// not hear.
type jobLog struct {
	f *os.File
}

func openLog(path string) (*jobLog, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open job log: %w", err)
	}
	return &jobLog{f}, nil
}

// line adds a line that the helper logged. Several at once do not mix: each is
// one write to the end.
func (l *jobLog) line(m ipc.Log) error {
	if l == nil {
		return nil
	}
	text := bytes.ReplaceAll([]byte(m.Text), []byte{'\n'}, []byte("\n\t"))
	if m.Cut {
		text = append(text, " …"...)
	}
	_, err := fmt.Fprintf(l.f, "%s [%s] %s\n", time.Now().UTC().Format(time.RFC3339), m.Level, text)
	if err != nil {
		return fmt.Errorf("cannot write job log: %w", err)
	}
	return nil
}

// trim keeps the log within its bound. What is written between the reading of
// the tail and the cut is lost, and what is written before the tail is back
// comes before it; the file says that something was cut.
func (l *jobLog) trim() error {
	if l == nil {
		return nil
	}
	st, err := l.f.Stat()
	if err != nil || st.Size() <= maxLog {
		return err
	}
	tail := make([]byte, keptLog)
	n, err := l.f.ReadAt(tail, st.Size()-keptLog)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if _, rest, ok := bytes.Cut(tail[:n], []byte{'\n'}); ok {
		tail, n = rest, len(rest)
	}
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	_, err = l.f.Write(append([]byte("… older lines are cut …\n"), tail[:n]...))
	return err
}

func (l *jobLog) close() {
	if l != nil {
		l.f.Close() // a log line lost to a full disk has been reported by its write
	}
}
