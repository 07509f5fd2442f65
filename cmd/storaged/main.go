// Command storaged manages storage pools and volumes. Every long task is a
// job, run by a helper process of its own.
package main

import (
	"os"

	"storaged/cmd/internal/cmdline"
)

// version is set by the linker.
var version = "devel"

func main() {
	os.Exit(cmdline.Main(newApp(), os.Args))
}
