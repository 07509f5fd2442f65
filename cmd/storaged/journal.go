package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

const (
	// journalSocket is where the journal takes entries that have fields, as systemd
	// documents it under "Journal Native Protocol".
	journalSocket = "/run/systemd/journal/socket"
	// journalPatience bounds an entry. A journal that does not read is not waited for: what
	// it did not take is a line of standard error.
	journalPatience = time.Second
)

// journalSink gives the lines of a log to the journal, each as one entry whose fields are
// what the line is made of. It is used by one line at a time.
type journalSink struct {
	conn  *net.UnixConn // of no name, and connected to nobody: the journal may be started anew
	to    *net.UnixAddr
	lines *logWriter   // for what it does not take
	root  hclog.Logger // whose level counts
}

// native makes a log of the journal, whose lines go to w where it does not take them; ok is
// false where standard error is not the journal's own stream.
func native(w *logWriter, o *hclog.LoggerOptions) (log hclog.Logger, ok bool) {
	var st unix.Stat_t
	if unix.Fstat(int(os.Stderr.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, false
	}
	return nativeAt(journalSocket, w, o)
}

func nativeAt(socket string, w *logWriter, o *hclog.LoggerOptions) (hclog.Logger, bool) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	if err != nil {
		return nil, false
	}
	nowhere := *o
	nowhere.Output = discard{}
	log := hclog.NewInterceptLogger(&nowhere)
	log.RegisterSink(&journalSink{conn: conn, to: &net.UnixAddr{Name: socket, Net: "unixgram"}, lines: w, root: log})
	return log, true
}

// discard is where lines go that the journal has got.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// Accept is hclog.SinkAdapter's.
func (s *journalSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	if level < s.root.GetLevel() {
		return
	}
	if _, part, ok := strings.Cut(name, "."); ok {
		msg = part + ": " + msg
	}
	e := &entry{}
	text := msg
	for i := 0; i+1 < len(args); i += 2 {
		key, value := fmt.Sprint(args[i]), fmt.Sprint(args[i+1])
		text += separator(i) + key + "=" + quoted(value)
		e.add(fieldName(key), value)
	}
	e.add("MESSAGE", text)
	e.add("PRIORITY", strconv.Itoa(s.lines.priority(level)))
	e.add("SYSLOG_IDENTIFIER", s.root.Name())
	if !s.send(e.Bytes()) {
		_, _ = s.lines.LevelWrite(level, []byte(text+"\n")) // it counts what is lost
	}
}

// send reports whether the journal has taken an entry.
func (s *journalSink) send(e []byte) bool {
	if s.conn.SetWriteDeadline(time.Now().Add(journalPatience)) != nil {
		return false
	}
	_, _, err := s.conn.WriteMsgUnix(e, nil, s.to)
	return err == nil
}

func separator(i int) string {
	if i == 0 {
		return ": "
	}
	return " "
}

// quoted is a value as it stands in a line: with quotes where it would not be seen where it
// ends.
func quoted(value string) string {
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r == '"' || r == '=' || unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return strconv.Quote(value)
	}
	return value
}

// fieldName makes the name of a field of that of a value.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(key))
	return strings.TrimLeft(name, "_0123456789")
}

// entry is one of the journal's, as it takes it.
type entry struct{ bytes.Buffer }

// add adds a field; one without a name has none that the journal would take.
func (e *entry) add(name, value string) {
	switch {
	case name == "":
	case strings.Contains(value, "\n"):
		e.WriteString(name + "\n")
		_ = binary.Write(e, binary.LittleEndian, uint64(len(value))) // into memory
		e.WriteString(value + "\n")
	default:
		e.WriteString(name + "=" + value + "\n")
	}
}
