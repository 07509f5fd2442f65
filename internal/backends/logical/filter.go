package logical

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"storaged/internal/tool"
)

// filtered are the settings of a call while somebody has partitions of volumes mapped
// (kpartx(8)): LVM would look for groups there, and find those of virtual machines. They are
// left out before all that the host's own filter says, which is asked for only then.
func filtered(ctx context.Context) (string, error) {
	inner := partitions("/sys/block")
	if len(inner) == 0 {
		return settings, nil
	}
	out, err := tool.Command{Program: tool.LVM, Verb: "lvmconfig", Operands: []string{"devices/filter"}, Output: maxFilter}.Administer(ctx)
	if ended, ok := errors.AsType[*tool.EndError](err); ok && strings.Contains(ended.Said, "not found") {
		out, err = []byte("filter=[]"), nil
	}
	return settings + " devices/" + rejecting(inner, string(out)), err
}

// maxFilter bounds the filter of a host, bytes.
const maxFilter = 64 << 10

// partitions are the devices that are partitions of logical volumes, by the kernel's names: the
// uuid that kpartx gives one has that of the volume in it.
func partitions(sysfs string) (names []string) {
	all, _ := filepath.Glob(filepath.Join(sysfs, "dm-*")) // the pattern is good
	for _, dir := range all {
		if uuid := attribute(dir, "dm/uuid"); strings.HasPrefix(uuid, "part") && strings.Contains(uuid, "-LVM-") {
			names = append(names, filepath.Base(dir))
		}
	}
	return names
}

// rejecting puts devices in front of a filter, as lvmconfig(8) prints it: the first pattern that
// fits counts. One pattern may stand without brackets.
func rejecting(devices []string, filter string) string {
	_, host, _ := strings.Cut(strings.TrimSpace(filter), "=")
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	patterns := []string{}
	for _, name := range devices {
		patterns = append(patterns, `"r|^/dev/`+name+`$|"`)
	}
	if host != "" {
		patterns = append(patterns, host)
	}
	return "filter=[" + strings.Join(patterns, ",") + "]"
}
