package locks

import (
	"fmt"
	"slices"
	"strings"

	"storaged/internal/record"
)

// verdict is what one holding means for one asking.
type verdict int

const (
	no  verdict = iota // the asker waits
	yes                // both at once
	win                // as no; a holder that opens windows lets this mode in as a rule
)

// modes is the order of rows and columns below.
var modes = [...]record.Mode{
	record.ModeQuery, record.ModeRead, record.ModeMeta, record.ModeGrow, record.ModeWrite, record.ModeDelete,
}

// matrix says what two jobs may do with the same object, a volume or a pool.
// Rows are held, columns asked; it is symmetric.
var matrix = [len(modes)][len(modes)]verdict{
	//    Q    R    M    G    W    D
	/*Q*/ {yes, yes, yes, yes, yes, yes},
	/*R*/ {yes, yes, yes, win, no, no},
	/*M*/ {yes, yes, no, no, no, no},
	/*G*/ {yes, win, no, no, no, no},
	/*W*/ {yes, no, no, no, no, no},
	/*D*/ {yes, no, no, no, no, no},
}

// intents says what a job may do with a volume (columns) while another has the
// volume's pool (rows), whichever came first. R, W and D on a pool stand for
// all its volumes; M and G concern the pool itself: a refresh (M) goes with
// every job on a volume.
var intents = [len(modes)][len(modes)]verdict{
	//    Q    R    M    G    W    D
	/*Q*/ {yes, yes, yes, yes, yes, yes},
	/*R*/ {yes, yes, yes, win, no, no},
	/*M*/ {yes, yes, yes, yes, yes, yes},
	/*G*/ {yes, yes, yes, yes, yes, yes},
	/*W*/ {yes, no, no, no, no, no},
	/*D*/ {yes, no, no, no, no, no},
}

func index(m record.Mode) int {
	i := slices.Index(modes[:], m)
	if i < 0 {
		panic(fmt.Sprintf("internal error: %q is no lock mode", m))
	}
	return i
}

// Compatible reports whether two jobs may have the two objects at the same
// time without a window.
func Compatible(a, b record.Object) bool { return meet(a, b) == yes }

func meet(a, b record.Object) verdict {
	switch {
	case a.Pool != b.Pool:
		return yes
	case a.Volume == b.Volume:
		return matrix[index(a.Mode)][index(b.Mode)]
	case a.Volume == "":
		return intents[index(a.Mode)][index(b.Mode)]
	case b.Volume == "":
		return intents[index(b.Mode)][index(a.Mode)]
	default:
		return yes
	}
}

// Tables gives both tables as Markdown, for the documentation.
func Tables() string {
	var b strings.Builder
	table(&b, "held \\ asked, same object", matrix)
	b.WriteString("\n")
	table(&b, "pool \\ volume of it", intents)
	return b.String()
}

func table(b *strings.Builder, title string, cells [len(modes)][len(modes)]verdict) {
	fmt.Fprintf(b, "| %s |", title)
	for _, m := range modes {
		fmt.Fprintf(b, " %s |", m)
	}
	fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---|", len(modes)))
	words := map[verdict]string{yes: "yes", no: "–", win: "window"}
	for i, m := range modes {
		fmt.Fprintf(b, "| %s |", m)
		for _, v := range cells[i] {
			fmt.Fprintf(b, " %s |", words[v])
		}
		b.WriteString("\n")
	}
}
