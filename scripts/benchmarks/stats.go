package main

import (
	"fmt"
	"math"
	"slices"
)

// median of numbers, at least one.
func median(xs []float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// interval is where the median of what the numbers were drawn from lies with at
// least 95 % certainty, by the sign test: between two of the numbers in order,
// whatever their distribution. Fewer than six numbers give none.
func interval(xs []float64) (lo, hi float64, ok bool) {
	s := slices.Sorted(slices.Values(xs))
	n := len(s)
	below := 0.0 // probability that at most k of n are below the median
	k := -1
	for i := 0; i < n/2; i++ {
		below += math.Exp(logChoose(n, i) - float64(n)*math.Ln2)
		if below > 0.025 {
			break
		}
		k = i
	}
	if k < 0 {
		return 0, 0, false
	}
	return s[k], s[n-1-k], true
}

func logChoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}

// ratios of ours to theirs, pair by pair.
func ratios(ours, theirs []float64) []float64 {
	var out []float64
	for i := range min(len(ours), len(theirs)) {
		out = append(out, ours[i]/theirs[i])
	}
	return out
}

// told is a median ratio with its interval.
func told(rs []float64) string {
	lo, hi, ok := interval(rs)
	if !ok {
		return fmt.Sprintf("%.2f", median(rs))
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", median(rs), lo, hi)
}
