// Package build names the build that a program is of, the same for all three:
// a daemon compares it with that of its helpers.
package build

import "runtime/debug"

// version is set by the linker, for packages.
var version string

// maxVersion bounds a version, in bytes: a helper's HELLO takes no longer one.
const maxVersion = 64

// Version is what the linker was told, else what the Go tool has recorded of
// the module, else "devel".
func Version() string {
	v := version
	if v == "" {
		v = recorded()
	}
	if v == "" {
		v = "devel"
	}
	return v[:min(len(v), maxVersion)]
}

// recorded is what the Go tool knew of the module; "": nothing.
func recorded() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "(devel)" {
		return ""
	}
	return info.Main.Version
}
