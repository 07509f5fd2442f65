package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"storaged/internal/record"
)

// A flag that would do nothing is refused before anything is asked for.
func TestAFlagThatWouldDoNothingIsRefused(t *testing.T) {
	d := newDaemon(t)
	file := t.TempDir() + "/file"
	for _, line := range []string{
		"vol create images/x 1G --sparse", "vol delete images/vm1.raw --accept-limits --yes", "vol create images/x 1G --checksum sha256", "vol create images/x 1G --detect-zeros",
		"vol create images/x 1G --as-format qcow2", "vol create images/x 1G --detach --timeout 1s", "vol create images/x 1G --detach --cancel-after 1s",
		"kill 410 --detach --timeout 1s", "job retry 410 --detach --timeout 1s", "drain --off --timeout 1s",
		"vol list --columns volume -o json", "pool list --columns name -o name", "vol create images/x 1G --columns name", "job log 410 -o json", "job log 410 --columns job",
		"events -o name", "completion bash -o json", "vol download images/vm1.raw " + file + " --sparse", "vol download images/vm1.raw " + file + " --sparse --dry-run",
	} {
		_, errs, code := d.run(line)
		if code != record.ExitUsage || !strings.Contains(errs, "does nothing") {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
	}
	if len(d.jobs)+len(d.requests) > 0 {
		t.Errorf("%d jobs, requests %+v", len(d.jobs), d.requests)
	}
	for _, line := range []string{
		"vol create images/x 1G --detach --timeout 1s --detach=false", "vol list --columns volume -o table", "drain --dry-run --timeout 1s",
		"vol clone images/base.raw images/y --dry-run --columns bytes", "vol list -o json --bytes --no-headers --quiet",
	} {
		if _, errs, code := d.run(line); code != 0 {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
	}
}

// Every rule is about a flag and a verb that there are.
func TestIdleFlagsExist(t *testing.T) {
	p := (&tool{}).program()
	verbs := map[string][]string{}
	var walk func(words string, commands []*cli.Command)
	walk = func(words string, commands []*cli.Command) {
		for _, c := range commands {
			path := strings.TrimSpace(words + " " + c.Name)
			for _, f := range slices.Concat(c.Flags, p.App.Flags) {
				verbs[path] = append(verbs[path], f.Names()[0])
			}
			walk(path, c.Subcommands)
		}
	}
	walk("", p.App.Commands)
	for _, i := range idles {
		known := i.verb == ""
		for verb, flags := range verbs {
			known = known || verb == i.verb && slices.Contains(flags, i.flag)
		}
		if !known {
			t.Errorf("%q has no flag %q", i.verb, i.flag)
		}
	}
	for _, verb := range tabled {
		if verbs[verb] == nil {
			t.Errorf("there is no verb %q", verb)
		}
	}
}

// Of several objects each is tried, and each error said.
func TestEachOfSeveralIsTried(t *testing.T) {
	d := newDaemon(t)
	d.run("vol create images/x 1G")
	for _, c := range []struct {
		line string
		code int
		out  string
	}{
		{"vol show images/vm1.raw images/none -o name", record.ExitPartial, "images/vm1.raw\n"},
		{"vol show images/none images/vm1.raw /srv/none -o name", record.ExitPartial, "images/vm1.raw\n"},
		{"vol show images/none /srv/none", record.ExitNotFound, ""},
		{"vol list none isos -o name", record.ExitPartial, "isos/evil\\u202egpj.iso\n"},
		{"vol list none nope", record.ExitNotFound, ""},
		{"pool show images none -o name", record.ExitPartial, "images\n"},
		{"pool show none nope", record.ExitNotFound, ""},
		{"job show 99 410 -o name", record.ExitPartial, "410\n"},
		{"job show 99 98", record.ExitNotFound, ""},
		{"job wait 410 99 -o name", record.ExitPartial, "410\n"},
		{"job wait 410 99 --any -o name", record.ExitPartial, "410\n"},
		{"job watch 99 410 -o name", record.ExitPartial, "410\n"},
		{"job pin 99 410 -o name", record.ExitPartial, "410\n"},
		{"job forget 99 98 --dry-run", record.ExitNotFound, ""},
		{"kill 99 98", record.ExitNotFound, ""},
		{"vol delete /srv/none /srv/images/vm1.raw --yes -o name", record.ExitPartial, "images/vm1.raw\n"},
		{"vol delete /srv/none /srv/nope --yes", record.ExitNotFound, ""},
		{"vol delete /srv/none images/vm1.raw --yes --dry-run -o name", record.ExitPartial, "images/vm1.raw (delete)\n"},
		{"pool start none images --dry-run -o name", record.ExitPartial, "images (metadata)\n"},
		{"pool undefine none isos -o name", record.ExitPartial, "isos\n"},
	} {
		out, errs, code := d.run(c.line)
		if out != c.out || code != c.code || strings.Count(errs, "error:") < 2 {
			t.Errorf("%s: exit %d, not %d, %q, not %q\n%s", c.line, code, c.code, out, c.out, errs)
		}
	}
}

// What is named twice is one object, by its uuid too.
func TestWhatIsNamedTwiceIsDoneOnce(t *testing.T) {
	d := newDaemon(t)
	pool, job := "0199a0b4-3c5d-7e6f-8a9b-0c1d2e3f4a5c", "0199a0b4-3c5d-7e6f-8a9b-000000000410"
	d.locked(func(f *fake) {
		p := f.pools["isos"]
		p.UUID = pool
		f.pools["isos"] = p
	})
	d.run("vol create images/x 1G")
	for line, want := range map[string]string{
		"pool stop isos isos -o name":                                           "isos\n",
		"pool start isos images " + pool + " -o name":                           "isos\nimages\n",
		"pool show isos " + pool + " -o name":                                   "isos\n",
		"pool undefine none none --missing-ok -o name":                          "none\n",
		"vol list isos isos -o name":                                            "isos/evil\\u202egpj.iso\n",
		"vol show images/vm1.raw /srv/images/vm1.raw -o name":                   "images/vm1.raw\n",
		"vol clone images/base.raw images/y images/z images/y -o name":          "images/y\nimages/z\n",
		"vol delete images/vm1.raw /srv/images/vm1.raw --yes --dry-run -o name": "images/vm1.raw (delete)\n",
		"job show 410 410 -o name":                                              "410\n",
		"job pin 410 " + job + " -o name":                                       "410\n",
		"job wait 410 410 " + job + " -o name":                                  "410\n",
	} {
		if out, errs, code := d.run(line); out != want || code != 0 {
			t.Errorf("%s: exit %d, %q, not %q\n%s", line, code, out, want, errs)
		}
	}
	for _, line := range []string{"vol show images/none images/none", "pool start none none"} {
		if _, errs, code := d.run(line); code != record.ExitNotFound || strings.Count(errs, "error:") != 1 {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
	}
}

// Who takes another word is told ours.
func TestOtherWordsAreUnderstood(t *testing.T) {
	d := newDaemon(t)
	for line, says := range map[string]string{
		"vol remove images/x": "did you mean delete?", "log 410": "did you mean job log?", "job stop 410": "did you mean cancel?", "vol rename images/x images/y": "did you mean move?",
		"list --kind clone": "\"clone\" is no kind of job; there are volume.clone, snapshot.clone\n", "list --kind delete": "there are volume.delete, snapshot.delete, pool.delete\n",
		"vol resize images/vm1.raw 0 --shrink --yes": "hint: storagedctl vol delete images/vm1.raw", "vol resize images/vm1.raw -5G": "it cannot be negative; write the size that is wanted in the end",
		"job limit 410": "hint: usage: storagedctl job limit [JOB] RATE|none", "vol upload images/vm1.raw /none --yes": "cannot open \"/none\": no such file",
	} {
		if _, errs, code := d.run(line); code == 0 || !strings.Contains(errs, says) {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
	}
}

// All of a state are those of the state.
func TestListOfAllInAState(t *testing.T) {
	d := newDaemon(t)
	d.run("vol create images/x 1G")
	d.fate = failed(record.IO)
	d.run("vol create images/y 1G")
	for line, want := range map[string]string{"list --all --state failed": "411\n", "job list -a --state live": "", "job list -a": "411\n410\n"} {
		if out, errs, code := d.run(line + " -o name"); out != want || code != 0 {
			t.Errorf("%s: exit %d, %q, not %q\n%s", line, code, out, want, errs)
		}
	}
}

// With JSON each error is an object, also of several, and what is found of
// several is a list.
func TestErrorsOfSeveralAreObjects(t *testing.T) {
	d := newDaemon(t)
	out, errs, code := d.run("vol show images/vm1.raw images/none -o json")
	var found struct{ Items []record.Volume }
	if err := json.Unmarshal([]byte(out), &found); err != nil || len(found.Items) != 1 || code != record.ExitPartial {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	var codes []record.Code
	for line := range strings.Lines(errs) {
		var p record.Problem
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		codes = append(codes, p.Code)
	}
	if !slices.Equal(codes, []record.Code{record.NotFound, record.Partial}) {
		t.Errorf("%v", codes)
	}
}

// Short names and those of virsh do what is meant by them.
func TestAliasesDoWhatIsMeant(t *testing.T) {
	for line, ours := range map[string]string{
		"ls images -o name": "vol list images -o name", "vol ls -o json": "vol list -o json", "pools": "pool list", "pool ls": "pool list", "jobs": "list", "job ls --all": "job list --all",
		"rm images/vm1.raw": "vol delete images/vm1.raw", "cp images/base.raw images/x --dry-run": "vol clone images/base.raw images/x --dry-run",
		"mv images/base.raw images/y --dry-run": "vol move images/base.raw images/y --dry-run", "-o name vol mv images/base.raw images/y --dry-run": "vol move -o name images/base.raw images/y --dry-run",
		"vol rm images/vm1.raw --yes --dry-run": "vol delete images/vm1.raw --yes --dry-run", "job kill 7": "job cancel 7", "rm --help": "vol delete --help",
		"pool-list --all --details": "pool list", "pool-info images": "pool show images", "pool-dumpxml images": "pool show images -o xml", "pool-destroy images --dry-run": "pool stop images --dry-run",
		"vol-list images": "vol list images", "vol-list --pool images --details": "vol list images", "vol-info vm1.raw --pool images": "vol show images/vm1.raw", "vol-info --pool=images vm1.raw": "vol show images/vm1.raw",
		"vol-dumpxml /srv/images/vm1.raw": "vol show /srv/images/vm1.raw -o xml", "vol-clone --pool images base.raw z --dry-run": "vol clone images/base.raw images/z --dry-run",
		"vol-create-as images new 1G --dry-run --format raw": "vol create images/new 1G --dry-run --format raw", "vol-resize vm1.raw 9G --pool images --dry-run": "vol resize images/vm1.raw 9G --dry-run",
		"vol-delete vm1.raw --pool images": "vol delete images/vm1.raw", "vol-clone a b": "vol clone a b", "vol-list --all": "vol list --all", "vol-upload vm1.raw /none --pool images --yes": "vol upload images/vm1.raw /none --yes",
	} {
		d := newDaemon(t)
		out, errs, code := d.run(line)
		wantOut, wantErrs, wantCode := d.run(ours)
		if out != wantOut || errs != wantErrs || code != wantCode {
			t.Errorf("%s: exit %d, %s%s\n%s: exit %d, %s%s", line, code, out, errs, ours, wantCode, wantOut, wantErrs)
		}
	}
}

// A pool that is named twice over is not guessed, and no argument is taken for another.
func TestAliasesRefuseWhatIsMeantTwoWays(t *testing.T) {
	for line, says := range map[string]string{
		"vol-delete --pool images isos/x.iso --yes":      `"isos/x.iso" is not in pool "images"`,
		"vol-delete --pool images /srv/isos/x.iso --yes": `"/srv/isos/x.iso" is a path, and --pool names a pool; leave one out`,
		"vol-clone --pool images base.raw isos/y":        `"isos/y" is not in pool "images"`,
		"vol-delete vm1.raw --pool --yes":                "--pool needs a value; one that begins with a dash is written --pool=--yes",
		"vol-delete vm1.raw --yes --pool":                "--pool needs a value",
		"vol-delete srv/images/vm1.raw --pool= --yes":    "--pool: ",
		"vol-list --pool images/vm1.raw":                 `--pool: "images/vm1.raw" is a volume`,
		"cp images/vm1.raw images/base.raw images/z":     "cp takes 2 arguments; storagedctl vol clone SOURCE NEW… takes more",
		"vol cp images/vm1.raw images/y images/z":        "vol cp takes 2 arguments; storagedctl vol clone SOURCE NEW… takes more",
		"vol-clone --pool images vm1.raw y z":            "vol-clone takes 2 arguments; storagedctl vol clone SOURCE NEW… takes more",
	} {
		d := newDaemon(t)
		if _, errs, code := d.run(line); code != record.ExitUsage || !strings.Contains(errs, says) || len(d.jobs) > 0 {
			t.Errorf("%s: exit %d, %d jobs, %s", line, code, len(d.jobs), errs)
		}
	}
	d := newDaemon(t)
	if out, errs, code := d.run("vol-delete --pool images images/vm1.raw --yes -o name"); out != "images/vm1.raw\n" || code != 0 {
		t.Errorf("exit %d, %q %s", code, out, errs)
	}
}

// Every alias is a command that there is, and no other command's name.
func TestAliasesAreOfCommands(t *testing.T) {
	p := (&tool{}).program()
	names := map[string]bool{}
	var walk func(words string, commands []*cli.Command)
	walk = func(words string, commands []*cli.Command) {
		for _, c := range commands {
			names[strings.TrimSpace(words+" "+c.Name)] = true
			walk(strings.TrimSpace(words+" "+c.Name), c.Subcommands)
		}
	}
	walk("", p.App.Commands)
	for typed, a := range aliases() {
		means, _, _ := strings.Cut(a.Means, " -")
		if names[typed] || !names[means] || p.Synonyms[typed] != "" {
			t.Errorf("%q is said to be %q", typed, a.Means)
		}
	}
}

// Of several volumes patterns are taken; what has such a name itself is meant first.
func TestVolumesAreTakenByPatterns(t *testing.T) {
	d := newDaemon(t)
	d.locked(func(f *fake) {
		f.addVolume("images", "vm2.raw", 1<<30)
		f.addVolume("images", "odd[1].raw", 1<<30)
		f.addVolume("images", "odd1.raw", 1<<30)
	})
	for _, c := range []struct {
		line string
		code int
		out  string
	}{
		{"vol show images/vm* -o name", 0, "images/vm1.raw images/vm2.raw"},
		{"vol show images/vm?.raw images/vm1.raw images/base.raw -o name", 0, "images/vm1.raw images/vm2.raw images/base.raw"},
		{"vol show images/odd[1].raw -o name", 0, "images/odd[1].raw"},
		{"vol show images/od[cd]1.raw -o name", 0, "images/odd1.raw"},
		{"vol show images/[ -o name", record.ExitNotFound, ""},
		{"vol show images/no* images/vm2* -o name", record.ExitPartial, "images/vm2.raw"},
		{"vol list i*/*.raw -o name", 0, "images/base.raw images/odd1.raw images/odd[1].raw images/vm1.raw images/vm2.raw"},
		{"vol list isos images/vm* images/vm1.raw -o name", 0, "isos/evil\\u202egpj.iso images/vm1.raw images/vm2.raw"},
		{"vol list /srv/images/vm1.raw -o name", 0, "images/vm1.raw"},
		{"vol list images/no*", record.ExitNotFound, ""},
		{"vol delete images/vm*", record.ExitUsage, ""},
		{"vol delete images/vm* --yes --dry-run -o name", 0, "images/vm1.raw (delete) images/vm2.raw (delete)"},
		{"vol delete images/no* --yes --missing-ok -o name", 0, "images/no*"},
		{"vol delete images/vm* images/vm1.raw --yes -o name", 0, "images/vm1.raw images/vm2.raw"},
		{"rm images/no*", record.ExitNotFound, ""},
	} {
		out, errs, code := d.run(c.line)
		if got := strings.Join(strings.Split(strings.TrimSpace(out), "\n"), " "); got != c.out || code != c.code {
			t.Errorf("%s: exit %d, not %d, %q, not %q\n%s", c.line, code, c.code, got, c.out, errs)
		}
	}
	d.locked(func(f *fake) {
		if len(f.jobs) != 2 {
			t.Errorf("%d jobs", len(f.jobs))
		}
	})
}
