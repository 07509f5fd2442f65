package record_test

import (
	"slices"
	"strings"
	"testing"

	"storaged/internal/record"
)

func TestKindsOfJobsAreThoseOfTheType(t *testing.T) {
	c := record.Capabilities{Type: "disk", PoolVerbs: []string{"start", "delete"}, VolVerbs: []string{"create", "wipe"}}
	for kind, word := range map[record.Kind]string{
		record.PoolStart: "", record.PoolDelete: "", record.VolumeCreate: "", record.VolumeWipe: "",
		record.VolumeDelete: `no delete of volumes of type disk, but "create", "wipe"`, record.PoolBuild: `no build of pools of type disk, but "start", "delete"`,
	} {
		err := c.Can(kind)
		if (err == nil) != (word == "") || err != nil && (record.CodeOf(err) != record.Unsupported || !strings.Contains(err.Error(), word)) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestOptionsOfFormatsAreSound(t *testing.T) {
	for _, c := range record.Creations() {
		if !slices.Contains(record.Formats, c.Format) || len(c.Allocation) == 0 {
			t.Errorf("%+v", c)
		}
		for _, o := range c.Options {
			choice, kinds := len(o.Values) > 0, 0
			for _, is := range []bool{choice, o.Maximum > 0, o.Names != ""} {
				if is {
					kinds++
				}
			}
			if kinds != 1 || choice && !slices.Contains(o.Values, o.Default) || o.Minimum > o.Maximum || o.Effect == "" {
				t.Errorf("%s: %+v", c.Format, o)
			}
		}
	}
}

// An option that only one type of pools has is that type's, and nobody else's.
func TestOptionsOfOneTypeOfPools(t *testing.T) {
	given := map[string]string{record.OptionThinPool: "tp", "preallocation": "off"}
	for of, has := range map[string]bool{"logical": true, "dir": false, "disk": false} {
		c := record.CreationsIn(of)[0]
		if _, ok := c.Option(record.OptionThinPool); ok != has {
			t.Errorf("%s: it has the option: %t", of, ok)
		}
		err := record.Capabilities{Type: of, Formats: []string{"raw"}}.CanMakeWith("raw", given)
		if (err == nil) != has || err != nil && (record.CodeOf(err) != record.Unsupported || !strings.Contains(err.Error(), "logical")) {
			t.Errorf("%s: %v", of, err)
		}
	}
	c, _ := record.CreationOf("raw")
	if own := c.OfPool(given); len(own) != 1 || own[record.OptionThinPool] != "tp" {
		t.Errorf("%q", own)
	}
}

func TestFormatsThatCannotBeMadeAreRefused(t *testing.T) {
	c := record.Capabilities{Type: "dir", Formats: []string{"raw"}, Creations: []record.Creation{{Format: "raw"}, {Format: "qcow2", Unavailable: "the program is missing"}}}
	for format, word := range map[string]string{"raw": "", "qcow2": "the program is missing", "vdi": "cannot be made"} {
		err := c.CanMake(format)
		if (err == nil) != (word == "") || err != nil && (record.CodeOf(err) != record.Unsupported || !strings.Contains(err.Error(), word)) {
			t.Errorf("%s: %v", format, err)
		}
	}
}
