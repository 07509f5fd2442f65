package diskio

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// rights say whose a file is and who may do what with it.
type rights struct {
	owner, group uint32
	mode         uint32 // of chmod(2)
	acl          []byte // as the kernel keeps it; nil: the mode says it all
}

// give gives a file the rights, that is its owner's alone yet, and says what it
// could not be given. The owner's own rights come first, for it may be another
// one then, and what is for everybody else comes last.
func (r rights) give(f *os.File) (lost []string) {
	_ = chmod(f, r.mode&0o700) // if it cannot be, that shows in the end
	why := chown(f, r.owner, r.group)
	st, err := statOf(f)
	if err != nil {
		return []string{fmt.Sprintf("its owner and permissions (%v)", err)}
	}
	if st.Uid != r.owner || st.Gid != r.group {
		lost = append(lost, fmt.Sprintf("its owner %d:%d (%v)", r.owner, r.group, why))
	}
	narrow := r.under(st.Uid, st.Gid)
	if narrow.acl != nil {
		if err := retry(func() error { return unix.Fsetxattr(int(f.Fd()), aclAttribute, narrow.acl, 0) }); err != nil {
			lost = append(lost, fmt.Sprintf("its ACL (%v)", err))
			narrow = narrow.withoutACL()
		}
	}
	_ = chmod(f, narrow.mode) // if it cannot be, that shows
	if st, err := statOf(f); err != nil || st.Mode&0o7777 != r.mode {
		lost = append(lost, fmt.Sprintf("its permissions %#o, they are %#o", r.mode, st.Mode&0o7777))
	}
	return lost
}

// chown changes of owner and group what it may.
func chown(f *os.File, owner, group uint32) error {
	to := func(owner, group int) error {
		return retry(func() error { return unix.Fchown(int(f.Fd()), owner, group) })
	}
	err := to(int(owner), int(group))
	if err != nil {
		_, _ = to(-1, int(group)), to(int(owner), -1) // what came of it is looked at
	}
	return err
}

// under are the rights that may be given to a file that has another owner or
// group: whom it should have belonged to is one of the others then, and who was
// one of those may be of the group.
func (r rights) under(owner, group uint32) rights {
	if r.owner == owner && r.group == group {
		return r
	}
	if r.acl != nil && r.owner != owner {
		r = r.withoutACL() // the former owner may be named in it
	}
	u, g, o := r.mode>>6&7, r.mode>>3&7, r.mode&7
	if r.acl != nil {
		r.acl, g, o = groupNarrowed(r.acl)
	} else if r.group != group {
		g, o = g&o, g&o
	}
	if r.owner != owner {
		g, o = g&u, o&u
	}
	r.mode = u<<6 | g<<3 | o
	return r
}

// Entries of an ACL (posix_acl_xattr.h): after a header of 4 bytes a tag, what
// is permitted, and who is meant.
const (
	aclHeader   = 4
	aclEntry    = 8
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

// walkACL visits the entries, and changes what they permit.
func walkACL(acl []byte, visit func(tag, perm uint16) uint16) {
	for i := aclHeader; i+aclEntry <= len(acl); i += aclEntry {
		perm := visit(binary.LittleEndian.Uint16(acl[i:]), binary.LittleEndian.Uint16(acl[i+2:]))
		binary.LittleEndian.PutUint16(acl[i+2:], perm)
	}
}

// permitted is what entries with that tag permit; 7 where there are none.
func permitted(acl []byte, tag uint16) uint32 {
	all := uint16(7)
	walkACL(acl, func(t, perm uint16) uint16 {
		if t == tag {
			all &= perm
		}
		return perm
	})
	return uint32(all)
}

// groupNarrowed is the ACL for a file of another group, with the bits of group
// and others that its mode has then.
func groupNarrowed(acl []byte) (narrow []byte, g, o uint32) {
	narrow = append([]byte(nil), acl...)
	both := permitted(acl, aclGroupObj) & permitted(acl, aclMask) & permitted(acl, aclOther)
	walkACL(narrow, func(tag, perm uint16) uint16 {
		if tag == aclGroupObj || tag == aclOther {
			return uint16(both)
		}
		return perm
	})
	return narrow, permitted(acl, aclMask), both
}

// withoutACL are rights without an ACL that permit nobody more: the bits of the
// group are the mask in a file that has an ACL, and whom it names and permits
// less would be of the group, or of all others.
func (r rights) withoutACL() rights {
	mask := uint16(permitted(r.acl, aclMask))
	g, o := uint16(permitted(r.acl, aclGroupObj))&mask, uint16(permitted(r.acl, aclOther))
	walkACL(r.acl, func(tag, perm uint16) uint16 {
		switch tag {
		case aclUser:
			g, o = g&perm, o&perm&mask
		case aclGroup:
			o &= perm & mask
		}
		return perm
	})
	r.acl, r.mode = nil, r.mode&^0o077|uint32(g<<3|o)
	return r
}

// Rights are whose a file is to be, with which mode and which label of SELinux. Nil, and
// no label, leaves it as it is.
type Rights struct {
	Owner, Group, Mode *uint32
	Label              string
}

// Give gives the file of a content its rights, durably when its content is.
func (r Rights) Give(c Content) error {
	if r == (Rights{}) {
		return nil
	}
	return r.GiveFile(FileOf(c))
}

// GiveFile gives a file or directory its rights, durably when it is synced.
func (r Rights) GiveFile(f *os.File) error {
	if r.Owner != nil || r.Group != nil {
		if err := retry(func() error { return unix.Fchown(int(f.Fd()), idOf(r.Owner), idOf(r.Group)) }); err != nil {
			return fmt.Errorf("cannot give %q its owner and group: %w", f.Name(), err)
		}
	}
	if r.Label != "" {
		if err := retry(func() error { return unix.Fsetxattr(int(f.Fd()), labelAttribute, append([]byte(r.Label), 0), 0) }); err != nil {
			return fmt.Errorf("cannot give %q the label %q: %w", f.Name(), r.Label, err)
		}
	}
	if r.Mode == nil {
		return nil
	}
	if err := chmod(f, *r.Mode); err != nil { // after the owner, who would take bits away
		return fmt.Errorf("cannot give %q its permissions: %w", f.Name(), err)
	}
	return nil
}

// LabelOf is the label of SELinux that a file or directory has; "": none is known. It may
// hold any characters.
func LabelOf(f *os.File) string {
	label, _ := attributeOf(f, labelAttribute)
	return strings.TrimSuffix(string(label), "\x00")
}

// idOf is one as chown(2) takes it: -1 leaves it as it is.
func idOf(id *uint32) int {
	if id == nil {
		return -1
	}
	return int(*id)
}
