package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/goleak"

	"storaged/internal/record"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestMain lets the test binary be storagedctl too, for tests that need a
// process of its own.
func TestMain(m *testing.M) {
	time.Local = time.UTC
	if os.Getenv("STORAGEDCTL_MAIN") == "1" {
		main()
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update and look at the difference):\n%s", path, firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\ngot  %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, not %d", len(g), len(w))
}

// transcript runs lines one after the other and writes down what a person
// would see.
func transcript(d *daemon, lines ...string) string {
	var b strings.Builder
	for _, line := range lines {
		out, errs, code := d.run(line)
		fmt.Fprintf(&b, "$ storagedctl %s\n%s", line, out)
		for l := range strings.Lines(errs) {
			b.WriteString("2> " + l)
		}
		if code != 0 {
			fmt.Fprintf(&b, "exit %d\n", code)
		}
		b.WriteByte('\n')
	}
	return strings.ReplaceAll(b.String(), d.socket, "SOCKET")
}

func TestPoolTranscript(t *testing.T) {
	d := newDaemon(t)
	golden(t, "pool", transcript(d,
		"pool list", "pool list --bytes --columns name,available,target --no-headers", "pool list --columns name,colour",
		"pool list -o name", "pool list -o jsonl", "pool show images", "pool show images isos -o name", "pool show nothing",
		"pool sources", "pool sources dir", "pool sources netfs --host server", "pool sources netfs --host server -o name", "pool sources netfs --host server -o json", "pool sources netfs --host server -o xml",
		"pool define new --target /srv/new", "pool define new --target /srv/new -o json --no-autostart --type dir", "pool define images --target /srv/images",
		"pool define images --target /srv/images --exist-ok", "pool define images --target /srv/images --exist-ok -o json", "pool define images --target /srv/other --exist-ok",
		"pool define", "pool define x --target /srv/x --dry-run", "pool create new --target /srv/new", "pool create images --target /srv/images --exist-ok",
		"pool start images isos", "pool refresh images -o name", "pool verify images", "pool evacuate images", "pool evacuate images --to isos", "pool evacuate images --to isos --yes --only vm*", "pool evacuate images --to isos --keep-source --on-error stop", "pool evacuate images --to isos --only [a --yes", "pool stop nothing", "pool stop nothing --missing-ok", "pool stop nothing --missing-ok -o json",
		"pool build images", "pool build images --overwrite --no-overwrite", "pool autostart images --disable", "pool autostart images -o name",
		"pool delete images", "pool delete images --yes=isos", "pool delete images --yes=images --dry-run", "pool delete images --yes=images", "pool delete images --yes",
		"pool undefine isos", "pool undefine isos", "pool undefine isos --missing-ok", "pool undefine isos images nothing",
	))
}

func TestVolumeTranscript(t *testing.T) {
	d := newDaemon(t)
	golden(t, "volume", transcript(d,
		"vol list", "volume list images --bytes", "vol list nothing", "vol list images isos -o name", "vol list --columns volume,path,origin",
		"vol show images/vm1.raw", "vol show /srv/images/vm1.raw -o name", "vol show /srv/images/none", "vol show images/vm1.raw isos/none", "vol show images/vm1.raw images/base.raw --columns volume,capacity",
		"vol create images/new.raw 10G", "vol create images/a.raw 10G --allocation none --detach", "vol create images/b.raw 1G -o name", "vol create images/vm1.raw 5G",
		"vol create images/vm1.raw 5G --exist-ok", "vol create images/vm1.raw 5G --exist-ok -o json", "vol create images/vm1.raw 6G --exist-ok",
		"vol clone images/base.raw images/c1 images/c2", "vol clone images/base.raw images/c3 images/vm1.raw", "vol clone images/base.raw images/c4 --dry-run",
		"vol clone images/base.raw images/c4 images/c4", "vol resize images/vm1.raw +5G", "vol resize images/vm1.raw 1G --shrink", "vol resize images/vm1.raw 1G --shrink --yes",
		"vol wipe images/vm1.raw", "vol wipe images/vm1.raw --yes --verify", "vol trim images/vm1.raw", "vol trim images/vm1.raw --give-up-allocation --dry-run", "vol trim images/none", "vol verify images/vm1.raw", "vol verify images/vm1.raw --checksum sha256:12", "vol delete images/vm1.raw", "vol delete images/vm1.raw images/none --yes",
		"vol move images/base.raw isos/b.raw", "vol move images/base.raw images/vm1.raw", "vol move images/none images/x", "vol move images/base.raw images/y --dry-run", "vol move images/base.raw",
		"vol delete images/none /srv/none --yes --missing-ok", "vol delete /srv/none --yes --missing-ok -o json", "vol delete images/vm1.raw --yes --quiet",
	))
}

func TestJobTranscript(t *testing.T) {
	d := newDaemon(t)
	d.fate = failed(record.IO)
	d.run("vol wipe images/vm1.raw --yes")
	d.locked(func(f *fake) {
		f.held = true
		f.nextLog[410] = "one\tline\nand \x1b[31manother\n"
	})
	d.run("vol clone images/base.raw images/x --detach")
	d.run("vol clone images/base.raw images/y --detach")
	d.locked(func(f *fake) {
		f.change(412, func(j *record.Job) {
			j.State = record.Queued
			j.WaitingOn = []record.Blocker{{
				For: "lock", Object: &record.Object{Pool: "images", Volume: "base.raw"}, Mode: record.ModeWrite, Since: day, NextWindow: &day,
				Holder: &record.Holder{Number: 411, Kind: record.VolumeClone, Owner: &record.Owner{User: "alice"}},
			}}
		})
	})
	golden(t, "job", transcript(d,
		"list", "job list --all", "job list --bytes --columns job,state,rate,labels", "list -o name", "job show 410", "job show 411", "job show 412", "job show 5",
		"job show x", "job pause 411", "job resume 411 -o name", "job limit 411 100M", "job limit 411 none", "job limit 411 0", "job priority 411 background", "job priority 411 high",
		"job pin 411 412", "job pin 411 --off -o name", "job forget 411", "job forget 410", "job log 410", "job wait 410", "job watch 410", "kill 410", "kill 411", "job cancel 412 --detach", "list",
		"job retry 410 --detach", "job retry 410 --detach --yes=images", "job retry 410 --detach --yes", "job retry 411 --detach", "job retry 410 --dry-run", "job log 5",
	))
}

// Verbs take jobs by what they are; what destroys asks.
func TestSelectionTranscript(t *testing.T) {
	d := newDaemon(t)
	d.locked(func(f *fake) { f.held = true })
	d.run("vol wipe images/vm1.raw --yes --detach")
	d.run("vol clone images/base.raw images/x --detach")
	d.run("vol clone images/base.raw images/y --detach")
	d.locked(func(f *fake) {
		f.change(410, func(j *record.Job) { j.Labels = map[string]string{"a": "b"} })
		f.change(411, func(j *record.Job) { j.Labels = map[string]string{"a": "c"} })
		f.change(412, func(j *record.Job) { j.State = record.Queued })
	})
	golden(t, "select", transcript(d,
		"job list --label a=b --label a=c -o name", "job limit --kind volume.clone 50M", "job limit", "job limit 410 --kind volume.clone 50M",
		"job priority --state queued background", "job pause --label a=b -o name", "job resume --state paused --state running -o name", "job pin --kind volume.wipe",
		"job wait --kind pool.verify", "job cancel", "job cancel --kind volume.clone", "job cancel --kind volume.clone --dry-run",
		"kill --state queued --yes", "job list -o name", "job forget --state ended", "job forget --state canceled --yes", "job list --all -o name",
	))
}

func TestHostTranscript(t *testing.T) {
	d := newDaemon(t)
	golden(t, "host", transcript(d,
		"status", "limits", "limits show -o json",
		"limits set --running 32", "limits set --pool images --rate none", "limits set --rate 100M -o name", "limits set", "limits set --running none",
		"limits set --rate fast", "limits set --queued none", "limits set --pool a --running-pool 2", "limits set --running-device x", "secret list", "secret set disks --file none", "secret set disks", "secret list -o json", "secret delete disks", "secret delete disks --yes --dry-run", "secret delete disks --yes", "secret delete none --yes", "drain --dry-run", "drain", "status", "drain --off", "drain --off -o json", "limits set --pool a --device 8:0 --rate 1", "limits set --running 3 --dry-run", "limits set --pool p --running none --dry-run", "capabilities", "capabilities -o name", "version -o json", "completion csh", "stauts", "pool lits", "vol create --capacity", "vol rename a/b c", "volume trimm a/b", "vol create images/x", "vol clone images/vm1.raw isos",
	))
}

// TestHelpOfEveryCommand keeps all help texts, so that a change of one is
// seen.
func TestHelpOfEveryCommand(t *testing.T) {
	var b strings.Builder
	var walk func(path []string, commands []*cli.Command)
	walk = func(path []string, commands []*cli.Command) {
		var out, errs bytes.Buffer
		tl := &tool{out: &out, errs: &errs}
		args := append(append([]string{"storagedctl"}, path...), "--help")
		if code := tl.program().Main(args); code != 0 || errs.Len() > 0 {
			t.Errorf("%s: exit %d, %s", args, code, errs.String())
		}
		fmt.Fprintf(&b, "$ %s\n%s\n", strings.Join(args, " "), out.String())
		for _, c := range commands {
			walk(append(path[:len(path):len(path)], c.Name), c.Subcommands)
		}
	}
	walk(nil, (&tool{}).program().App.Commands)
	golden(t, "help", b.String())
}

// A job that waited for another, and had nothing to do then, says so.
func TestJobThatHadNothingToDoSaysSo(t *testing.T) {
	d := newDaemon(t)
	d.locked(func(f *fake) {
		f.fate = func(j *record.Job) { succeeded(j); j.Result = &record.Result{Unchanged: true} }
	})
	if _, errs, code := d.run("vol clone images/base.raw images/x --exist-ok"); code != 0 || !strings.Contains(errs, "succeeded in 4.0 s, nothing to do") {
		t.Errorf("exit %d, %s", code, errs)
	}
	for _, line := range []string{"vol clone images/base.raw images/x --exist-ok", "vol delete images/vm1.raw --missing-ok --yes", "vol clone images/base.raw images/base.raw --exist-ok"} {
		if out, errs, code := d.run(line + " -o json"); code != 0 || !strings.Contains(out, `"changed": false`) {
			t.Errorf("%s: exit %d, %s%s", line, code, out, errs)
		}
	}
}
