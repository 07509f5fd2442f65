package record

import (
	"cmp"
	"strconv"
)

// Rights are whose a file or directory is to be, and who may do what with it. What is
// left out whoever makes it decides.
type Rights struct {
	Owner *uint32 `json:"owner,omitempty"`         // uid
	Group *uint32 `json:"group,omitempty"`         // gid
	Mode  string  `json:"mode,omitempty"`          // octal, as chmod(1) takes it
	Label string  `json:"selinux_label,omitempty"` // given where the kernel has SELinux, and else only noted
}

// MaxLabel bounds a label of SELinux, in bytes: far above those of any policy.
const MaxLabel = 1024

// CheckRights refuses a mode that is none, and bits that give a program or a directory
// more than its rights.
func (r Rights) CheckRights() error {
	if _, ok := r.ModeBits(); !ok {
		return Errorf(Invalid, `field "mode" is %q, and no octal number up to 0777`, r.Mode)
	}
	if len(r.Label) > MaxLabel || Escape(r.Label) != r.Label {
		return Errorf(Invalid, "%.40q is no label of SELinux", r.Label)
	}
	return nil
}

// Over are the rights, and for what they leave out others.
func (r Rights) Over(others Rights) Rights {
	return Rights{Owner: cmp.Or(r.Owner, others.Owner), Group: cmp.Or(r.Group, others.Group), Mode: cmp.Or(r.Mode, others.Mode), Label: cmp.Or(r.Label, others.Label)}
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
