package diskio

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/testenv"
)

// aclOf makes an ACL of triples of tag, what is permitted, and id.
func aclOf(entries ...uint32) []byte {
	acl := binary.LittleEndian.AppendUint32(nil, 2)
	for e := range slices.Chunk(entries, 3) {
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e[0]))
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e[1]))
		acl = binary.LittleEndian.AppendUint32(acl, e[2])
	}
	return acl
}

const nobody = 1<<32 - 1 // no id, in an ACL

// shared lets user 1111 write, and the owning group read, which the mode, whose
// group bits are the mask, does not tell.
var shared = aclOf(1, 6, nobody, aclUser, 6, 1111, aclGroupObj, 4, nobody, aclMask, 6, nobody, aclOther, 0, nobody)

// attributed is a file with all there is.
func attributed(t *testing.T, dir, name string) *os.File {
	t.Helper()
	testenv.Root(t)
	f := create(t, dir, name)
	must(t, f.Chown(1234, 4321))
	must(t, f.Chmod(0o640))
	for name, value := range map[string]string{
		aclAttribute: string(shared), "user.note": "kept for Ann", "trusted.made": "by us",
		"security.selinux": "system_u:object_r:svirt_image_t:s0\x00", capability: "\x00\x00\x00\x02\x00\x20\x00\x00" + strings.Repeat("\x00", 12),
	} {
		must(t, unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0))
	}
	must(t, os.Chtimes(f.Name(), time.Unix(1e9, 17), time.Unix(1e9+1, 18)))
	return f
}

func TestAttributesAreGiven(t *testing.T) {
	src := attributed(t, t.TempDir(), "src")
	want, err := AttributesOf(file{src})
	must(t, err)
	if len(want.extended) != 4 || string(want.acl) != string(shared) {
		t.Fatalf("read %v", want)
	}
	for _, kind := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(kind, func(t *testing.T) {
			dst := create(t, testenv.Mount(t, kind), "dst")
			writeRandom(t, dst, 0, mib)
			if lost := want.Give(file{dst}); lost != nil {
				t.Errorf("lost %q", lost)
			}
			must(t, dst.Sync())
			got, err := AttributesOf(file{dst})
			must(t, err)
			if !got.equal(want) {
				t.Errorf("has %v, not %v", got, want)
			}
		})
	}
}

func (a Attributes) equal(b Attributes) bool {
	same := a.owner == b.owner && a.group == b.group && a.mode == b.mode && string(a.acl) == string(b.acl) && slices.Equal(a.times, b.times)
	for name, value := range a.extended {
		same = same && string(b.extended[name]) == string(value)
	}
	return same && len(a.extended) == len(b.extended)
}

// A copy is used by whom the source is, and is another file.
func TestAttributesOfACopy(t *testing.T) {
	want, err := AttributesOf(file{attributed(t, t.TempDir(), "src")})
	must(t, err)
	dst := create(t, t.TempDir(), "dst")
	if lost := want.OfCopy().Give(file{dst}); lost != nil {
		t.Errorf("lost %q", lost)
	}
	got, err := AttributesOf(file{dst})
	must(t, err)
	if got.owner != 1234 || got.group != 4321 || got.mode != want.mode || string(got.acl) != string(shared) {
		t.Errorf("%+v", got.rights)
	}
	if len(got.extended) != 1 || string(got.extended["user.note"]) != "kept for Ann" {
		t.Errorf("%q", got.extended)
	}
	if time.Since(time.Unix(got.times[1].Unix())) > time.Hour {
		t.Error("it is as old as its source")
	}
	if len(want.extended) != 4 || want.times == nil {
		t.Errorf("those of the source have changed: %v", want)
	}
}

// ramfs knows owners and modes and nothing else.
func TestAttributesThatCannotBeKeptAreNamed(t *testing.T) {
	want, err := AttributesOf(file{attributed(t, t.TempDir(), "src")})
	must(t, err)
	dst := create(t, mountAt(t, t.TempDir(), "-t", "ramfs", "ramfs"), "dst")
	lost := strings.Join(want.Give(file{dst}), ", ")
	for _, what := range []string{"ACL", "user.note"} {
		if !strings.Contains(lost, what) {
			t.Errorf("%s is not said to be lost: %s", what, lost)
		}
	}
	st, err := statOf(dst)
	must(t, err)
	if st.Mode&0o7777 != 0o640 || st.Uid != 1234 || st.Mtim.Sec != 1e9+1 {
		t.Errorf("mode %o of %d, changed %d", st.Mode, st.Uid, st.Mtim.Sec)
	}
}

// What the ACL of its directory gives to others goes with the first use.
func TestAttributesOfTheDirectoryAreNotKept(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Setxattr(dir, "system.posix_acl_default", shared, 0))
	src := create(t, t.TempDir(), "src")
	must(t, src.Chmod(0o640))
	want, err := AttributesOf(file{src})
	must(t, err)
	dst := create(t, dir, "dst")
	must(t, dst.Chmod(0o600))
	if _, err := attributeOf(dst, aclAttribute); err != nil {
		t.Fatalf("it has no ACL: %v", err)
	}
	if lost := want.Give(file{dst}); lost != nil {
		t.Errorf("lost %q", lost)
	}
	if acl, err := attributeOf(dst, aclAttribute); err == nil {
		t.Errorf("it has the ACL %x", acl)
	}
}

func TestRightsAreNarrowedWhereSomethingCannotBeKept(t *testing.T) {
	forbids := aclOf(1, 6, nobody, aclUser, 0, 1111, aclGroupObj, 6, nobody, aclGroup, 1, 2222, aclMask, 7, nobody, aclOther, 5, nobody)
	for name, c := range map[string]struct {
		r    rights
		acl  bool // can be kept
		want uint32
	}{
		"mask is not the group's":       {r: rights{mode: 0o660, acl: shared}, want: 0o640},
		"named and forbidden":           {r: rights{mode: 0o675, acl: forbids}, want: 0o600},
		"another group":                 {r: rights{group: 1, mode: 0o640}, want: 0o600},
		"another group that all may":    {r: rights{group: 1, mode: 0o664}, want: 0o644},
		"group was forbidden":           {r: rights{group: 1, mode: 0o604}, want: 0o600},
		"another owner":                 {r: rights{owner: 1, mode: 0o640}, want: 0o640},
		"owner was forbidden":           {r: rights{owner: 1, mode: 0o466}, want: 0o444},
		"another group, and ACL":        {r: rights{group: 1, mode: 0o660, acl: shared}, acl: true, want: 0o660},
		"special bits and another user": {r: rights{owner: 1, mode: 0o6755}, want: 0o755},
	} {
		got := c.r.under(0, 0)
		if got.acl != nil && !c.acl {
			got = got.withoutACL()
		}
		if got.mode != c.want {
			t.Errorf("%s: %#o, not %#o", name, got.mode, c.want)
		}
		if c.acl && (permitted(got.acl, aclGroupObj) != 0 || permitted(got.acl, aclUser) != 6) {
			t.Errorf("%s: ACL %x", name, got.acl)
		}
	}
}
