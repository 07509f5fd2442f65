package quantity

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseSizeReadsWhatVirshReads(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "4096": 4096, "1b": 1, "1B": 1, "7byte": 7, "7BYTES": 7,
		"1K": 1024, "1k": 1024, "1KB": 1000, "1kb": 1000, "1KiB": 1024, "1kIb": 1024,
		"10M": 10 << 20, "10MB": 10e6, "10MiB": 10 << 20, "3g": 3 << 30, "3GB": 3e9,
		"2T": 2 << 40, "2TB": 2e12, "1P": 1 << 50, "1PB": 1e15, "7E": 7 << 60, "9EB": 9e18,
		"007": 7, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
}

func TestParseSizeRefuses(t *testing.T) {
	for in, why := range map[string]string{
		"": "write a whole number", "-1": "negative", "-5G": "negative", "+5G": "whole number", "G": "whole number",
		"1.5G": "no whole number; take a smaller unit, like 1536M", "1,5G": "no whole number", " 1": "whole number", "1 G": "unknown unit", "1Gi": "unknown unit", "1KBs": "unknown unit",
		"1bit": "unknown unit", "0x10": "unknown unit", "8E": "more than", "9223372036854775808": "more than",
		"99999999999999999999": "more than", "10EB": "more than", "1\x00": "unknown unit", "1ſ": "unknown unit",
	} {
		got, err := ParseSize(in)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("ParseSize(%q) = %d, %v; want an error with %q", in, got, err, why)
		}
	}
}

func TestParseRelative(t *testing.T) {
	for in, want := range map[string]struct {
		n        int64
		relative bool
	}{"10G": {10 << 30, false}, "+10G": {10 << 30, true}, "+0": {0, true}} {
		n, relative, err := ParseRelative(in)
		if err != nil || n != want.n || relative != want.relative {
			t.Errorf("ParseRelative(%q) = %d, %v, %v", in, n, relative, err)
		}
	}
	for _, in := range []string{"", "+", "++1", "-1", "+-1"} {
		if _, _, err := ParseRelative(in); err == nil {
			t.Errorf("ParseRelative(%q) is accepted", in)
		}
	}
}

func TestParseRate(t *testing.T) {
	for in, want := range map[string]int64{"100M": 100 << 20, "100M/s": 100 << 20, "1": 1, "2KB/s": 2000} {
		if got, err := ParseRate(in); err != nil || got != want {
			t.Errorf("ParseRate(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "/s", "0", "0/s", "1M/m", "-1", "none", "1M/s/s"} {
		if _, err := ParseRate(in); err == nil || !strings.HasPrefix(err.Error(), "bad rate") {
			t.Errorf("ParseRate(%q): %v", in, err)
		}
	}
}

func TestFormatBytesHasThreeDigits(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1.00 KiB", 1536: "1.50 KiB", 10 << 10: "10.0 KiB",
		734003200: "700 MiB", 1000 << 20: "0.977 GiB", 2 << 30: "2.00 GiB", 1 << 60: "1.00 EiB",
		999 << 10: "999 KiB", 1023 << 10: "0.999 MiB", 1<<20 - 1: "1.00 MiB", math.MaxInt64: "8.00 EiB", -2048: "-2.00 KiB", math.MinInt64: "-8.00 EiB",
		10234: "9.99 KiB", 10239: "10.0 KiB",
	} {
		if got := FormatBytes(n); got != want {
			t.Errorf("FormatBytes(%d) = %q, want %q", n, got, want)
		}
	}
	if got := FormatRate(512000000); got != "488 MiB/s" {
		t.Error(got)
	}
}

func TestFormatBothIsExact(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 10 << 30: "10.0 GiB", 100 << 50: "100 PiB", 1<<30 + 1: "1.00 GiB (1073741825 bytes)",
		1000: "1000 B", 1001 << 20: "0.978 GiB (1049624576 bytes)",
	} {
		if got := FormatBoth(n); got != want {
			t.Errorf("FormatBoth(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestFormatBytesIsNearAndShort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, math.MaxInt64).Draw(t, "n")
		number, suffix, _ := strings.Cut(FormatBytes(n), " ")
		factor, ok := unit(suffix)
		if !ok {
			t.Fatalf("unit %q", suffix)
		}
		if len(number) > 5 {
			t.Fatalf("%q is too long", number)
		}
		if got := parseFloat(t, number) * float64(factor); math.Abs(got-float64(n)) > 0.006*float64(n) {
			t.Fatalf("%d shown as %s %s", n, number, suffix)
		}
	})
}

func TestFormatExactReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, math.MaxInt64).Draw(t, "n") >> rapid.IntRange(0, 63).Draw(t, "shift")
		n <<= 10 * rapid.IntRange(0, 6).Draw(t, "power") // may wrap; any number will do
		n = max(n, 0)
		if got, err := ParseSize(FormatExact(n)); err != nil || got != n {
			t.Fatalf("%d as %q is %d, %v", n, FormatExact(n), got, err)
		}
	})
	if got := FormatExact(10 << 30); got != "10G" {
		t.Error(got)
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "90": 90 * time.Second, "90s": 90 * time.Second, "4h": 4 * time.Hour, "2d": 48 * time.Hour,
		"1w": 168 * time.Hour, "500ms": 500 * time.Millisecond, "5min": 5 * time.Minute, "5m": 5 * time.Minute, "1h30m": 90 * time.Minute,
	} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "h", "-1s", "1.5h", "1 h", "1H", "4y", "1h30", "99999999999999999999", "9223372036854775807", "200000d", "106751d2d", "1h-5m"} {
		if got, err := ParseDuration(in); err == nil || !strings.HasPrefix(err.Error(), "bad duration") {
			t.Errorf("ParseDuration(%q) = %v, %v", in, got, err)
		}
	}
}

func TestDurationInAFileHasAUnit(t *testing.T) {
	for in, want := range map[string]Duration{"10m": Duration(10 * time.Minute), "0": 0, "0s": 0} {
		var d Duration
		if err := d.UnmarshalText([]byte(in)); err != nil || d != want {
			t.Errorf("%q is %v, %v", in, time.Duration(d), err)
		}
	}
	for _, in := range []string{"10", "007", "", "1.5h"} {
		if err := new(Duration).UnmarshalText([]byte(in)); err == nil || !strings.HasPrefix(err.Error(), "bad duration") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 100 * time.Microsecond: "<1 ms", 12 * time.Millisecond: "12 ms", 949 * time.Millisecond: "949 ms", 950 * time.Millisecond: "0.9 s", 2800 * time.Millisecond: "2.8 s", 9940 * time.Millisecond: "9.9 s", 9960 * time.Millisecond: "10 s",
		45 * time.Second: "45 s", 125 * time.Second: "2 min 5 s", 2 * time.Minute: "2 min", 59*time.Second + 600*time.Millisecond: "1 min",
		4340 * time.Second: "1 h 12 min", 76 * time.Hour: "3 d 4 h", -3 * time.Second: "-3.0 s",
		longest: "36500 d", longest + 1: "over 100 years", math.MaxInt64: "over 100 years",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestSecondsOfHostileNumbers(t *testing.T) {
	for in, want := range map[float64]time.Duration{2.5: 2500 * time.Millisecond, 1e300: math.MaxInt64, math.Inf(1): math.MaxInt64} {
		if got := Seconds(in); got != want {
			t.Errorf("Seconds(%g) = %v", in, got)
		}
	}
	if Seconds(math.NaN()) != math.MaxInt64 {
		t.Error("NaN is not the longest duration")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "1", "10G", "1KiB", "+5M", "8E", "-1", "90s", "1h30m", "1\xff", "100M/s", strings.Repeat("9", 40)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); err == nil {
			if n < 0 || strings.ToLower(s) != s && mustSize(t, strings.ToLower(s)) != n {
				t.Fatalf("ParseSize(%q) = %d", s, n)
			}
		}
		if n, err := ParseRate(s); err == nil && n <= 0 {
			t.Fatalf("ParseRate(%q) = %d", s, n)
		}
		if n, _, err := ParseRelative(s); err == nil && n < 0 {
			t.Fatalf("ParseRelative(%q) = %d", s, n)
		}
		if d, err := ParseDuration(s); err == nil && d < 0 {
			t.Fatalf("ParseDuration(%q) = %d", s, d)
		}
	})
}

func mustSize(t *testing.T, s string) int64 {
	n, err := ParseSize(s)
	if err != nil {
		t.Fatalf("ParseSize(%q): %v", s, err)
	}
	return n
}

func parseFloat(t *rapid.T, s string) float64 {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSizesThatAreTooMuchTogether(t *testing.T) {
	for _, c := range []struct{ a, b, want int64 }{{1, 2, 3}, {2, -1, 1}, {math.MaxInt64, 1, math.MaxInt64}, {1 << 62, 1 << 62, math.MaxInt64}} {
		if got := Sum(c.a, c.b); got != c.want {
			t.Errorf("%d and %d are %d", c.a, c.b, got)
		}
	}
}
