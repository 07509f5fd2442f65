// Package sender is the process that tells a receiver of notices: storage-notify, which the
// daemon starts (package notify). It runs programs, or speaks HTTP and can do nothing else.
package sender

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/confine"
	"storaged/internal/notify"
)

// receiver is told events.
type receiver interface {
	// tell tells an event, a document of JSON. A refusedError is that it does not take this
	// one, another error that it may do so later.
	tell(ctx context.Context, event []byte) error
}

// refusedError is that a receiver does not take an event, whenever it is told it.
type refusedError struct{ error }

// Serves does the work of the process, if it is what this one was started as.
func Serves(args []string) (was bool) {
	if !slices.Equal(args, []string{notify.Program}) {
		return false
	}
	yieldTo()
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", notify.Program, err)
	}
	return true
}

// yieldTo gives up what the daemon has before others: it is nothing to an event whether it
// is told a moment later. It also takes the name by which it is seen.
func yieldTo() {
	_ = os.WriteFile("/proc/self/comm", []byte(notify.Program), 0)
	tasks, _ := filepath.Glob("/proc/self/task/*") // fails for a bad pattern only
	for _, t := range tasks {
		var tid int
		if _, err := fmt.Sscan(filepath.Base(t), &tid); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, 0) // ESRCH: the thread is gone
		}
	}
	if own, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil && strings.HasPrefix(string(own), "-") {
		_ = os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0)
	}
}

// maxLine bounds what is read of the daemon at once, bytes.
const maxLine = 1 << 20

// serve answers events until there are no more.
func serve(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	if !lines.Scan() {
		return errors.Join(errors.New("nobody said whom to tell"), lines.Err())
	}
	var m notify.Mission
	if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
		return fmt.Errorf("cannot read whom to tell: %w", err)
	}
	r, err := receiverOf(m)
	if err != nil {
		return err
	}
	events, ctx := follow(lines)
	for e := range events {
		a := told(ctx, m, r, e)
		if a.Error != "" && ctx.Err() != nil {
			return nil // it was broken off: nobody asks any more
		}
		if err := json.NewEncoder(out).Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}

// follow gives the lines that come, and what ends when there are no more: what is being done
// then is broken off. Its goroutine ends with the lines.
func follow(lines *bufio.Scanner) (<-chan []byte, context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	events := make(chan []byte, 1) // who asks waits for the answer before it asks again
	go func() {
		defer close(events)
		defer cancel()
		for lines.Scan() {
			events <- bytes.Clone(lines.Bytes())
		}
	}()
	return events, ctx
}

// told tells an event and says what came of it.
func told(ctx context.Context, m notify.Mission, r receiver, event []byte) (a notify.Answer) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.Timeout, fmt.Errorf("it took longer than its timeout of %v", m.Timeout))
	defer cancel()
	err := r.tell(ctx, event)
	if err == nil {
		return a
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	_, a.Refused = errors.AsType[refusedError](err)
	if s, ok := errors.AsType[saidError](err); ok {
		a.Said = s.said
	}
	const most = 400 // of hostile text
	a.Error = strings.ToValidUTF8(err.Error(), "?")
	if len(a.Error) > most {
		a.Error = strings.ToValidUTF8(a.Error[:most], "") + "…"
	}
	return a
}

// receiverOf makes this process fit for its receiver.
func receiverOf(m notify.Mission) (receiver, error) {
	if len(m.Program) > 0 {
		return program(m.Program), confine.ForbidPrivileges()
	}
	w, err := newWebhook(m)
	if err != nil {
		return unfit{err}, nil
	}
	return w, nil
}

// unfit is a receiver that nothing can be told, and why. The daemon ends a process that has
// told it so, and starts another when it tries again.
type unfit struct{ error }

func (u unfit) tell(context.Context, []byte) error { return u.error }
