// Command storage-helper does one storage task and exits. The daemon starts it
// once per job; a person may start it by hand.
package main

import (
	"os"
	"runtime/debug"
)

const program = "storage-helper"

func main() { os.Exit(commands().Main(os.Args)) }

// version is that of the module, as the Go tool has recorded it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version[:min(len(info.Main.Version), 64)]
	}
	return "unknown"
}
