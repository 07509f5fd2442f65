package virtxml

import (
	"fmt"
	"math"
	"strconv"

	"storaged/internal/operation"
)

// Permissions are those of a file or directory. Nil leaves one to whoever makes it.
type Permissions struct {
	Mode  *uint32 // at most 0777
	Owner *uint32 // uid
	Group *uint32 // gid
	Label string  // of SELinux
}

// permissionsOf reads an element permissions, which need not be there.
func permissionsOf(e *element) (p Permissions, err error) {
	if mode := e.of("mode"); mode != "" {
		n, err := strconv.ParseUint(mode, 8, 32)
		if err != nil || n&^0o777 != 0 {
			return p, refuse(Wrong, "malformed octal mode")
		}
		p.Mode = new(uint32(n))
	}
	if p.Owner, err = identity(e, "owner"); err != nil {
		return p, err
	}
	if p.Group, err = identity(e, "group"); err != nil {
		return p, err
	}
	p.Label = e.of("label")
	return p, nil
}

// identity is a uid or gid; -1, which libvirt wrote once, is none.
func identity(e *element, name string) (*uint32, error) {
	c := e.child(name)
	if c == nil {
		return nil, nil
	}
	n, err := integer(c.text)
	if err != nil || n < -1 || n > math.MaxUint32 {
		return nil, refuse(Wrong, "malformed %s element", name)
	}
	if n == -1 || n == math.MaxUint32 {
		return nil, nil
	}
	return new(uint32(n)), nil
}

// none reports whether nothing is said.
func (p Permissions) none() bool { return p == Permissions{} }

// write writes the element, if there is something to say.
func (p Permissions) write(w *writer) {
	if p.none() {
		return
	}
	w.with("permissions", func() {
		if p.Mode != nil {
			w.text("mode", fmt.Sprintf("0%o", *p.Mode))
		}
		if p.Owner != nil {
			w.number("owner", int64(*p.Owner))
		}
		if p.Group != nil {
			w.number("group", int64(*p.Group))
		}
		w.text("label", p.Label)
	})
}

// Rights are the permissions as whoever asks for a volume says them.
func (p Permissions) Rights() operation.Rights {
	var r operation.Rights
	r.Owner, r.Group, r.Label = p.Owner, p.Group, p.Label
	if p.Mode != nil {
		r.Mode = fmt.Sprintf("%04o", *p.Mode)
	}
	return r
}
