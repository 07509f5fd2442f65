package task

import (
	"slices"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/wipe"
)

// What a wipe can be asked for is what there is.
func TestAlgorithmsOfAWipeAreThoseThatThereAre(t *testing.T) {
	asked := slices.Sorted(slices.Values(operation.Algorithms))
	if there := wipe.Algorithms(); !slices.Equal(asked, there) {
		t.Errorf("%q can be asked for, and there are %q", asked, there)
	}
}
