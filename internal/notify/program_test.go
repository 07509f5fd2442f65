package notify_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/notify"
	"storaged/internal/testenv"
)

// script is a program of the shell, in a directory that every user may change. Its word $dir is
// that directory.
func script(t *testing.T, text string) (argv []string, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "storaged-notify-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\ndir="+dir+"\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return []string{path, "an argument"}, dir
}

// content is that of a file when it has a whole line.
func content(t *testing.T, path string) (text string) {
	t.Helper()
	await(t, path, func() bool {
		b, _ := os.ReadFile(path)
		text = string(b)
		return strings.HasSuffix(text, "\n")
	})
	return strings.TrimSuffix(text, "\n")
}

func TestAProgramGetsTheEventAndNothingElse(t *testing.T) {
	testenv.Root(t) // else it runs as who tests
	argv, dir := script(t, `cat > "$dir/event"; { id -u; id -G; echo "$1"; pwd; env | grep -v ^PWD; grep -E "^(Sig[IB]|NoNew)" /proc/self/status; ls /proc/self/fd | wc -l; } > "$dir/told"; mv "$dir/told" "$dir/is"`)
	n := begun(t, t.TempDir(), notify.Receiver{Name: "program", Program: argv})
	n.tell("a")
	told := strings.Split(content(t, filepath.Join(dir, "is")), "\n")
	var e notify.Event
	if err := json.Unmarshal([]byte(content(t, filepath.Join(dir, "event"))), &e); err != nil || e.ID != "a" || e.Host != "host1" {
		t.Errorf("the event is %+v (%v)", e, err)
	}
	want := "65534|65534|an argument|/|PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin|LC_ALL=C.UTF-8|SigBlk:\t0000000000000000|SigIgn:\t0000000000000000|NoNewPrivs:\t1|4" // ls has one
	if got := strings.Join(told, "|"); got != want {
		t.Errorf("the program sees\n%s, want\n%s", got, want)
	}
}

// gone returns when a process has ended.
func gone(t *testing.T, pid string) {
	t.Helper()
	await(t, "an end of process "+pid, func() bool {
		status, err := os.ReadFile("/proc/" + pid + "/status")
		return err != nil || strings.Contains(string(status), "State:\tZ")
	})
}

// A program that hangs is killed after its timeout, with what it has started; one that fails,
// and writes more than anybody wants to know, is run again.
func TestAProgramIsRunUntilItSucceeds(t *testing.T) {
	argv, dir := script(t, `
cat >> "$dir/all"
if mkdir "$dir/1" 2>/dev/null; then
	sleep 1000 & echo $$ $! > "$dir/pids"
	wait
fi
if mkdir "$dir/2" 2>/dev/null; then
	head -c 50000000 /dev/zero; exit 3
fi
if mkdir "$dir/3" 2>/dev/null; then
	echo it is closed >&2; kill -SEGV $$
fi
echo done > "$dir/end"
`)
	n := begun(t, t.TempDir(), notify.Receiver{Name: "program", Program: argv, Timeout: testenv.Patience(time.Second)})
	n.tell("a")
	for pid := range strings.FieldsSeq(content(t, filepath.Join(dir, "pids"))) {
		gone(t, pid)
	}
	content(t, filepath.Join(dir, "end"))
	n.says("[WARN]  a receiver of notices cannot be told: receiver=program error=\"it took longer than its timeout of ", "[INFO]  a receiver of notices is told again: receiver=program")
	if events := strings.Count(content(t, filepath.Join(dir, "all")), `"id":"a"`); events != 4 {
		t.Errorf("it was run with the event %d times", events)
	}
}

func TestAProgramThatFailsSaysWhy(t *testing.T) {
	for says, text := range map[string]string{
		"failed (exit status 3); 1 wait":              "exit 3",
		"failed (signal: segmentation fault); 1 wait": "kill -SEGV $$",
	} {
		argv, _ := script(t, text)
		n := begun(t, t.TempDir(), notify.Receiver{Name: "program", Program: argv})
		n.tell("a")
		n.complains(says)
	}
	n := begun(t, t.TempDir(), notify.Receiver{Name: "program", Program: []string{"/nowhere/program"}})
	n.tell("a")
	n.complains("no such file or directory")
}

// What a program says may be secret: it is told to the log's readers alone.
func TestOnlyTheLogHasWhatAProgramSays(t *testing.T) {
	argv, _ := script(t, `printf 'it is closed\033[31m' >&2; exit 3`)
	n := begun(t, t.TempDir(), notify.Receiver{Name: "program", Program: argv})
	n.tell("a")
	n.complains("failed (exit status 3); 1 wait")
	if said := n.log.String(); !strings.Contains(said, "it is closed") || strings.Contains(said, "\033") {
		t.Errorf("the log has %q", said)
	}
}

// A program that does not take a notice may take the next one: nothing waits, and nobody has
// to do anything.
func TestAProgramThatRefusesIsNoTrouble(t *testing.T) {
	argv, _ := script(t, "exit 65")
	n := begun(t, t.TempDir(), notify.Receiver{Name: "program", Program: argv})
	n.tell("a")
	await(t, "the refusal", func() bool {
		return strings.Contains(n.log.String(), "failed (exit status 65); the notice is dropped")
	})
	if c := n.Complaints(); len(c) > 0 {
		t.Errorf("it is complained of: %q", c)
	}
}

// A program lives no longer than the process that runs it, and that no longer than it is
// wanted; whether it reads what it is given is its affair.
func TestAProgramEndsWithWhoRunsIt(t *testing.T) {
	argv, dir := script(t, `if mkdir "$dir/1" 2>/dev/null; then echo $$ > "$dir/first"; exec sleep 1000; fi; if mkdir "$dir/2"; then echo $$ > "$dir/second"; exec sleep 1000; fi; exec sleep 0`)
	n := begun(t, t.TempDir(), notify.Receiver{Name: "program", Program: argv, Timeout: time.Minute})
	e := failure("a")
	e.Error = strings.Repeat("x", 100<<10) // more than fits into a pipe
	n.Tell(e)
	first := content(t, filepath.Join(dir, "first"))
	if err := syscall.Kill(processes(t)[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, first)
	second := content(t, filepath.Join(dir, "second"))
	n.Close()
	gone(t, second)
	n = begun(t, n.dir, notify.Receiver{Name: "program", Program: argv})
	await(t, "an empty queue", func() bool {
		kept, _ := os.ReadFile(filepath.Join(n.dir, "program.json"))
		return strings.HasPrefix(string(kept), `{"waiting":[],`)
	})
	if c := n.Complaints(); len(c) > 0 {
		t.Error(fmt.Sprint(c))
	}
}
