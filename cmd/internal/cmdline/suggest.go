package cmdline

import "strings"

// didYouMean gives a hint: the known word that is nearest to word, if one is near,
// and where to look.
func didYouMean(word string, known []string, help string) string {
	bare := strings.TrimLeft(word, "-")
	best, least := "", len(bare)/2+1
	for _, k := range known {
		candidate := strings.TrimLeft(k, "-")
		d := distance(bare, candidate)
		if len(bare) > 1 && strings.HasPrefix(candidate, bare) {
			d = min(d, 1)
		}
		if d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return help
	}
	return meansInstead(best, help)
}

func meansInstead(ours, help string) string { return "did you mean " + ours + "? (" + help + ")" }

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that make b of a (optimal string alignment), in bytes.
func distance(a, b string) int {
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j+1]+1, next[j]+1, row[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
