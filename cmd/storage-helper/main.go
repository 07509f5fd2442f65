// Command storage-helper does one storage task and exits. The daemon starts it
// once per job; a person may start it by hand.
package main

import (
	"os"

	"storaged/internal/helper"
	"storaged/internal/helper/task"
	"storaged/internal/ipc"
)

func main() {
	if helper.Scouts(os.Args) || task.Deputizes(os.Args) {
		return
	}
	if dir, ok := ipc.JobDirFromEnv(); ok {
		if code, ok := work(dir, os.Args[1:]); ok {
			os.Exit(code)
		}
	}
	os.Exit(commands().Main(os.Args))
}
