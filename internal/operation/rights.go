package operation

import (
	"strconv"

	"storaged/internal/record"
)

// Rights are embedded by requests for a new volume, and by operations that make a volume
// or the directory of a pool: whose its file is to be, and who may do what with it. What
// is left out is as the source has it, and without a source root's alone.
type Rights struct{ record.Rights }

func (r *Rights) flags() []Flag {
	return []Flag{
		{Name: "owner", Usage: "`UID` that its file is to belong to", value: userID{&r.Owner}},
		{Name: "group", Usage: "`GID` that its file is to belong to", value: userID{&r.Group}},
		text("mode", &r.Mode, "permissions of its file, as chmod(1) takes them in octal: `MODE`"),
		text("selinux-label", &r.Label, "`LABEL` of SELinux that its file is to have, where the kernel has it"),
	}
}

// userID is a flag for a uid or gid.
type userID struct{ at **uint32 }

func (n userID) set(text string) error {
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return record.Errorf(record.Invalid, "%.40q is no number of a user or group", text)
	}
	*n.at = new(uint32(id))
	return nil
}

func (n userID) texts() []string {
	if *n.at == nil {
		return nil
	}
	return []string{strconv.FormatUint(uint64(**n.at), 10)}
}
