package main

import (
	"strings"
	"testing"

	"storaged/internal/record"
)

func TestCancelByASignalFromOutsideIsSaidSo(t *testing.T) {
	for _, c := range []struct {
		by   record.Owner
		want string
	}{
		{record.Owner{UID: record.NoUID, Via: record.ViaSignal, PID: 4711}, "a signal from outside (by process 4711)"},
		{record.Owner{UID: record.NoUID, Via: record.ViaSignal}, "a signal from outside"},
	} {
		j := record.Job{Number: 7, Kind: record.VolumeWipe, State: record.Canceled, CanceledBy: &c.by}
		if got := jobError(&j).Error(); !strings.HasSuffix(got, "was canceled by "+c.want) {
			t.Errorf("the end is told as %q", got)
		}
		if got := owner(c.by); got != c.want {
			t.Errorf("shown as %q, want %q", got, c.want)
		}
	}
}
