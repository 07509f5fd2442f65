package main

import "testing"

func TestMedianAndItsInterval(t *testing.T) {
	xs := make([]float64, 15)
	for i := range xs {
		xs[i] = float64((i*7)%15 + 1) // 1 to 15 in another order
	}
	if got := median(xs); got != 8 {
		t.Errorf("median is %v", got)
	}
	if lo, hi, ok := interval(xs); lo != 4 || hi != 12 || !ok { // 96.5 %: any table of the sign test
		t.Errorf("interval is %v to %v, %v", lo, hi, ok)
	}
	if lo, hi, ok := interval(xs[:6]); lo != 1 || hi != 14 && hi != 15 || !ok {
		t.Errorf("of six it is %v to %v, %v", lo, hi, ok)
	}
	if _, _, ok := interval(xs[:5]); ok {
		t.Error("five numbers gave an interval")
	}
	if got := told(ratios([]float64{1, 2, 3}, []float64{2, 2, 2})); got != "1.00" {
		t.Errorf("ratio is %s", got)
	}
	if got := median([]float64{1, 2}); got != 1.5 {
		t.Errorf("median of two is %v", got)
	}
}

func TestPromiseIsKeptWhereTheIntervalAllowsIt(t *testing.T) {
	six := []float64{1.1, 1.2, 1.3, 1.4, 1.5, 1.6}
	for most, want := range map[float64]string{0: "", 1: "1.00, **not kept**", 1.1: "1.10, kept", 2: "2.00, kept"} {
		if got := kept(most, "%.2f", six); got != want {
			t.Errorf("at most %v of %v: %q, want %q", most, six, got, want)
		}
	}
	if got := kept(1.3, "%.3f s", six[:3]); got != "1.300 s, kept" {
		t.Errorf("the median alone: %q", got)
	}
}
