package backends

import (
	"fmt"

	"storaged/internal/record"
)

// maxStrangers bounds how many volumes an error names.
const maxStrangers = 5

// Unlisted is ErrNotEmpty if any of those volumes and snapshots of the pool came to it
// after it was read: nobody who deletes it knows of them.
func (p Pool) Unlisted(names []string) error {
	if p.Listed == nil {
		return nil
	}
	listed := make(map[string]bool, len(p.Listed))
	for _, name := range p.Listed {
		listed[name] = true
	}
	var strangers []string
	for _, name := range names {
		if !listed[name] {
			strangers = append(strangers, name)
		}
	}
	if len(strangers) == 0 {
		return nil
	}
	return fmt.Errorf("pool %q %w: after it was read last there came %s", p.Target, ErrNotEmpty, record.List(strangers, maxStrangers))
}
