package record_test

import (
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
