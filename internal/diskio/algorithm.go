package diskio

import "slices"

// AlgorithmZero is one pass of zeros, the default.
const AlgorithmZero = "zero"

// filler fills buf with what a pass writes at off. The same range always gets
// the same bytes, so that it can be verified. It is safe for concurrent use.
type filler func(buf []byte, off int64)

// algorithm is a sequence of passes. Each function begins its pass.
type algorithm struct {
	passes []func() (filler, error)
	verify bool // by definition
}

// algorithms has every algorithm by its libvirt name.
var algorithms = map[string]algorithm{
	AlgorithmZero: {passes: passes(pattern(0x00))},
}

// Algorithms are the names that Wipe knows, sorted.
func Algorithms() []string {
	names := make([]string, 0, len(algorithms))
	for name := range algorithms {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func passes(list ...func() (filler, error)) []func() (filler, error) { return list }

// pattern is a pass that repeats bytes from the start of the file.
func pattern(bytes ...byte) func() (filler, error) {
	return func() (filler, error) {
		return func(buf []byte, off int64) {
			n := 0
			for ; n < len(bytes) && n < len(buf); n++ {
				buf[n] = bytes[(off+int64(n))%int64(len(bytes))]
			}
			for n > 0 && n < len(buf) {
				n += copy(buf[n:], buf[:n])
			}
		}, nil
	}
}
