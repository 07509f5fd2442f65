// Package quantity reads and writes sizes, rates and durations as people type
// and read them on the command line. It imports nothing of ours.
package quantity

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// powers are the letters of virsh, smallest first.
const powers = "kmgtpe"

// ParseSize reads a size in bytes as virsh does: a whole number and at most
// one suffix, in any case. K is 1024, KB is 1000, KiB is 1024, likewise M, G,
// T, P, E; B, byte and bytes are 1, as is a bare number. Unlike virsh it
// refuses spaces and a sign, and what does not fit into 63 bits.
func ParseSize(s string) (int64, error) {
	n, err := parseSize(s)
	if err != nil {
		return 0, fmt.Errorf("bad size %q: %w", s, err)
	}
	return n, nil
}

func parseSize(s string) (int64, error) {
	digits := leadingDigits(s)
	switch {
	case strings.HasPrefix(s, "-"):
		return 0, errors.New("it cannot be negative")
	case digits == "":
		return 0, errors.New("write a whole number and a unit, like 10G, 500MB or 4096")
	}
	factor, ok := unit(s[len(digits):])
	if !ok && strings.ContainsAny(s[len(digits):len(digits)+1], ".,") {
		return 0, errors.New("it is no whole number; take a smaller unit, like 1536M for 1.5G")
	}
	if !ok {
		return 0, fmt.Errorf("unknown unit %q; write B, K, KB, KiB, M, MB, MiB and so on up to E", s[len(digits):])
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/factor {
		return 0, fmt.Errorf("it is more than %d bytes", int64(math.MaxInt64))
	}
	return n * factor, nil
}

func leadingDigits(s string) string {
	return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
}

// unit gives the bytes that a suffix stands for.
func unit(suffix string) (int64, bool) {
	low := strings.ToLower(suffix)
	switch low {
	case "", "b", "byte", "bytes":
		return 1, true
	}
	exponent := 1 + strings.IndexByte(powers, low[0])
	if exponent == 0 {
		return 0, false
	}
	switch low[1:] {
	case "", "ib":
		return pow(1024, exponent), true
	case "b":
		return pow(1000, exponent), true
	}
	return 0, false
}

func pow(base int64, exponent int) int64 {
	n := int64(1)
	for range exponent {
		n *= base
	}
	return n
}

// ParseRelative reads SIZE or +SIZE. relative reports that it began with a
// plus, so that the size is to be added to what there is.
func ParseRelative(s string) (n int64, relative bool, err error) {
	if strings.HasPrefix(s, "-") {
		return 0, false, fmt.Errorf("bad size %q: it cannot be negative; write the size that is wanted in the end", s)
	}
	rest, relative := strings.CutPrefix(s, "+")
	if n, err = ParseSize(rest); err != nil {
		return 0, false, err
	}
	return n, relative, nil
}

// ParseRate reads SIZE or SIZE/s, in bytes per second. Zero is refused: it
// would mean a job that never ends.
func ParseRate(s string) (int64, error) {
	n, err := parseSize(strings.TrimSuffix(s, "/s"))
	if err != nil {
		return 0, fmt.Errorf("bad rate %q: %w", s, err)
	}
	if n == 0 {
		return 0, fmt.Errorf("bad rate %q: with it nothing would ever end", s)
	}
	return n, nil
}

// FormatBytes gives n in the largest unit that leaves at least one of it, in
// powers of 1024 with three significant digits, for example "1.50 GiB".
// Numbers below 1 KiB are exact.
func FormatBytes(n int64) string {
	if n < 0 {
		return "-" + FormatBytes(-max(n, -math.MaxInt64))
	}
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, i := float64(n)/1024, 0
	for ; v >= 999.5 && i < len(powers)-1; i++ {
		v /= 1024
	}
	return three(v) + " " + strings.ToUpper(powers[i:i+1]) + "iB"
}

// three gives v, below 1000, with three significant digits.
func three(v float64) string {
	switch {
	case v < 0.9995:
		return strconv.FormatFloat(v, 'f', 3, 64)
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// FormatRate is FormatBytes per second.
func FormatRate(bytesPerSecond int64) string { return FormatBytes(bytesPerSecond) + "/s" }

// FormatExact gives n as ParseSize reads it back, in the largest power of
// 1024 that divides it, for example "10G".
func FormatExact(n int64) string {
	i := 0
	for ; n != 0 && n%1024 == 0 && i < len(powers); i++ {
		n /= 1024
	}
	if i == 0 {
		return strconv.FormatInt(n, 10)
	}
	return strconv.FormatInt(n, 10) + strings.ToUpper(powers[i-1:i])
}

// FormatBoth is FormatBytes for messages: where that rounds, the exact number
// follows in parentheses, so that two that differ never look the same.
func FormatBoth(n int64) string {
	const shown = 3 // digits of FormatBytes
	if digits := leadingDigits(FormatExact(n)); n < 1<<10 || len(digits) <= shown && len(digits) < len(FormatExact(n)) {
		return FormatBytes(n)
	}
	return fmt.Sprintf("%s (%d bytes)", FormatBytes(n), n)
}

// Sum adds to a size b, which may be negative. A sparse file can be 8 EiB long, and an
// image's header can say so of itself: two of them are more than an int64 holds.
func Sum(a, b int64) int64 {
	if b > math.MaxInt64-a {
		return math.MaxInt64
	}
	return a + b
}
