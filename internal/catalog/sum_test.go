package catalog

import (
	"slices"
	"testing"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Only who asked for a content to be compared is told that its checksum is not.
func TestOnlyAVerificationIsWarnedOfAChecksumThatIsNotCompared(t *testing.T) {
	for _, c := range []struct {
		o    operation.Operation
		want bool
	}{
		{&operation.Verify{Volume: on("a.qcow2"), Format: "qcow2"}, true},
		{&operation.Check{Volume: on("a.qcow2"), Format: "qcow2"}, false},
		{&operation.Check{Volume: on("a.qcow2"), Format: "qcow2", Repair: record.RepairLeaks}, false},
		{&operation.Trim{Volume: on("a.qcow2"), Format: "qcow2"}, false},
	} {
		d := newDesk(t)
		sum := &record.Recorded{Checksum: "sha256:0a", As: record.AsFile, Job: 7, Time: time.Now(), Current: true}
		d.update(func(tx *store.Tx) error {
			return tx.PutVolume(&store.Volume{Volume: record.Volume{Pool: "p", Name: "a.qcow2", Format: "qcow2", State: record.VolumeReady, Checksum: sum}})
		})
		j := d.job(c.o)
		if err := d.grant(j); err != nil {
			t.Fatal(err)
		}
		if warned := len(j.Warnings) > 0; warned != c.want {
			t.Errorf("%s warns %q", c.o.Task().Name, slices.Clone(j.Warnings))
		}
	}
}
