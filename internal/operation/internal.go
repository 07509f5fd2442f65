package operation

import (
	"fmt"

	"storaged/internal/record"
)

// Snapshots that an image itself has are other programs', and no operation is about
// them. One that would lose them says so before.

// losesInternal warns of that.
func losesInternal(on record.Volume, how string) []string {
	if on.InternalSnapshots == 0 {
		return nil
	}
	return []string{fmt.Sprintf("volume %s has %s in the image itself (qemu-img snapshot -l): %s", record.Quoted(on.Pool, record.Shown(on.Name)),
		record.Plural(int(on.InternalSnapshots), "snapshot"), how)}
}

// What becomes of them.
const (
	notCopied = "the copy has none of them"
	replaced  = "they go with the file that is replaced"
	shifted   = "where they have no data of their own they show something else after that"
)
