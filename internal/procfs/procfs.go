// Package procfs reads what the kernel writes in /proc as people know it (proc(5)).
package procfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Process names a process. A command may call itself anything, so that its name is escaped.
func Process(pid string) string {
	comm, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return "pid " + pid
	}
	name := strconv.Quote(strings.TrimSpace(string(comm)))
	return fmt.Sprintf("pid %s (%s)", pid, name[1:len(name)-1])
}

// Unescape reads a path in a table of the kernel, with \ooo for what would divide fields.
func Unescape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		if s[0] == '\\' && len(s) >= 4 {
			if n, err := strconv.ParseUint(s[1:4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				s = s[4:]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return b.String()
}
