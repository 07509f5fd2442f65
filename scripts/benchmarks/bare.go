package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/diskio"
)

// bareCopy copies with nobody watching: no progress is told, no limit is set,
// no checkpoint is kept. With -direct the page cache is passed by. It prints how
// long that took, in seconds.
func bareCopy(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("copy", flag.ContinueOnError)
	direct := set.Bool("direct", false, "open both files with O_DIRECT; their size must be a multiple of 4 KiB")
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() != 2 {
		return errors.New("copy needs a source and a target")
	}
	flags := 0
	if *direct {
		flags = unix.O_DIRECT
	}
	src, err := os.OpenFile(set.Arg(0), os.O_RDONLY|flags, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(set.Arg(1), os.O_RDWR|os.O_CREATE|os.O_EXCL|flags, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close() // Copy made it durable
	begun := time.Now()
	_, err = diskio.Copy(ctx, diskio.NewPacer(), diskio.CopySpec{Dst: diskio.FileContent(dst), Src: diskio.FileContent(src), Reflink: diskio.ReflinkNever})
	if err == nil {
		_, err = fmt.Println(time.Since(begun).Seconds())
	}
	return err
}
