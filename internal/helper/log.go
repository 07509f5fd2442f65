package helper

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/ipc"
)

// maxLog bounds what one helper adds to its job's log, in bytes.
const maxLog = 1 << 20

// newJobLog logs to the job's log file, which is our stderr.
func newJobLog(stderr io.Writer) hclog.InterceptLogger {
	return hclog.NewInterceptLogger(&hclog.LoggerOptions{
		Name:   Program,
		Level:  hclog.Info,
		Output: &boundedWriter{out: stderr, rest: maxLog},
	})
}

// newManualLog logs what a person has to know beside the result.
func newManualLog(stderr io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: Program, Level: hclog.Error, Output: stderr})
}

// boundedWriter passes so many bytes on, says once that this is the end, and
// swallows the rest.
type boundedWriter struct {
	mu   sync.Mutex
	out  io.Writer
	rest int
}

func (w *boundedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.rest < 0:
		return len(p), nil
	case len(p) > w.rest:
		w.rest = -1
		_, err := io.WriteString(w.out, "log truncated\n")
		return len(p), err
	}
	w.rest -= len(p)
	return w.out.Write(p)
}

// frameSink sends log lines that matter to the daemon too.
type frameSink struct{ sender *ipc.Sender }

var _ hclog.SinkAdapter = frameSink{}

// Accept implements hclog.SinkAdapter.
func (s frameSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	if level < hclog.Warn {
		return
	}
	text := strings.Builder{}
	text.WriteString(msg)
	for i := 0; i+1 < len(args); i += 2 {
		fmt.Fprintf(&text, " %v=%v", args[i], args[i+1])
	}
	s.sender.Send(ipc.Log{Level: level.String(), Text: text.String()})
}
