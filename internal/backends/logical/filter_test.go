package logical

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"storaged/internal/backends"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

func TestPartitionsOfVolumesAreLeftOut(t *testing.T) {
	sysfs := t.TempDir()
	for name, uuid := range map[string]string{
		"dm-0": "LVM-abc", "dm-1": "part1-LVM-abc", "dm-2": "part2-mpath-abc", "dm-3": "CRYPT-LUKS2-abc-x",
	} {
		dir := filepath.Join(sysfs, name, "dm")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "uuid"), []byte(uuid+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if is := partitions(sysfs); len(is) != 1 || is[0] != "dm-1" {
		t.Errorf("%q", is)
	}
	for filter, want := range map[string]string{
		"filter=[]\n":                    `filter=["r|^/dev/dm-1$|"]`,
		`filter="a|.*|"`:                 `filter=["r|^/dev/dm-1$|","a|.*|"]`,
		`filter=["a|^/dev/sd|","r|.*|"]`: `filter=["r|^/dev/dm-1$|","a|^/dev/sd|","r|.*|"]`,
	} {
		if is := rejecting([]string{"dm-1"}, filter); is != want {
			t.Errorf("%s becomes %s, not %s", filter, is, want)
		}
	}
}

// counting has the runs of LVM counted, from now on.
func counting(t *testing.T) (runs func() int) {
	dir := t.TempDir()
	log, program := filepath.Join(dir, "log"), "/usr/sbin/lvm"
	run(t, "cp", program, filepath.Join(dir, "lvm"))
	script := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s\nexec %s/lvm \"$@\"\n", log, dir)
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "--bind", filepath.Join(dir, "script"), program)
	t.Cleanup(func() { run(t, "umount", program) })
	return func() int {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%.2000s", b)
		return strings.Count(string(b), "\n")
	}
}

// many are enough volumes to see that: udev takes its time for each, on an emulated machine.
const many = 60

// A pool is read by one run of LVM, however many volumes it has, and whatever lies in them: a
// group in a volume, or in a partition of one that somebody has mapped, is nobody's but the
// virtual machine's.
func TestManyVolumesAndGroupsInThem(t *testing.T) {
	testenv.VM(t)
	b, p := newPool(t)
	if err := b.(backends.Builder).Build(t.Context(), p, false); err != nil {
		t.Fatal(err)
	}
	group, ctx := p.Source.Name, t.Context()
	run(t, "lvm", "lvcreate", "--yes", "--name", "inner", "--size", "64m", group)
	path := "/dev/" + group + "/inner"
	run(t, "parted", "--script", path, "mklabel", "gpt", "mkpart", "a", "1MiB", "60MiB")
	run(t, "kpartx", "-a", "-s", path)
	partition := "/dev/mapper/" + escaped(group) + "-inner1"
	run(t, "lvm", "vgcreate", "inside", partition)
	run(t, "lvm", "lvcreate", "--yes", "--name", "v", "--size", "8m", "inside")
	run(t, "lvm", "vgchange", "--activate", "n", "inside")
	t.Cleanup(func() { _ = exec.Command("kpartx", "-d", path).Run() }) // it has gone where all went well

	found, err := b.(backends.SourceFinder).FindSources(ctx, record.Source{})
	if err != nil || len(found) != 1 || found[0].Name != group {
		t.Errorf("groups are %+v, %v", found, err)
	}
	inside := p
	inside.Source.Name, inside.Target = "inside", "/dev/inside"
	if err := b.Start(ctx, inside); err == nil {
		t.Error("the group in a partition of a volume is activated")
	}
	if err := b.Start(ctx, p); err != nil {
		t.Error(err)
	}
	if out := run(t, "dmsetup", "ls"); strings.Contains(out, "inside") {
		t.Errorf("it is active:\n%s", out)
	}
	run(t, "kpartx", "-d", path)
	multiplied(t, group, many)
	runs := counting(t)
	begun, n := time.Now(), 0
	if _, err := b.Refresh(ctx, p, func(v backends.VolumeInfo) error {
		if n++; v.Ignored != "" {
			t.Errorf("%s: %s", v.Name, v.Ignored)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	if count := runs(); n != many || count != 1 {
		t.Errorf("%d volumes are found by %d runs of LVM", n, count)
	}
	t.Logf("%d volumes are read in %v", n, took)
}

// multiplied gives a group with one volume so many, active, at one go: one by one they would
// take minutes.
func multiplied(t *testing.T, group string, n int) {
	run(t, "lvm", "lvremove", "--yes", group+"/inner")
	run(t, "lvm", "lvcreate", "--yes", "--name", "v0", "--extents", "1", group)
	file := filepath.Join(t.TempDir(), "metadata")
	run(t, "lvm", "vgcfgbackup", "--file", file, group)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(b), "\t\tv0 {")
	one, after, ok := strings.Cut(rest, "\n\t\t}\n")
	if !ok {
		t.Fatalf("the metadata are\n%s", b)
	}
	id, _, _ := strings.Cut(strings.SplitN(one, `id = "`, 2)[1], `"`)
	all := before
	for i := range n {
		as := strings.NewReplacer(id, fmt.Sprintf("%s%03d", id[:len(id)-3], i), `"pv0", 0`, fmt.Sprintf(`"pv0", %d`, i)).Replace(one)
		all += fmt.Sprintf("\t\tv%d {%s\n\t\t}\n", i, as)
	}
	if err := os.WriteFile(file, []byte(all+after), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "lvm", "vgchange", "--activate", "n", group)
	run(t, "lvm", "vgcfgrestore", "--file", file, group)
	run(t, "lvm", "vgchange", "--activate", "y", group)
}
