package storaged_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/rest/client"
)

// wishes are the entries of "What others do not do" in docs/jobs.md, by the words
// in bold, with what must be true when their lines have been run. before runs
// first.
var wishes = map[string]struct {
	before func(*wisher)
	check  func(w *wisher, out string, code int)
}{
	"A cancel that stops.":                            {(*wisher).clones, canceled},
	"The good part is kept.":                          {nil, kept},
	"A pause that outlives the daemon.":               {(*wisher).clones, staysPaused},
	"Why it waits, and for whom.":                     {(*wisher).clones, saysWhy},
	"How long it will take, before it starts.":        {(*wisher).learns, foretold},
	"100 % is finished.":                              {nil, honest},
	"A limit for one job, changed while it runs.":     {(*wisher).clones, unlimited},
	"Caps for a pool.":                                {(*wisher).clones, capped},
	"The true end.":                                   {(*wisher).dies, trueEnd},
	"A request that is repeated makes nothing twice.": {nil, once},
}

// wishLines gives the commands of each entry of the document.
func wishLines(t *testing.T) map[string][]string {
	t.Helper()
	b, err := os.ReadFile("docs/jobs.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "\n## What others do not do\n")
	section, _, _ = strings.Cut(section, "\n## ")
	lines, title := map[string][]string{}, ""
	for line := range strings.Lines(section) {
		if _, bold, ok := strings.Cut(line, ". **"); ok {
			title, _, _ = strings.Cut(bold, "**")
			lines[title] = nil
		} else if command, ok := strings.CutPrefix(line, "       "); ok {
			lines[title] = append(lines[title], strings.TrimSpace(command))
		}
	}
	return lines
}

// TestWishesOfTheDocument runs what docs/jobs.md says that others do not do.
func TestWishesOfTheDocument(t *testing.T) {
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin+"/", "./cmd/...").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := wishLines(t)
	for title := range wishes {
		if len(lines[title]) == 0 {
			t.Errorf("docs/jobs.md has no line for %q", title)
		}
	}
	for title, commands := range lines {
		t.Run(title, func(t *testing.T) {
			wish, ok := wishes[title]
			if !ok {
				t.Fatal("nothing checks it")
			}
			w := newWisher(t, bin)
			if wish.before != nil {
				wish.before(w)
			}
			out, code := "", 0
			for _, c := range commands {
				out, code = w.do(c)
			}
			wish.check(w, out, code)
		})
	}
}

// wisher is a person with a private daemon and a pool "images" with "base.raw".
type wisher struct {
	t      *testing.T
	dir    string
	env    []string
	daemon *exec.Cmd
	client *client.Client
	job    string // the number in $job
}

func newWisher(t *testing.T, bin string) *wisher {
	t.Helper()
	dir := t.TempDir()
	w := &wisher{t: t, dir: dir, client: client.Dial(filepath.Join(dir, "s"))}
	w.env = []string{
		"HOME=" + dir, "PATH=" + bin + ":" + os.Getenv("PATH"), "STORAGED_CONFIG=/dev/null", "STORAGED_SOCKET=" + filepath.Join(dir, "s"),
		"STORAGED_STATE_DIR=" + filepath.Join(dir, "state"), "STORAGED_RUNTIME_DIR=" + filepath.Join(dir, "run"),
		"GORACE=" + os.Getenv("GORACE"),
	}
	w.start()
	t.Cleanup(w.end)
	w.must("storagedctl pool create images --target " + filepath.Join(dir, "images"))
	w.must("storagedctl vol create images/base.raw 16M")
	w.must("storagedctl vol wipe images/base.raw --algorithm random --yes")
	return w
}

// start starts the daemon, and returns when it answers.
func (w *wisher) start() {
	w.t.Helper()
	w.daemon = exec.Command("bash", "-c", "exec storaged --log-level warn")
	w.daemon.Env = w.env
	if err := w.daemon.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.until("the daemon answers", func() bool {
		_, err := w.client.Version(w.t.Context())
		return err == nil
	})
}

// end cancels what still runs and stops the daemon.
func (w *wisher) end() {
	w.do("for j in $(storagedctl job list -o name); do storagedctl job cancel $j --now; done")
	w.daemon.Process.Signal(syscall.SIGTERM) // it is our child and not waited for
	if err := w.daemon.Wait(); err != nil {
		w.t.Errorf("daemon: %v", err)
	}
}

// until waits for what must come; the test's own limit bounds it.
func (w *wisher) until(what string, is func() bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if is() {
			return
		}
		if w.t.Context().Err() != nil {
			w.t.Fatalf("never: %s", what)
		}
	}
}

// do runs a line of the document. A line that sets $job sets it for those to
// come, when the job is at work.
func (w *wisher) do(line string) (out string, code int) {
	w.t.Helper()
	sets := strings.HasPrefix(line, "job=")
	if sets {
		line += "\necho $job"
	}
	cmd := exec.Command("bash", "-c", line)
	cmd.Env = append(slices.Clone(w.env), "job="+w.job)
	var said strings.Builder
	cmd.Stderr = &said
	b, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	if sets {
		w.job = strings.TrimSpace(string(b))
		w.until("the job moves", func() bool { j := w.look(); return j.State == record.Running && j.Progress.Done > 0 })
	}
	return string(b) + said.String(), cmd.ProcessState.ExitCode()
}

func (w *wisher) must(line string) string {
	w.t.Helper()
	out, code := w.do(line)
	if code != 0 {
		w.t.Fatalf("%s: exit code %d\n%s", line, code, out)
	}
	return out
}

func (w *wisher) look() record.Job {
	w.t.Helper()
	j, err := w.client.Job(w.t.Context(), w.job)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// clones makes $job a clone that lasts longer than any test looks at it.
func (w *wisher) clones() {
	w.must("job=$(storagedctl vol clone images/base.raw images/vm1.raw --reflink never --limit 512K --detach)")
}

// learns lets the daemon see how long a clone takes: one large enough to be
// measured, and held back by nothing.
func (w *wisher) learns() {
	w.must("storagedctl vol create images/large.raw 1G")
	w.must("storagedctl vol wipe images/large.raw --algorithm random --yes")
	w.must("storagedctl vol clone images/large.raw images/vm1.raw --reflink never")
}

func (w *wisher) dies() {
	w.clones()
	if err := syscall.Kill(w.look().Helper.PID, syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
}

// files are the names in the pool's directory.
func (w *wisher) files() string {
	entries, err := os.ReadDir(filepath.Join(w.dir, "images"))
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func canceled(w *wisher, out string, code int) {
	j := w.look()
	if code != 0 || j.State != record.Canceled || w.files() != "base.raw" {
		w.t.Errorf("exit code %d, %s, there are %s: %s", code, j.State, w.files(), out)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", j.Helper.PID)); err == nil {
		w.t.Errorf("its helper %d is there still", j.Helper.PID)
	}
}

func kept(w *wisher, out string, code int) {
	v, err := w.client.Volume(w.t.Context(), "images", "part.raw")
	if err != nil || v.State != record.VolumeIncomplete || v.Allocation == 0 || code != 0 {
		w.t.Errorf("exit code %d, %+v, %v: %s", code, v, err, out)
	}
}

func staysPaused(w *wisher, out string, code int) {
	w.until("it is paused", func() bool { return w.look().State == record.Paused })
	before := w.look()
	w.daemon.Process.Kill() // it is our child and not waited for
	w.daemon.Wait()         // "signal: killed"
	w.start()
	w.until("it is found again", func() bool { return w.look().State != record.Recovering })
	after := w.look()
	if code != 0 || after.State != record.Paused || after.Helper.PID != before.Helper.PID || after.Progress.Done != before.Progress.Done {
		w.t.Errorf("exit code %d: %s; it was %+v and is %s %+v", code, out, before.Progress, after.State, after.Progress)
	}
}

func saysWhy(w *wisher, out string, code int) {
	if code != 0 || !strings.Contains(out, "waits for job "+w.job+",") {
		w.t.Errorf("exit code %d: %s", code, out)
	}
}

func foretold(w *wisher, out string, code int) {
	if code != 0 || !strings.Contains(out, "Takes:") || strings.Contains(w.files(), "vm3.raw") {
		w.t.Errorf("exit code %d: %s", code, out)
	}
}

func honest(w *wisher, out string, code int) {
	events, whole := 0, false
	for line := range strings.Lines(out) {
		var e record.Event
		if json.Unmarshal([]byte(line), &e) != nil || e.Job == nil {
			continue // what is said to people
		}
		events++
		percent := e.Job.Progress.Percent
		if percent != nil && *percent > 99.9 && e.Job.State != record.Succeeded {
			w.t.Errorf("%v %% of a job that is %s", *percent, e.Job.State)
		}
		whole = percent != nil && *percent == 100
	}
	if code != 0 || events < 3 || !whole {
		w.t.Errorf("exit code %d, %d events, 100 %% at the end: %v\n%s", code, events, whole, out)
	}
}

func unlimited(w *wisher, out string, code int) {
	if j := w.look(); code != 0 || j.State != record.Succeeded || j.Limit != nil {
		w.t.Errorf("exit code %d, %s with limit %v: %s", code, j.State, j.Limit, out)
	}
}

func capped(w *wisher, out string, code int) {
	// Its limit makes it long: short work has places of its own.
	second := strings.TrimSpace(w.must("storagedctl vol clone images/base.raw images/vm2.raw --reflink never --limit 512K --detach -q"))
	j, err := w.client.Job(w.t.Context(), second)
	if code != 0 || err != nil || j.State != record.Queued || len(j.WaitingOn) == 0 || j.WaitingOn[0].For != "slot" {
		w.t.Errorf("exit code %d: %s; the second is %s and waits on %+v, %v", code, out, j.State, j.WaitingOn, err)
	}
	if l, err := w.client.Limits(w.t.Context()); err != nil || l.PoolRates["images"] != 50<<20 {
		w.t.Errorf("limits %+v, %v", l, err)
	}
}

func trueEnd(w *wisher, out string, code int) {
	j := w.look()
	if code != record.ExitFailed || j.State != record.Failed || j.Code() != record.Killed || !strings.Contains(out, "killed") {
		w.t.Errorf("exit code %d, %s %+v: %s", code, j.State, j.Error, out)
	}
}

func once(w *wisher, out string, code int) {
	first := numberOf(w, out)
	w.daemon.Process.Kill() // it is our child and not waited for
	w.daemon.Wait()         // "signal: killed"
	w.start()
	again := w.must(wishLines(w.t)["A request that is repeated makes nothing twice."][0])
	if second := numberOf(w, again); code != 0 || first == 0 || first != second {
		w.t.Errorf("exit code %d; jobs %d and %d", code, first, second)
	}
}

func numberOf(w *wisher, out string) int64 {
	_, document, _ := strings.Cut(out, "{")
	var j record.Job
	if err := json.NewDecoder(strings.NewReader("{" + document)).Decode(&j); err != nil {
		w.t.Errorf("%v in %s", err, strconv.Quote(out))
	}
	return j.Number
}
