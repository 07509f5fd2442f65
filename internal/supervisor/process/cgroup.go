package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Cgroups is the directory under which each job gets a cgroup of its own. No
// controller is enabled in it: kill and freeze need none, and a service whose
// helpers sit below enabled controllers cannot be started again (EBUSY).
type Cgroups struct{ dir string }

// Names below the cgroup that is ours.
const (
	jobsCgroup = "jobs"   // one for each job
	ownLeaf    = "daemon" // ourselves, where the cgroup was delegated to us
)

// FindCgroups makes one for jobs below our own cgroup. Where that is not
// cgroup v2, or not ours to change, the Cgroups are empty and jobs do without.
// A cgroup that the service manager has delegated to us becomes an inner node,
// so we leave it for a leaf of our own.
func FindCgroups() Cgroups {
	own, err := ownCgroup()
	if err != nil {
		return Cgroups{}
	}
	if filepath.Base(own) == ownLeaf && delegated(filepath.Dir(own)) {
		own = filepath.Dir(own) // we are there already
	} else if delegated(own) && enterLeaf(filepath.Join(own, ownLeaf)) != nil {
		return Cgroups{}
	}
	dir := filepath.Join(own, jobsCgroup)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return Cgroups{}
	}
	if unix.Access(dir, unix.W_OK) != nil {
		return Cgroups{}
	}
	return Cgroups{dir}
}

// delegated reports whether the service manager has given the tree below a
// cgroup to the service in it (systemd.resource-control(5), Delegate=). It
// marks the directory: trusted.delegate for root, user.delegate, from systemd
// 251 on, for everybody.
func delegated(dir string) bool {
	mark := make([]byte, 8)
	for _, name := range []string{"trusted.delegate", "user.delegate"} {
		if n, err := unix.Getxattr(dir, name, mark); err == nil && string(mark[:n]) == "1" {
			return true
		}
	}
	return false
}

// enterLeaf moves this process, with all its threads, into a cgroup below.
func enterLeaf(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}

// ownCgroup gives the directory of our cgroup v2.
func ownCgroup() (string, error) {
	mount, err := cgroup2Mount()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(mount, path), nil
		}
	}
	return "", errors.New("we are in no cgroup v2")
}

// cgroup2Mount finds where cgroup v2 is mounted: at /sys/fs/cgroup, or beside
// version 1 at /sys/fs/cgroup/unified.
func cgroup2Mount() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", errors.New("no cgroup v2 is mounted")
}

// Make makes a cgroup for one helper of a job and gives its path and its open
// directory, "" and nil where jobs do without. It is always a new one: into a
// cgroup that was once killed, Linux 6.18 starts no process that it does not
// kill at once (clone3 compares the kill count of the parent's cgroup).
func (c Cgroups) Make(job string) (path string, dir *os.File, err error) {
	if c.dir == "" {
		return "", nil, nil
	}
	for n := 0; ; n++ {
		path = c.path(job, n)
		os.Remove(path) // an earlier helper's; if it is not empty yet, the next name is taken
		if err = c.mkdir(path); !errors.Is(err, os.ErrExist) {
			break
		}
	}
	if err == nil {
		dir, err = os.Open(path)
	}
	if err != nil {
		return "", nil, fmt.Errorf("cannot make cgroup: %w", err)
	}
	return path, dir, nil
}

// mkdir makes a cgroup for a job, and makes the directory of all anew where another daemon in
// our cgroup has removed it, empty, when it ended.
func (c Cgroups) mkdir(path string) error {
	for {
		err := os.Mkdir(path, 0o755)
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Mkdir(c.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
}

func (c Cgroups) path(job string, n int) string {
	if n > 0 {
		job = fmt.Sprintf("%s.%d", job, n)
	}
	return filepath.Join(c.dir, job)
}

// Find gives the newest cgroup of a job, "" when there is none.
func (c Cgroups) Find(job string) (path string) {
	for n := 0; c.dir != ""; n++ {
		if _, err := os.Stat(c.path(job, n)); err != nil {
			break
		}
		path = c.path(job, n)
	}
	return path
}

// Close removes the directory when no job is in it.
func (c Cgroups) Close() {
	if c.dir != "" {
		os.Remove(c.dir) // fails while a helper lives in it, as it should
	}
}

// RemoveCgroup removes a job's cgroup once its processes have ended. The
// kernel may need a moment to see that it is empty; what cannot be removed now
// is swept at the next start.
func RemoveCgroup(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove cgroup: %w", err)
	}
	return nil
}
