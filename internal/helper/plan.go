package helper

import "storaged/internal/ipc"

// commitWeight is what it costs to make a new volume appear, as bytes of
// transfer: two flushes and a rename.
const commitWeight = 4 << 20

// committing is the phase in which a new volume gets its name.
const committing = "commit"

// Commit is that phase.
func Commit() ipc.PlanPhase { return Single(committing) }

// Moving is the phase in which a task moves or visits its bytes.
func Moving(name string, bytes int64) ipc.PlanPhase {
	return ipc.PlanPhase{Name: name, Unit: "bytes", Total: bytes, Weight: float64(max(bytes, 1)), Data: true, Bounded: true}
}

// Single is a phase that is one step.
func Single(name string) ipc.PlanPhase {
	return ipc.PlanPhase{Name: name, Unit: "items", Total: 1, Weight: commitWeight, Bounded: true}
}

// Scanning is the phase in which a pool is read; nobody knows how much it
// holds.
func Scanning() ipc.PlanPhase {
	return ipc.PlanPhase{Name: "scan", Unit: "items", Weight: commitWeight, Data: true}
}

// Scanned is that phase when it is over.
func Scanned() ipc.PlanPhase {
	p := Scanning()
	p.Data, p.Bounded = false, true
	return p
}
