package virtrpc

import (
	"os/exec"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// What clients of libvirt are told to do is something that they can.
func TestAdviceIsForClientsOfLibvirt(t *testing.T) {
	option := func(name string, value ...any) record.Call { return record.Do("").With(name, value...) }
	cancel := record.Do("job.cancel", 7)
	for want, hint := range map[string]record.Hint{
		"":                         nil,
		"storagedctl job cancel 7": record.Hintf("%s, or %s", option("lock_wait", "30s"), cancel),
		"storagedctl job wait 7, or storagedctl job cancel 7": record.Hintf("%s, or %s", record.Do("job.wait", 7), cancel),
		"free some, or allocate less: --allocation 0":         record.Hintf("free some, or allocate less: %s", option("allocation", "none")),
		"free some": record.Hintf("free some, or upload it with %s, if much of it is zeros", option("detect_zeros")),
		"storagedctl pool stop p, whose volumes are lost":   record.Hintf("%s, whose volumes are lost; or %s all the same", record.Do("pool.stop", "p"), option("force")),
		"storagedctl vol clone p/v q/v --format raw copies": record.Hintf("%s copies; %s does not", record.Do("volume.clone", "p/v", "q/v").With("format", "raw"), option("linked")),
		"--delete-snapshots deletes them too":               record.Hintf("; %s deletes them too", option("with_snapshots")),
		"--format luks or --format qcow2":                   record.Hintf("%s or %s", option("format", "luks"), option("format", "qcow2")),
		"login with --auth-username NAME --secret-usage X":  record.Hintf("login with %s", option("source_username", "NAME").With("source_secret", "X")),
		"take it anew":                       record.Hintf("%s", "take it anew; --as-format raw takes the bytes as they are"),
		"to destroy that: --overwrite":       record.Hintf("%s", "to destroy that: --overwrite"),
		"wipefs --all --types TYPE /dev/sdx": record.Hintf("%s", "wipefs --all --types TYPE /dev/sdx"),
		"--shrink cuts it off":               record.Hintf("%s", "--shrink cuts it off"),
		"look at v, which is there":          record.Hintf("look at %s, which is there", "v"),
	} {
		if got := advice(hint); got != want {
			t.Errorf("%q is said as %q, want %q", hint, got, want)
		}
	}
	if got := advice(record.Hintf("%s", option("reflink", "auto"))); got != "" {
		t.Errorf("virsh has no such option: %q", got)
	}
}

func TestVirshHasTheFlagsOfAdvice(t *testing.T) {
	virsh := testenv.Tool(t, "virsh")
	var help strings.Builder
	for _, command := range []string{"vol-create-as", "vol-resize", "vol-delete", "pool-build", "pool-define-as"} {
		b, err := exec.CommandContext(t.Context(), virsh, "help", command).Output()
		if err != nil {
			t.Fatal(err)
		}
		help.Write(b)
	}
	for option, flag := range virshFlags {
		if !strings.Contains(help.String(), "--"+flag) {
			t.Errorf("virsh has no --%s for %s", flag, option)
		}
	}
}
