package virtrpc_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"storaged/internal/testenv"
)

// disks gives each side two of the machine's disks, which carry nothing: $L and $M in
// scripts.
func disks(t *testing.T, sides ...*side) {
	t.Helper()
	for i, s := range sides {
		for n, word := range []string{"$L", "$M"} {
			s.has(word, blankDisk(t, 2*i+n+1))
		}
	}
}

// blankDisk is one of the machine's disks, without what another test has left there.
func blankDisk(t *testing.T, number int) string {
	t.Helper()
	disk := testenv.Disk(t, number)
	for _, command := range [][]string{{"wipefs", "--all", "--force", "--quiet", disk}, {"blockdev", "--rereadpt", disk}} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", command, err, out)
		}
	}
	return disk
}

// has gives a word for a disk, and the same one in small letters for what the names of its
// partitions begin with.
func (s *side) has(word, disk string) {
	name := filepath.Base(disk)
	if last := name[len(name)-1]; '0' <= last && last <= '9' {
		name += "p"
	}
	s.words = append(s.words, strings.ToLower(word), name, word, disk)
}

// The same for pools on volume groups.
func TestVirshIsAnsweredAsByLibvirtAboutLogicalPools(t *testing.T) {
	testenv.VM(t)
	libvirt, we := bothSides(t)
	disks(t, &libvirt, &we)
	for i, s := range []*side{&libvirt, &we} {
		s.words = append(s.words, "$V", fmt.Sprint("group", i))
		s.foreign = regexp.MustCompile(`(?s)<source>\s*<device path='[^']*'/>\s*<name>` + fmt.Sprint("group", 1-i) + `</name>.*?</source>`)
	}
	comparison{script: "testdata/logical.txtar", list: "testdata/logical.txt", least: 70, exact: true}.run(t, libvirt, we)
}

// The same for pools on partition tables.
func TestVirshIsAnsweredAsByLibvirtAboutDiskPools(t *testing.T) {
	testenv.VM(t)
	libvirt, we := bothSides(t)
	disks(t, &libvirt, &we)
	comparison{script: "testdata/disk.txtar", list: "testdata/disk.txt", least: 70, exact: true}.run(t, libvirt, we)
}

// The same for pools on a file system of a disk, on a server of NFS and on an iSCSI target.
func TestVirshIsAnsweredAsByLibvirtAboutMountsAndTargets(t *testing.T) {
	testenv.VM(t)
	libvirt, we := bothSides(t)
	export, target := testenv.NFS(t, 1), testenv.NewTarget(t, "virsh", 8<<20, 8<<20)
	for i, s := range []*side{&libvirt, &we} {
		s.words = append(s.words, "$L", blankDisk(t, 3+i), "$E", export, "$T", target.Name)
	}
	comparison{script: "testdata/mounts.txtar", list: "testdata/mounts.txt", least: 70, inTurn: true}.run(t, libvirt, we)
}
