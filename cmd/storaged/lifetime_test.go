package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// configured makes a host whose daemon reads a config file, with text in it.
func configured(t *testing.T, text string) *host {
	t.Helper()
	h := unbegun(t)
	h.config = filepath.Join(h.dir, "storaged.toml")
	h.configure(text)
	h.begin()
	return h
}

func (h *host) configure(text string) {
	h.t.Helper()
	h.must(os.WriteFile(h.config, []byte(text), 0o600))
}

func (h *host) signal(sig syscall.Signal) {
	h.t.Helper()
	h.must(h.daemon.Process.Signal(sig))
}

// reload asks the daemon to read its settings again, and waits for what it says
// of that.
func (h *host) reload(says string) {
	h.t.Helper()
	h.signal(syscall.SIGHUP)
	h.manager.await(h.t, "RELOADING=1\nMONOTONIC_USEC=")
	if got := h.manager.await(h.t, "READY=1"); !strings.Contains(got, says) {
		h.t.Errorf("it says %q, not %q", got, says)
	}
}

func (h *host) status() contract.Status {
	h.t.Helper()
	st := must(h.client.Status(h.ctx()))(h.t)
	return st
}

func TestReload(t *testing.T) {
	t.Parallel()
	h := configured(t, "[limits]\nrunning = 7\n")
	if _, err := h.client.PatchLimits(h.ctx(), contract.LimitsPatch{Queued: new(55)}); err != nil {
		t.Fatal(err)
	}
	h.configure("log_format = \"json\"\n[limits]\nrunning = 9\nqueued = 99\n[history]\ndays = 3\n[stop]\ndrain = \"1m\"\n")
	h.reload("settings read again")
	st := h.status()
	if st.Limits.Running != 9 || st.Limits.Queued != 55 {
		t.Errorf("the limits are %s: those of the file, under those set by call", shown(st.Limits))
	}
	if !slices.ContainsFunc(st.Warnings, func(w string) bool { return strings.HasPrefix(w, `log_format stays "text"`) }) {
		t.Errorf("nobody says that the form of the log stays as it is: %q", st.Warnings)
	}
	if _, err := h.client.PatchLimits(h.ctx(), contract.LimitsPatch{Queued: new(56)}); err != nil || h.status().Limits.Running != 9 {
		t.Errorf("a later change forgets the file: %s (%v)", shown(h.status().Limits), err)
	}
}

func TestReloadOfWhatIsWrongChangesNothing(t *testing.T) {
	t.Parallel()
	h := configured(t, "[limits]\nrunning = 7\n")
	for text, says := range map[string]string{
		"[limits]\nrunning = 0\n":                       "limits.running must be at least 1",
		"[limits]\nruning = 8\n":                        "limits.runing",
		"log_format = \"loud\"\n[limits]\nrunning = 8":  "log format is",
		"[stop]\ndrain = \"soon\"\n[limits]\nrunning=8": "drain",
	} {
		h.configure(text)
		h.reload("settings not read again")
		if !strings.Contains(h.log(), says) {
			t.Errorf("%q: the log does not say %q:\n%s", text, says, h.log())
		}
		if st := h.status(); st.Limits.Running != 7 {
			t.Errorf("%q: the limits are %s", text, shown(st.Limits))
		}
	}
}

// What would be found out only when it is needed, or would hold for who starts the daemon
// only, is wrong already.
func TestCheckOfWhatSettingsName(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.config = filepath.Join(h.dir, "faulty.toml")
	h.configure(`group = "nogroupx"
state_dir = "rel"
socket_ro = "ro.sock"
[stop]
drain = "10"
[[notify]]
name = "gone"
program = ["/nonexistent"]
`)
	out, code := h.checkSettings()
	wants := []string{
		`:2: state_dir is an absolute path, not "rel"`, `:3: socket_ro is an absolute path, not "ro.sock"`,
		`:5: stop.drain: bad duration "10": write numbers with units`,
		"storaged: warning: " + h.config + `:6: receiver "gone" of notices: program cannot be run: stat /nonexistent: no such file`,
	}
	if os.Geteuid() == 0 {
		wants = append(wants, `:1: group is "nogroupx", and this host has no such group`, "storaged: hint: getent group lists")
	}
	for _, want := range wants {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if code != record.ExitUsage {
		t.Errorf("it ends with %d:\n%s", code, out)
	}
}

// What the daemon starts without is warned of, and keeps no reload from other settings.
func TestCheckWarnsOfWhatIsOnlyNeededLater(t *testing.T) {
	t.Parallel()
	h := configured(t, "[limits]\nrunning = 7\n")
	plain := filepath.Join(h.dir, "plain")
	h.must(os.WriteFile(plain, nil, 0o644))
	h.configure(`[limits]
running = 8
[[notify]]
name = "gone"
program = ["/nonexistent"]
[[notify]]
name = "plain"
program = ["` + plain + `"]
[[notify]]
name = "web"
url_file = "/nonexistent"
`)
	out, code := h.checkSettings()
	warning := "storaged: warning: " + h.config
	for _, want := range []string{
		warning + `:3: receiver "gone" of notices: program cannot be run: stat /nonexistent: no such file`,
		warning + `:6: receiver "plain" of notices: program cannot be run: "` + plain + `" is no file that may be executed`,
		warning + `:9: receiver "web" of notices: url_file cannot be read: stat /nonexistent: no such file`,
		"the settings are right: " + h.config + "\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if code != 0 {
		t.Errorf("it ends with %d:\n%s", code, out)
	}
	h.reload("settings read again")
	if st := h.status(); st.Limits.Running != 8 {
		t.Errorf("the limits are %s", shown(st.Limits))
	}
}

// checkSettings gives what the check of the config file says, and the exit code.
func (h *host) checkSettings(flags ...string) (out string, code int) {
	h.t.Helper()
	cmd := exec.CommandContext(h.ctx(), filepath.Join(bin, "storaged"), append([]string{"--check-config", "--config", h.config}, flags...)...)
	cmd.Env = append(cmd.Environ(), "GORACE=atexit_sleep_ms=0")
	text, _ := cmd.CombinedOutput()
	return string(text), cmd.ProcessState.ExitCode()
}

// The settings are checked as the daemon reads them, and all that is wrong is said, each where
// it stands; what the daemon that runs does with the same files is the same.
func TestCheckOfTheSettings(t *testing.T) {
	t.Parallel()
	h := configured(t, "[limits]\nrunning = 7\n")
	check := func(code int, says ...string) {
		t.Helper()
		out, got := h.checkSettings("--state-dir", filepath.Join(h.dir, "nowhere"))
		if got != code {
			t.Errorf("it ends with %d, not %d:\n%s", got, code, out)
		}
		rest := out
		for _, s := range says {
			_, after, ok := strings.Cut(rest, s)
			if !ok {
				t.Errorf("it does not say %q in its turn:\n%s", s, out)
			}
			rest = after
		}
	}
	check(0, "the settings are right: "+h.config+"\n")
	more := h.config + ".d"
	h.must(os.Mkdir(more, 0o755))
	h.must(os.WriteFile(filepath.Join(more, "10-limits.toml"), []byte("[limits]\nqueued = 99\n"), 0o600))
	check(0, "the settings are right: "+h.config+", "+more+"/10-limits.toml\n")
	h.reload("settings read again")
	if st := h.status(); st.Limits.Running != 7 || st.Limits.Queued != 99 {
		t.Errorf("the limits are %s", shown(st.Limits))
	}
	if log := h.log(); !strings.Contains(log, `changed="limits.queued 10000 -> 99"`) || !strings.Contains(log, "10-limits.toml") {
		t.Errorf("the log does not say what has changed:\n%s", log)
	}
	h.configure("log_level = 3\n[limits]\nruning = 8\n")
	h.must(os.WriteFile(filepath.Join(more, "20-history.toml"), []byte("\n[history]\ndays = 0\n"), 0o600))
	check(record.ExitUsage,
		"storaged: error: "+h.config+":1: log_level: it is a text in quotes, and not a whole number\n",
		"storaged: error: "+h.config+`:3: unknown key "limits.runing"`, "storaged: hint: the keys here are running, running_pool",
		"storaged: error: "+more+"/20-history.toml:3: history.days must be at least 1, not 0\n",
		"storaged: error: 3 things are wrong with the settings\n")
	h.reload("settings not read again: " + h.config + ":1: log_level: it is a text in quotes, and not a whole number (and 2 more)")
	for _, says := range []string{":1: log_level: it is", "limits.runing", "history.days must be at least 1"} {
		if !strings.Contains(h.log(), says) {
			t.Errorf("the log does not say %q:\n%s", says, h.log())
		}
	}
	if st := h.status(); st.Limits.Queued != 99 {
		t.Errorf("the limits are %s", shown(st.Limits))
	}
	if _, err := os.Stat(filepath.Join(h.dir, "nowhere")); err == nil {
		t.Error("the check has made the daemon's directories")
	}
}

// The daemon tells the service manager's watchdog that it lives, and how it is.
func TestWatchdogAndStatusText(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.stop()
	h.env = []string{"WATCHDOG_USEC=600000"} // nobody ends it here
	h.start()
	h.manager.await(t, "STATUS=0 jobs running, 0 waiting")
	h.manager.await(t, "WATCHDOG=1")
	h.manager.await(t, "WATCHDOG=1")
	h.random("base", 32*mib)
	st := h.cloning("base", "copy", 16*mib)
	h.manager.await(t, "STATUS=1 jobs running, 0 waiting")
	h.unlimited(st)
}

// cloning starts a clone at a rate and waits until it runs.
func (h *host) cloning(from, to string, rate int64) started {
	h.t.Helper()
	st := h.began(h.clone(from, to, noReflink, limited(rate)))
	h.running(st)
	return st
}

func TestStopDrainsWhereThatIsSet(t *testing.T) {
	t.Parallel()
	h := configured(t, "[stop]\ndrain = \"10m\"\n")
	want := h.random("base", 32*mib)
	st := h.cloning("base", "copy", mib)
	h.signal(syscall.SIGTERM)
	h.manager.await(t, "STOPPING=1")
	h.manager.await(t, "EXTEND_TIMEOUT_USEC=")
	if got := h.status(); got.State != "draining" {
		t.Errorf("state is %s", got.State)
	}
	h.refuses(record.Draining)(h.create("late", mib))
	h.unlimit(st)
	if err := h.daemon.Wait(); err != nil {
		t.Errorf("daemon: %v\n%s", err, h.log())
	}
	h.start()
	if j := h.job(st); j.State != record.Succeeded || h.hash("copy") != want {
		t.Errorf("the job is %s", j.State)
	}
	if got := h.status(); len(got.Recovered) != 0 {
		t.Errorf("the drain left jobs %v", got.Recovered)
	}
}

// Somebody who cannot wait for a drain says so twice.
func TestSecondSignalEndsADrain(t *testing.T) {
	t.Parallel()
	h := configured(t, "[stop]\ndrain = \"10m\"\n")
	h.random("base", 32*mib)
	st := h.cloning("base", "copy", mib)
	before := h.running(st)
	h.signal(syscall.SIGINT)
	h.manager.await(t, "EXTEND_TIMEOUT_USEC=")
	h.signal(syscall.SIGTERM)
	if err := h.daemon.Wait(); err != nil {
		t.Errorf("daemon: %v\n%s", err, h.log())
	}
	h.start()
	after, err := h.client.Job(h.ctx(), st.Job.ID)
	if err != nil || after.Helper == nil || after.Helper.PID != before.Helper.PID {
		t.Errorf("the helper was %s, is %s (%v)", shown(before.Helper), shown(after.Helper), err)
	}
	if got := h.status(); fmt.Sprint(got.Recovered) != fmt.Sprint([]int64{st.Job.Number}) {
		t.Errorf("recovered are %v", got.Recovered)
	}
	h.unlimited(st)
}
