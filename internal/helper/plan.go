package helper

import "storaged/internal/ipc"

// commitWeight is what it costs to make a new volume appear, as bytes of
// transfer: two flushes and a rename.
const commitWeight = 4 << 20

// moving is the phase in which a task moves or visits its bytes.
func moving(name string, bytes int64) ipc.PlanPhase {
	return ipc.PlanPhase{Name: name, Unit: "bytes", Total: bytes, Weight: float64(max(bytes, 1)), Data: true, Bounded: true}
}

// single is a phase that is one step.
func single(name string) ipc.PlanPhase {
	return ipc.PlanPhase{Name: name, Unit: "items", Total: 1, Weight: commitWeight, Bounded: true}
}
