package main

import (
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/term"
)

// format runs a verb with a template, which may have blanks in it.
func (d *daemon) format(verb, template string) (out, errs string, code int) {
	d.t.Helper()
	t := quiet()
	var o, e strings.Builder
	t.out, t.errs = &o, &e
	args := append([]string{"storagedctl", "--socket", d.socket}, strings.Fields(verb)...)
	code = t.program().Main(append(args, "--format", template))
	return o.String(), e.String(), code
}

func TestThingsArePrintedByTemplates(t *testing.T) {
	d := newDaemon(t).hold()
	d.run("vol clone images/base.raw images/x --detach --label a=b")
	d.run("vol clone images/base.raw images/y --detach")
	d.end(411, queued)
	for _, c := range []struct{ verb, template, want string }{
		{"list", "{{.Number}} {{.State}}", "410 running\n411 queued\n"},
		{"list --sort -job", `{{.Number}}\t{{.Kind}}`, "411\tvolume.clone\n410\tvolume.clone\n"},
		{"list", "{{.Number}} {{.Phase.Name}}{{with .Estimate.RemainingS}}, {{.}} s{{end}}", "410 copy, 2.8 s\n411 \n"},
		{"job show 410", "{{range .Objects}}{{.Pool}}/{{.Volume}} {{end}}{{.Progress.Total | size}} {{.Created.Year}} {{index .Labels \"a\"}}", "images/base.raw images/x 2.00 GiB 2025 \n"},
		{"list", "table {{.Number}} {{.State}}\t{{.Progress.RateBytes}} B/s", "NUMBER  STATE    RATEBYTES\n410     running  512000000 B/s\n411     queued   0 B/s\n"},
		{"list --no-headers", "table {{.Number}}", "410\n411\n"},
		{"list --state failed", "{{.Number}}", ""},
		{"vol list isos", "{{.Name}}{{.Name | printf \"%-3.3s|\"}}", `evil\u202egpj.isoevi|` + "\n"},
		{"vol show images/vm1.raw images/base.raw", "{{upper .Name}}", "VM1.RAW\nBASE.RAW\n"},
		{"pool list", "{{if .Autostart}}{{.Name}}{{else}}-{{end}}", "images\nisos\n"},
		{"status", "{{.State}} {{len .Attention}} {{.PID}}", "ready 2 99\n"},
		{"version", "{{.Daemon.Version}}", "1.0.0\n"},
		{"secret list", `{{.Name}} {{join "," .UsedBy}}`, "disks images/vm1.luks\nold \n"},
		{"secret list", `{{.Name}} {{join .UsedBy ","}}{{.UsedBy | join "+"}}`, "disks images/vm1.luksimages/vm1.luks\nold \n"},
		{"capabilities", "{{.Type}} {{.Sparse}}", "dir true\n"},
		{"list", `{{.Number}}{{size .Limit}} {{join "," .Helper.Confinement.Capabilities}}`, "410 chown,fowner\n411 \n"},
		{"list", `{{.Number}} {{.Started.UTC.Format "15:04"}}{{range .Helper.Argv}} {{.}}{{break}}{{end}}{{if .Ended}}!{{end}}{{.Ended.Year}}`, "410 09:12 storage-helper\n411 \n"},
		{"list", "{{.Number}} {{len .Helper.Argv}}{{if eq .Number 411}}{{.Helper.Argv}}{{end}}", "410 4\n411 0\n"},
		{"list --state failed", "{{(index .Objects 0).Pool}} {{size .Limit}}", ""},
		{"job show 410", "{{.Progress}}; {{.Objects}}; {{.Labels}}; {{.Phase}}", "Bounded=true Done=734003200 Percent=34.2 RateBytes=512000000 Total=2147483648 Unit=bytes; " +
			"[{Mode=R Pool=images Volume=base.raw} {Mode=W Pool=images Volume=x}]; ; Count=3 Index=1 Name=copy\n"},
		{"list", "table {{.Number}}\t{{range .Objects}}{{.Pool}} {{.Volume}}\\t{{end}}|{{if .Started}} {{.State}}{{end}} {{.Kind}}",
			"NUMBER  OBJECTS                             KIND\n410     images base.raw images x | running  volume.clone\n411     images base.raw images y |          volume.clone\n"},
	} {
		if out, errs, code := d.format(c.verb, c.template); out != c.want || code != 0 {
			t.Errorf("%s %q: exit %d, %q, not %q\n%s", c.verb, c.template, code, out, c.want, errs)
		}
	}
}

// What is wrong with a template is said with its place, before anything is printed.
func TestAWrongTemplateIsToldWithItsPlace(t *testing.T) {
	d := newDaemon(t)
	d.run("vol clone images/base.raw images/x")
	for template, says := range map[string]string{
		"{{.Number}} {{.Sate}}":            `--format: column 15, .Sate: there is no field "Sate"`,
		"table {{.Number}} {{.Sate}}":      `--format: column 21, .Sate: there is no field "Sate"`,
		"{{.Number}} {{.Progress.Percnt}}": `column 24, .Progress.Percnt: there is no field "Percnt"`,
		"{{.Number}} {{.State":             "--format: column 13: unclosed action",
		"{{.Number}} {{nofunc .}}":         "--format: column 13: function \"nofunc\" not defined",
		"{{.Number}} {{if .State}}x":       "--format: column 27: unexpected EOF",
		strings.Repeat("x", maxTemplate+1): "bytes are more than",
	} {
		for _, verb := range []string{"list --all", "list"} {
			if out, errs, code := d.format(verb, template); code != record.ExitUsage || !strings.Contains(errs, says) || out != "" {
				t.Errorf("%s, %.40q: exit %d, %.20q %s", verb, template, code, out, errs)
			}
		}
	}
	for template, says := range map[string]string{ // whatever there is
		"json": `--format: "json" has no {{...}}`, "Number": "write a template, like", "table ": "has no {{...}}", "": "has no {{...}}",
		"xml": "-o xml prints xml", "jsonl": "-o jsonl prints jsonl",
	} {
		for _, verb := range []string{"list --all", "list", "pool list", "vol show images/vm1.raw"} {
			if out, errs, code := d.format(verb, template); code != record.ExitUsage || !strings.Contains(errs, says) || out != "" {
				t.Errorf("%s, %q: exit %d, %q %s", verb, template, code, out, errs)
			}
		}
	}
	for template, says := range map[string]string{ // with what there is
		`{{join "," .Number}}`: "join takes a separator and a list", `{{join .Objects .Objects}}`: "join takes a separator and a list",
		"{{printf \"%99999d\" .Number}}": "a width has three digits at most",
		"{{range 2000000}}x{{end}}":      "more than 1048576 bytes for one line",
		"{{size .Kind}}":                 `"volume.clone" is no number of bytes`,
	} {
		if out, errs, code := d.format("list --all", template); code != record.ExitUsage || !strings.Contains(errs, says) || out != "" {
			t.Errorf("%.40q: exit %d, %.20q %s", template, code, out, errs)
		}
		if out, errs, code := d.format("list", template); code != 0 || out+errs != "" {
			t.Errorf("%.40q of nothing: exit %d, %.20q %s", template, code, out, errs)
		}
	}
	for template, hint := range map[string]string{ // what there is in its place is named
		"{{.Owner.Foo}}": ".Owner has Command, ", "{{$.Owner.Foo}}": ".Owner has Command, ", "{{range .Objects}}{{.Foo}}{{end}}": ".Objects has Mode, Pool, Volume",
		"{{with .Progress}}{{.Unit}}{{.Foo}}{{end}}": ".Progress has Bounded, Done, ", "{{if .Helper.Confinement.Foo}}{{end}}": ".Helper.Confinement has Anywhere, Capabilities, ",
		"{{.Foo}}": "there are AnsweredBy, ", "{{.Started.Foo}}": "there are AnsweredBy, ", `{{define "x"}}{{.Foo}}{{end}}{{template "x" .}}`: "there are AnsweredBy, ",
	} {
		if _, errs, code := d.format("list --all", template); code != record.ExitUsage || !strings.Contains(errs, "hint: "+hint) {
			t.Errorf("%s: exit %d, %s", template, code, errs)
		}
	}
	for _, verb := range []string{"list -o json", "list --columns job"} {
		if _, errs, code := d.format(verb, "{{.Number}}"); code != record.ExitUsage || !strings.Contains(errs, "--format does nothing beside") {
			t.Errorf("%s: exit %d, %s", verb, code, errs)
		}
	}
	if _, errs, code := d.run("vol clone images/base.raw images/y --format qcow2 -o json"); code != 0 {
		t.Errorf("a format of an image: exit %d, %s", code, errs)
	}
}

// On a narrow terminal names are cut, and no number.
func TestNumbersOfATemplateAreNotCut(t *testing.T) {
	f, err := parseForm("table {{.Name}} {{.Capacity}}")
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{"a-volume-with-a-long-name\t10737418240000000", "b\t512 B/s", "c\t"}
	var b strings.Builder
	if err := term.Table(&b, f.columns(lines), lines, term.Layout{Width: 32}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(strings.Split(b.String(), "\n")[1]); len(got) != 2 || got[1] != "10737418240000000" || got[0] == "a-volume-with-a-long-name" {
		t.Errorf("%s", b.String())
	}
}

// Nothing in a name becomes an order to the terminal, whatever the template does with it.
func TestTemplatesShowHostileTextAsText(t *testing.T) {
	d := newDaemon(t)
	d.locked(func(f *fake) { f.addVolume("isos", "a\x1b]0;x\x07\tb", 1) })
	for _, template := range []string{"{{.Name}}", "{{range $k, $v := .}}{{$v}} {{end}}", "{{with .Name}}{{.}}{{end}}", `{{define "x"}}{{.Name}}{{end}}{{template "x" .}}`, "table {{.Name}} {{.Path}}", "{{$n := .Name}}{{$n}}", "{{printf \"%s\" .Name}}", "{{.}}"} {
		out, errs, code := d.format("vol list isos", template)
		if code != 0 || strings.ContainsAny(strings.ReplaceAll(out, "\n", ""), "\x1b\x07\t\u202e") || !strings.Contains(out, `\x1b]0;x\a\tb`) {
			t.Errorf("%s: exit %d, %q %s", template, code, out, errs)
		}
	}
}
