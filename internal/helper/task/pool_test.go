package task

import (
	"testing"

	"storaged/internal/operation"
)

// Who reads what failed knows a pool by its name; where there is none, by its path.
func TestPoolIsCalledByItsName(t *testing.T) {
	for name, want := range map[string]string{"images": `stop pool "images"`, "": `stop pool "/srv/images"`} {
		o := operation.NewPoolStop()
		o.Pool, o.Path = name, "/srv/images"
		made, err := PoolStop(o)
		if err != nil || made.Doing != want {
			t.Errorf("%q: %v, want %s", made.Doing, err, want)
		}
	}
}
