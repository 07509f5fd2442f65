package virtxml_test

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/virtxml"
)

// What libvirtd 9.0.0 (Debian 12) answered to each document: what it then showed of the
// pool or volume, without times, or its refusal.
//
//go:embed testdata/libvirt-9.0.0.json
var answers []byte

type answer struct {
	Document string `json:"document"`
	Answer   string `json:"answer"`
	Code     int    `json:"code"`
	Domain   int    `json:"domain"`
	Message  string `json:"message"`
}

func answersOf(t *testing.T, of string) []answer {
	t.Helper()
	var all map[string][]answer
	if err := json.Unmarshal(answers, &all); err != nil {
		t.Fatal(err)
	}
	if len(all[of]) < 50 {
		t.Fatalf("%d answers about %s", len(all[of]), of)
	}
	return all[of]
}

// libvirt's number, domain and first words of each class.
var classes = map[virtxml.Class]struct {
	code, domain int
	prefix       string
}{
	virtxml.NotXML:      {35, 18, ""},
	virtxml.Shape:       {27, 5, "XML error: "},
	virtxml.Wrong:       {27, 18, "XML error: "},
	virtxml.Unsupported: {67, 18, "unsupported configuration: "},
	virtxml.Argument:    {8, 18, "invalid argument: "},
	virtxml.Unit:        {8, 0, "invalid argument: "},
	virtxml.Overflow:    {82, 0, "numerical overflow: "},
	virtxml.Impossible:  {3, 18, "this function is not supported by the connection driver: "},
	virtxml.Invalid:     {55, 18, "Requested operation is not valid: "},
}

// Where we differ, by a part of the document, and why.
var differs = map[string]string{
	"<name>b</name>":                     "libvirt takes the first of two elements",
	"<!DOCTYPE":                          "libvirt lets a document define entities",
	"<vendor name":                       "of a vendor nobody can do anything",
	"zfs":                                "whether there is such a type is the daemon's to say",
	"<pool type='scsi'>":                 "adapters are not read: the type is not supported",
	"<name>a\nb</name>":                  "which characters a name may have is the daemon's to say",
	"type='vhdx'":                        "we can make it",
	"name>r.raw<":                        "there was one: the daemon's to say",
	"<name>.</name>":                     "there was one: the daemon's to say",
	"<nocow/>":                           "that was not btrfs: the helper's to say",
	">/nonexist<":                        "there was none: the daemon's to say",
	"uuid='zz'":                          "of another domain",
	"usage='s'":                          "libvirt looked for the secret; one refusal is of another domain",
	"type='passphrase'/>":                "of another domain",
	"type='cow'":                         "qemu-img refuses it",
	"<compat>1.2":                        "qemu-img refuses it",
	"<compat>0.10</compat><features>":    "the daemon's to say",
	"<clusterSize>7<":                    "qemu-img refuses it",
	"<pool type='dir'><name>d</name>":    "there was one: the daemon's to say",
	"/srv/images</path></target></pool>": "there was one: the daemon's to say",
	"e534a579ada043859506 4880":          "there was one: the daemon's to say",
}

func isKnown(document string) bool {
	for part := range differs {
		if strings.Contains(document, part) {
			return true
		}
	}
	return false
}

func TestPoolsAreReadAndWrittenAsLibvirtDoesIt(t *testing.T) {
	same := 0
	for _, a := range answersOf(t, "pools") {
		if isKnown(a.Document) {
			continue
		}
		p, err := virtxml.ParsePool([]byte(a.Document))
		if !sameRefusal(t, a, err) {
			continue
		}
		if err == nil {
			if p.UUID == "" {
				p.UUID = uuidOf(a.Answer)
			}
			equal(t, a, p.Format())
		}
		same++
	}
	if same < 45 {
		t.Errorf("only %d were compared", same)
	}
}

func TestVolumesAreReadAsLibvirtDoesIt(t *testing.T) {
	same := 0
	for _, a := range answersOf(t, "volumes") {
		if isKnown(a.Document) {
			continue
		}
		v, err := virtxml.ParseVolume([]byte(a.Document), "dir")
		if err == nil {
			_, err = v.Create()
		}
		if sameRefusal(t, a, err) {
			same++
		}
	}
	if same < 40 {
		t.Errorf("only %d were compared", same)
	}
}

// What libvirt writes of a volume is written again when it was read.
func TestVolumesAreWrittenAsLibvirtDoesIt(t *testing.T) {
	for _, a := range answersOf(t, "volumes") {
		if a.Answer == "" {
			continue
		}
		v, err := virtxml.ParseVolume([]byte(a.Answer), "dir")
		if err != nil {
			t.Errorf("%s: %v", a.Answer, err)
			continue
		}
		v.Physical = physicalOf(a.Answer)
		equal(t, a, v.Format())
	}
}

func sameRefusal(t *testing.T, a answer, err error) bool {
	t.Helper()
	var e *virtxml.Error
	switch {
	case a.Code == 0 && err == nil:
		return true
	case a.Code == 0 || !errors.As(err, &e):
		t.Errorf("%s\n%v: libvirt says %d %q", a.Document, err, a.Code, a.Message)
		return false
	}
	c := classes[e.Class]
	text := c.prefix + e.Text
	if c.code != a.Code || c.domain != a.Domain || e.Class != virtxml.NotXML && text != a.Message {
		t.Errorf("%s\n%d %d %q\nlibvirt: %d %d %q", a.Document, c.code, c.domain, text, a.Code, a.Domain, a.Message)
		return false
	}
	return true
}

func equal(t *testing.T, a answer, got string) {
	t.Helper()
	if got != a.Answer {
		t.Errorf("%s\nwrites\n%s\nlibvirt\n%s", a.Document, got, a.Answer)
	}
}

func uuidOf(document string) string {
	return regexp.MustCompile(`<uuid>(.*)</uuid>`).FindStringSubmatch(document)[1]
}

func physicalOf(document string) (n int64) {
	m := regexp.MustCompile(`<physical unit='bytes'>(.*)</physical>`).FindStringSubmatch(document)
	if m != nil {
		fmt.Sscan(m[1], &n)
	}
	return n
}

func TestDocumentsHaveBounds(t *testing.T) {
	pool := func(inside string) string {
		return "<pool type='dir'><name>p</name>" + inside + "<target><path>/srv</path></target></pool>"
	}
	tests := map[string]string{
		"large":      pool(strings.Repeat(" ", 1<<20)),
		"deep":       pool(strings.Repeat("<a>", 20) + strings.Repeat("</a>", 20)),
		"many":       pool("<source>" + strings.Repeat("<host name='h'/>", 5000) + "</source>"),
		"attributes": pool("<a" + attributes(20) + "/>"),
		"twice":      pool("<uuid>1</uuid><uuid>2</uuid>"),
		"attr twice": pool("<a b='1' b='2'/>"),
		"doctype":    "<!DOCTYPE pool [<!ENTITY a 'b'>]>" + pool(""),
		"external":   "<!DOCTYPE pool SYSTEM 'file:///etc/passwd'>" + pool(""),
		"entity":     pool("<a>&b;</a>"),
		"latin":      "<?xml version='1.0' encoding='latin-1'?>" + pool("\xe9"),
		"not utf-8":  pool("<a>\xff</a>"),
		"two":        pool("") + pool(""),
		"text":       pool("") + "x",
		"open":       "<pool type='dir'>",
	}
	for name, doc := range tests {
		var e *virtxml.Error
		if _, err := virtxml.ParsePool([]byte(doc)); !errors.As(err, &e) || e.Class != virtxml.NotXML {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := virtxml.ParsePool([]byte("<?xml version='1.0' encoding='UTF-8'?><!-- c -->" + pool("<unknown/>") + "<!-- d -->\n")); err != nil {
		t.Error(err)
	}
}

func attributes(n int) (all string) {
	for i := range n {
		all += fmt.Sprintf(" a%d='1'", i)
	}
	return all
}

func TestRecordsAreDescribed(t *testing.T) {
	pool := record.Pool{Name: "p", UUID: "2d3da4ed-8902-4d69-97ef-465dd35e9800", Type: "netfs", Capacity: 3, Allocation: 1, Available: 2,
		Target: record.Target{Path: "/srv"},
		Source: record.Source{Hosts: []string{"h:2049"}, Path: "/e", Format: "nfs", Options: map[string]string{"sync": "", "nfsvers": "4.1", "timeo": "5"}}}
	p, err := virtxml.ParsePool([]byte(virtxml.OfPool(pool).Format()))
	if err != nil {
		t.Fatal(err)
	}
	d := p.Define()
	if d.Name != "p" || d.UUID != pool.UUID || d.Target != pool.Target || d.Source.Hosts[0] != "h:2049" || fmt.Sprint(d.Source.Options) != fmt.Sprint(pool.Source.Options) || *d.Autostart {
		t.Errorf("%v %v %v %v %v", d.Name, d.UUID, d.Target, d.Source, *d.Autostart)
	}
}

// A pool logs in by a secret of ours, which libvirt calls by its usage or its UUID.
func TestPoolsLogInBySecrets(t *testing.T) {
	of := func(kind, auth string) string {
		return "<pool type='" + kind + "'><name>p</name><source><host name='h'/><device path='iqn.2026-01.test:t'/>" + auth + "</source><target><path>/dev/disk/by-path</path></target></pool>"
	}
	const id = "2d3da4ed-8902-4d69-97ef-465dd35e9800"
	for secret, called := range map[string]string{"chap": "usage='chap'", id: "uuid='" + id + "'"} {
		auth := "<auth type='chap' username='u'><secret " + called + "/></auth>"
		p, err := virtxml.ParsePool([]byte(of("iscsi", auth)))
		if err != nil {
			t.Fatal(err)
		}
		d := p.Define()
		if d.Source.Username != "u" || d.Source.Secret != secret {
			t.Errorf("%s: %+v", called, d.Source)
		}
		doc := virtxml.OfPool(record.Pool{Name: "p", Type: "iscsi", Source: d.Source, Target: record.Target{Path: "/dev/disk/by-path/ip-h:3260-iscsi-iqn.2026-01.test:t"}}).Format()
		if again, err := virtxml.ParsePool([]byte(doc)); err != nil || !reflect.DeepEqual(again.Define().Source, d.Source) || again.Define().Target.Path != "" ||
			!strings.Contains(doc, "<auth type='chap' username='u'>") || !strings.Contains(doc, "<path>/dev/disk/by-path</path>") {
			t.Errorf("%s: %v, %s", called, err, doc)
		}
	}
	for _, auth := range []string{"<auth type='ceph' username='u'><secret usage='s'/></auth>", "<auth type='chap' username='u'/>"} {
		if _, err := virtxml.ParsePool([]byte(of("iscsi", auth))); err == nil {
			t.Errorf("%s passes", auth)
		}
	}
	p, err := virtxml.ParsePool([]byte(of("dir", "<auth type='chap' username='u'><secret usage='s'/></auth>")))
	if err != nil || p.Define().Source.Secret != "" {
		t.Errorf("directories log in nowhere: %+v, %v", p.Source, err)
	}
}

func TestOptionsOfAnImage(t *testing.T) {
	doc := "<volume><name>v</name><capacity unit='G'>1</capacity><target><format type='qcow2'/><clusterSize unit='KiB'>128</clusterSize><features><lazy_refcounts/></features></target></volume>"
	v, err := virtxml.ParseVolume([]byte(doc), "dir")
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Create()
	if want := "map[cluster_size:131072 compat:1.1 lazy_refcounts:on]"; err != nil || fmt.Sprint(r.Options) != want || r.Capacity != 1<<30 || r.Format != "qcow2" {
		t.Errorf("%v %v %v %v", r.Options, r.Capacity, r.Format, err)
	}
	encrypted := "<volume><name>v</name><capacity>1</capacity><target><encryption format='luks'><secret type='passphrase' usage='s'/></encryption></target></volume>"
	if v, err = virtxml.ParseVolume([]byte(encrypted), "dir"); err != nil {
		t.Fatal(err)
	}
	if f := v.Target.OurFormat(); f != "luks" || v.Target.Encryption.Usage != "s" {
		t.Errorf("%v", f)
	}
}

func TestCapabilitiesNameWhatThereIs(t *testing.T) {
	types := []record.Capabilities{{Type: "dir", Formats: []string{"raw", "qcow2"}}}
	if got, want := virtxml.FormatCapabilities(types), "<capabilities>\n\n  <pool>\n    <enum name='type'>\n      <value>dir</value>\n    </enum>\n  </pool>\n\n</capabilities>\n"; got != want {
		t.Errorf("%s", got)
	}
	got := virtxml.FormatPoolCapabilities(types)
	for _, want := range []string{"<pool type='dir' supported='yes'>\n    <volOptions>\n      <defaultFormat type='raw'/>", "<value>qcow2</value>", "<pool type='fs' supported='no'>"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	var all map[string][]answer
	if err := json.Unmarshal(answers, &all); err != nil {
		f.Fatal(err)
	}
	for _, of := range all {
		for _, a := range of {
			f.Add([]byte(a.Document))
			f.Add([]byte(a.Answer))
		}
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if p, err := virtxml.ParsePool(doc); err == nil {
			again(t, p)
		}
		if v, err := virtxml.ParseVolume(doc, "dir"); err == nil {
			v.Create()
			volumeAgain(t, v)
		}
	})
}

// again reads what is written of a pool that was read: it is the same.
func again(t *testing.T, p virtxml.Pool) {
	first := p.Format()
	p, err := virtxml.ParsePool([]byte(first))
	if err != nil {
		t.Fatalf("%v in %s", err, first)
	}
	p.Capacity, p.Allocation, p.Available = 0, 0, 0
	if second := p.Format(); second != first {
		t.Fatalf("%s\nthen\n%s", first, second)
	}
}

func volumeAgain(t *testing.T, v virtxml.Volume) {
	first := v.Format()
	v, err := virtxml.ParseVolume([]byte(first), "dir")
	if err != nil {
		t.Fatalf("%v in %s", err, first)
	}
	if second := v.Format(); second != first {
		t.Fatalf("%s\nthen\n%s", first, second)
	}
}

// What was found is described as libvirt does it, and where to look is read as libvirt
// reads it.
func TestSourcesAreDescribed(t *testing.T) {
	near, err := virtxml.ParseSource("netfs", []byte("<source><host name='server' port='2049'/></source>"))
	if want := (record.Source{Hosts: []string{"server:2049"}}); err != nil || !reflect.DeepEqual(near, want) {
		t.Errorf("%+v, %v", near, err)
	}
	for doc, want := range map[string]string{"<pool/>": "expecting root element of 'source'", "<source": "(storage_source_specification)", "<source><host/></source>": "missing storage pool host name"} {
		if _, err := virtxml.ParseSource("netfs", []byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", doc, err)
		}
	}
	for poolType, want := range map[string]string{
		"netfs":   "<sources>\n  <source>\n    <host name='server'/>\n    <dir path='/srv/e'/>\n    <format type='nfs'/>\n  </source>\n</sources>\n",
		"logical": "<sources>\n  <source>\n    <device path='/dev/sdb'/>\n    <name>vg0</name>\n    <format type='nfs'/>\n  </source>\n</sources>\n",
	} {
		found := []record.Source{{Hosts: []string{"server"}, Path: "/srv/e", Format: "nfs", Name: "vg0", Devices: []string{"/dev/sdb"}}}
		if got := virtxml.FormatSources(poolType, found); got != want {
			t.Errorf("%s:\n%s", poolType, got)
		}
	}
	if got := virtxml.FormatSources("netfs", nil); got != "<sources>\n</sources>\n" {
		t.Errorf("of none: %q", got)
	}
}

// Two disks are two pools, whose partitions libvirt has in one directory.
func TestDiskPoolsLieAtTheirDisks(t *testing.T) {
	const doc = "<pool type='disk'><name>d</name><source><device path='/dev/sdb'/></source><target><path>/dev</path></target></pool>"
	p, err := virtxml.ParsePool([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	r := p.Define()
	if r.Target.Path != "/dev/sdb" || r.Source.Format != "dos" {
		t.Errorf("%+v", r)
	}
	text := virtxml.OfPool(record.Pool{Type: "disk", Name: "d", Target: r.Target, Source: r.Source, FreeExtents: []record.FreeExtent{{Start: 1048576, End: 2097152}}}).Format()
	for _, want := range []string{"<device path='/dev/sdb'>", "<freeExtent start='1048576' end='2097152'/>", "<format type='dos'/>", "<path>/dev</path>"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	v, err := virtxml.ParseVolume([]byte("<volume><name>sdb1</name><capacity>1048576</capacity><target><format type='linux-swap'/></target></volume>"), "disk")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := v.Create(); err != nil || c.Format != "raw" || c.Allocation != nil {
		t.Errorf("%+v, %v", c, err)
	}
	for pool, want := range map[string]string{"disk": "<format type='none'/>", "dir": "<format type='raw'/>"} {
		v := virtxml.OfVolume(record.Volume{Type: "block", Format: "raw"})
		if v.In(pool); !strings.Contains(v.Format(), want) {
			t.Errorf("%s: %s", pool, v.Format())
		}
	}
}

// Where a volume lies on devices is said as libvirt says it, and of a file nothing.
func TestExtentsOfAVolume(t *testing.T) {
	v := record.Volume{Name: "a", Type: "block", Format: record.FormatRaw, Extents: []record.Extent{{Device: "/dev/x", Start: 1, End: 2}, {Device: "/dev/x", Start: 5, End: 6}, {Device: "/dev/y", Start: 1, End: 9}}}
	const want = `  <source>
    <device path='/dev/x'>
      <extent start='1' end='2'/>
      <extent start='5' end='6'/>
    </device>
    <device path='/dev/y'>
      <extent start='1' end='9'/>
    </device>
  </source>
`
	if text := virtxml.OfVolume(v).Format(); !strings.Contains(text, want) {
		t.Errorf("%s", text)
	}
	v.Extents = nil
	if text := virtxml.OfVolume(v).Format(); strings.Contains(text, "source") {
		t.Errorf("%s", text)
	}
}

// A volume without a format, of a pool whose volumes have none, is raw.
func TestVolumeWithoutAFormatIsRaw(t *testing.T) {
	v, err := virtxml.ParseVolume([]byte("<volume><name>a</name><capacity>1</capacity></volume>"), "logical")
	if err != nil || v.Target.OurFormat() != record.FormatRaw {
		t.Errorf("%q, %v", v.Target.OurFormat(), err)
	}
}
