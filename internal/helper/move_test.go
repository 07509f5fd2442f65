package helper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/backends"
	"storaged/internal/backends/dir"
	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// movement is a job that moves a file of random bytes to another directory.
type movement struct {
	*daemon
	from, to string
	content  []byte
}

// newMovement makes the file, in a directory of the same file system as the
// target's or not.
func newMovement(t *testing.T, from, to string, size int) movement {
	t.Helper()
	m := movement{daemon: newDaemon(t), from: filepath.Join(from, "a.raw"), to: filepath.Join(to, "b.raw")}
	m.content = noise(t, m.from, size)
	return m
}

func (m movement) args() []string { return []string{"move", "--source", m.from, "--target", m.to} }

// settled settles the job after its death and gives the report.
func (m movement) settled() *ipc.Report {
	m.t.Helper()
	s := m.settler("settle", "--target", m.to, "--source", m.from)
	s.begin(ipc.Go{})
	s.exit()
	report, _, err := ipc.LoadReport(m.dir.Result())
	must(m.t, err)
	return report
}

// isAt fails unless the volume is whole at its new place, or at its old, and
// nothing else is at either.
func (m movement) isAt(moved bool) {
	m.t.Helper()
	there, gone, name := m.from, m.to, "a.raw"
	if moved {
		there, gone, name = m.to, m.from, "b.raw"
	}
	sameContent(m.t, there, m.content)
	onlyHas(m.t, filepath.Dir(there), name)
	onlyHas(m.t, filepath.Dir(gone))
}

// elsewhere is a directory on another file system than temporary ones.
func elsewhere(t *testing.T) string { return testenv.Mount(t, "tmpfs") }

func TestJobMoveCopiesToAnotherFileSystem(t *testing.T) {
	m := newMovement(t, t.TempDir(), elsewhere(t), 2*mib)
	must(t, os.Chown(m.from, 1234, 4321))
	must(t, os.Chmod(m.from, 0o640))
	m.start(m.args()...)
	m.begin(ipc.Go{})
	report := m.result(record.ExitDone)
	if v := report.Volume; report.Method != "copy" || v == nil || v.Path != m.to || report.Bytes != 2*mib {
		t.Errorf("report %+v, volume %+v", report.Summary, v)
	}
	m.isAt(true)
	var st syscall.Stat_t
	must(t, syscall.Stat(m.to, &st))
	if st.Uid != 1234 || st.Gid != 4321 || st.Mode&0o777 != 0o640 {
		t.Errorf("it belongs to %d:%d, mode %o", st.Uid, st.Gid, st.Mode)
	}
	sealed := false
	for _, p := range of[ipc.Phase](m.daemon) {
		if sealed && !p.NoReturn {
			t.Errorf("phase %+v comes after the point of no return", p)
		}
		sealed = sealed || p.NoReturn
	}
	if !sealed {
		t.Error("no phase was told to have no way back")
	}
}

func TestJobMoveCanceledLeavesTheSource(t *testing.T) {
	m := newMovement(t, t.TempDir(), elsewhere(t), 2*mib)
	m.start(m.args()...)
	m.begin(ipc.Go{Limit: slow / 4})
	await(m.daemon, 0, "durable progress", func(p ipc.Progress) bool { return p.Durable > 0 })
	m.say(ipc.Cancel{})
	if report := m.result(record.ExitCanceled); report.Rollback != string(record.RollbackDone) || report.Volume != nil {
		t.Errorf("report %+v", report.Summary)
	}
	m.isAt(false)
}

func TestJobMoveKeepsASourceThatChangesMeanwhile(t *testing.T) {
	m := newMovement(t, t.TempDir(), elsewhere(t), 2*mib)
	m.start(m.args()...)
	m.begin(ipc.Go{Limit: slow / 4})
	await(m.daemon, 0, "durable progress", func(p ipc.Progress) bool { return p.Durable > 0 })
	copy(m.content, "a guest was here")
	f, err := os.OpenFile(m.from, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(m.content[:16], 0)
	must(t, errors.Join(err, f.Close()))
	m.say(ipc.Limit{})
	report := m.result(record.ExitBusy)
	if report.Error == nil || report.Error.Code != string(record.Changed) || report.Rollback != string(record.RollbackDone) {
		t.Errorf("report %+v, error %+v", report.Summary, report.Error)
	}
	m.isAt(false)
}

// killedAt runs the task under strace(1), which kills it when it calls the
// system for the nth time; it gives false if it does not call so often.
func (m movement) killedAt(call string, n int) bool {
	m.t.Helper()
	strace := testenv.Tool(m.t, "strace")
	args := []string{"-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), helper}
	m.run(exec.Command(strace, append(args, m.args()...)...))
	m.say(ipc.Go{})
	m.exit()
	_, err := os.Stat(m.dir.Result())
	return os.IsNotExist(err)
}

// TestJobMoveKilledAtAnyCall kills moves at each call that makes something
// durable or visible. After the settling, the volume is whole at one place.
func TestJobMoveKilledAtAnyCall(t *testing.T) {
	here, tmpfs := t.TempDir(), elsewhere(t)
	for _, way := range []struct{ name, below string }{{"renamed", here}, {"copied", tmpfs}} {
		for _, call := range []string{"fsync", "renameat", "renameat2", "unlinkat", "fdatasync"} {
			for n, killed := 1, true; killed && !t.Failed(); n++ {
				t.Run(fmt.Sprintf("%s, %s %d", way.name, call, n), func(t *testing.T) {
					from, to := filepath.Join(here, fmt.Sprint("from-", way.name, call, n)), filepath.Join(way.below, fmt.Sprint("to-", way.name, call, n))
					must(t, os.Mkdir(from, 0o755))
					must(t, os.Mkdir(to, 0o755))
					m := newMovement(t, from, to, mib)
					if killed = m.killedAt(call, n); !killed {
						m.isAt(true)
						return
					}
					m.isAt(m.settled().Outcome == ipc.Succeeded)
				})
			}
		}
	}
}

// interrupted is a move whose helper died when the target had its name and the
// source was still there.
func interrupted(t *testing.T) movement {
	t.Helper()
	m := newMovement(t, t.TempDir(), elsewhere(t), mib)
	if !m.killedAt("unlinkat", 1) {
		t.Fatal("the move unlinks nothing")
	}
	sameContent(t, m.from, m.content)
	sameContent(t, m.to, m.content)
	return m
}

func TestJobMoveSettledKeepsASourceThatHasChanged(t *testing.T) {
	m := interrupted(t)
	must(t, os.WriteFile(m.from, []byte("a guest was here"), 0o600))
	report := m.settled()
	if report.Outcome != ipc.Failed || report.Error.Code != string(record.Changed) || report.Volume == nil || report.Volume.Path != m.to {
		t.Errorf("report %+v, error %+v", report.Summary, report.Error)
	}
	sameContent(t, m.from, []byte("a guest was here"))
	sameContent(t, m.to, m.content)
}

func TestJobMoveSettledKeepsASourceInUse(t *testing.T) {
	m := interrupted(t)
	used, err := dir.New().Open(t.Context(), backends.Pool{Type: "dir", Target: filepath.Dir(m.from)}, "a.raw", backends.ReadShared)
	must(t, err)
	defer used.Close()
	report := m.settled()
	if report.Outcome != ipc.Failed || report.Error.Code != string(record.Busy) || report.Volume == nil {
		t.Errorf("report %+v, error %+v", report.Summary, report.Error)
	}
	sameContent(t, m.from, m.content)
	sameContent(t, m.to, m.content)
}

func TestMoveKeepsWhatIsReserved(t *testing.T) {
	from, to := t.TempDir(), testenv.Mount(t, "ext4")
	for verb, args := range map[string][]string{
		"move":     {"--source", filepath.Join(from, "move"), "--target", filepath.Join(to, "move")},
		"clone":    {"--source", filepath.Join(from, "clone"), "--target", filepath.Join(to, "clone")},
		"evacuate": {"--target", from, "--to", to, "--only", "evacuate"},
	} {
		f, err := os.Create(filepath.Join(from, verb))
		must(t, err)
		must(t, syscall.Fallocate(int(f.Fd()), 0, 0, 20*mib))
		_, err = f.Write(make([]byte, 64<<10))
		must(t, errors.Join(err, f.Close()))
		if out, err := exec.Command(helper, append([]string{verb}, args...)...).CombinedOutput(); err != nil || strings.Contains(string(out), "warning") {
			t.Errorf("%s: %v\n%s", verb, err, out)
		}
		var st syscall.Stat_t
		must(t, syscall.Stat(filepath.Join(to, verb), &st))
		if st.Blocks*512 < 20*mib {
			t.Errorf("%s: %d bytes are allocated", verb, st.Blocks*512)
		}
	}
}

// Entries of an ACL as the kernel keeps it: the user 1111 may write, the owning
// group may read, and the mask, which the mode shows as the group's, is rw-.
const sharedACL = "\x02\x00\x00\x00" +
	"\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x06\x00\x57\x04\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" +
	"\x10\x00\x06\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"

// shareOut gives a volume owner, ACL, label, note and time.
func shareOut(t *testing.T, path string) {
	t.Helper()
	must(t, os.Chown(path, 1234, 4321))
	for name, value := range map[string]string{
		"system.posix_acl_access": sharedACL, "user.note": "kept for Ann", "security.selinux": "system_u:object_r:svirt_image_t:s0\x00",
	} {
		must(t, syscall.Setxattr(path, name, []byte(value), 0))
	}
	must(t, os.Chtimes(path, time.Unix(1e9, 0), time.Unix(1e9, 0)))
}

func attributeOf(t *testing.T, path, name string) string {
	t.Helper()
	b := make([]byte, 1024)
	n, err := syscall.Getxattr(path, name, b)
	if err == syscall.ENODATA {
		return ""
	}
	must(t, err)
	return string(b[:n])
}

func TestMoveKeepsAttributesAndACloneWhoMayUseIt(t *testing.T) {
	testenv.Root(t)
	from, to := t.TempDir(), testenv.Mount(t, "ext4")
	for verb, args := range map[string][]string{
		"move":     {"--source", filepath.Join(from, "move"), "--target", filepath.Join(to, "move")},
		"clone":    {"--source", filepath.Join(from, "clone"), "--target", filepath.Join(to, "clone")},
		"evacuate": {"--target", from, "--to", to, "--only", "evacuate"},
	} {
		noise(t, filepath.Join(from, verb), mib)
		shareOut(t, filepath.Join(from, verb))
		if out, err := exec.Command(helper, append([]string{verb}, args...)...).CombinedOutput(); err != nil || strings.Contains(string(out), "warning") {
			t.Errorf("%s: %v\n%s", verb, err, out)
		}
		at := filepath.Join(to, verb)
		var st syscall.Stat_t
		must(t, syscall.Stat(at, &st))
		if st.Uid != 1234 || st.Gid != 4321 || attributeOf(t, at, "system.posix_acl_access") != sharedACL || attributeOf(t, at, "user.note") != "kept for Ann" {
			t.Errorf("%s: it belongs to %d:%d and has ACL %x and note %q", verb, st.Uid, st.Gid, attributeOf(t, at, "system.posix_acl_access"), attributeOf(t, at, "user.note"))
		}
		if moved := verb != "clone"; moved != (attributeOf(t, at, "security.selinux") != "") || moved != (st.Mtim.Sec == 1e9) {
			t.Errorf("%s: it has label %q and was changed at %v", verb, attributeOf(t, at, "security.selinux"), st.Mtim)
		}
	}
}

// mayDo is what a process of that user and group may do with a file.
func mayDo(t *testing.T, path string, uid, gid uint32) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", `for x in r w x; do test -$x "$1" && echo $x; done; true`, "sh", path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// TestMovedVolumeIsNeverOpenToMore kills moves at each call that changes who may
// use the target, which the ACL of its directory would open to another user.
func TestMovedVolumeIsNeverOpenToMore(t *testing.T) {
	top := elsewhere(t)
	must(t, os.Chmod(top, 0o755))
	for _, acl := range []string{"", sharedACL} {
		for _, call := range []string{"fchmod", "fchown", "fsetxattr", "fremovexattr", "utimensat"} {
			for n, killed := 1, true; killed && !t.Failed(); n++ {
				to := filepath.Join(top, fmt.Sprint(call, n, len(acl)))
				must(t, os.Mkdir(to, 0o755))
				must(t, syscall.Setxattr(to, "system.posix_acl_default", []byte(strings.Replace(sharedACL, "\x57\x04", "\x58\x04", 1)), 0))
				m := newMovement(t, t.TempDir(), to, mib)
				shareOut(t, m.from)
				must(t, syscall.Removexattr(m.from, "system.posix_acl_access"))
				must(t, os.Chmod(m.from, 0o440))
				if acl != "" {
					must(t, syscall.Setxattr(m.from, "system.posix_acl_access", []byte(acl), 0))
				}
				source := filepath.Join(to, "as the source") // what nobody can reach below a directory of a test
				must(t, exec.Command("cp", "--preserve=all", m.from, source).Run())
				killed = m.killedAt(call, n)
				target := m.to
				if killed {
					target = filepath.Join(to, "."+m.dir.Job+".storaged")
				}
				for _, who := range [][2]uint32{{1234, 1}, {1, 4321}, {1111, 1}, {1112, 1}, {1, 1}} {
					if is, was := mayDo(t, target, who[0], who[1]), mayDo(t, source, who[0], who[1]); killed && strings.Trim(is, was) != "" || !killed && is != was {
						t.Errorf("%s %d: %d:%d may %q with the target, and %q with the source", call, n, who[0], who[1], is, was)
					}
				}
				if !killed && n == 1 {
					t.Errorf("a move makes no call of %s", call)
				}
			}
		}
	}
}
