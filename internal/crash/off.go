//go:build !chaos

package crash

// Inherited names the environment variables that a helper needs to have too.
var Inherited []string

// Directories are none.
func Directories() []string { return nil }

// At does nothing.
func At(Point) {}

// AtSent does nothing.
func AtSent(uint8) {}
