// Command storage-helper does one storage task and exits. The daemon starts it
// once per job; a person may start it by hand.
package main

import (
	"os"

	"storaged/internal/helper"
	"storaged/internal/helper/task"
)

func main() {
	if helper.Scouts(os.Args) || task.Deputizes(os.Args) {
		return
	}
	os.Exit(commands().Main(os.Args))
}
