// Command storaged manages storage pools and volumes. Every long task is a
// job, run by a helper process of its own.
package main

import (
	"os"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
)

func main() {
	exits := []int{
		record.ExitDone, record.ExitFailed, record.ExitUsage, record.ExitBusy,
		record.ExitExists, record.ExitDenied, record.ExitUnsupported,
	}
	os.Exit(cmdline.Program{App: newApp(), Exits: exits}.Main(os.Args))
}
