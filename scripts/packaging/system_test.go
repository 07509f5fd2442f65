package packaging_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

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
		{"remove and purge", (*unit).remove},
	})
}

// finish has the clone come to its end.
func (s *unit) finish() {
	s.run("storagedctl", "job", "limit", s.job, "none")
	s.run("storagedctl", "job", "wait", s.job)
	s.run("cmp", "/srv/pool/base.raw", "/srv/pool/copy.raw")
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
