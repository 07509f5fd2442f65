package virtrpc_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"

	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
)

var (
	update = flag.Bool("update", false, "write the differences anew; those without a reason are to be given one")
	system = flag.String("libvirt", "", "compare with the libvirtd, by the virsh, of another system: `DIR` is its root directory")
)

// comparison is a script of virsh that two daemons are asked, and the list of what they
// answer otherwise.
type comparison struct {
	script, list string // files
	least        int    // commands
	exact        bool   // sizes of pools are the same on both sides
	inTurn       bool   // ours is asked when libvirt's is done, as both have the same storage
}

// What libvirt's own client gets from us is what it gets from libvirt, but for what is
// listed, each with its reason.
func TestVirshIsAnsweredAsByLibvirt(t *testing.T) {
	t.Parallel()
	c := comparison{script: "testdata/virsh.txtar", list: "testdata/differences.txt", least: 400}
	libvirt, we := bothSides(t)
	for _, s := range []*side{&libvirt, &we} {
		s.words = append(s.words, "$L", blankDevice(t))
		s.prepareImages(t)
	}
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(we.dir, "fs"), unix.MNT_DETACH) }) // it is mounted only if a command has failed
	c.run(t, libvirt, we)
}

// bothSides are libvirt's daemon and ours.
func bothSides(t *testing.T) (libvirt, we side) {
	t.Helper()
	socket, _ := testenv.System(*system).Libvirtd(t)
	ours := virtrpctest.NewHost(t)
	return newSide(t, virtrpctest.URI(socket), t.TempDir()), newSide(t, ours.URI(), filepath.Join(ours.Dir, "d"))
}

// run asks both, and compares what they answer.
func (c comparison) run(t *testing.T, libvirt, we side) {
	t.Helper()
	archive := must(txtar.ParseFile(c.script))(t)
	commands := commandsOf(string(archive.Comment))
	if len(commands) < c.least {
		t.Fatalf("%d commands", len(commands))
	}
	var theirs, mine []string
	t.Run("commands", func(t *testing.T) {
		begins := func(t *testing.T) {
			if !c.inTurn {
				t.Parallel()
			}
		}
		t.Run("libvirt", func(t *testing.T) { begins(t); theirs = libvirt.answers(t, archive, commands, c.exact) })
		t.Run("storaged", func(t *testing.T) { begins(t); mine = we.answers(t, archive, commands, c.exact) })
	})
	if t.Failed() {
		return
	}
	var got []difference
	for i, command := range commands {
		if theirs[i] != mine[i] {
			got = append(got, difference{command: command, nth: nth(commands, i), libvirt: theirs[i], ours: mine[i]})
		}
	}
	c.judge(t, got)
	t.Logf("%d commands, %d of them answered otherwise", len(commands), len(got))
}

// judge holds what is answered otherwise against the list.
func (c comparison) judge(t *testing.T, got []difference) {
	t.Helper()
	known := readDifferences(t, c.list)
	if *update {
		writeDifferences(t, c.list, got, known)
	}
	if *system != "" {
		compareWithOther(t, got, known)
	} else {
		compare(t, got, known)
	}
}

// commandsOf are the lines of a script that are no comments.
func commandsOf(script string) (all []string) {
	for line := range strings.Lines(script) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			all = append(all, line)
		}
	}
	return all
}

// nth is how often the same command came before.
func nth(commands []string, i int) (n int) {
	for _, c := range commands[:i] {
		if c == commands[i] {
			n++
		}
	}
	return n
}

// side is a daemon, a directory for its pools, and the words of scripts for what it has
// and the other has not: each "$" and letters, and what that is here.
type side struct {
	uri, dir string
	words    []string
	foreign  *regexp.Regexp // what an answer has of the other side's; nil: nothing
}

func newSide(t *testing.T, uri, dir string) side {
	t.Helper()
	s := side{uri: uri, dir: dir, words: []string{"$D", dir}}
	if err := os.MkdirAll(filepath.Join(dir, "xml"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write(t, "content", bytes.Repeat([]byte("content "), 16<<10))
	return s
}

// blankDevice is a device that carries nothing.
func blankDevice(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 64<<20)); err != nil {
		t.Fatal(err)
	}
	device, _ := testenv.Attach(t, file)
	return device
}

// answers gives what virsh writes for each command, all in one session.
func (s side) answers(t *testing.T, archive *txtar.Archive, commands []string, exact bool) []string {
	t.Helper()
	for _, f := range archive.Files {
		s.write(t, f.Name, []byte(s.own(string(f.Data))))
	}
	out := s.session(t, commands)
	parts := bytes.Split(out, []byte("virsh # "))[1:] // each begins with the command
	if len(parts) != len(commands)+1 {
		t.Fatalf("virsh answered %d of %d commands:\n%s", len(parts)-1, len(commands), out)
	}
	answers := make([]string, len(commands))
	for i, command := range commands {
		_, answer, _ := strings.Cut(string(parts[i]), "\n")
		if !exact {
			answer = withoutSizes(command, answer)
		}
		answers[i] = s.normal(answer)
	}
	return answers
}

// session has virsh do the commands one after the other.
func (s side) session(t *testing.T, commands []string) []byte {
	t.Helper()
	cmd := testenv.System(*system).Command(t, "stdbuf", "-oL", "virsh", "-q", "-c", s.uri)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C", "TERM=dumb", "COLUMNS=4096") // no line is wrapped
	cmd.Stdin = strings.NewReader(s.own(strings.Join(commands, "\n")) + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState.ExitCode() > 1 {
		t.Fatalf("virsh: %v\n%s", err, out)
	}
	return out
}

// own is a text with what the words stand for.
func (s side) own(text string) string { return strings.NewReplacer(s.words...).Replace(text) }

// prepareImages makes what others have in a directory.
func (s side) prepareImages(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(s.dir, "images", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"images/base.raw", "images/.hidden"} {
		s.write(t, name, make([]byte, 1<<20))
	}
	s.write(t, "images/text", []byte("no image"))
	if err := unix.Setxattr(filepath.Join(s.dir, "images", "text"), "security.selinux", []byte("system_u:object_r:virt_image_t:s0\x00"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("base.raw", filepath.Join(s.dir, "images", "link")); err != nil {
		t.Fatal(err)
	}
	for name, format := range map[string]string{"found.qcow2": "qcow2", "found.vdi": "vdi", "found.vmdk": "vmdk", "found.vpc": "vpc", "found.qed": "qed"} {
		s.qemu(t, "create", "-q", "-f", format, filepath.Join(s.dir, "images", name), "1M")
	}
	s.qemu(t, "create", "-q", "-f", "qcow2", "-b", filepath.Join(s.dir, "images", "base.raw"), "-F", "raw", filepath.Join(s.dir, "images", "overlay.qcow2"))
}

func (s side) write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (side) qemu(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), testenv.Tool(t, "qemu-img"), args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

var (
	uuidPattern = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	lvmPattern  = regexp.MustCompile(`\b[A-Za-z0-9]{6}(-[A-Za-z0-9]{4}){5}-[A-Za-z0-9]{6}\b`) // uuid of LVM
	timePattern = regexp.MustCompile(`<([amcb]time)>[0-9.]*</`)
	jobPattern  = regexp.MustCompile(` \(job [0-9]+\)`)
	oldPattern  = regexp.MustCompile(`; these figures are old, [^;]*`) // on a slow machine
	pointer     = regexp.MustCompile(`-+\^`)                           // to a place in a document, whose length differs
	blanks      = regexp.MustCompile(`[ \t]+`)
	sizePattern = regexp.MustCompile(`[0-9]+(\.[0-9]+)? ?([KMGT]iB|B)?\b`)
	poolFigures = regexp.MustCompile(`(?m)^(Capacity|Allocation|Available): +[1-9].*$`)
	poolSizes   = regexp.MustCompile(`<(capacity|allocation|available) unit='bytes'>[1-9][0-9]*<`)
)

// figure stands for one that differs.
const figure = "N"

// normal takes out of an answer what must differ: what is the side's own, uuids, times,
// and which job has failed.
func (s side) normal(text string) string {
	for i := 0; i < len(s.words); i += 2 {
		text = strings.ReplaceAll(text, s.words[i+1], s.words[i])
	}
	text = strings.ReplaceAll(text, s.uri, "URI")
	if s.foreign != nil {
		text = s.foreign.ReplaceAllString(text, "")
	}
	text = uuidPattern.ReplaceAllString(text, "UUID")
	text = lvmPattern.ReplaceAllString(text, "LVMUUID")
	text = jobPattern.ReplaceAllString(text, "")
	text = oldPattern.ReplaceAllString(text, "")
	text = pointer.ReplaceAllString(text, "--^")
	text = timePattern.ReplaceAllString(text, "<$1>T</")
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(blanks.ReplaceAllString(line, " ")); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// withoutSizes takes out how full the file system of a pool is.
func withoutSizes(command, text string) string {
	switch {
	case strings.HasPrefix(command, "pool-info"):
		return poolFigures.ReplaceAllString(text, "$1: "+figure)
	case strings.HasPrefix(command, "pool-dumpxml"):
		return poolSizes.ReplaceAllString(text, "<$1 unit='bytes'>"+figure+"<")
	case strings.HasPrefix(command, "pool-list") && strings.Contains(command, "--details"):
		return sizePattern.ReplaceAllString(text, figure)
	}
	return text
}

// difference is a command that is answered otherwise, and why.
type difference struct {
	reason  string
	command string
	nth     int // how often it came before
	libvirt string
	ours    string
}

func (d difference) same(o difference) bool {
	return d.command == o.command && d.nth == o.nth && d.libvirt == o.libvirt && d.ours == o.ours
}

func (d difference) String() string {
	count := ""
	if d.nth > 0 {
		count = fmt.Sprintf(" (%d)", d.nth+1)
	}
	text := "$ " + d.command + count + "\n"
	for _, side := range [][2]string{{"-", d.libvirt}, {"+", d.ours}} {
		for line := range strings.Lines(side[1]) {
			text += side[0] + " " + strings.TrimRight(line, "\n") + "\n"
		}
	}
	return text
}

const noReason = "REASON?"

func compare(t *testing.T, got, known []difference) {
	t.Helper()
	for _, d := range got {
		i := slices.IndexFunc(known, d.same)
		if i < 0 || known[i].reason == noReason {
			t.Errorf("is not listed:\n%s", d)
		}
	}
	for _, k := range known {
		if !slices.ContainsFunc(got, k.same) {
			t.Errorf("is listed, and not so:\n%s", k)
		}
	}
}

// compareWithOther knows the differences from another libvirt by what we answer: its own
// words are other ones sometimes, and some things it has not.
func compareWithOther(t *testing.T, got, known []difference) {
	t.Helper()
	for _, d := range got {
		i := slices.IndexFunc(known, func(k difference) bool { return k.command == d.command && k.nth == d.nth && k.ours == d.ours })
		switch {
		case i < 0:
			t.Errorf("is not listed:\n%s", d)
		case known[i].libvirt != d.libvirt:
			t.Logf("this libvirt has other words:\n%s", d)
		}
	}
	for _, k := range known {
		if !slices.ContainsFunc(got, func(d difference) bool { return k.command == d.command && k.nth == d.nth }) {
			t.Logf("this libvirt answers as we do: %s", k.command)
		}
	}
}

var entryPattern = regexp.MustCompile(`^(.*?)(?: \(([0-9]+)\))?$`)

// readDifferences reads the list: reasons, each with the commands of which it is the one.
func readDifferences(t *testing.T, file string) (all []difference) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !*update {
		t.Fatal(err)
	}
	reason := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		mark, rest, _ := strings.Cut(line, " ")
		var at *difference
		if len(all) > 0 {
			at = &all[len(all)-1]
		}
		switch mark {
		case "##":
			reason = rest
		case "$":
			m := entryPattern.FindStringSubmatch(rest)
			d := difference{reason: reason, command: m[1]}
			if m[2] != "" {
				fmt.Sscan(m[2], &d.nth)
				d.nth--
			}
			all = append(all, d)
		case "-":
			at.libvirt = joined(at.libvirt, rest)
		case "+":
			at.ours = joined(at.ours, rest)
		}
	}
	return all
}

func joined(text, line string) string {
	if text == "" {
		return line
	}
	return text + "\n" + line
}

// writeDifferences lists what there is, with the reasons that are known of a command.
func writeDifferences(t *testing.T, file string, got, known []difference) {
	t.Helper()
	var reasons []string
	by := map[string][]difference{}
	for _, d := range got {
		d.reason = noReason
		if i := slices.IndexFunc(known, func(k difference) bool { return k.command == d.command && k.nth == d.nth }); i >= 0 {
			d.reason = known[i].reason
		}
		if by[d.reason] == nil {
			reasons = append(reasons, d.reason)
		}
		by[d.reason] = append(by[d.reason], d)
	}
	text := "# What virsh gets from storaged (+) otherwise than from libvirt 9.0 (-), and why.\n"
	for _, r := range reasons {
		text += "\n## " + r + "\n\n"
		for _, d := range by[r] {
			text += d.String()
		}
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
