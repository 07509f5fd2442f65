package supervisor

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"storaged/internal/ipc"
)

// The test binary impersonates helpers: run by a supervisor with "act:NAME" as
// its first argument it plays that part. A part that no test asked for fails
// the suite.

const actPrefix = "act:"

// cast are the parts, good and bad.
var cast = map[string]func(*fake){
	"work":               (*fake).work,
	"short":              (*fake).short,
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
	"noReturn":           (*fake).noReturn,
	"host":               (*fake).host,
	"onCall":             (*fake).onCall,
	"grow":               (*fake).grow,
	"walk":               (*fake).walk,
	"visit":              (*fake).visit,
	"undoAlone":          (*fake).undoAlone,
	"mute":               (*fake).mute,
	"actor":              (*fake).actor,
	"child":              (*fake).child,
	"marks":              (*fake).marks,
	"undoLeaving":        (*fake).undoLeaving,
}

var (
	usedMu sync.Mutex
	used   = map[string]bool{}
)

// act gives the argv of a part.
func act(name string, args ...string) []string {
	if cast[name] == nil {
		panic("no such part: " + name)
	}
	usedMu.Lock()
	defer usedMu.Unlock()
	used[name] = true
	return append([]string{actPrefix + name}, args...)
}

func TestMain(m *testing.M) {
	// A race build sleeps a second at each exit otherwise; helpers get it too.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], actPrefix) {
		play(strings.TrimPrefix(os.Args[1], actPrefix), os.Args[2:])
		return
	}
	if os.Getenv(envDaemon) != "" {
		runDaemon()
		return
	}
	if os.Getenv(envHost) != "" {
		runHost()
		return
	}
	flag.Parse()
	code := m.Run()
	if code == 0 && flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" {
		code = checkCast()
	}
	os.Exit(code)
}

func checkCast() int {
	var idle []string
	for name := range cast {
		if !used[name] {
			idle = append(idle, name)
		}
	}
	slices.Sort(idle)
	if len(idle) > 0 {
		fmt.Fprintln(os.Stderr, "parts that no test plays:", idle)
		return 1
	}
	return 0
}

// lifetime is more than any test takes.
const lifetime = 10 * time.Minute

func play(name string, args []string) {
	dir, ok := ipc.JobDirFromEnv()
	if !ok {
		fmt.Fprintln(os.Stderr, "a part is played for a job only")
		os.Exit(2)
	}
	// A part whose test was killed has nobody left to end it.
	time.AfterFunc(lifetime, func() { os.Exit(3) })
	part := cast[name]
	if part == nil {
		fmt.Fprintln(os.Stderr, "no such part:", name)
		os.Exit(2)
	}
	part(&fake{dir: dir, args: args})
}
