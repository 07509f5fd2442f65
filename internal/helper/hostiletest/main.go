// Command hostiletest is a storage-helper that was taken over: of a wipe it does nothing
// but try to get out of its confinement, and warns of each way that it found. All other
// tasks the real helper does, which is beside it under the name real.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"storaged/internal/backends"
	"storaged/internal/backends/all"
	"storaged/internal/confine/confinetest"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func run() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	beside := filepath.Dir(self)
	dir, ok := ipc.JobDirFromEnv()
	i := slices.Index(os.Args, "--target")
	if !ok || os.Args[1] != "wipe" || i < 0 {
		return syscall.Exec(filepath.Join(beside, "real"), append([]string{helper.Program}, os.Args[1:]...), os.Environ())
	}
	text, err := os.ReadFile(filepath.Join(beside, "scene"))
	if err != nil {
		return err
	}
	s, err := confinetest.ParseScene(string(text))
	if err != nil {
		return err
	}
	t, err := task(os.Args[i+1], s)
	if err != nil {
		return err
	}
	return helper.RunJob(dir, "hostile", t)
}

// task has the volume open as a wipe has, and tries to get out.
func task(path string, s confinetest.Scene) (helper.Task, error) {
	driver, err := all.Lookup("dir")
	if err != nil {
		return helper.Task{}, err
	}
	target, name := driver.Parse(path)
	pool := &helper.Pool{Pool: backends.Pool{Type: "dir", Target: target}, Backend: driver}
	v := &helper.Volume{Location: pool.At(name), Access: backends.WriteExclusive}
	return helper.Task{
		Doing: "get out", Opens: []helper.Opening{v},
		Work: func(_ context.Context, r *helper.Run) error {
			r.Plan(helper.Single("get out"))
			r.Next(0)
			tried := confinetest.Try(s, diskio.FileOf(v.Volume.Content()))
			for _, a := range tried {
				if a.Succeeded {
					r.Warn("it could %s: %s", a.Name, a.Said)
				}
			}
			r.Report.Bytes = int64(len(tried))
			return nil
		},
	}, nil
}
