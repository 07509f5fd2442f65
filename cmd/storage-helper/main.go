// Command storage-helper does one storage task and exits. The daemon starts it
// once per job; a person may start it by hand.
package main

import (
	"os"

	"storaged/internal/helper"
)

func main() {
	if helper.Scouts(os.Args) {
		return
	}
	os.Exit(commands().Main(os.Args))
}
