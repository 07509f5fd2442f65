package supervisor

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/supervisor/locks"
)

var update = flag.Bool("update", false, "write the tables of docs/jobs.md anew")

// TestDocsAreFresh holds the printed tables against docs/jobs.md.
func TestDocsAreFresh(t *testing.T) {
	const path = "../../docs/jobs.md"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for mark, table := range map[string]string{"states": stateTables(), "locks": locks.Tables()} {
		begin, end := "<!-- "+mark+" -->\n", "<!-- /"+mark+" -->\n"
		before, rest, ok1 := strings.Cut(text, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok1 || !ok2 {
			t.Fatalf("%s has no marks for %s", path, mark)
		}
		text = before + begin + table + end + after
	}
	if text == string(b) {
		return
	}
	if !*update {
		t.Fatalf("%s is stale: run go test ./internal/supervisor -run Fresh -update", path)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// stateTables prints the tables for docs/jobs.md.
func stateTables() string {
	var b strings.Builder
	b.WriteString("| from | to | when |\n|---|---|---|\n")
	for _, from := range record.States() {
		for _, to := range record.States() {
			if when, ok := moves[from][to]; ok {
				fmt.Fprintf(&b, "| %s | %s | %s |\n", from, to, when)
			}
		}
	}
	b.WriteString("\n| verb | state | answer |\n|---|---|---|\n")
	for _, a := range actions {
		for _, s := range record.States() {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", a, s, answerTo(a, s))
		}
	}
	return b.String()
}

func (a answer) String() string {
	if a.effect != "" {
		return a.effect
	}
	return "refused: \"job 12 " + a.refusal + "\""
}

// actions lists them in the order of the printed table.
var actions = []action{actCancel, actKill, actPause, actResume, actLimit, actPriority, actNote, actForget}
