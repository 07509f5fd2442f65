package service

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
)

var update = flag.Bool("update", false, "write the table of deaths in docs/jobs.md anew")

// TestDeathsAreFresh holds what docs/jobs.md says of deaths against the settings by which
// jobs go on.
func TestDeathsAreFresh(t *testing.T) {
	const path, begin, end = "../../docs/jobs.md", "<!-- deaths -->\n", "<!-- /deaths -->\n"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	table, after, ok2 := strings.Cut(rest, end)
	switch is := deaths(); {
	case !ok1 || !ok2:
		t.Fatalf("%s has no marks for deaths", path)
	case table == is:
	case !*update:
		t.Fatalf("%s is stale: run go test ./internal/service -run Fresh -update", path)
	default:
		if err := os.WriteFile(path, []byte(before+begin+is+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// deaths prints the table.
func deaths() string {
	after := map[record.Resume]string{
		record.ResumeAuto:  "the job goes on under another one",
		record.ResumeKeep:  "it fails; `job retry` goes on from its checkpoint",
		record.ResumeNever: "it fails, or has succeeded if all was done; another helper undoes or completes what there is, and `job retry` begins anew",
	}
	var out strings.Builder
	out.WriteString("| kinds | the helper dies, or the host is restarted | the daemon dies |\n|---|---|---|\n")
	for _, how := range []record.Resume{record.ResumeAuto, record.ResumeKeep, record.ResumeNever} {
		for _, streams := range []bool{false, true} {
			if kinds := dyingSo(how, streams); len(kinds) > 0 {
				died := after[how]
				if streams && how == record.ResumeAuto {
					died += "; with a client's content it fails and is undone"
				}
				fmt.Fprintf(&out, "| %s | %s | %s |\n", strings.Join(kinds, ", "), died, goesOn(streams))
			}
		}
	}
	return out.String()
}

// dyingSo are the kinds of jobs of which that becomes; streams are those that may have a
// client's content.
func dyingSo(how record.Resume, streams bool) (kinds []string) {
	for _, k := range record.Kinds() {
		if DefaultSettings().Resume.of(k) == how && hasContent(k) == streams {
			kinds = append(kinds, "`"+string(k)+"`")
		}
	}
	return kinds
}

// hasContent reports whether a helper of that kind takes or gives a content of a client, as
// a flag of its task says.
func hasContent(k record.Kind) bool {
	o, _ := operation.New(k)
	return slices.ContainsFunc(o.Task().Flags, func(f operation.Flag) bool { return strings.Contains(f.Usage, "fd:N an open descriptor") })
}

func goesOn(streams bool) string {
	if streams {
		return "its helper goes on; with a client's stream, or while it waits with a client's file, it ends as `interrupted`, and only the client can ask for it again"
	}
	return "its helper goes on"
}
