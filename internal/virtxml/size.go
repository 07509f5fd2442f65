package virtxml

import (
	"errors"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// sizeOf is the size in bytes that an element says with its unit; ok is false where it
// says none. Numbers are unsigned decimal ones, without blanks.
func sizeOf(e *element) (size int64, ok bool, err error) {
	if e == nil || e.text == "" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(e.text, 10, 64)
	if err != nil {
		return 0, false, refuse(Wrong, "malformed capacity element")
	}
	size, err = scaled(n, e.attr("unit"))
	return size, true, err
}

// scaled is n of a unit in bytes (virScaleInteger): K, KiB and k are 1024, KB is 1000.
func scaled(n uint64, unit string) (int64, error) {
	factor, ok := scale(unit)
	if !ok {
		return 0, refuse(Unit, "unknown suffix '%s'", unit)
	}
	high, low := bits.Mul64(n, factor)
	if high != 0 || low > math.MaxInt64 {
		return 0, refuse(Overflow, "value too large: %d%s", n, unit)
	}
	return int64(low), nil
}

// scale is how many bytes a unit has.
func scale(unit string) (factor uint64, ok bool) {
	lower := strings.ToLower(unit)
	if lower == "" || lower == "b" || lower == "byte" || lower == "bytes" {
		return 1, true
	}
	power := strings.IndexByte("kmgtpe", lower[0]) + 1
	base := uint64(1024)
	switch lower[1:] {
	case "", "ib":
	case "b":
		base = 1000
	default:
		return 0, false
	}
	factor = 1
	for range power {
		factor *= base
	}
	return factor, power > 0
}

var errNumber = errors.New("not a number")

// integer is a whole number, as XPath's number() takes it from a text: with blanks around.
func integer(text string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, errNumber
	}
	return n, nil
}
