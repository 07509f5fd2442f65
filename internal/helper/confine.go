package helper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/confine"
	"storaged/internal/crash"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// needing is an Opening that leads to more than what is open when the process is
// confined: names that are made later, volumes that are found.
type needing interface {
	// Needs adds to what the process keeps.
	Needs(r *Run, p *confine.Policy)
}

// Who may open what of others, as root alone has it.
var (
	reads  = confine.Capabilities{unix.CAP_DAC_READ_SEARCH}
	naming = confine.Capabilities{unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_LEASE}
	writes = confine.Capabilities{unix.CAP_SYS_RESOURCE} // where root is let past a quota
	gives  = confine.Capabilities{unix.CAP_CHOWN, unix.CAP_FSETID}
	labels = confine.Capabilities{unix.CAP_SETFCAP, unix.CAP_SYS_ADMIN} // attributes that only an administrator gives
	seeks  = confine.Capabilities{unix.CAP_SYS_PTRACE}
	asks   = confine.Capabilities{unix.CAP_LEASE} // of the kernel, whether others have a file open
)

// Needs of a pool by itself is to read all that is in it, and to change it where the task
// does.
func (p *Pool) Needs(_ *Run, policy *confine.Policy) {
	if !p.Changes {
		policy.Read = append(policy.Read, p.directory()...)
		policy.Capabilities = append(policy.Capabilities, reads...)
		return
	}
	policy.Write = append(policy.Write, p.directory()...)
	policy.Attributes = true
	policy.Capabilities = slices.Concat(policy.Capabilities, naming, writes, gives)
}

// directory is that of a pool which has one and is open.
func (p *Pool) directory() []*os.File {
	if d, ok := p.Opened.(backends.Directory); ok {
		return []*os.File{d.Directory()}
	}
	return nil
}

// Needs of a volume is nothing that is not open, unless it leaves its name.
func (v *Volume) Needs(_ *Run, policy *confine.Policy) {
	if v.Access != backends.ReadShared {
		policy.Capabilities = append(policy.Capabilities, writes...)
	}
	if v.Leaves {
		policy.Names = append(policy.Names, v.Pool.directory()...)
		policy.ReadPaths = append(policy.ReadPaths, attachments...)
		policy.Capabilities = append(policy.Capabilities, naming...)
	}
}

// Needs of a draft is to make it.
func (d *Draft) Needs(_ *Run, policy *confine.Policy) {
	policy.Write = append(policy.Write, d.Pool.directory()...)
	d.needs(policy)
}

// needs is what making a draft needs beside files.
func (d *Draft) needs(policy *confine.Policy) {
	policy.Attributes = true
	policy.Capabilities = slices.Concat(policy.Capabilities, naming, writes, gives)
}

// reopens reports whether a confined process can open all pools of the run anew: it may
// open directories.
func (r *Run) reopens() bool {
	return !slices.ContainsFunc(r.pools, func(p *Pool) bool { return p.directory() == nil })
}

// kernelFiles are where the kernel tells of itself, of devices and of mounts. Of other
// processes it shows a confined one nothing but what everybody may see.
var kernelFiles = []string{"/proc", "/sys/devices", "/sys/dev/block"}

// attachments are where the kernel tells what it has made disks of: before a volume
// leaves its name it is looked once more whether it is one.
var attachments = []string{"/sys/block", "/sys/kernel/config"}

// confined is the step between locking and working: the process gives up all but what
// the task needs to its end. Nothing that a virtual machine has written was read before.
func (r *Run) confined(t Task) error {
	if err := noCore(); err != nil { // memory has contents from here on
		return err
	}
	_, _ = time.Now().Zone() // of the log's times; its file cannot be read later
	policy := t.policy(r)
	own, err := openPaths(append(r.Records.paths(), crash.Directories()...))
	if err != nil {
		return fmt.Errorf("cannot confine this process: %w", err)
	}
	defer closeAll(own)
	policy.Write = append(policy.Write, own...)
	if err := errors.Join(r.sendScout(t), r.sendDeputy(t)); err != nil {
		return err
	}
	level, err := confine.Process(policy)
	if err != nil {
		return err
	}
	r.view.confined(ipc.Confined{
		Level: level.Word(), Landlock: level.Landlock, Seccomp: level.Seccomp, Capabilities: level.Capabilities, Anywhere: level.Anywhere, Lacks: level.Lacks,
	})
	return r.enough(level)
}

// noCore has the process leave no core.
func noCore() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("cannot forbid core dumps: %w", err)
	}
	return nil
}

// enough refuses to work where less was given up than is asked: the kernel may be
// another than that which the daemon asked.
func (r *Run) enough(level confine.Level) error {
	if level.AtLeast(r.least) {
		return nil
	}
	return ipc.Errorf(record.Unsupported, "the helper is confined %q (%s), and the settings ask for %q; nothing was done", level.Word(), strings.Join(level.Lacks, "; "), r.least).
		WithHint("run a kernel that has it, or set helpers.confinement in the settings")
}

// policy is what the task needs.
func (t Task) policy(r *Run) confine.Policy {
	policy := confine.Policy{ReadPaths: slices.Clone(kernelFiles), Anywhere: t.Pools}
	for _, p := range r.pools { // that they are at their places is looked at again in the end
		policy.Places = append(policy.Places, p.directory()...)
		policy.Capabilities = append(policy.Capabilities, reads...)
	}
	for _, o := range t.Opens {
		if n, ok := o.(needing); ok {
			n.Needs(r, &policy)
		}
	}
	if t.Images > 0 {
		t.opensImages(&policy)
	}
	if r.seeks(t) {
		policy.Capabilities = append(policy.Capabilities, asks...)
	}
	if t.Pools {
		policy.Attributes = true
		policy.Capabilities = slices.Concat(policy.Capabilities, naming, writes, gives, seeks)
	}
	if slices.ContainsFunc(policy.Write, isDirectory) { // a name goes nowhere where more may be done with its file than before
		policy.Write, policy.Names = append(policy.Write, policy.Names...), nil
	}
	if t.labelled() {
		policy.Capabilities = append(policy.Capabilities, labels...)
	}
	return policy
}

// opensImages adds what the programs need that open images: they open anew, by their
// descriptors, what the process has open. Each is confined further by itself.
func (t Task) opensImages(policy *confine.Policy) {
	for _, program := range imageTools {
		if path, err := program.Find(); err == nil { // without it there is an error when it is to be started
			policy.Run = append(policy.Run, path)
		}
	}
	for _, o := range t.Opens {
		v, ok := o.(*Volume)
		switch {
		case !ok, v.Volume == nil:
		case v.Access == backends.ReadShared && !v.Leaves:
			policy.Read = append(policy.Read, fileOf(v.Volume)...)
		default:
			policy.Write = append(policy.Write, fileOf(v.Volume)...)
		}
	}
}

func fileOf(s Stored) []*os.File {
	if f := diskio.FileOf(s.Content()); f != nil {
		return []*os.File{f}
	}
	return nil
}

func isDirectory(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.IsDir()
}

// labelled reports whether an attribute is to be given that only an administrator
// gives: of a pool's volumes nobody knows it yet.
func (t Task) labelled() bool {
	return t.Labels && !slices.ContainsFunc(t.Opens, func(o Opening) bool {
		v, ok := o.(*Volume)
		return ok && !diskio.Labelled(v.Volume.Content())
	})
}

// openPaths opens what is there to name it.
func openPaths(paths []string) (open []*os.File, err error) {
	for _, path := range paths {
		f, err := os.OpenFile(path, unix.O_PATH, 0)
		if err != nil {
			closeAll(open)
			return nil, err
		}
		open = append(open, f)
	}
	return open, nil
}

func closeAll[C io.Closer](all []C) {
	for _, c := range all {
		c.Close() // nothing was written
	}
}
