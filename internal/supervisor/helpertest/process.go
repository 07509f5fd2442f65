package helpertest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"storaged/internal/ipc"
)

// Processes lists the live processes whose job lies in a runtime directory.
func Processes(runtime string) (pids []int) {
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		panic(err)
	}
	for _, path := range environs {
		env, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var pid int
		fmt.Sscanf(path, "/proc/%d/", &pid)
		if strings.Contains(string(env), ipc.EnvRuntime+"="+runtime+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Buffer is a bytes.Buffer for many goroutines.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
