package catalog

import (
	"testing"

	"storaged/internal/operation"
)

// Every kind of job has its entry in the table of effects, with both halves.
func TestEveryKindHasAnEffect(t *testing.T) {
	for _, kind := range operation.Kinds() {
		o, _ := operation.New(kind)
		if e := effectOf(o); e.granted == nil || e.ended == nil {
			t.Errorf("%s has no effect at its grant, or none at its end", kind)
		}
	}
}
