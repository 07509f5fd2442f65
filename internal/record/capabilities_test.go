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
			choice := len(o.Values) > 0
			if choice == (o.Maximum > 0) || choice && !slices.Contains(o.Values, o.Default) || o.Minimum > o.Maximum || o.Effect == "" {
				t.Errorf("%s: %+v", c.Format, o)
			}
		}
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
