package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/virtrpc/virtrpctest"
)

// Definitions of pools go from libvirt to us and back.
func TestPoolsGoBetweenLibvirtAndUs(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	there := filepath.Join(h.dir, "etc")
	h.must(os.MkdirAll(filepath.Join(there, "autostart"), 0o700))
	target := filepath.Join(h.dir, "theirs")
	document := "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n<pool type='dir'>\n  <name>theirs</name>\n  <uuid>2d3da4ed-8902-4d69-97ef-465dd35e9800</uuid>\n  <capacity unit='bytes'>0</capacity>\n  <allocation unit='bytes'>0</allocation>\n  <available unit='bytes'>0</available>\n  <source>\n  </source>\n  <target>\n    <path>" + target + "</path>\n  </target>\n</pool>\n"
	h.must(os.WriteFile(filepath.Join(there, "theirs.xml"), []byte(document), 0o600))
	h.must(os.Symlink(filepath.Join(there, "theirs.xml"), filepath.Join(there, "autostart", "theirs.xml")))
	h.must(os.WriteFile(filepath.Join(there, "shared.xml"), []byte("<pool type='sheepdog'><name>shared</name><source><host name='h'/><name>s</name></source></pool>"), 0o600))

	h.runs(record.ExitPartial, "would define pool theirs (dir, "+target+", autostart yes)", "libvirt", "import", "--dir", there, "--dry-run")
	if pools := must(h.client.Pools(h.ctx()))(t); len(pools) != 1 {
		t.Errorf("a dry run has left %d pools", len(pools))
	}
	h.runs(record.ExitPartial, "sheepdog", "libvirt", "import", "--dir", there)
	h.runs(0, "defined already", "libvirt", "import", "theirs", "--dir", there)
	p := h.poolIs("theirs", record.Pool{State: record.PoolInactive, UUID: "2d3da4ed-8902-4d69-97ef-465dd35e9800"})
	if !p.Autostart || p.Target.Path != target {
		t.Errorf("it is %s", shown(p))
	}
	_, inside, _ := strings.Cut(document, "-->\n\n")
	if got := h.runs(0, "", "pool", "show", "theirs", "-o", "xml"); got != inside {
		t.Errorf("it is shown as\n%s", got)
	}

	edited := filepath.Join(h.dir, "edited")
	h.must(os.WriteFile(edited, []byte(strings.ReplaceAll(inside, target, target+"2")), 0o600))
	h.runs(0, "", "pool", "edit", "theirs", "-f", edited)
	if p = h.poolIs("theirs", record.Pool{State: record.PoolInactive}); p.Target.Path != target+"2" || !p.Autostart {
		t.Errorf("after it was edited it is %s", shown(p))
	}
	h.must(os.WriteFile(edited, []byte(strings.ReplaceAll(inside, "<name>theirs", "<name>ours")), 0o600))
	h.runs(record.ExitUsage, "cannot be changed", "pool", "edit", "theirs", "-f", edited)

	back := filepath.Join(h.dir, "back")
	h.must(os.Mkdir(back, 0o700))
	h.runs(0, "would write", "libvirt", "export", "theirs", "--dir", back, "--dry-run")
	h.runs(0, "", "libvirt", "export", "theirs", "--dir", back)
	if b := must(os.ReadFile(filepath.Join(back, "theirs.xml")))(t); string(b) != strings.ReplaceAll(inside, target, target+"2") {
		t.Errorf("libvirt gets %s", b)
	}
	if _, err := os.Stat(filepath.Join(back, "autostart", "theirs.xml")); err != nil {
		t.Error(err)
	}
	h.runs(record.ExitExists, "already", "libvirt", "export", "theirs", "--dir", back)

	h.must(os.WriteFile(edited, []byte("<pool type='dir'><name>ours</name><target><path>"+target+"3</path></target></pool>"), 0o600))
	h.runs(0, "", "pool", "create", "-f", edited)
	h.poolIs("ours", record.Pool{State: record.PoolActive})
	h.must(os.WriteFile(edited, []byte("<pool type='dir'><name>ours</name><target><path>"+target+"4</path><permissions><mode>0750</mode></permissions></target></pool>"), 0o600))
	h.runs(0, "", "pool", "edit", "ours", "-f", edited)
	if p = h.poolIs("ours", record.Pool{State: record.PoolActive}); p.Target.Path != target+"3" || p.Next == nil {
		t.Errorf("in use it is %s", shown(p))
	}
	h.runs(0, "", "pool", "stop", "ours")
	h.runs(0, "", "pool", "build", "ours")
	h.runs(0, "", "pool", "start", "ours")
	if p = h.poolIs("ours", record.Pool{State: record.PoolActive}); p.Target.Path != target+"4" || p.Next != nil || p.Permissions == nil || p.Permissions.Mode != "0750" {
		t.Errorf("then it is %s", shown(p))
	}
}

// A volume is made as the document of another says.
func TestVolumesAreMadeOfDocuments(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.runs(0, "", "vol", "create", "pool/a", "1M", "--format", "qcow2", "-O", "cluster_size=128K", "--mode", "0640")
	h.runs(0, "", "vol", "create", "pool/b", "--backing", "pool/a", "--format", "qcow2")
	for _, name := range []string{"a", "b"} {
		file := filepath.Join(h.dir, name+".xml")
		document := h.runs(0, "", "vol", "show", "pool/"+name, "-o", "xml")
		h.must(os.WriteFile(file, []byte(document), 0o600))
		h.runs(0, "", "vol", "create", "pool/"+name+"2", "-f", file)
		of := func(name string) record.Volume { return must(h.client.Volume(h.ctx(), "pool", name))(t) }
		if was, is := of(name), of(name+"2"); is.Format != was.Format || is.Capacity != was.Capacity || is.Backing != was.Backing || is.Permissions.Mode != was.Permissions.Mode || is.Options["cluster_size"] != was.Options["cluster_size"] {
			t.Errorf("of %s\n%s is made", shown(was), shown(is))
		}
		h.runs(record.ExitUsage, "says all", "vol", "create", "pool/c", "1M", "-f", file)
	}
}

// The URI that we say is one that libvirt's own client gets through by.
func TestVirshGoesByTheURI(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.runs(0, "", "vol", "create", "pool/image", "1M", "--format", "qcow2", "-O", "cluster_size=128K", "-O", "lazy_refcounts=on")
	uri := strings.TrimSpace(h.runs(0, "storage:///system?socket=", "libvirt", "uri"))
	if out, ok := virtrpctest.Virsh(t, uri, "vol-list", "pool"); !ok || !strings.Contains(out, h.path("image")) {
		t.Errorf("virsh says %s", out)
	}
	document := h.runs(0, "", "vol", "show", "pool/image", "-o", "xml")
	for _, want := range []string{"<compat>1.1</compat>", "<clusterSize unit='B'>131072</clusterSize>", "<lazy_refcounts/>", "<mode>0600</mode>"} {
		if !strings.Contains(document, want) {
			t.Errorf("%q is not in %s", want, document)
		}
	}
	h.runs(record.ExitUsage, "no", "job", "list", "-o", "xml")
}
