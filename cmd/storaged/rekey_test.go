package main_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// rekey changes the keys of a volume, which are made fast.
func (h *host) rekey(volume string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(volume), new(operation.RekeyRequest), append(options, field("iter_time", 10))...)
}

func newSecret(name string) option  { return field("secret", name) }
func alsoSecret(name string) option { return field("add", name) }
func noSecret(name string) option   { return field("remove", name) }

// unlocks holds against cryptsetup whether a value opens a volume.
func (h *host) unlocks(volume, value string, want bool) {
	h.t.Helper()
	cmd := exec.Command(testenv.Tool(h.t, "cryptsetup"), "open", "--test-passphrase", "--key-file", "-", h.path(volume))
	cmd.Stdin = strings.NewReader(value)
	if out, err := cmd.CombinedOutput(); (err == nil) != want {
		h.t.Errorf("%q opens %s: %v %s", value, volume, err, out)
	}
}

// locked puts an encrypted volume into the pool, which a secret opens.
func (h *host) locked(volume, secret, value string) {
	h.t.Helper()
	testenv.LUKS(h.t, h.path(volume), value)
	h.succeed(h.refreshPool("pool"))
	h.setSecret(secret, value)
	h.must(h.opens(volume, secret))
}

// canary is a value that must be seen nowhere. It says whose it is.
func canary(name string) string { return "canary-" + name + "-e52fb0f7c1b04c6ea2d9" }

// hunt looks for secrets in the arguments and the environment of every process of our
// jobs until it is stopped, and gives how many it has looked at.
func (h *host) hunt(values ...string) (stop func() (seen int)) {
	ctx, cancel := context.WithCancel(context.Background())
	var hunter sync.WaitGroup
	looked := map[string]bool{}
	hunter.Go(func() {
		for ctx.Err() == nil {
			for _, pid := range h.processes() {
				dir := fmt.Sprintf("/proc/%d", pid)
				limits, err := os.ReadFile(dir + "/limits")
				comm, _ := os.ReadFile(dir + "/comm")
				if err != nil {
					continue // it has ended
				}
				for _, name := range []string{"cmdline", "environ"} {
					b, _ := os.ReadFile(dir + "/" + name)
					h.clean(dir+"/"+name, b, values)
				}
				if strings.Contains(string(comm), "qemu") && !coreless(string(limits)) {
					h.t.Errorf("process %d (%s) may leave a core", pid, bytes.TrimSpace(comm))
				}
				looked[dir] = true
			}
		}
	})
	return func() int {
		cancel()
		hunter.Wait()
		return len(looked)
	}
}

// coreless reports whether limits of a process forbid cores.
func coreless(limits string) bool {
	for line := range strings.Lines(limits) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			return strings.HasPrefix(strings.TrimSpace(rest), "0 ")
		}
	}
	return false
}

// clean fails if secrets are in something, as they are or in base64.
func (h *host) clean(where string, b []byte, values []string) {
	h.t.Helper()
	for _, v := range values {
		if bytes.Contains(b, []byte(v)) || bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString([]byte(v)))) {
			h.t.Errorf("a secret is in %s", where)
		}
	}
}

// nowhere fails if secrets are in any file of the daemon but their own, or in a job.
func (h *host) nowhere(values ...string) {
	h.t.Helper()
	h.must(filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.Contains(path, "/state/secrets/") || strings.HasPrefix(path, h.pool+"/") {
			return err
		}
		b, err := os.ReadFile(path)
		h.clean(path, b, values)
		return err
	}))
}

func TestKeysOfAVolumeAreChanged(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first, second, third := canary("first"), canary("second"), canary("third")
	h.locked("disk", "first", first)
	h.setSecret("second", second)
	h.setSecret("third", third)
	stop := h.hunt(first, second, third)
	j := h.succeed(h.rekey("disk", newSecret("second")))
	var phases []string
	for _, p := range j.Stats.Phases {
		phases = append(phases, p.Name)
	}
	if got := strings.Join(phases, " "); got != "add try remove" {
		t.Errorf("its phases were %q", got)
	}
	h.unlocks("disk", first, false)
	h.unlocks("disk", second, true)
	h.is("disk", record.Volume{Secret: "second", State: record.VolumeReady})
	h.succeed(h.rekey("disk", alsoSecret("third")))
	h.unlocks("disk", third, true)
	h.is("disk", record.Volume{Secret: "second"})
	h.refused(h.client.DeleteSecret(h.ctx(), contract.Submit{}, "second"), record.Busy)
	h.succeed(h.rekey("disk", noSecret("third")))
	h.unlocks("disk", third, false)
	h.unlocks("disk", second, true)
	if seen := stop(); seen < 3 {
		t.Errorf("only %d processes were looked at", seen)
	}
	h.nowhere(first, second, third)
}

func TestKeysThatCannotBeChanged(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.locked("disk", "first", canary("first"))
	h.setSecret("same", canary("first"))
	h.setSecret("other", canary("other"))
	same := h.end(h.rekey("disk", newSecret("same")))
	h.fails(same, record.Invalid, "is the same")
	if got := same.Error.Hint.String(); got != "--opened-by same has the volume be opened by that name" {
		t.Errorf("the hint is %q", got)
	}
	h.fails(h.end(h.rekey("disk", noSecret("other"))), record.NotFound, "opens nothing")
	_, err := h.client.SetSecret(h.ctx(), contract.Submit{}, "binary", []byte("k\x00ey")) // QEMU would not take it
	if record.CodeOf(err) != record.Unsupported || !strings.Contains(err.Error(), "is no text") {
		t.Errorf("a key of bytes: %v", err)
	}
	_, err = h.rekey("disk", newSecret("none"))
	if h.refused(err, record.NotFound); err == nil || !strings.HasPrefix(err.Error(), `there is no secret "none"`) {
		t.Errorf("a secret that is not there: %v", err)
	}
	h.refuses(record.Invalid, "is what opens")(h.rekey("disk", noSecret("first")))
	wrong := h.end(h.rekey("disk", field("opened_by", "other")))
	h.fails(wrong, record.Denied, "does not open it")
	if got := wrong.Error.Hint.String(); strings.Contains(got, "opened-by") || !strings.Contains(got, "secret list") {
		t.Errorf("the hint is %q", got)
	}
	h.must(h.opens("disk", "other"))
	h.setSecret("more", canary("more"))
	h.fails(h.end(h.rekey("disk", newSecret("more"))), record.Denied, "does not open it")
	h.unlocks("disk", canary("more"), false)
	h.unlocks("disk", canary("first"), true)
	h.sparse("raw", mib)
	h.refuses(record.Unsupported, "no keys")(h.rekey("raw", newSecret("first")))
	h.nowhere(canary("first"), canary("other"))
}

// A helper that is killed leaves a volume that the secret opens which the catalog names.
func TestKilledRekeyLeavesAVolumeThatOpens(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	values := map[string]string{"first": canary("first"), "second": canary("second")}
	h.locked("disk", "first", values["first"])
	h.setSecret("second", values["second"])
	for i := range 4 {
		now := h.entry("disk").Secret
		next := map[string]string{"first": "second", "second": "first"}[now]
		st := h.began(h.rekey("disk", newSecret(next)))
		tick, killed := newTick(t), false
		for n := 0; !killed; n++ { // later each time
			j := h.job(st)
			if killed = j.State.Terminal(); !killed && n >= 20*i && j.Helper != nil {
				for _, pid := range h.processes() {
					_ = syscall.Kill(pid, syscall.SIGKILL) // or it has ended
				}
				killed = true
			}
			<-tick
		}
		h.end(st, nil)
		v := h.is("disk", record.Volume{State: record.VolumeReady})
		h.unlocks("disk", values[v.Secret], true)
	}
}

func encryptedBy(name string) option { return field("secret", name) }

// An encrypted volume is made, and what is done with its content opens it by its secret.
func TestEncryptedVolumeIsOpenedByItsSecret(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	value := canary("disks")
	h.runs(0, "luks:iter_time", "capabilities", "--columns", "options")
	h.refuses(record.NotFound, "no secret")(h.create("disk", mib, format("luks"), encryptedBy("disks")))
	h.setSecret("disks", value)
	h.refuses(record.Invalid, "needs a secret")(h.create("disk", mib, format("luks")))
	h.refuses(record.Invalid, "not encrypted")(h.create("disk", mib, encryptedBy("disks")))
	stop := h.hunt(value)
	first, held := h.given("first", mib)
	h.succeed(h.hand("disk", first, creating(format("luks"), encryptedBy("disks"), fast), length(mib)))
	if got := h.succeed(h.verify("disk", asRaw, checksum("sha256"))).Result.Checksum; got != sumOf(held) {
		t.Errorf("it was made with %s", got)
	}
	h.unlocks("disk", value, true)
	h.is("disk", record.Volume{Secret: "disks", Format: "luks", Capacity: mib, State: record.VolumeReady})
	h.refused(h.client.DeleteSecret(h.ctx(), contract.Submit{}, "disks"), record.Busy)
	content, _ := h.given("content", mib)
	want := hashOf(t, content.Name())
	h.succeed(h.hand("disk", content, field("as", "raw")))
	j := h.succeed(h.verify("disk", field("as", "raw"), checksum("sha256")))
	if j.Result.Checksum != "sha256:"+want {
		t.Errorf("its content is %s, not what was written", j.Result.Checksum)
	}
	h.succeed(h.clone("disk", "plain", format("raw")))
	h.hasHash("plain", want)
	stop()
	h.setSecret("wrong", canary("wrong"))
	h.must(h.opens("disk", "wrong"))
	h.fails(h.end(h.verify("disk", field("as", "raw"))), record.Denied, "does not open it")
	h.must(h.opens("disk", ""))
	h.fails(h.end(h.verify("disk", field("as", "raw"))), record.Invalid, "no secret was given")
	h.nowhere(value, canary("wrong"))
}
