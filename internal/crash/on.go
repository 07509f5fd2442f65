//go:build chaos

package crash

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

const variable = "STORAGED_CRASH_DIR"

// Inherited names the environment variables that a helper needs to have too.
var Inherited = []string{variable}

var (
	mu     sync.Mutex
	passed = map[Point]int{}
)

// Directories are where it reads and writes.
func Directories() []string {
	if dir := os.Getenv(variable); dir != "" {
		return []string{dir}
	}
	return nil
}

// At kills this process if that is wanted here and now.
func At(p Point) {
	dir := os.Getenv(variable)
	if dir == "" {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	passed[p]++
	record(dir, p)
	armed := filepath.Join(dir, string(p))
	b, err := os.ReadFile(armed)
	if err != nil {
		return
	}
	if string(b) == "stop" {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // cannot fail
		return
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || passed[p] < n {
		return
	}
	if os.Remove(armed) != nil {
		return // another process was first
	}
	if err := os.WriteFile(filepath.Join(dir, "fired-"+string(p)), nil, 0o600); err != nil {
		panic("internal error: " + err.Error())
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // cannot fail
	select {}
}

// AtSent is At(Sent(frame)).
func AtSent(frame uint8) { At(Sent(frame)) }

func record(dir string, p Point) {
	f, err := os.OpenFile(filepath.Join(dir, "record"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return // nobody wants to know
	}
	defer f.Close() // what is written is looked at by a test, after the end
	_, _ = f.WriteString(string(p) + "\n")
}
