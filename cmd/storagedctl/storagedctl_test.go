package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
	"storaged/internal/procfs"
	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// quiet is a tool without signals.
func quiet() *tool {
	return &tool{in: strings.NewReader(""), signals: func() (<-chan os.Signal, func()) { return nil, func() {} }, after: time.After}
}

func TestTimeoutEndsTheWaitingAndNotTheJob(t *testing.T) {
	d := newDaemon(t).hold()
	for _, line := range []string{"vol clone images/base.raw images/x --timeout 4h", "job wait 410 --timeout 4h", "job watch --timeout 4h"} {
		tl, errs, expired := quiet(), newScreen(t), make(chan time.Time)
		tl.out, tl.errs, tl.patience = new(bytes.Buffer), errs, time.Minute
		tl.after = func(time.Duration) <-chan time.Time { return expired }
		code := make(chan int)
		go func() {
			code <- tl.program().Main(append([]string{"storagedctl", "--socket", d.socket}, strings.Fields(line)...))
		}()
		errs.expect("job 410")
		expired <- time.Now()
		if c := await(t, code); c != record.ExitTimedOut || d.state(410) != record.Running {
			t.Errorf("%s: exit %d, the job is %s", line, c, d.state(410))
		}
		expectAll(t, errs.String(), "not over after 4 h", "job 410 (volume.clone images/x)", "hint: storagedctl job wait 410")
	}
}

func TestCancelAfter(t *testing.T) {
	d := newDaemon(t).hold()
	_, errs, code := d.run("vol clone images/base.raw images/x --cancel-after 50ms")
	if code != record.ExitCanceled || d.state(410) != record.Canceled {
		t.Errorf("exit %d, the job is %s", code, d.state(410))
	}
	expectAll(t, errs, "the time is up", "canceling job 410")
	if strings.Contains(errs, "once more") {
		t.Errorf("nobody has pressed anything yet: %s", errs)
	}
}

func TestGivingUpADaemonThatStaysAway(t *testing.T) {
	d := newDaemon(t).hold()
	tl := quiet()
	tl.patience = 10 * time.Second // long enough to be overridden below
	var out, errs = new(bytes.Buffer), newScreen(t)
	tl.out, tl.errs, tl.patience = out, errs, 300*time.Millisecond
	code := make(chan int)
	go func() {
		code <- tl.program().Main([]string{"storagedctl", "--socket", d.socket, "vol", "clone", "images/base.raw", "images/x"})
	}()
	errs.expect("job 410")
	d.stop()
	if c := await(t, code); c != record.ExitUnreachable {
		t.Errorf("exit %d", c)
	}
	expectAll(t, errs.String(), "gave up after 300 ms: the outcome of job 410 (volume.clone images/x) is unknown", "hint: storagedctl job wait 410")
	d.serve()
}

func TestNoDaemonIsSaidAtOnce(t *testing.T) {
	d := newDaemon(t)
	d.stop()
	for _, line := range []string{"pool list", "vol create images/x 1G", "vol create images/x 1G --detach", "events", "job wait 1", "status"} {
		_, errs, code := d.run(line)
		if code != record.ExitUnreachable || !strings.Contains(errs, fmt.Sprintf("no daemon at %q", d.socket)) {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
	}
	if out, _, code := d.run("version"); code != 0 || !strings.Contains(out, "storagedctl:") {
		t.Errorf("version without a daemon: exit %d, %q", code, out)
	}
	d.serve()
}

func TestJSONIsOneDocument(t *testing.T) {
	d := newDaemon(t)
	d.run("vol create images/n0 1G --detach")
	d.run("vol create images/n00 1G --detach")
	for line, want := range map[string]any{
		"vol create images/n1 1G -o json":                         &record.Job{},
		"vol create images/n2 1G -o json --detach":                &record.Job{},
		"vol clone images/base.raw images/n3 images/n4 -o json":   &contract.List[record.Job]{},
		"vol delete images/base.raw images/vm1.raw --yes -o json": &contract.List[record.Job]{},
		"vol list -o json":                                &contract.List[record.Volume]{},
		"vol show images/vm1.raw -o json":                 &record.Volume{},
		"vol show images/vm1.raw images/base.raw -o json": &contract.List[record.Volume]{},
		"job list --all -o json":                          &contract.List[record.Job]{},
		"job show 410 -o json":                            &record.Job{},
		"job pin 410 411 -o json":                         &contract.List[record.Job]{},
		"job wait 410 -o json":                            &record.Job{},
		"pool create n5 --target /srv/n5 -o json":         &record.Job{},
		"vol wipe images/vm1.raw --dry-run -o json":       &contract.Plan{},
		"status -o json":                                  &observed{},
		"capabilities -o json":                            &contract.List[any]{},
	} {
		out, errs, code := d.run(line)
		dec := json.NewDecoder(strings.NewReader(out))
		dec.DisallowUnknownFields()
		if err := dec.Decode(want); err != nil || dec.More() || code != 0 {
			t.Errorf("%s: exit %d, %v\n%s%s", line, code, err, out, errs)
		}
	}
}

func TestFailedJobIsADocumentAndAProblem(t *testing.T) {
	d := newDaemon(t)
	d.fate = failed(record.NoSpace)
	out, errs, code := d.run("vol create images/x 1G -o json --quiet")
	var j record.Job
	var p record.Problem
	if err := json.Unmarshal([]byte(out), &j); err != nil || j.State != record.Failed {
		t.Errorf("%v: %s", err, out)
	}
	if err := json.Unmarshal([]byte(errs), &p); err != nil || p.Code != record.NoSpace || code != record.ExitNoSpace {
		t.Errorf("exit %d, %v: %s", code, err, errs)
	}
}

func TestJSONLinesAreTheEvents(t *testing.T) {
	d := newDaemon(t)
	out, _, code := d.run("vol create images/x 1G -o jsonl")
	var types []string
	for line := range strings.Lines(out) {
		var e record.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Job == nil || e.Job.Number != 410 {
			t.Fatalf("%v: %s", err, line)
		}
		types = append(types, e.Type)
	}
	if code != 0 || !slices.Equal(types, []string{"job.created", "job.ended"}) {
		t.Errorf("exit %d, %v", code, types)
	}
}

func TestJSONLinesOfAJobThatHadEnded(t *testing.T) {
	d := newDaemon(t)
	d.run("vol create images/x 1G --idempotency-key K")
	for _, line := range []string{"vol create images/x 1G --idempotency-key K -o jsonl", "job wait 410 -o jsonl"} {
		out, _, code := d.run(line)
		if code != 0 || strings.Count(out, "\n") != 1 || !strings.Contains(out, `"type":"job.ended"`) {
			t.Errorf("%s: exit %d, %q", line, code, out)
		}
	}
}

func TestFlagsOfAJobReachTheDaemon(t *testing.T) {
	d := newDaemon(t)
	_, errs, code := d.run("vol clone images/base.raw isos/x --limit 100M --priority background --label a=1,2 --label b=x=y --on-failure keep --size 20G --reflink never --sparse --lock-wait 90s --idempotency-key K --format raw")
	if code != 0 {
		t.Fatal(errs)
	}
	want := operation.CloneRequest{
		Name: "x", Pool: "isos", Format: "raw", Size: 20 << 30, Reflink: "never", Sparse: true, JobOptions: operation.JobOptions{
			Limit: ptr(int64(100 << 20)), Priority: record.Background, Labels: map[string]string{"a": "1,2", "b": "x=y"}, OnFailure: record.KeepOnFailure,
		},
	}
	if got := d.requests[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if s := d.submits[0]; s.Key != "K" || *s.LockWait != 90*time.Second || s.DryRun {
		t.Errorf("%+v", s)
	}
	d.run("vol create images/y 1G --lock-wait forever --allocation 512M")
	d.run("vol create images/z 1G --lock-wait 0 --allocation none")
	d.run("vol delete images/vm1.raw images/base.raw --yes --wipe --idempotency-key K2")
	if s := d.submits[1]; *s.LockWait >= 0 || s.Key == "" {
		t.Errorf("forever: %+v", s)
	}
	if s := d.submits[2]; *s.LockWait != 0 || s.Key == d.submits[1].Key {
		t.Errorf("0: %+v", s)
	}
	if a := d.requests[1].(operation.CreateRequest).Allocation; a.Full || a.Bytes != 512<<20 {
		t.Errorf("%+v", a)
	}
	if r := d.requests[3].(operation.DeleteRequest); r.Wipe != "zero" || d.submits[3].Key == d.submits[4].Key || d.submits[3].Key == "K2" {
		t.Errorf("%+v with %+v", r, d.submits[3:])
	}
}

func TestListByVolume(t *testing.T) {
	d := newDaemon(t)
	d.run("vol clone images/base.raw images/x")
	d.run("vol clone images/base.raw isos/x")
	for line, want := range map[string]string{
		"--volume x": "411\n410\n", "--volume images/x": "410\n", "--volume isos/x": "411\n", "--volume images/base.raw": "411\n410\n",
		"--volume images/y": "", "--volume /srv/images/base.raw": "411\n410\n", "--volume images/y --volume isos/x": "411\n",
	} {
		if out, errs, code := d.run("job list --all -o name " + line); out != want || code != 0 {
			t.Errorf("%s: exit %d, %q %s", line, code, out, errs)
		}
	}
}

func TestRelativeTargetIsThatOfTheClient(t *testing.T) {
	d := newDaemon(t)
	t.Chdir(t.TempDir())
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if _, errs, code := d.run("pool define here --target ./disks"); code != 0 {
		t.Fatal(errs)
	}
	if got := d.requests[0].(contract.PoolDefine).Target.Path; got != filepath.Join(wd, "disks") {
		t.Errorf("asked for %q", got)
	}
}

func TestVolumeThatIsDeletedOrChangedHasNoStateInEvents(t *testing.T) {
	v := record.Volume{Pool: "images", Name: "x", State: record.VolumeIncomplete, Job: new(int64(27))}
	if got := eventLine(record.Event{Time: day, Type: "volume.changing", Volume: &v}); got != "2025-11-21 09:12:00  volume.changing  images/x  by job 27" {
		t.Error(got)
	}
	if got := eventLine(record.Event{Time: day, Type: "volume.deleted", Volume: &v}); got != "2025-11-21 09:12:00  volume.deleted  images/x" {
		t.Error(got)
	}
}

func TestClockHasADateUnlessItIsToday(t *testing.T) {
	now := time.Now()
	if got := clock(now); got != now.Local().Format("15:04:05") && time.Now().YearDay() == now.YearDay() {
		t.Errorf("now is %q", got)
	}
	if got := clock(day.Add(time.Nanosecond).Add(almostSecond)); got != "2025-11-21 09:12:01" {
		t.Errorf("rounded up: %q", got)
	}
}

func TestListFilters(t *testing.T) {
	d := newDaemon(t)
	_, errs, code := d.run("job list --state failed --state ended --kind volume.clone --pool images --volume vm1.raw --owner alice --label a=b --since 2025-11-21T09:00:00Z --until 2025-11-22")
	if code != 0 {
		t.Fatal(errs)
	}
	want := contract.JobFilter{
		States: []string{"failed", "ended"}, Kinds: []string{"volume.clone"}, Pools: []string{"images"}, Volumes: []string{"vm1.raw"},
		Owners: []string{"alice"}, Labels: []string{"a=b"}, Since: day.Truncate(time.Hour), Until: day.Truncate(24 * time.Hour).Add(24 * time.Hour),
	}
	if got := d.requests[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestBadInputTouchesNothing tries what must be refused before a request is
// made, or by the daemon without a job.
func TestBadInputTouchesNothing(t *testing.T) {
	d := newDaemon(t)
	long := strings.Repeat("x", 256)
	var lines [][]string
	for _, name := range []string{"..", ".", "", "a/b", long, "a\nb", "a\x00b", "-x", "\xff", " a", "\u202ea", ".1.storaged"} {
		lines = append(lines, []string{"vol", "create", "images/" + name, "1G"}, []string{"vol", "clone", "images/base.raw", "images/" + name},
			[]string{"vol", "delete", "--yes", "images/" + name}, []string{"pool", "start", name}, []string{"pool", "define", "--target", "/x", "--", name})
	}
	for _, size := range []string{"-1", "", "1.5G", "8E", "99999999999999999999", "1X", "G"} {
		lines = append(lines, []string{"vol", "create", "images/x", size}, []string{"vol", "resize", "images/vm1.raw", size}, []string{"vol", "create", "images/x", "1G", "--limit=" + size})
	}
	lines = append(lines, []string{"vol", "resize", "images/vm1.raw", "+9223372036854775807"}, []string{"vol", "create", "images", "1G"}, []string{"vol", "show", "/"}, []string{"vol", "show", "/a/../b"},
		[]string{"vol", "create", "images/x"}, []string{"job", "cancel", "0"}, []string{"job", "cancel", "-1"}, []string{"vol", "create", "images/x", "1G", "--label", "x"},
		[]string{"vol", "create", "images/x", "1G", "--timeout", "soon"}, []string{"job", "list", "--since", "never"}, []string{"job", "list", "--state", "odd"}, []string{"job", "list", "--kind", "clone"}, []string{"vol", "create", "images/x", "1G", "--idempotency-key", "a b"},
		[]string{"pool", "list", "--system", "--user"})
	for _, line := range lines {
		var out, errs bytes.Buffer
		tl := quiet()
		tl.out, tl.errs, tl.patience = &out, &errs, time.Second
		code := tl.program().Main(append([]string{"storagedctl", "--socket", d.socket}, line...))
		if code != record.ExitUsage || out.Len() > 0 || strings.Count(errs.String(), "error:") != 1 {
			t.Errorf("%q: exit %d, %q %q", line, code, out.String(), errs.String())
		}
	}
	if len(d.jobs) > 0 || len(d.requests) > 0 {
		t.Errorf("%d jobs, requests %+v", len(d.jobs), d.requests)
	}
}

func TestDestructionNeedsYesWithoutATerminal(t *testing.T) {
	d := newDaemon(t)
	for _, line := range []string{
		"vol delete images/vm1.raw", "vol wipe images/vm1.raw", "vol resize images/vm1.raw 1G --shrink", "pool delete images", "pool delete images --yes=other",
		"pool build images --overwrite", "pool stop images --force", "vol delete images/vm1.raw --yes=false",
	} {
		_, errs, code := d.run(line)
		if code != record.ExitUsage || !strings.Contains(errs, "--yes") {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
	}
	if len(d.jobs) > 0 {
		t.Errorf("%d jobs were made", len(d.jobs))
	}
	for _, line := range []string{"vol wipe images/vm1.raw", "vol delete images/vm1.raw", "pool delete images", "pool build images --overwrite"} {
		if _, errs, code := d.run(line + " --dry-run"); code != 0 || len(d.jobs) > 0 {
			t.Errorf("%s --dry-run: exit %d, %d jobs, %s", line, code, len(d.jobs), errs)
		}
	}
}

func TestBusyNamesTheHolder(t *testing.T) {
	d := newDaemon(t)
	d.refuse["images/base.raw"] = record.Errorf(record.Busy, "images/base.raw is busy: read by job 410 (volume.clone, alice, since 09:12, ends about 09:40)").
		WithHint("--lock-wait 40m, or storagedctl job cancel 410")
	_, errs, code := d.run("vol wipe images/base.raw --yes")
	want := "storagedctl: error: images/base.raw is busy: read by job 410 (volume.clone, alice, since 09:12, ends about 09:40)\n" +
		"storagedctl: hint: --lock-wait 40m, or storagedctl job cancel 410\n"
	if errs != want || code != record.ExitBusy {
		t.Errorf("exit %d\n%s", code, errs)
	}
}

func TestWarningsDoNotChangeTheExitCode(t *testing.T) {
	d := newDaemon(t)
	d.fate = func(j *record.Job) {
		succeeded(j)
		j.Warnings = []string{"the helper died after its result"}
	}
	_, errs, code := d.run("vol create images/x 1G")
	if code != 0 || !strings.Contains(errs, "storagedctl: warning: job 410: the helper died after its result\n") {
		t.Errorf("exit %d, %s", code, errs)
	}
	if out, errs, code := d.run("vol create images/y 1G --quiet"); out != "" || errs != "" || code != 0 {
		t.Errorf("with --quiet: exit %d, %q %q", code, out, errs)
	}
}

// What is so for all volumes of a command is said once.
func TestOneWarningOfSeveralJobsIsSaidOnce(t *testing.T) {
	d := newDaemon(t)
	d.fate = func(j *record.Job) {
		succeeded(j)
		j.Warnings = []string{"images in pool \"away\" are not known", fmt.Sprintf("of its own, %d", j.Number)}
	}
	_, errs, code := d.run("vol delete images/base.raw images/vm1.raw --yes")
	if code != 0 || strings.Count(errs, "are not known") != 1 || strings.Count(errs, "of its own") != 2 {
		t.Errorf("exit %d, %s", code, errs)
	}
}

// A volume is found by a path with symbolic links in it, whether its pool was defined by
// that path, by another that leads there, or by the one without any.
func TestVolumeIsFoundThroughLinks(t *testing.T) {
	d := newDaemon(t)
	dir := t.TempDir()
	real := filepath.Join(dir, "real")
	for _, name := range []string{"pool", "typed"} {
		if err := os.MkdirAll(filepath.Join(real, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"link": "real", "also": "real/typed", "real/pool/disk": "vm1"} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	d.locked(func(f *fake) {
		for pool, target := range map[string]string{"images": filepath.Join(real, "pool"), "isos": filepath.Join(dir, "also")} {
			p := f.pools[pool]
			p.Target.Path, p.Real = target, filepath.Join(real, map[string]string{"images": "pool", "isos": "typed"}[pool])
			v := f.volumes["images/vm1.raw"]
			v.Pool, v.Name, v.Path = pool, "vm1", filepath.Join(target, "vm1")
			f.pools[pool], f.volumes[pool+"/vm1"] = p, v
		}
	})
	if err := os.WriteFile(filepath.Join(real, "pool/vm1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"link/pool/vm1": "images/vm1", "link/pool/disk": "images/vm1", "real/pool/vm1": "images/vm1", "also/vm1": "isos/vm1", "link/typed/vm1": "isos/vm1", "link/vm1": "", "none/vm1": "",
	} {
		out, errs, code := d.run("vol show -o name " + filepath.Join(dir, path))
		if (code == 0) != (want != "") || strings.TrimSpace(out) != want {
			t.Errorf("%s: exit %d, %q, not %q: %s", path, code, out, want, errs)
		}
	}
}

func TestSnapshotIsClonedWithASecret(t *testing.T) {
	d := newDaemon(t)
	d.locked(func(f *fake) {
		v := f.volumes["images/vm1.raw"]
		v.Snapshots = []string{"was"}
		f.volumes["images/vm1.raw"] = v
	})
	if _, errs, code := d.run("vol snapshot clone images/vm1.raw@was images/x --format qcow2 --secret disks -O cluster_size=128K"); code != 0 {
		t.Fatalf("exit %d, %s", code, errs)
	}
	r := d.requests[len(d.requests)-1].(operation.SnapshotCloneRequest)
	if r.Secret != "disks" || r.Format != "qcow2" || r.Options["cluster_size"] == "" {
		t.Errorf("asked for %+v", r.CloneRequest)
	}
}

func TestSeveralFailures(t *testing.T) {
	d := newDaemon(t)
	for line, want := range map[string]int{
		"vol delete images/none images/nope --yes":    record.ExitNotFound,
		"vol delete images/none images/vm1.raw --yes": record.ExitPartial,
		"pool start none images nope":                 record.ExitPartial,
		"pool start none nope":                        record.ExitNotFound,
	} {
		if _, errs, code := d.run(line); code != want || strings.Count(errs, "error:") < 2 {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
	}
}

func TestWaitForAny(t *testing.T) {
	d := newDaemon(t).hold()
	d.run("vol clone images/base.raw images/x --detach")
	d.run("vol clone images/base.raw images/y --detach")
	d.end(411, failed(record.IO))
	if out, _, code := d.run("job wait --any 410 411 -o name"); code != record.ExitFailed || d.state(410) != record.Running || out != "" {
		t.Errorf("exit %d, %q", code, out)
	}
	d.end(410, succeeded)
	if _, _, code := d.run("job wait 410 411"); code != record.ExitPartial {
		t.Errorf("exit %d for one of two", code)
	}
}

func TestCancelThatComesTooLate(t *testing.T) {
	d := newDaemon(t).hold()
	d.locked(func(f *fake) { f.stubborn = true })
	d.run("vol clone images/base.raw images/x --detach")
	go func() {
		<-d.changed
		d.end(410, succeeded)
	}()
	if _, errs, code := d.run("kill 410"); code != record.ExitBusy || !strings.Contains(errs, "too late") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func TestDefinitionFromAFile(t *testing.T) {
	d := newDaemon(t)
	shown, _, _ := d.run("pool show images -o json")
	file := filepath.Join(t.TempDir(), "pool")
	for text, want := range map[string]int{
		strings.ReplaceAll(shown, "images", "copy"):            0,
		`{"name":"n","type":"dir","target":{"path":"/srv/n"}}`: 0,
		`{"name":"n","targets":{}}`:                            record.ExitUsage,
		`{"name":"n"} {}`:                                      record.ExitUsage,
		`[]`:                                                   record.ExitUsage,
		``:                                                     record.ExitUsage,
		" <pool type='dir'/>":                                  record.ExitUsage,
		" <pool type='dir'><name>x</name><target><path>/srv/x</path></target></pool>": 0,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, errs, code := d.run("pool define -f " + file); code != want {
			t.Errorf("%q: exit %d, %s", text, code, errs)
		}
		tl := quiet()
		tl.in = strings.NewReader(text)
		if _, errs, code := d.runTool(tl, "pool define -f -"); code != want {
			t.Errorf("%q on stdin: exit %d, %s", text, code, errs)
		}
	}
	got := d.requests[len(d.requests)-1].(contract.PoolDefine)
	if got.Name == "" || got.Target.Path == "" {
		t.Errorf("%+v", got)
	}
	if _, errs, code := d.run("pool define other -f /nonexistent"); code != record.ExitUsage {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func TestLogIsFollowedToItsEnd(t *testing.T) {
	d := newDaemon(t).hold()
	d.run("vol clone images/base.raw images/x --detach")
	d.locked(func(f *fake) { f.nextLog[410] = "first\n" })
	tl, out := quiet(), newScreen(t)
	tl.out, tl.errs = out, newScreen(t)
	code := make(chan int)
	go func() {
		code <- tl.program().Main([]string{"storagedctl", "--socket", d.socket, "job", "log", "-f", "410"})
	}()
	out.expect("first\n")
	d.locked(func(f *fake) { f.nextLog[410] = "first\nsecond\n" })
	d.end(410, succeeded)
	if c := await(t, code); c != 0 || out.String() != "first\nsecond\n" {
		t.Errorf("exit %d, %q", c, out.String())
	}
}

func TestEventsAreResumedBehindTheLastOne(t *testing.T) {
	d := newDaemon(t)
	tl, out := quiet(), newScreen(t)
	errs := newScreen(t)
	signals := make(chan os.Signal, 1)
	tl.out, tl.errs, tl.patience = out, errs, patience
	tl.signals = func() (<-chan os.Signal, func()) { return signals, func() {} }
	d.run("vol create images/first 1G --detach")
	start := d.firstEvent()
	code := make(chan int)
	go func() {
		code <- tl.program().Main([]string{"storagedctl", "--socket", d.socket, "events", "-o", "jsonl", "--after", fmt.Sprint(start)})
	}()
	out.expect("job.ended")
	d.stop()
	errs.expect("trying again")
	d.hub.Publish(record.Event{Type: "pool.state", Pool: ptr(d.pools["images"])})
	d.serve()
	out.expect("pool.state")
	signals <- os.Interrupt
	if c := await(t, code); c != record.ExitCanceled {
		t.Errorf("exit %d", c)
	}
	if n := strings.Count(out.String(), "job.ended"); n != 1 {
		t.Errorf("an event was printed %d times", n)
	}
}

// Events are printed by a template as they come; a wrong one is told before the first.
func TestEventsArePrintedByTemplates(t *testing.T) {
	d := newDaemon(t)
	tl, out := quiet(), newScreen(t)
	signals := make(chan os.Signal, 1)
	tl.out, tl.errs = out, newScreen(t)
	tl.signals = func() (<-chan os.Signal, func()) { return signals, func() {} }
	d.run("vol create images/first 1G --detach")
	code := make(chan int)
	go func() {
		code <- tl.program().Main([]string{"storagedctl", "--socket", d.socket, "events", "--format", "{{.Type}} of {{.Job.Number}}{{.Pool.Name}}", "--after", fmt.Sprint(d.firstEvent())})
	}()
	out.expect("job.ended of 410\n")
	signals <- os.Interrupt
	await(t, code)
	for template, says := range map[string]string{"{{.Foo}}": `there is no field "Foo"`, "table {{.Type}}": "make no table", "{{.Job.Foo}}": ".Job has AnsweredBy, "} {
		if _, errs, code := d.format("events", template); code != record.ExitUsage || !strings.Contains(errs, says) {
			t.Errorf("%s: exit %d, %s", template, code, errs)
		}
	}
}

// firstEvent gives the number of the first event of the fake's hub.
func (d *daemon) firstEvent() int64 {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	e := await(d.t, d.hub.Subscribe(ctx, 1)) // too old: a reset with the present number
	return e.Seq - 1
}

func TestReadingFallsBackToTheReadOnlySocket(t *testing.T) {
	d := newDaemon(t)
	s := socket{path: filepath.Join(filepath.Dir(d.socket), "missing"), readOnly: d.socket}
	ctx := context.Background()
	if got := s.pick(ctx, true); got != d.socket {
		t.Errorf("reading uses %q", got)
	}
	if got := s.pick(ctx, false); got != s.path {
		t.Errorf("changing uses %q", got)
	}
	s = socket{path: d.socket, readOnly: s.path}
	if got := s.pick(ctx, true); got != d.socket {
		t.Errorf("with a main socket reading uses %q", got)
	}
}

func TestChooseSocket(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	own, system := filepath.Join(dir, "storaged", "storaged.sock"), "/run/storaged/storaged.sock"
	check := func(name string, c choice, uid int, want string) {
		t.Helper()
		if got := chooseSocket(c, uid); got.path != want {
			t.Errorf("%s: %q; want %q", name, got.path, want)
		}
	}
	check("root", choice{}, 0, system)
	check("a user without a daemon", choice{}, 1000, system)
	if err := os.Mkdir(filepath.Dir(own), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", own)
	if err != nil {
		t.Fatalf("the temporary directory's name is too long for a socket: %v", err)
	}
	defer l.Close()
	check("a user with a daemon", choice{}, 1000, own)
	check("--system", choice{system: true, env: "/e"}, 1000, system)
	check("--user", choice{user: true, env: "/e"}, 0, own)
	check("the environment", choice{env: "/e"}, 0, "/e")
	check("--socket", choice{env: "/e", socket: "/s"}, 0, "/s")
	for name, c := range map[string]choice{"--socket with --user": {socket: "/s", user: true}, "--host with --system": {host: "h", system: true}} {
		if _, err := c.dial(t.Context(), false); record.CodeOf(err) != record.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseWhen(t *testing.T) {
	for in, want := range map[string]time.Time{
		"2025-11-21": day.Truncate(24 * time.Hour), "2025-11-21 09:12": day, "2025-11-21T09:12:00Z": day, "2025-11-21T10:12:00+01:00": day, "2h": day.Add(-2 * time.Hour),
	} {
		if got, err := parseWhen(in, day); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	if _, err := parseWhen("yesterday", day); err == nil {
		t.Error("yesterday is accepted")
	}
}

// TestCompletionOnEveryPrefix types every command and flag letter by letter.
func TestCompletionOnEveryPrefix(t *testing.T) {
	d := newDaemon(t)
	d.stop() // asking nobody is quick
	var walk func(path []string, commands []*cli.Command, flags []cli.Flag)
	try := func(words ...string) string {
		var out, errs bytes.Buffer
		tl := &tool{out: &out, errs: &errs}
		args := append([]string{"storagedctl", "__complete", "--socket", d.socket}, words...)
		if code := tl.program().Main(args); code != 0 || errs.Len() > 0 {
			t.Fatalf("%q: exit %d, %s", words, code, errs.String())
		}
		return out.String()
	}
	with := func(path []string, word string) []string { return append(path[:len(path):len(path)], word) }
	walk = func(path []string, commands []*cli.Command, flags []cli.Flag) {
		for _, f := range flags {
			if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
				continue
			}
			long := "--" + f.Names()[0]
			for i := range long {
				try(with(path, long[:i])...)
			}
			if got := try(with(path, long)...); !strings.Contains(got, long) {
				t.Errorf("%v: %s does not complete to itself: %q", path, long, got)
			}
			try(with(path, long+"=")...)
			try(append(with(path, long), "")...)
		}
		for _, c := range commands {
			if c.Hidden {
				continue
			}
			for i := range c.Name {
				if got := try(with(path, c.Name[:i])...); !strings.Contains(got, c.Name) {
					t.Errorf("%v %s: %q", path, c.Name[:i], got)
				}
			}
			walk(with(path, c.Name), c.Subcommands, c.Flags)
		}
	}
	p := (&tool{}).program()
	walk(nil, p.App.Commands, p.App.Flags)
	d.serve()
}

// Whoever knows virsh asks for all pools, or for those that are not active.
func TestPoolsAreListedAsByVirsh(t *testing.T) {
	d := newDaemon(t)
	for state, want := range map[record.PoolState]string{
		record.PoolInactive: "isos", record.PoolStarting: "isos", record.PoolBuilding: "isos", record.PoolStopping: "", record.PoolUnreachable: "",
	} {
		d.locked(func(f *fake) {
			p := f.pools["isos"]
			p.State = state
			f.pools["isos"] = p
		})
		if out, errs, code := d.run("pool list --inactive -o name"); code != 0 || strings.TrimSpace(out) != want {
			t.Errorf("a pool that is %s: exit %d, %q, want %q; %s", state, code, out, want, errs)
		}
	}
	d.locked(func(f *fake) {
		p := f.pools["isos"]
		p.State = record.PoolInactive
		f.pools["isos"] = p
	})
	for line, want := range map[string]string{
		"pool list -o name": "images isos", "pool list --all -o name": "images isos", "pool list -a -o name": "images isos", "pool list --inactive -o name": "isos",
		"pool-list --all --inactive -o name": "isos",
	} {
		if out, errs, code := d.run(line); code != 0 || strings.Join(strings.Fields(out), " ") != want {
			t.Errorf("%s: exit %d, %q, want %q; %s", line, code, out, want, errs)
		}
	}
}

// In another pool a volume keeps its name if nobody gives another.
func TestMoveToAPoolKeepsTheName(t *testing.T) {
	d := newDaemon(t)
	for line, want := range map[string]int{"vol move images/vm1.raw isos/ --dry-run": 0, "vol mv images/vm1.raw isos/": 0, "vol move images/vm1.raw isos": record.ExitUsage, "vol move images/vm1.raw /": record.ExitUsage} {
		if _, errs, code := d.run(line); code != want {
			t.Errorf("%s: exit %d, want %d: %s", line, code, want, errs)
		}
	}
	d.locked(func(f *fake) {
		if len(f.jobs) != 1 || f.jobs[0].Objects[len(f.jobs[0].Objects)-1].String() != "isos/vm1.raw" {
			t.Errorf("%+v", f.jobs)
		}
	})
}

// Who has no daemon is told how to have one, unless it is another's that they named.
func TestWhoHasNoDaemonIsToldHowToHaveOne(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	gone := record.Errorf(record.Unreachable, "no daemon").WithHint(client.NoDaemonHint)
	for _, c := range []struct {
		choice choice
		uid    int
		own    bool
	}{{choice{}, 1000, true}, {choice{user: true}, 0, true}, {choice{}, 0, false}, {choice{system: true}, 1000, false}, {choice{socket: "/s"}, 1000, false}, {choice{env: "/s"}, 1000, false}} {
		e, _ := errors.AsType[*record.Error](unreached(c.choice, c.uid, gone))
		if hint := cmdline.Hint(e.Hint); strings.Contains(hint, "storaged & starts one of your own") != c.own {
			t.Errorf("%+v: %q", c, hint)
		}
	}
	for _, said := range []*record.Error{record.Errorf(record.Busy, "busy"), record.Errorf(record.Unreachable, "lost it").WithHint("storagedctl job wait 412")} {
		if err := unreached(choice{}, 1000, said); !reflect.DeepEqual(err, said) {
			t.Errorf("%v has become %v", said, err)
		}
	}
}

// A filter that no job passes may be misspelt.
func TestAnEmptyListSaysWhatIsNotThere(t *testing.T) {
	d := newDaemon(t)
	for line, want := range map[string]string{
		"job list": "", "job list -a --pool imges": `no job is like that; there is no pool "imges" now`, "list --owner nobodyy": "no job is like that; there is no user \"nobodyy\" in /etc/passwd\n", "list --owner root": "no job is like that\n", "list --owner storaged": "no job is like that\n",
		"job list -a --volume images/nope": `there is no volume "images/nope" now`, "job list --pool images": "no job is like that\n",
		"job list --pool imges -o json": "", "job list --pool imges --quiet": "",
	} {
		if _, errs, code := d.run(line); code != 0 || !strings.Contains(errs, want) || want == "" && errs != "" {
			t.Errorf("%s: exit %d, %q, want %q", line, code, errs, want)
		}
	}
}

// What is not there is said to be so, whether somebody agrees or not.
func TestNobodyIsAskedAboutWhatIsNotThere(t *testing.T) {
	d := newDaemon(t)
	for line, want := range map[string]int{
		"vol delete images/nope": record.ExitNotFound, "rm images/nope images/none": record.ExitNotFound, "vol delete images/nope --missing-ok": 0,
		"vol wipe images/nope": record.ExitNotFound, "secret delete none": record.ExitNotFound, "vol snapshot delete images/vm1.raw@nope": record.ExitNotFound,
		"pool delete nope": record.ExitNotFound, "vol verify images/nope --repair all": record.ExitNotFound,
		"vol delete images/vm1.raw images/nope": record.ExitUsage, "vol delete images/vm1.raw": record.ExitUsage,
		"pool evacuate images --to isos --only no*": record.ExitUsage, // there may be one until it is done
	} {
		if _, errs, code := d.run(line); code != want || code == record.ExitNotFound && strings.Contains(errs, "--yes") {
			t.Errorf("%s: exit %d, want %d: %s", line, code, want, errs)
		}
	}
	if len(d.jobs) > 1 { // that of --missing-ok
		t.Errorf("%d jobs were made", len(d.jobs))
	}
}

// A script that agrees to all that it does need not know which verbs ask.
func TestYesIsTakenWhereNothingIsAsked(t *testing.T) {
	d := newDaemon(t)
	for _, line := range []string{"vol trim images/vm1.raw --yes", "vol verify images/vm1.raw -y", "vol move images/vm1.raw images/z --yes", "pool undefine isos --yes", "limits set --running 4 --yes"} {
		if _, errs, code := d.run(line); code != 0 {
			t.Errorf("%s: exit %d: %s", line, code, errs)
		}
	}
	if _, errs, code := d.run("vol list --yes"); code != record.ExitUsage {
		t.Errorf("a verb that only looks: exit %d: %s", code, errs)
	}
}

func TestCompletionAsksTheDaemonForNames(t *testing.T) {
	d := newDaemon(t)
	d.run("vol clone images/base.raw images/ended --detach")
	d.hold()
	d.run("vol clone images/base.raw images/x --detach")
	d.locked(func(f *fake) {
		p := f.pools["images"]
		p.Devices = []string{"8:0"}
		f.pools["images"] = p
	})
	for line, want := range map[string]string{
		"pool start ":                            "images isos",
		"vol list i":                             "images isos images/ isos/",
		"vol show ":                              "images/ isos/",
		"vol show images/v":                      "images/vm1.raw",
		"vol create ":                            "images/ isos/",
		"job show ":                              "411 410",
		"job cancel ":                            "411",
		"kill ":                                  "411",
		"job forget ":                            "410",
		"job list --state q":                     "queued",
		"job list --kind pool.st":                "pool.start pool.stop",
		"job cancel --kind=volume.w":             "--kind=volume.wipe",
		"vol wipe a/b --algorithm ":              "zero",
		"limits set --device ":                   "8:0",
		"pool define x --type ":                  "dir",
		"job wait 411 -o ":                       "table json jsonl name xml",
		"vol create a/b 1G --format ":            strings.ReplaceAll(creatable(), ",", ""),
		"vol clone a/b a/c --format=qc":          "--format=qcow2 --format=qcow",
		"vol create a/b --from x --from-format ": strings.Join(record.Formats, " "),
		"vol upload a/b x --as-format vm":        "vmdk",
		"completion ":                            "bash zsh fish",
		"vol resize images/vm1.raw ":             "",
		"job list --pool im":                     "images",
		"list --sort ra":                         "rate",
		"vol list --sort -ca":                    "-capacity",
	} {
		var out bytes.Buffer
		tl := &tool{out: &out, errs: &out}
		tl.program().Main(append([]string{"storagedctl", "__complete", "--socket", d.socket}, strings.Split(line, " ")...))
		var got []string
		for l := range strings.Lines(out.String()) {
			typed, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
			got = append(got, typed)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

// A file in a pool's directory is a volume, which no job would hold while the
// command replaces it.
func TestDownloadIntoAPoolIsRefused(t *testing.T) {
	d := newDaemon(t)
	dir, elsewhere := t.TempDir(), t.TempDir()
	link := filepath.Join(elsewhere, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	d.locked(func(f *fake) {
		p := f.pools["isos"]
		p.Target.Path, p.Real = link, dir
		f.pools["isos"] = p
	})
	_, errs, code := d.run("vol download images/vm1.raw " + filepath.Join(dir, "other.raw"))
	if code != record.ExitUsage || !strings.Contains(errs, `that is in pool "isos"`) || !strings.Contains(errs, "storagedctl vol clone images/vm1.raw isos/other.raw") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v (%v)", left, err)
	}
	if len(d.jobs) > 0 {
		t.Errorf("it began %+v", d.jobs)
	}
	if _, errs, code := d.run("vol download images/vm1.raw " + filepath.Join(elsewhere, "file")); code != record.ExitDone {
		t.Errorf("outside of pools: exit %d: %s", code, errs)
	}
}

// By a bind mount a pool's directory has another path, which no link tells of.
func TestDownloadIntoAPoolIsRefusedByAnyOfItsPaths(t *testing.T) {
	testenv.Root(t)
	d := newDaemon(t)
	pool, other := t.TempDir(), t.TempDir()
	if err := unix.Mount(pool, other, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { testenv.Unmount(t, other) })
	d.locked(func(f *fake) {
		p := f.pools["isos"]
		p.Target.Path, p.Real = pool, pool
		f.pools["isos"] = p
	})
	if _, errs, code := d.run("vol download images/vm1.raw " + filepath.Join(other, "new.raw")); code != record.ExitUsage || !strings.Contains(errs, `that is in pool "isos"`) {
		t.Errorf("exit %d: %s", code, errs)
	}
	if left, err := os.ReadDir(pool); err != nil || len(left) > 0 {
		t.Errorf("it left %v (%v)", left, err)
	}
}

// A pool may lie on a server that is away, and whoever looks there waits: the
// daemon's word is enough.
func TestNothingLooksIntoAPool(t *testing.T) {
	d := newDaemon(t)
	dead := testenv.Silent(t)
	d.locked(func(f *fake) {
		for name, p := range f.pools {
			p.Target.Path, p.Real = dead, dead
			f.pools[name] = p
		}
		for name, v := range f.volumes {
			v.Path, v.Key = dead+"/"+v.Name, dead+"/"+v.Name
			f.volumes[name] = v
		}
	})
	elsewhere := t.TempDir()
	if err := os.WriteFile(filepath.Join(elsewhere, "in"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"vol download images/vm1.raw " + elsewhere + "/out", "vol upload images/vm1.raw " + elsewhere + "/in --yes",
		"vol show " + dead + "/vm1.raw", "vol list", "pool show images", "pool define other --target " + dead, "pool delete isos --yes=isos --dry-run",
		"vol clone " + dead + "/base.raw images/copy", "vol delete " + dead + "/vm1.raw --yes", "job list --all --volume " + dead + "/base.raw",
	} {
		ended := make(chan string, 1)
		go func() {
			_, errs, code := d.run(line)
			ended <- fmt.Sprintf("exit %d: %s", code, errs)
		}()
		if got := await(t, ended); !strings.HasPrefix(got, "exit 0") {
			t.Errorf("%s: %s", line, got)
		}
	}
}

func TestPlaceOfADirectory(t *testing.T) {
	table := filepath.Join(t.TempDir(), "mountinfo")
	text := "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n" +
		"30 21 8:2 / /srv rw - xfs /dev/sdb rw\n" +
		"31 21 8:2 /pools/a\\040b /mnt/two\\040words rw - xfs /dev/sdb rw\n" +
		"32 21 0:40 / /over rw - nfs server:/x rw\n33 32 8:1 /deep /over rw - ext4 /dev/sda1 rw\nbroken\n"
	if err := os.WriteFile(table, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	list := slices.Collect(procfs.Mounts(table))
	for dir, want := range map[string]string{
		"/": "8:1 /", "/home/x": "8:1 /home/x", "/srv": "8:2 /", "/srv/pools/a b/c": "8:2 /pools/a b/c", "/srvx": "8:1 /srvx",
		"/mnt/two words": "8:2 /pools/a b", "/mnt/two words/c": "8:2 /pools/a b/c", "/over/x": "8:1 /deep/x",
	} {
		if got := locationOf(list, dir); got != want {
			t.Errorf("%s is %q, not %q", dir, got, want)
		}
	}
	if a, b := locationOf(nil, "/srv/a"), locationOf(nil, "/srv/a"); a != b || a == locationOf(nil, "/srv/b") {
		t.Errorf("without mounts: %q, %q", a, b)
	}
}

// Whatever fails, nothing unfinished stays beside the file.
func TestFailedDownloadLeavesNothing(t *testing.T) {
	d := newDaemon(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for name, fate := range map[string]func(*record.Job){
		"the job fails": failed(record.IO),
		"the name is taken": func(j *record.Job) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Error(err)
			}
			succeeded(j)
		},
	} {
		d.locked(func(f *fake) { f.fate = fate })
		if _, errs, code := d.run("vol download images/vm1.raw " + path); code != record.ExitFailed {
			t.Errorf("%s: exit %d: %s", name, code, errs)
		}
		if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
			t.Errorf("%s: it left %v (%v)", name, left, err)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	tl := quiet()
	tl.out, tl.errs = &out, &errs
	if code := tl.program().Main([]string{"storagedctl", "--socket", d.socket, "vol", "download", "images/vm1.raw", ""}); code != record.ExitUsage {
		t.Errorf("an empty name: exit %d: %s", code, errs.String())
	}
}

// A cancel that waits for what does not answer says how it is made quick.
func TestSlowCancelNamesNow(t *testing.T) {
	d := newDaemon(t).hold()
	d.locked(func(f *fake) { f.stubborn = true })
	d.run("vol clone images/base.raw images/x --detach")
	d.end(410, func(j *record.Job) { j.State = record.Canceling })
	tl, errs, late := quiet(), newScreen(t), make(chan time.Time)
	tl.out, tl.errs, tl.patience = new(bytes.Buffer), errs, time.Minute
	tl.after = func(time.Duration) <-chan time.Time { return late }
	code := make(chan int)
	go func() {
		code <- tl.program().Main([]string{"storagedctl", "--socket", d.socket, "job", "cancel", "410"})
	}()
	late <- time.Now()
	errs.expect("job 410 (volume.clone images/x) is still canceling; storagedctl job cancel 410 --now does not wait and kills its helper")
	d.end(410, canceledByAlice)
	if c := await(t, code); c != 0 {
		t.Errorf("exit %d", c)
	}
}
