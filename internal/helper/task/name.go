package task

import (
	"fmt"

	"golang.org/x/sys/unix"

	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// named fails if the file of a volume has lost its last name while a job wrote to it: somebody
// has put another one in its place, or removed it, and nobody finds what was written. err is
// what the job came to.
func named(v *helper.Volume, err error) error {
	f := diskio.FileOf(v.Volume.Content())
	if err != nil || f == nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("cannot look at %q: %w", v.Path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 0 {
		return nil
	}
	return ipc.Errorf(record.Changed, "somebody has replaced or removed %q while it was written: what was written is lost with it", v.Path).
		WithHint("have its pool read anew (pool refresh), and look at what is there now")
}
