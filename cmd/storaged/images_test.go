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
	"storaged/internal/service"
	"storaged/internal/testenv"
)

// image makes an image by qemu-img in a pool's directory and has the pool read.
func (h *host) image(pool string, args ...string) {
	h.t.Helper()
	qemuImage(h.t, args...)
	if err := h.refresh(pool); err != nil {
		h.t.Fatal(err)
	}
}

func qemuImage(t *testing.T, args ...string) {
	t.Helper()
	args = append([]string{"create", "-q"}, args...)
	if out, err := exec.Command(testenv.Tool(t, "qemu-img"), args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, out)
	}
}

// entry is a volume as the catalogue has it.
func (h *host) entry(pool, name string) record.Volume {
	h.t.Helper()
	v, err := h.client.Volume(h.ctx(), pool, name)
	if err != nil {
		h.t.Fatal(err)
	}
	return v
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
	h := newHost(t)
	for name, algorithm := range map[string]string{"zeroed": "zero", "random": "random", "trimmed": "trim"} {
		t.Run(name, func(t *testing.T) {
			h.image("pool", "-f", "qcow2", h.path(name), "10M")
			if v := h.entry("pool", name); v.Format != "qcow2" || v.Capacity != 10*mib {
				t.Fatalf("it is found as %+v", v)
			}
			size := sizeAt(t, h.path(name))
			h.succeed(h.wipe(name, service.VolumeWipe{Algorithm: algorithm, AcceptLimits: true}))
			for range 2 {
				if v := h.entry("pool", name); v.Format != record.FormatRaw || v.Capacity != size || v.State != record.VolumeReady {
					t.Errorf("wiped it is %s, %s, of %d bytes; want raw, ready, %d", v.Format, v.State, v.Capacity, size)
				}
				if err := h.refresh("pool"); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestBaseIsKeptHoweverAnOverlayNamesIt: files are compared by what they are.
func TestBaseIsKeptHoweverAnOverlayNamesIt(t *testing.T) {
	h := newHost(t)
	other := filepath.Join(h.dir, "pool2")
	h.define("other", other)
	for _, link := range [][2]string{{h.pool, filepath.Join(h.dir, "way")}, {h.path("base"), filepath.Join(other, "link")}} {
		if err := os.Symlink(link[0], link[1]); err != nil {
			t.Fatal(err)
		}
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
			h.create("base", mib)
			qemuImage(t, "-u", "-f", "qcow2", "-F", "raw", "-b", c.backing, c.child, "1M") // and nobody has refreshed since
			name := "pool/child"
			if c.child == there {
				name = "other/child"
			}
			h.keepsBase(t, name)
			if err := os.Remove(c.child); err != nil {
				t.Fatal(err)
			}
			// Nobody has told the daemon, as nobody did of the overlay.
			h.succeed(h.remove("base"))
		})
	}
}

func TestPoolThatCannotBeReadKeepsNobodyFromDeleting(t *testing.T) {
	hangingRefresh(t)
	h := newHost(t)
	h.create("v", mib)
	begun := time.Now()
	j := h.succeed(h.remove("v"))
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("answered after %v", took)
	}
	if len(j.Warnings) != 1 || !strings.Contains(j.Warnings[0], `"pool"`) {
		t.Errorf("warnings %q", j.Warnings)
	}
}

// TestGuestsHeaderKeepsNothing: what a guest writes into a raw volume, or an image
// says of itself, is no reason to keep a volume.
func TestGuestsHeaderKeepsNothing(t *testing.T) {
	h := newHost(t)
	h.create("base", mib)
	h.create("guest", mib)
	planted := filepath.Join(h.dir, "planted")
	qemuImage(t, "-f", "qcow2", "-F", "raw", "-b", h.path("base"), planted, "1M")
	header, err := os.ReadFile(planted)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := os.OpenFile(h.path("guest"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := disk.WriteAt(header[:min(len(header), 64<<10)], 0); err != nil {
		t.Fatal(err)
	}
	if err := disk.Close(); err != nil {
		t.Fatal(err)
	}
	h.succeed(h.remove("base"))
	qemuImage(t, "-u", "-f", "qcow2", "-F", "qcow2", "-b", "self", h.path("self"), "1M")
	if err := h.refresh("pool"); err != nil {
		t.Fatal(err)
	}
	h.succeed(h.remove("self"))
}

// keepsBase fails unless every verb that would destroy the volume "base" is
// refused because of the child.
func (h *host) keepsBase(t *testing.T, child string) {
	t.Helper()
	ctx, sub := h.ctx(), service.Submit{}
	file, _ := h.given("src", mib)
	for verb, do := range map[string]func() (service.Started, error){
		"delete": func() (service.Started, error) {
			return h.client.Start(ctx, sub, record.VolumeDelete, on("pool", "base"), service.VolumeDelete{})
		},
		"delete --dry-run": func() (service.Started, error) {
			return h.client.Start(ctx, service.Submit{DryRun: true}, record.VolumeDelete, on("pool", "base"), service.VolumeDelete{})
		},
		"wipe": func() (service.Started, error) {
			return h.client.Start(ctx, sub, record.VolumeWipe, on("pool", "base"), service.VolumeWipe{})
		},
		"shrink": func() (service.Started, error) {
			return h.client.Start(ctx, sub, record.VolumeResize, on("pool", "base"), service.VolumeResize{Capacity: 4096, Shrink: true})
		},
		"move": func() (service.Started, error) {
			return h.client.Start(ctx, sub, record.VolumeMove, on("pool", "base"), service.VolumeMove{Name: "moved"})
		},
		"upload": func() (service.Started, error) { return h.hand("base", file, service.VolumeUpload{}) },
	} {
		_, err := do()
		if record.CodeOf(err) != record.HasChildren || !strings.Contains(err.Error(), child) {
			t.Errorf("%s: %v, want a refusal that names %s", verb, err, child)
		}
	}
	if v := h.entry("pool", "base"); !slices.Equal(v.Children, []string{child}) || v.State != record.VolumeReady {
		t.Errorf("it is %s, with the children %q", v.State, v.Children)
	}
}

func TestPoolKeepsWhatImagesMadeSinceStandOn(t *testing.T) {
	h := newHost(t)
	other := filepath.Join(h.dir, "pool2")
	h.define("other", other)
	h.create("base", mib)
	h.create("alone", mib)
	qemuImage(t, "-f", "qcow2", "-F", "raw", "-b", "../pool/base", filepath.Join(other, "child"))
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.PoolEvacuate, on("pool"), service.PoolEvacuate{To: "other"})
	j := h.end(st, err)
	if j.Code() != record.Partial || len(j.Result.Items) != 2 || j.Result.Items[1].Error == nil || j.Result.Items[1].Error.Code != record.HasChildren ||
		!strings.Contains(j.Result.Items[1].Error.Message, "other/child") {
		t.Fatalf("evacuated: %+v %+v", j.Error, j.Result)
	}
	h.define("third", filepath.Join(h.dir, "pool3"))
	h.succeed(h.client.Start(h.ctx(), service.Submit{}, record.VolumeCreate, on("third"), service.VolumeCreate{Name: "base", Capacity: mib}))
	h.succeed(h.client.Start(h.ctx(), service.Submit{}, record.PoolStop, on("third"), service.PoolStop{}))
	qemuImage(t, "-f", "qcow2", "-F", "raw", "-b", "../pool3//base", filepath.Join(other, "child3"))
	_, err = h.client.Start(h.ctx(), service.Submit{}, record.PoolDelete, on("third"), service.PoolDelete{WithVolumes: true})
	if record.CodeOf(err) != record.HasChildren || !strings.Contains(err.Error(), "other/child3") {
		t.Errorf("pool delete: %v", err)
	}
}

func TestCopyThatWouldLackItsBackingIsRefused(t *testing.T) {
	h := newHost(t)
	other := filepath.Join(h.dir, "pool2")
	h.define("other", other)
	qemuImage(t, "-f", "qcow2", h.path("q1.qcow2"), "1M")
	h.image("pool", "-f", "qcow2", "-F", "qcow2", "-b", "q1.qcow2", h.path("overlay.qcow2"))
	refused := func(what string, err error, code record.Code, names string) {
		t.Helper()
		if record.CodeOf(err) != code || !strings.Contains(err.Error(), names) {
			t.Errorf("%s: %v, want %s that names %s", what, err, code, names)
		}
	}
	_, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeClone, on("pool", "overlay.qcow2"), service.VolumeClone{Name: "ov.qcow2", Pool: "other"})
	refused("clone", err, record.Unsupported, "q1.qcow2")
	_, err = h.client.Start(h.ctx(), service.Submit{}, record.VolumeMove, on("pool", "overlay.qcow2"), service.VolumeMove{Pool: "other"})
	refused("move", err, record.Unsupported, "q1.qcow2")
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.PoolEvacuate, on("pool"), service.PoolEvacuate{To: "other", KeepSource: true})
	j := h.end(st, err)
	if j.Code() != record.Partial || len(j.Result.Items) != 2 || j.Result.Items[0].Error == nil || j.Result.Items[0].Error.Code != record.Unsupported {
		t.Errorf("evacuate --keep-source: %+v %+v", j.Error, j.Result)
	}
	if _, err := os.Lstat(filepath.Join(other, "overlay.qcow2")); err == nil {
		t.Error("the overlay was copied")
	}
	h.succeed(h.client.Start(h.ctx(), service.Submit{}, record.VolumeClone, on("pool", "overlay.qcow2"), service.VolumeClone{Name: "beside"}))
	if v := h.entry("pool", "q1.qcow2"); !slices.Equal(v.Children, []string{"pool/beside", "pool/overlay.qcow2"}) {
		t.Errorf("children %q", v.Children)
	}
	to, _ := h.given("to", 16)
	st, err = h.handDown("overlay.qcow2", to, service.VolumeDownload{})
	if j := h.succeed(st, err); len(j.Warnings) != 1 || !strings.Contains(j.Warnings[0], "q1.qcow2") {
		t.Errorf("downloaded with the warnings %q", j.Warnings)
	}
}

func TestContentInOtherFilesIsNotShared(t *testing.T) {
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
			if err := h.refresh("pool"); err != nil {
				t.Fatal(err)
			}
			h.keepsTogether(t, image, c.data)
			st, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeMove, on("pool", image), service.VolumeMove{Pool: "other"})
			if c.moves {
				h.succeed(st, err)
				h.succeed(h.client.Start(h.ctx(), service.Submit{}, record.VolumeMove, on("other", image), service.VolumeMove{Pool: "pool"}))
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
	ctx, sub := h.ctx(), service.Submit{}
	to, _ := h.given("to", 16)
	from, err := os.Open(h.path(image))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	format := h.entry("pool", image).Format
	if children := h.entry("pool", data).Children; !slices.Equal(children, []string{"pool/" + image}) {
		t.Errorf("children of its content: %q", children)
	}
	for _, c := range []struct {
		verb string
		code record.Code
		do   func() (service.Started, error)
	}{
		{"clone", record.Unsupported, func() (service.Started, error) {
			return h.client.Start(ctx, sub, record.VolumeClone, on("pool", image), service.VolumeClone{Name: "copy"})
		}},
		{"wipe", record.Unsupported, func() (service.Started, error) {
			return h.client.Start(ctx, sub, record.VolumeWipe, on("pool", image), service.VolumeWipe{})
		}},
		{"delete --wipe", record.Unsupported, func() (service.Started, error) {
			return h.client.Start(ctx, sub, record.VolumeDelete, on("pool", image), service.VolumeDelete{Wipe: "zero"})
		}},
		{"download", record.Unsupported, func() (service.Started, error) { return h.handDown(image, to, service.VolumeDownload{}) }},
		{"delete of its content", record.HasChildren, func() (service.Started, error) {
			return h.client.Start(ctx, sub, record.VolumeDelete, on("pool", data), service.VolumeDelete{})
		}},
		{"wipe of its content", record.HasChildren, func() (service.Started, error) {
			return h.client.Start(ctx, sub, record.VolumeWipe, on("pool", data), service.VolumeWipe{})
		}},
	} {
		_, err := c.do()
		if record.CodeOf(err) != c.code || !strings.Contains(err.Error(), data) {
			t.Errorf("%s: %v, want %s", c.verb, err, c.code)
		}
	}
	st, err := h.hand("new", from, service.VolumeUpload{Create: &service.VolumeCreate{Format: format}})
	if j := h.end(st, err); j.Code() != record.Unsupported || !strings.Contains(j.Error.Message, data) {
		t.Errorf("create --from: %s %+v", j.State, j.Error)
	}
}

// An image that others make while a job waits keeps what it stands on, as one
// that was there when the job was asked for.
func TestJobThatWaitedLooksForImagesMadeMeanwhile(t *testing.T) {
	h := newHost(t)
	other := filepath.Join(h.dir, "pool2")
	h.define("other", other)
	h.define("third", filepath.Join(h.dir, "pool3"))
	sub := service.Submit{}
	for verb, do := range map[string]func() (service.Started, error){
		"delete": func() (service.Started, error) {
			return h.client.Start(h.ctx(), sub, record.VolumeDelete, on("pool", "base"), service.VolumeDelete{})
		},
		"wipe": func() (service.Started, error) {
			return h.client.Start(h.ctx(), sub, record.VolumeWipe, on("pool", "base"), service.VolumeWipe{})
		},
		"move": func() (service.Started, error) {
			return h.client.Start(h.ctx(), sub, record.VolumeMove, on("pool", "base"), service.VolumeMove{Name: "moved"})
		},
		"evacuate": func() (service.Started, error) {
			return h.client.Start(h.ctx(), sub, record.PoolEvacuate, on("pool"), service.PoolEvacuate{To: "third"})
		},
	} {
		t.Run(verb, func(t *testing.T) {
			want := h.random("base", 8*mib)
			first := h.cloning("base", "copy", mib)
			st, err := do()
			if err != nil {
				t.Fatal(err)
			}
			child := filepath.Join(other, "child")
			qemuImage(t, "-u", "-f", "qcow2", "-F", "raw", "-b", h.path("base"), child, "1M")
			h.await("a second", func() bool { return time.Since(st.Job.Created) > time.Second })
			h.succeed(h.letGo(first), nil)
			j := h.end(st, nil)
			if names := j.Error != nil && strings.Contains(j.Error.Message, "other/child"); verb != "evacuate" && (j.Code() != record.HasChildren || !names) {
				t.Errorf("it ended as %s: %+v", j.State, j.Error)
			}
			if h.hash("base") != want {
				t.Error("the volume has changed")
			}
			h.must(os.Remove(child))
			h.succeed(h.remove("base"))
			for pool, name := range map[string]string{"pool": "copy", "third": "copy"} {
				if st, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeDelete, on(pool, name), service.VolumeDelete{}); record.CodeOf(err) != record.NotFound {
					h.succeed(st, err)
				}
			}
		})
	}
}

// What others have made of an image in place since it was read counts for a copy
// of it, under its lock.
func TestCopyLooksAtTheHeaderThatIsThereNow(t *testing.T) {
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
	image, err := os.ReadFile(filepath.Join(h.dir, "another"))
	h.must(err)
	h.must(os.WriteFile(h.path("parted"), image, 0o600)) // the file is the same
	to, _ := h.given("to", 16)
	for what, c := range map[string]struct {
		names string
		do    func() (service.Started, error)
	}{
		"clone of the rebased": {"q1", func() (service.Started, error) {
			return h.client.Start(h.ctx(), service.Submit{}, record.VolumeClone, on("pool", "rebased"), service.VolumeClone{Name: "new", Pool: "other"})
		}},
		"move of the rebased": {"q1", func() (service.Started, error) {
			return h.client.Start(h.ctx(), service.Submit{}, record.VolumeMove, on("pool", "rebased"), service.VolumeMove{Name: "new", Pool: "other"})
		}},
		"clone of the parted": {"far", func() (service.Started, error) {
			return h.client.Start(h.ctx(), service.Submit{}, record.VolumeClone, on("pool", "parted"), service.VolumeClone{Name: "new"})
		}},
		"download of the parted": {"far", func() (service.Started, error) { return h.handDown("parted", to, service.VolumeDownload{}) }},
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
