package operation

import (
	"strconv"

	"storaged/internal/record"
)

// Rights are embedded by requests for a new volume, and by operations that make one:
// whose its file is to be, and who may do what with it. What is left out is as the
// source has it, and without a source root's alone.
type Rights struct {
	Owner *uint32 `json:"owner,omitempty"` // uid
	Group *uint32 `json:"group,omitempty"` // gid
	Mode  string  `json:"mode,omitempty"`  // octal, as chmod(1) takes it
}

// checkRights refuses a mode that is none, and bits that give a program or a directory
// more than its rights.
func (r Rights) checkRights() error {
	if _, ok := r.ModeBits(); !ok {
		return record.Errorf(record.Invalid, `field "mode" is %q, and no octal number up to 0777`, r.Mode)
	}
	return nil
}

// ModeBits is the mode as a number, nil where none is said.
func (r Rights) ModeBits() (mode *uint32, ok bool) {
	if r.Mode == "" {
		return nil, true
	}
	n, err := strconv.ParseUint(r.Mode, 8, 32)
	if err != nil || n > 0o777 {
		return nil, false
	}
	return new(uint32(n)), true
}

func (r *Rights) flags() []Flag {
	return []Flag{
		{Name: "owner", Usage: "`UID` that its file is to belong to", value: userID{&r.Owner}},
		{Name: "group", Usage: "`GID` that its file is to belong to", value: userID{&r.Group}},
		text("mode", &r.Mode, "permissions of its file, as chmod(1) takes them in octal: `MODE`"),
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
