package quantity

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// durationUnits are the units of ParseDuration.
var durationUnits = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "min": time.Minute,
	"h": time.Hour, "d": day, "w": 7 * day,
}

// ParseDuration reads whole numbers with units, like 90s, 4h, 2d or 1h30m. A
// bare number is seconds, as timeout(1) has it. Units: ms s m min h d w.
func ParseDuration(s string) (time.Duration, error) {
	if n, err := strconv.ParseUint(s, 10, 63); err == nil && int64(n) <= math.MaxInt64/int64(time.Second) {
		return time.Duration(n) * time.Second, nil
	}
	var sum time.Duration
	for rest := s; rest != "" || s == ""; {
		part, tail, err := firstPart(rest)
		if err != nil {
			return 0, fmt.Errorf("bad duration %q: %w", s, err)
		}
		if sum > math.MaxInt64-part {
			return 0, fmt.Errorf("bad duration %q: it is too long", s)
		}
		sum, rest = sum+part, tail
	}
	return sum, nil
}

var errNoUnit = errors.New("write numbers with units ms, s, m, h, d or w, like 90s, 4h or 1h30m")

// firstPart reads one number with its unit from the front of s.
func firstPart(s string) (d time.Duration, rest string, err error) {
	digits := leadingDigits(s)
	rest = strings.TrimLeft(s[len(digits):], "abcdefghijklmnopqrstuvwxyz")
	name := s[len(digits) : len(s)-len(rest)]
	u, known := durationUnits[name]
	if digits == "" || !known {
		return 0, "", errNoUnit
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/int64(u) {
		return 0, "", fmt.Errorf("it is too long")
	}
	return time.Duration(n) * u, rest, nil
}

// longest is the longest duration that is shown as it is. What is longer came from
// an estimate, and may be as long as a duration can be for being longer than that.
const longest = 100 * 365 * day

// FormatDuration gives d in its two largest units, for example "2 min 5 s" or
// "3 d 4 h", below ten seconds with one decimal, below one in milliseconds. What is
// longer than a hundred years is shown as such.
func FormatDuration(d time.Duration) string {
	if d < 0 {
		return "-" + FormatDuration(-max(d, -math.MaxInt64))
	}
	switch {
	case d > longest:
		return "over 100 years"
	case d == 0:
		return "0 s"
	case d < 500*time.Microsecond:
		return "<1 ms"
	case d < 950*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	case d < 9950*time.Millisecond:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	}
	switch s := int64(d.Round(time.Second) / time.Second); {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return pair(s/60, "min", s%60, "s")
	case s < 24*3600:
		return pair(s/3600, "h", s%3600/60, "min")
	default:
		return pair(s/(24*3600), "d", s%(24*3600)/3600, "h")
	}
}

func pair(a int64, unitA string, b int64, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, unitA)
	}
	return fmt.Sprintf("%d %s %d %s", a, unitA, b, unitB)
}

// Seconds makes a duration of seconds as the records have them.
func Seconds(s float64) time.Duration {
	if math.IsNaN(s) || s > math.MaxInt64/1e9 {
		return math.MaxInt64
	}
	return time.Duration(s * float64(time.Second))
}

// Duration is a length of time in a file of settings, such as "10m" or "2d". There a bare
// number is refused: whoever reads the file takes it for minutes as well as for seconds.
type Duration time.Duration

// UnmarshalText reads it.
func (d *Duration) UnmarshalText(text []byte) error {
	if n, err := strconv.ParseUint(string(text), 10, 64); err == nil && n > 0 {
		return fmt.Errorf("bad duration %q: %w", text, errNoUnit)
	}
	v, err := ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// String is how a file of settings has it, in the largest unit without a remainder.
func (d Duration) String() string {
	for _, unit := range []string{"d", "h", "m", "s"} {
		if size := durationUnits[unit]; d != 0 && time.Duration(d)%size == 0 {
			return strconv.FormatInt(int64(time.Duration(d)/size), 10) + unit
		}
	}
	if d == 0 {
		return "0s"
	}
	return strconv.FormatInt(time.Duration(d).Milliseconds(), 10) + "ms"
}
