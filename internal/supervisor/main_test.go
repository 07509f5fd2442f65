package supervisor

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"storaged/internal/supervisor/helpertest"
)

// behaviors are those of fake helpers, good and bad. One that no test asked for
// fails the suite.
var behaviors = map[string]func(*fake){
	"work":               (*fake).work,
	"short":              (*fake).short,
	"lackRoom":           (*fake).lackRoom,
	"idle":               (*fake).idle,
	"hangBeforeHello":    (*fake).hang,
	"silent":             (*fake).silent,
	"ignoreTerm":         (*fake).ignoreTerm,
	"leaveOrphan":        (*fake).leaveOrphan,
	"orphan":             (*fake).orphan,
	"leaveOrphanAndWait": (*fake).leaveOrphanAndWait,
	"halfFrame":          (*fake).halfFrame,
	"garbage":            (*fake).garbage,
	"garbageLate":        (*fake).garbageLate,
	"hugeHeader":         (*fake).hugeHeader,
	"exitWithout":        (*fake).exitWithout,
	"exitOneSuccess":     (*fake).exitOneSuccess,
	"flood":              (*fake).flood,
	"reportThenHang":     (*fake).reportThenHang,
	"wrongJob":           (*fake).wrongJob,
	"wrongProto":         (*fake).wrongProto,
	"speaks":             (*fake).speaks,
	"negative":           (*fake).negative,
	"fail":               (*fake).fail,
	"undo":               (*fake).undo,
	"settleCommitted":    (*fake).settleCommitted,
	"undoUnpaused":       (*fake).undoUnpaused,
	"undoLate":           (*fake).undoLate,
	"undoFails":          (*fake).undoFails,
	"slowRollback":       (*fake).slowRollback,
	"chatty":             (*fake).chatty,
	"torn":               (*fake).torn,
	"query":              (*fake).query,
	"queries":            (*fake).queries,
	"greets":             (*fake).greets,
	"noReturn":           (*fake).noReturn,
	"openWindow":         (*fake).openWindow,
	"onCall":             (*fake).onCall,
	"grow":               (*fake).grow,
	"walk":               (*fake).walk,
	"visit":              (*fake).visit,
	"undoAlone":          (*fake).undoAlone,
	"mute":               (*fake).mute,
	"marks":              (*fake).marks,
	"undoLeaving":        (*fake).undoLeaving,
}

var (
	usedMu sync.Mutex
	used   = map[string]bool{}
)

// fakeHelper gives the argv of a fake helper.
func fakeHelper(name string, args ...string) []string {
	if behaviors[name] == nil {
		panic("no such fake helper: " + name)
	}
	usedMu.Lock()
	defer usedMu.Unlock()
	used[name] = true
	return helpertest.Argv(name, args...)
}

func TestMain(m *testing.M) {
	// A race build sleeps a second at each exit otherwise; helpers get it too.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	if name, h, ok := helpertest.Called(); ok {
		behaviors[name](&fake{h})
		return
	}
	if os.Getenv(envDaemon) != "" {
		runDaemon()
		return
	}
	flag.Parse()
	code := m.Run()
	if code == 0 && flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" {
		code = checkUsed()
	}
	os.Exit(code)
}

func checkUsed() int {
	var idle []string
	for name := range behaviors {
		if !used[name] {
			idle = append(idle, name)
		}
	}
	slices.Sort(idle)
	if len(idle) > 0 {
		fmt.Fprintln(os.Stderr, "fake helpers that no test starts:", idle)
		return 1
	}
	return 0
}
