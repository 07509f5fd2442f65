package locks

import (
	"strings"
	"testing"

	"storaged/internal/record"
)

// volumePairs and poolPairs are the tables as the design has them, written
// down a second time: + at once, w in a window as a rule, - never outside one.
const volumePairs = `
   Q R M G W D
Q  + + + + + +
R  + + + w - -
M  + + - - - -
G  + w - - - -
W  + - - - - -
D  + - - - - -`

const poolPairs = `
   Q R M G W D
Q  + + + + + +
R  + + + w - -
M  + + + + + +
G  + + + + + +
W  + - - - - -
D  + - - - - -`

// eachPair calls fn with every cell of a table.
func eachPair(pairs string, fn func(row, column record.Mode, cell string)) {
	lines := strings.Split(strings.TrimSpace(pairs), "\n")
	columns := strings.Fields(lines[0])
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		for i, cell := range cells[1:] {
			fn(record.Mode(cells[0]), record.Mode(columns[i]), cell)
		}
	}
}

func TestEveryPairOnOneObject(t *testing.T) {
	for _, volume := range []string{"", "v"} {
		eachPair(volumePairs, func(held, asked record.Mode, cell string) {
			h, a := record.Object{Pool: "p", Volume: volume, Mode: held}, record.Object{Pool: "p", Volume: volume, Mode: asked}
			checkPair(t, h, a, cell == "+")
		})
	}
}

func TestEveryPairOfPoolAndVolume(t *testing.T) {
	eachPair(poolPairs, func(pool, volume record.Mode, cell string) {
		p, v := record.Object{Pool: "p", Mode: pool}, record.Object{Pool: "p", Volume: "v", Mode: volume}
		checkPair(t, p, v, cell == "+")
		checkPair(t, v, p, cell == "+")
	})
}

func TestDifferentObjectsNeverMeet(t *testing.T) {
	w := func(pool, volume string) record.Object {
		return record.Object{Pool: pool, Volume: volume, Mode: record.ModeDelete}
	}
	checkPair(t, w("p", "v"), w("p", "u"), true)
	checkPair(t, w("p", "v"), w("q", "v"), true)
	checkPair(t, w("p", ""), w("q", ""), true)
	checkPair(t, w("p", ""), w("q", "v"), true)
}

// checkPair lets one job hold and another ask, with and without a window.
func checkPair(t *testing.T, held, asked record.Object, together bool) {
	t.Helper()
	m := New()
	if !m.Ask(Ask{ID: "holder", Objects: []record.Object{held}}) {
		t.Fatalf("%s %s was not granted on an empty table", held, held.Mode)
	}
	got := m.Ask(Ask{ID: "asker", Objects: []record.Object{asked}, Visits: true})
	if got != together {
		t.Errorf("%s %s beside %s %s: %v, want %v", asked, asked.Mode, held, held.Mode, got, together)
	}
	if blocks := m.Blockers("asker", All); (len(blocks) == 0) != together {
		t.Errorf("%s %s beside %s %s: blockers %v", asked, asked.Mode, held, held.Mode, blocks)
	}
	if together {
		return
	}
	change, err := m.OpenWindow("holder", []record.Mode{asked.Mode})
	visitor := asked.Volume != "" // nobody visits a pool as a whole
	if err != nil || (len(change.Granted) == 1) != visitor {
		t.Errorf("%s %s comes in through a window of %s %s: %v %v, want %v", asked, asked.Mode, held, held.Mode, change, err, visitor)
	}
}

func TestTablesAreSymmetricWhereItMatters(t *testing.T) {
	for i := range modes {
		for j := range modes {
			if matrix[i][j] != matrix[j][i] {
				t.Errorf("%s meets %s otherwise than the other way round", modes[i], modes[j])
			}
		}
	}
}

func TestTablesAreFitForTheDocumentation(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(Tables()), "\n")
	if len(lines) != 2*8+1 {
		t.Fatalf("%d lines:\n%s", len(lines), Tables())
	}
	if want := "| R | yes | yes | yes | window | – | – |"; lines[3] != want {
		t.Errorf("row of R is %q, want %q", lines[3], want)
	}
	for _, line := range lines {
		if n := strings.Count(line, "|"); n != 8 && line != "" {
			t.Errorf("%q has %d bars", line, n)
		}
	}
}
