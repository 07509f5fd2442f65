package packaging_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// The virtual machine's own first process is systemd, with all controllers of cgroup v2,
// which a container has not: the service's limits are real there.
func TestServiceOfARealSystem(t *testing.T) {
	testenv.VM(t)
	s := &unit{machine: &machine{t: t, leader: "1"}}
	s.follow(t, []step{
		{"install", (*unit).install},
		{"start by socket", (*unit).startBySocket},
		{"cgroups", (*unit).cgroups},
		{"restart", (*unit).restart},
		{"killed", (*unit).mainKilled},
		{"reload", (*unit).reload},
		{"upgrade", (*unit).upgrade},
		{"stop", (*unit).stop},
		{"end", (*unit).finish},
		{"limit of writing", (*unit).limitOfWriting},
		{"limit of memory", (*unit).limitOfMemory},
		{"remove and purge", (*unit).remove},
	})
}

// finish has the clone come to its end.
func (s *unit) finish() {
	s.run("storagedctl", "job", "limit", s.job, "none")
	s.run("storagedctl", "job", "wait", s.job)
	s.run("cmp", "/srv/pool/base.raw", "/srv/pool/copy.raw")
	s.run("journalctl", "--sync")
	if got := s.run("journalctl", "--unit=storaged", "--output=cat", "JOB="+s.job, "KIND=volume.clone", "OUTCOME=succeeded"); !strings.Contains(got, "job ended: job="+s.job) {
		s.t.Errorf("of the clone the journal has %q", got)
	}
}

// limitOfWriting: what the service may write in a second is what its helpers may, though
// no controller is enabled for them.
func (s *unit) limitOfWriting() {
	const limit, bytes = 2 << 20, 16 << 20
	root := s.run("findmnt", "--noheadings", "--output=SOURCE", "--target", "/srv/pool")
	s.run("systemctl", "set-property", "--runtime", "storaged.service", fmt.Sprintf("IOWriteBandwidthMax=%s %d", root, limit))
	s.run("storagedctl", "vol", "create", "images/small.raw", strconv.Itoa(bytes), "--allocation", "none")
	s.sh(`dd if=/dev/urandom of=/srv/pool/small.raw bs=1M count=16 conv=notrunc,fsync status=none`)
	begun := time.Now()
	s.run("storagedctl", "vol", "clone", "images/small.raw", "images/slow.raw", "--reflink", "never")
	if took := time.Since(begun); took < bytes/limit*time.Second*3/4 {
		s.t.Errorf("%d bytes were written in %v", bytes, took)
	}
	s.run("systemctl", "set-property", "--runtime", "storaged.service", fmt.Sprintf("IOWriteBandwidthMax=%s infinity", root))
}

// limitOfMemory: a helper that the kernel kills for want of memory is that job's trouble
// alone, and a retry does its work when there is memory. There are many helpers: of a
// service that may have much more than the daemon needs, the daemon is not the one to go.
func (s *unit) limitOfMemory() {
	const helpers = 8 // nine may run since the settings were read again
	s.sh(`sed -i 's/^#running_device .*/running_device = 16/' /etc/storaged/storaged.toml && systemctl reload storaged`)
	main := s.property("MainPID")
	var jobs []string
	for i := range helpers {
		jobs = append(jobs, s.run("storagedctl", "vol", "clone", "images/base.raw", fmt.Sprintf("images/large%d.raw", i), "--reflink", "never", "--limit", "256K", "--detach"))
	}
	for _, job := range jobs {
		s.until("the clones have begun", func() bool { return s.number(job).Progress.Done > 0 })
	}
	cgroup := "/sys/fs/cgroup" + s.property("ControlGroup")
	need := s.count(`awk '$1 == "anon" || $1 == "kernel" {n += $2} END {printf "%d", n}' ` + cgroup + "/memory.stat")
	own := s.count(fmt.Sprintf(`awk '$1 == "RssAnon:" {print $2 * 1024}' /proc/%d/status`, s.number(jobs[0]).Helper.PID))
	s.run("systemctl", "set-property", "--runtime", "storaged.service", fmt.Sprintf("MemoryMax=%d", need-own/2))
	killed := ""
	s.until("a helper is killed for want of memory", func() bool {
		i := slices.IndexFunc(jobs, func(job string) bool { return s.number(job).State.Terminal() })
		if i >= 0 {
			killed = jobs[i]
		}
		return i >= 0
	})
	s.run("systemctl", "set-property", "--runtime", "storaged.service", "MemoryMax=infinity")
	if j := s.number(killed); j.Code() != record.Killed {
		s.t.Errorf("the clone has failed with %v", j.Error)
	}
	if n := s.count(`sed -n 's/^oom_kill //p' ` + cgroup + "/memory.events"); n == 0 || s.property("MainPID") != main {
		s.t.Errorf("%d processes were killed, the daemon was %s and is %s", n, main, s.property("MainPID"))
	}
	for _, job := range jobs {
		s.run("sh", "-c", "storagedctl job cancel "+job+" || true") // it may have been killed too
	}
	s.run("storagedctl", "job", "retry", killed, "--limit", "none")
	s.run("cmp", "/srv/pool/base.raw", fmt.Sprintf("/srv/pool/large%d.raw", slices.Index(jobs, killed)))
}

// count runs a script that prints a number.
func (s *unit) count(script string) int {
	s.t.Helper()
	n, err := strconv.Atoi(s.sh(script))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// number gives a job as it is now.
func (s *unit) number(job string) (j record.Job) {
	s.t.Helper()
	s.ask(&j, "job", "show", job)
	return j
}
