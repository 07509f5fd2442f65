package wipe

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	mathrand "math/rand/v2"
	"slices"

	"storaged/internal/diskio"
)

// Algorithms of a wipe, by their libvirt names.
const (
	Zero       = "zero"
	Random     = "random"
	NNSA       = "nnsa"
	DoD        = "dod"
	BSI        = "bsi"
	Gutmann    = "gutmann"
	Schneier   = "schneier"
	Pfitzner7  = "pfitzner7"
	Pfitzner33 = "pfitzner33"
	Trim       = "trim"
)

// pass is one overwriting: a pattern repeated from the start of the file, or
// random bytes where there is none.
type pass []byte

var randomPass = pass(nil)

// algorithm is a sequence of passes.
type algorithm struct {
	passes []pass
	// shuffled passes, from the first to before the second, are written in
	// random order.
	shuffled [2]int
	verify   bool // by definition, not only on request
	trim     bool // no passes: the blocks are given back
}

// rounds is how often the whole file is gone over.
func (a algorithm) rounds(verify bool) int {
	n := len(a.passes)
	if a.trim {
		n = 1
	}
	if verify || a.verify {
		n++
	}
	return n
}

// algorithms has every algorithm. libvirt runs scrub(1) for all but zero; where
// scrub differs from the published definition this follows the definition.
var algorithms = map[string]algorithm{
	Zero:   {passes: []pass{{0x00}}},
	Random: {passes: randoms(1)},

	// NNSA Policy Letter NAP-14.1-C (XVI-8): pseudorandom twice, then a known
	// pattern, then verify. scrub takes zeros for the known pattern.
	NNSA: {passes: append(randoms(2), pass{0x00}), verify: true},

	// DoD 5220.22-M, 8-306 (d): a character, its complement, then a random
	// one, then verify. scrub puts the random pass first, because it could not
	// verify it.
	DoD: {passes: []pass{{0x00}, {0xff}, randomPass}, verify: true},

	// German BSI as in scrub(1): ones, then one zero bit walking through all
	// places.
	BSI: {passes: []pass{{0xff}, {0xfe}, {0xfd}, {0xfb}, {0xf7}, {0xef}, {0xdf}, {0xbf}, {0x7f}}},

	// P. Gutmann, "Secure Deletion of Data from Magnetic and Solid-State
	// Memory", USENIX Security 1996, table in section 3: passes 5 to 31 in
	// random order. scrub keeps the order of the table.
	Gutmann: {passes: gutmann(), shuffled: [2]int{4, 31}},

	// B. Schneier, "Applied Cryptography", 2nd edition 1996, 10.9: ones, then
	// zeros, then random five times. scrub begins with zeros.
	Schneier: {passes: append([]pass{{0xff}, {0x00}}, randoms(5)...)},

	// R. Pfitzner's methods as in scrub(1).
	Pfitzner7:  {passes: randoms(7)},
	Pfitzner33: {passes: randoms(33)},

	// No overwrite: the volume reads as zeros, or as the device likes, and its
	// blocks are free. libvirt has it for rbd only.
	Trim: {trim: true},
}

func randoms(n int) []pass { return slices.Repeat([]pass{randomPass}, n) }

func gutmann() []pass {
	list := append(randoms(4), pass{0x55}, pass{0xaa})
	rll := []pass{{0x92, 0x49, 0x24}, {0x49, 0x24, 0x92}, {0x24, 0x92, 0x49}}
	list = append(list, rll...)
	for b := range 16 {
		list = append(list, pass{byte(b * 0x11)})
	}
	list = append(list, rll...)
	list = append(list, pass{0x6d, 0xb6, 0xdb}, pass{0xb6, 0xdb, 0x6d}, pass{0xdb, 0x6d, 0xb6})
	return append(list, randoms(4)...)
}

// Algorithms are the names that there are, sorted.
func Algorithms() []string {
	names := make([]string, 0, len(algorithms))
	for name := range algorithms {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Order chooses an order in which a wipe writes the passes of an algorithm,
// by their numbers in its definition; nil for one that there is not.
func Order(name string) []int {
	a := algorithms[name]
	order := make([]int, len(a.passes))
	for i := range order {
		order[i] = i
	}
	part := order[a.shuffled[0]:a.shuffled[1]]
	mathrand.New(mathrand.NewChaCha8(seed())).Shuffle(len(part), func(i, j int) {
		part[i], part[j] = part[j], part[i]
	})
	return order
}

// order gives the passes as they are to be written; an order that leaves one
// out, or changes what is not to be shuffled, is an error.
func (a algorithm) order(by []int) ([]pass, error) {
	list, seen := make([]pass, len(a.passes)), make([]bool, len(a.passes))
	if len(by) != len(list) {
		return nil, fmt.Errorf("an order of %d passes, where there are %d", len(by), len(list))
	}
	for i, n := range by {
		fixed := i < a.shuffled[0] || i >= a.shuffled[1]
		if n < 0 || n >= len(list) || seen[n] || fixed && n != i {
			return nil, fmt.Errorf("%v is no order of its passes", by)
		}
		list[i], seen[n] = a.passes[n], true
	}
	return list, nil
}

// seed comes from the kernel. It cannot fail: crypto/rand crashes instead.
func seed() (key [32]byte) {
	_, _ = rand.Read(key[:])
	return key
}

// pattern begins a pass; each random pass has a key of its own.
func (p pass) pattern() diskio.Pattern {
	if p == nil {
		return randomPattern(seed())
	}
	return p.repeated()
}

// repeated is the pattern as often as fills a chunk, wherever that begins.
func (p pass) repeated() diskio.Pattern {
	period := int64(len(p))
	all := bytes.Repeat(p, diskio.ChunkBytes/len(p)+2)
	return func(buf []byte, off int64) []byte {
		first := off % period
		return all[first : first+int64(len(buf))]
	}
}

// randomPattern is the AES-256-CTR key stream, which unlike a generator that
// runs from start to end can be entered anywhere: workers fill in parallel, and
// a random pass can be verified.
func randomPattern(key [32]byte) diskio.Pattern {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(fmt.Sprintf("internal error: AES refuses a key of 256 bits: %v", err))
	}
	return func(buf []byte, off int64) []byte {
		if off%aes.BlockSize != 0 {
			panic(fmt.Sprintf("internal error: a random pass begins at byte %d, within a cipher block", off))
		}
		var counter [aes.BlockSize]byte
		binary.BigEndian.PutUint64(counter[8:], uint64(off/aes.BlockSize))
		clear(buf)
		cipher.NewCTR(block, counter[:]).XORKeyStream(buf, buf)
		return buf
	}
}
