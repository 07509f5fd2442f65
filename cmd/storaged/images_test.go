package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// image makes an image by qemu-img in a pool's directory and has the pool read.
func (h *host) image(pool string, args ...string) {
	h.t.Helper()
	qemuImage(h.t, args...)
	h.must(h.refresh(pool))
}

func qemuImage(t *testing.T, args ...string) {
	t.Helper()
	args = append([]string{"create", "-q"}, args...)
	if out, err := exec.Command(testenv.Tool(t, "qemu-img"), args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, out)
	}
}

func sizeAt(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

func TestWipedImageIsRaw(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for name, how := range map[string]string{"zeroed": "zero", "random": "random", "trimmed": "trim"} {
		t.Run(name, func(t *testing.T) {
			h.image("pool", "-f", "qcow2", h.path(name), "10M")
			if v := h.entry(name); v.Format != "qcow2" || v.Capacity != 10*mib {
				t.Fatalf("it is found as %s", shown(v))
			}
			size := sizeAt(t, h.path(name))
			h.succeed(h.wipe(name, algorithm(how), acceptLimits))
			for range 2 {
				h.is(name, record.Volume{Format: record.FormatRaw, Capacity: size, State: record.VolumeReady})
				h.must(h.refresh("pool"))
			}
		})
	}
}

// TestBaseIsKeptHoweverAnOverlayNamesIt: files are compared by what they are.
func TestBaseIsKeptHoweverAnOverlayNamesIt(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	other := filepath.Join(h.dir, "pool2")
	h.define("other", other)
	for _, link := range [][2]string{{h.pool, filepath.Join(h.dir, "way")}, {h.path("base"), filepath.Join(other, "link")}} {
		h.must(os.Symlink(link[0], link[1]))
	}
	here, there := h.path("child"), filepath.Join(other, "child")
	for _, c := range []struct{ what, child, backing string }{
		{"plain", here, h.path("base")},
		{"slashes", here, h.pool + "//base"},
		{"dot", here, h.pool + "/./base"},
		{"dots", here, h.pool + "/../pool/base"},
		{"symlinked directory", here, h.dir + "/way/base"},
		{"relative", here, "base"},
		{"relative dots", here, "../pool/./base"},
		{"file protocol", here, "file:" + h.path("base")},
		{"json", here, `json:{"driver":"raw","file":{"driver":"file","filename":"` + h.path("base") + `"}}`},
		{"json dotted", here, `json:{"driver":"raw","file.filename":"` + h.pool + `/./base"}`},
		{"other pool", there, h.path("base")},
		{"other pool relative", there, "../pool/base"},
		{"other pool by a link", there, "link"},
	} {
		t.Run(c.what, func(t *testing.T) {
			h.sparse("base", mib)
			qemuImage(t, "-u", "-f", "qcow2", "-F", "raw", "-b", c.backing, c.child, "1M") // and nobody has refreshed since
			name := "pool/child"
			if c.child == there {
				name = "other/child"
			}
			h.keepsBase(t, name)
			h.must(os.Remove(c.child))
			// Nobody has told the daemon, as nobody did of the overlay.
			h.succeed(h.remove("base"))
		})
	}
}

func TestPoolThatCannotBeReadKeepsNobodyFromDeleting(t *testing.T) {
	t.Parallel()
	h := hangingRefresh(t)
	h.sparse("v", mib)
	j := h.succeed(h.remove("v"))
	if len(j.Warnings) != 1 || !strings.Contains(j.Warnings[0], `"pool"`) {
		t.Errorf("warnings %q", j.Warnings)
	}
}

// TestGuestsHeaderKeepsNothing: what a guest writes into a raw volume, or an image
// says of itself, is no reason to keep a volume.
func TestGuestsHeaderKeepsNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("base", mib)
	h.sparse("guest", mib)
	planted := filepath.Join(h.dir, "planted")
	qemuImage(t, "-f", "qcow2", "-F", "raw", "-b", h.path("base"), planted, "1M")
	header := must(os.ReadFile(planted))(t)
	disk := must(os.OpenFile(h.path("guest"), os.O_WRONLY, 0))(t)
	if _, err := disk.WriteAt(header[:min(len(header), 64<<10)], 0); err != nil {
		t.Fatal(err)
	}
	h.must(disk.Close())
	h.succeed(h.remove("base"))
	qemuImage(t, "-u", "-f", "qcow2", "-F", "qcow2", "-b", "self", h.path("self"), "1M")
	h.must(h.refresh("pool"))
	h.succeed(h.remove("self"))
}

// keepsBase fails unless every verb that would destroy the volume "base" is
// refused because of the child.
func (h *host) keepsBase(t *testing.T, child string) {
	t.Helper()
	file, _ := h.given("src", mib)
	for verb, do := range map[string]func() (started, error){
		"delete": func() (started, error) {
			return h.remove("base")
		},
		"delete --dry-run": func() (started, error) {
			return h.remove("base", dryRun)
		},
		"wipe": func() (started, error) {
			return h.wipe("base")
		},
		"shrink": func() (started, error) {
			return h.resize("base", 4096, shrink)
		},
		"move": func() (started, error) {
			return h.move("base", "moved")
		},
		"upload": func() (started, error) { return h.hand("base", file) },
	} {
		_, err := do()
		if record.CodeOf(err) != record.HasChildren || !strings.Contains(err.Error(), child) {
			t.Errorf("%s: %v, want a refusal that names %s", verb, err, child)
		}
	}
	if v := h.entry("base"); !slices.Equal(v.Children, []string{child}) || v.State != record.VolumeReady {
		t.Errorf("it is %s, with the children %q", v.State, v.Children)
	}
}

func TestPoolKeepsWhatImagesMadeSinceStandOn(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	other := filepath.Join(h.dir, "pool2")
	h.define("other", other)
	h.sparse("base", mib)
	h.sparse("alone", mib)
	qemuImage(t, "-f", "qcow2", "-F", "raw", "-b", "../pool/base", filepath.Join(other, "child"))
	j := h.end(h.evacuatePool("pool", "other"))
	if j.Code() != record.Partial || len(j.Result.Items) != 2 || j.Result.Items[1].Error == nil || j.Result.Items[1].Error.Code != record.HasChildren ||
		!strings.Contains(j.Result.Items[1].Error.Message, "other/child") {
		t.Fatalf("evacuated: %s %s", outcome(j), shown(j.Result))
	}
	h.define("third", filepath.Join(h.dir, "pool3"))
	h.succeed(h.create("third/base", mib))
	h.succeed(h.stopPool("third"))
	qemuImage(t, "-f", "qcow2", "-F", "raw", "-b", "../pool3//base", filepath.Join(other, "child3"))
	h.refuses(record.HasChildren, "other/child3")(h.deletePool("third", withVolumes))
}

func TestCopyThatWouldLackItsBackingIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	other := filepath.Join(h.dir, "pool2")
	h.define("other", other)
	qemuImage(t, "-f", "qcow2", h.path("q1.qcow2"), "1M")
	h.image("pool", "-f", "qcow2", "-F", "qcow2", "-b", "q1.qcow2", h.path("overlay.qcow2"))
	h.succeed(h.clone("overlay.qcow2", "other/ov.qcow2")) // it needs no backing
	if v := h.entry("other/ov.qcow2"); v.Backing != "" || v.Format != "qcow2" {
		t.Errorf("the clone is %s", shown(v))
	}
	h.succeed(h.remove("other/ov.qcow2"))
	h.refuses(record.Unsupported, "q1.qcow2")(h.move("overlay.qcow2", "other/"))
	j := h.end(h.evacuatePool("pool", "other", keepSource))
	if j.Code() != record.Partial || len(j.Result.Items) != 2 || j.Result.Items[0].Error == nil || j.Result.Items[0].Error.Code != record.Unsupported {
		t.Errorf("evacuate --keep-source: %s %s", outcome(j), shown(j.Result))
	}
	if _, err := os.Lstat(filepath.Join(other, "overlay.qcow2")); err == nil {
		t.Error("the overlay was copied")
	}
	h.succeed(h.clone("overlay.qcow2", "beside"))
	if v := h.entry("q1.qcow2"); !slices.Equal(v.Children, []string{"pool/overlay.qcow2"}) {
		t.Errorf("children %q", v.Children)
	}
	to, _ := h.given("to", 16)
	if j := h.succeed(h.handDown("overlay.qcow2", to)); len(j.Warnings) != 1 || !strings.Contains(j.Warnings[0], "q1.qcow2") {
		t.Errorf("downloaded with the warnings %q", j.Warnings)
	}
}

func TestContentInOtherFilesIsNotShared(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.define("other", filepath.Join(h.dir, "pool2"))
	for image, c := range map[string]struct {
		args  []string
		data  string
		moves bool // to another pool
	}{
		"qcow2":      {[]string{"-f", "qcow2", "-o", "data_file=" + h.path("data.raw"), h.path("qcow2"), "1M"}, "data.raw", true},
		"qcow2-near": {[]string{"-f", "qcow2", "-o", "data_file=near.raw", h.path("qcow2-near"), "1M"}, "near.raw", false},
		"flat.vmdk":  {[]string{"-f", "vmdk", "-o", "subformat=monolithicFlat", h.path("flat.vmdk"), "1M"}, "flat-flat.vmdk", false},
		"split.vmdk": {[]string{"-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", h.path("split.vmdk"), "1M"}, "split-s001.vmdk", false},
	} {
		t.Run(image, func(t *testing.T) {
			h.qemuImageIn(t, c.args...)
			h.must(h.refresh("pool"))
			h.keepsTogether(t, image, c.data)
			st, err := h.move(image, "other/")
			if c.moves {
				h.succeed(st, err)
				h.succeed(h.move("other/"+image, "pool/"))
			} else if record.CodeOf(err) != record.Unsupported {
				t.Errorf("move: %v", err)
			}
			h.succeed(h.remove(image))
			h.succeed(h.remove(c.data))
		})
	}
}

// qemuImageIn makes an image with the pool as the working directory.
func (h *host) qemuImageIn(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, "qemu-img"), append([]string{"create", "-q"}, args...)...)
	cmd.Dir = h.pool
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, out)
	}
}

// keepsTogether fails unless an image is neither copied nor erased without the
// file that has its content, nor that file without the image.
func (h *host) keepsTogether(t *testing.T, image, data string) {
	t.Helper()
	to, _ := h.given("to", 16)
	from := must(os.Open(h.path(image)))(t)
	defer from.Close()
	kind := h.entry(image).Format
	if children := h.entry(data).Children; !slices.Equal(children, []string{"pool/" + image}) {
		t.Errorf("children of its content: %q", children)
	}
	for _, c := range []struct {
		verb string
		code record.Code
		do   func() (started, error)
	}{
		{"wipe", record.Unsupported, func() (started, error) {
			return h.wipe(image)
		}},
		{"delete --wipe", record.Unsupported, func() (started, error) {
			return h.remove(image, wipeFirst("zero"))
		}},
		{"download", record.Unsupported, func() (started, error) { return h.handDown(image, to) }},
		{"delete of its content", record.HasChildren, func() (started, error) {
			return h.remove(data)
		}},
		{"wipe of its content", record.HasChildren, func() (started, error) {
			return h.wipe(data)
		}},
	} {
		_, err := c.do()
		if record.CodeOf(err) != c.code || !strings.Contains(err.Error(), data) {
			t.Errorf("%s: %v, want %s", c.verb, err, c.code)
		}
	}
	h.fails(h.end(h.hand("new", from, creating(format(kind)))), record.Unsupported, data)
	h.succeed(h.clone(image, "copy"))
	if children := h.entry(data).Children; !slices.Equal(children, []string{"pool/" + image}) {
		t.Errorf("children of its content, beside a clone: %q", children)
	}
	h.succeed(h.remove("copy"))
}

// An image that others make while a job waits keeps what it stands on, as one
// that was there when the job was asked for.
func TestJobThatWaitedLooksForImagesMadeMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	other := filepath.Join(h.dir, "pool2")
	h.define("other", other)
	h.define("third", filepath.Join(h.dir, "pool3"))
	for verb, do := range map[string]func() (started, error){
		"delete": func() (started, error) {
			return h.remove("base")
		},
		"wipe": func() (started, error) {
			return h.wipe("base")
		},
		"move": func() (started, error) {
			return h.move("base", "moved")
		},
		"evacuate": func() (started, error) {
			return h.evacuatePool("pool", "third")
		},
	} {
		t.Run(verb, func(t *testing.T) {
			want := h.random("base", 8*mib)
			first := h.cloning("base", "copy", mib)
			st := must(do())(t)
			child := filepath.Join(other, "child")
			qemuImage(t, "-u", "-f", "qcow2", "-F", "raw", "-b", h.path("base"), child, "1M")
			h.await("a second", func() bool { return time.Since(st.Job.Created) > time.Second })
			h.unlimited(first)
			j := h.end(st, nil)
			if names := j.Error != nil && strings.Contains(j.Error.Message, "other/child"); verb != "evacuate" && (j.Code() != record.HasChildren || !names) {
				t.Errorf("it ended as %s", outcome(j))
			}
			h.hasHash("base", want)
			h.must(os.Remove(child))
			h.succeed(h.remove("base"))
			for pool, name := range map[string]string{"pool": "copy", "third": "copy"} {
				if st, err := h.remove(pool + "/" + name); record.CodeOf(err) != record.NotFound {
					h.succeed(st, err)
				}
			}
		})
	}
}

// What others have made of an image in place since it was read counts for a copy
// of it, under its lock.
func TestCopyLooksAtTheHeaderThatIsThereNow(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.define("other", filepath.Join(h.dir, "pool2"))
	qemuImage(t, "-f", "qcow2", h.path("q1"), "1M")
	h.image("pool", "-f", "qcow2", "-F", "qcow2", "-b", h.path("q1"), h.path("rebased"))
	h.image("pool", "-f", "qcow2", h.path("parted"), "1M")
	rebase := exec.Command(testenv.Tool(t, "qemu-img"), "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "q1", h.path("rebased"))
	if out, err := rebase.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	h.qemuImageIn(t, "-f", "qcow2", "-o", "data_file=far", filepath.Join(h.dir, "another"), "1M")
	image := must(os.ReadFile(filepath.Join(h.dir, "another")))(t)
	h.must(os.WriteFile(h.path("parted"), image, 0o600)) // the file is the same
	h.must(os.Remove(h.path("far")))                     // it is no volume
	j := h.end(h.evacuatePool("pool", "other", only("rebased"), keepSource))
	if j.Code() != record.Partial || len(j.Result.Items) != 1 || j.Result.Items[0].Error == nil || !strings.Contains(j.Result.Items[0].Error.Message, "q1") {
		t.Errorf("evacuation with copies: %s %s", outcome(j), shown(j.Result))
	}
	to, _ := h.given("to", 16)
	for what, c := range map[string]struct {
		names string
		do    func() (started, error)
	}{
		"move of the rebased": {"q1", func() (started, error) {
			return h.move("rebased", "other/new")
		}},
		"clone of the parted": {"far", func() (started, error) {
			return h.clone("parted", "new")
		}},
		"download of the parted": {"far", func() (started, error) { return h.handDown("parted", to) }},
	} {
		st, err := c.do()
		if err == nil {
			if j := h.end(st, nil); j.Error != nil {
				err = j.Error
			}
		}
		if record.CodeOf(err) != record.Unsupported || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A chain that others made by qemu-img is known after a refresh: the parent as a
// volume, how deep it goes, and each that has children is kept.
func TestChainsThatOthersMakeAreFound(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	other := filepath.Join(h.dir, "pool2")
	h.define("other", other)
	h.sparse("base", mib)
	h.image("pool", "-f", "qcow2", "-F", "raw", "-b", h.path("base"), h.path("middle"))
	h.image("other", "-f", "qcow2", "-F", "qcow2", "-b", "../pool/middle", filepath.Join(other, "top"))
	v := h.entry("other/top")
	if v.Depth == nil || *v.Depth != 2 || v.Parent == nil || *v.Parent != (record.Parent{Pool: "pool", Volume: "middle", Format: "qcow2", Path: h.path("middle")}) {
		t.Errorf("it is %s", shown(v))
	}
	h.refuses(record.HasChildren, "pool/middle")(h.remove("base"))
	h.refuses(record.HasChildren, "other/top")(h.wipe("middle", acceptLimits))
	h.refuses(record.HasChildren, "other/top")(h.stopPool("pool"))
	h.succeed(h.stopPool("pool", field("force", true)))
	if v := h.entry("other/top"); !strings.Contains(v.Problem, `stands on "pool/middle": pool "pool" is not active`) || v.Parent == nil || v.Parent.Volume != "middle" || v.Depth == nil || *v.Depth != 2 {
		t.Errorf("it is %s", shown(v)) // what it stands on is away, and known
	}
	h.succeed(h.startPool("pool"))
	h.succeed(h.stopPool("other"))
	h.succeed(h.stopPool("pool"))
	h.succeed(h.startPool("pool"))
	h.succeed(h.startPool("other"))
	qemuImage(t, "-u", "-f", "qcow2", "-F", "qcow2", "-b", h.path("loop2"), h.path("loop1"), "1M")
	qemuImage(t, "-u", "-f", "qcow2", "-F", "qcow2", "-b", h.path("loop1"), h.path("loop2"), "1M")
	qemuImage(t, "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", h.path("beyond"), "1M")
	h.must(h.refresh("pool"))
	for _, name := range []string{"loop1", "loop2", "beyond"} {
		if v := h.entry(name); v.Depth != nil || v.Parent != nil || v.Backing == "" {
			t.Errorf("%s", shown(v))
		}
	}
	h.succeed(h.remove("loop2")) // which has no content, and keeps nothing
	h.succeed(h.remove("loop1"))
}

// A volume whose header has a problem says so, and what takes its file as it is goes
// on; a vhdx, whose capacity lies far behind its beginning, tells it.
func TestVolumeSaysWhyItIsNotOpened(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	qemuImage(t, "-f", "qcow2", h.path("torn"), "10M")
	h.must(os.Truncate(h.path("torn"), 70_000))
	image := must(os.ReadFile(h.path("torn")))(t)
	h.image("pool", "-f", "vhdx", h.path("far"), "5M")
	if v := h.entry("far"); v.Format != "vhdx" || v.Capacity != 5*mib || v.Problem != "" {
		t.Errorf("the vhdx is %s", shown(v))
	}
	if v := h.entry("torn"); v.Format != "qcow2" || v.Capacity != 10*mib || !strings.Contains(v.Problem, "does not lie within the file") || v.State != record.VolumeReady {
		t.Errorf("the torn image is %s", shown(v))
	}
	h.succeed(h.clone("torn", "copy"))
	h.holds("copy", 0, image, record.VolumeReady)
	f := must(os.Open(h.path("torn")))(t)
	defer f.Close()
	h.fails(h.end(h.hand("new", f, creating(format("qcow2")))), record.Invalid, "does not lie within the file")
	h.absent("new")
	h.image("pool", "-f", "qcow2", h.path("torn2"), "10M")
	h.must(os.Rename(h.path("torn2"), h.path("torn")))
	h.must(h.refresh("pool"))
	if v := h.entry("torn"); v.Problem != "" {
		t.Errorf("it is another file, and still %q", v.Problem)
	}
}
