package record

import (
	"slices"
	"testing"
)

func TestEveryKindOfJobIsAnAction(t *testing.T) {
	for _, k := range Kinds() {
		if a := ActionOf(k); !slices.Contains(Actions(), a) {
			t.Errorf("%s is %q", k, a)
		}
	}
	for k, want := range map[Kind]Action{VolumeWipe: DeleteVolumes, VolumeUpload: ChangeVolumes, PoolEvacuate: ChangeVolumes, SnapshotClone: CreateVolumes, VolumeDownload: ReadVolumes, PoolBuild: DefinePools, PoolStop: RunPools} {
		if got := ActionOf(k); got != want {
			t.Errorf("%s is %s", k, got)
		}
	}
}
