package ipc

import "fmt"

// Type is the kind of a frame. Values are part of the protocol: never
// renumber, never reuse.
type Type uint8

const (
	// Up: helper to daemon, 1 to 63.
	TypeHello      Type = 1
	TypePlan       Type = 2
	TypePhase      Type = 3
	TypeProgress   Type = 4
	TypeBeat       Type = 5
	TypeCheckpoint Type = 6
	TypeState      Type = 7
	TypeWindow     Type = 8
	TypeLog        Type = 9
	TypeWarn       Type = 10
	TypeResult     Type = 11
	TypeConfined   Type = 12

	// Down: daemon to helper, 65 to 127.
	TypeGo         Type = 65
	TypeCancel     Type = 66
	TypePause      Type = 67
	TypeResume     Type = 68
	TypeLimit      Type = 69
	TypeWindowAck  Type = 70
	TypeResync     Type = 71
	TypeWindowCall Type = 72
	TypeFence      Type = 73
	TypeAgain      Type = 74

	// In files only, from 129.
	TypeOutcome Type = 129
	TypeItem    Type = 130
	TypeEnd     Type = 131
	TypeMark    Type = 132
)

// Message is the body of a frame, always one of this package's structs and
// never a pointer to one. What check refuses is neither sent nor received.
type Message interface {
	Type() Type
	check() error
}

// Hello is the helper's first frame. The helper then waits for Go.
type Hello struct {
	Proto    int    `msgpack:"proto"`     // the version it speaks
	ProtoMin int    `msgpack:"proto_min"` // the oldest it understands
	PID      int    `msgpack:"pid"`
	Job      string `msgpack:"job"`
	Version  string `msgpack:"version"` // of the binary
}

// Versions are the protocol versions that a program understands: Min to Max.
type Versions struct{ Min, Max int }

// Known gives the versions that this program understands.
func Known() Versions { return Versions{ProtoMin, Proto} }

// Has reports whether the version is one of them.
func (v Versions) Has(version int) bool { return v.Min <= version && version <= v.Max }

func (v Versions) String() string {
	if v.Min == v.Max {
		return fmt.Sprintf("protocol %d", v.Min)
	}
	return fmt.Sprintf("protocols %d to %d", v.Min, v.Max)
}

// Agree gives the highest version that a helper with this Hello and a daemon
// both understand.
func (h Hello) Agree(daemon Versions) (version int, err error) {
	helper := Versions{h.ProtoMin, h.Proto}
	version = min(daemon.Max, h.Proto)
	if !daemon.Has(version) || !helper.Has(version) {
		return 0, fmt.Errorf("helper %q speaks %v, this daemon %v", h.Version, helper, daemon)
	}
	return version, nil
}

// Plan gives the phases before work begins; it may be sent again when a total
// becomes known.
type Plan struct {
	Phases []PlanPhase `msgpack:"phases"`
}

// PlanPhase is one step. Weight is its share of all the job's work, in
// units of its own choosing; Total is in Unit, 0 when unbounded.
type PlanPhase struct {
	Name    string  `msgpack:"name"`
	Unit    string  `msgpack:"unit"` // "bytes" or "items"
	Total   int64   `msgpack:"total"`
	Weight  float64 `msgpack:"weight"`
	Data    bool    `msgpack:"data"`    // the phase whose done/total are the job's
	Bounded bool    `msgpack:"bounded"` // Total is final
	Mask    string  `msgpack:"mask"`    // modes that may visit while a window is open, "QR"
	OnCall  bool    `msgpack:"on_call"` // a window is opened when it is called for
}

// Phase says that phase Index of the plan (from 0) has begun.
type Phase struct {
	Index    int  `msgpack:"index"`
	NoReturn bool `msgpack:"no_return"` // cancel comes too late from here on; stays set
}

// Progress is the state of the current phase. It may be lost. All counts are
// cumulative within the phase.
type Progress struct {
	Phase   int   `msgpack:"phase"`
	Done    int64 `msgpack:"done"`    // submitted, in the phase's unit
	Durable int64 `msgpack:"durable"` // written back; what people are shown
	Total   int64 `msgpack:"total"`
	Work    int64 `msgpack:"work"`     // work units done: holes count little
	WorkAll int64 `msgpack:"work_all"` // work units of the phase
	Holes   int64 `msgpack:"holes"`    // bytes of Done that were holes
	Read    int64 `msgpack:"read"`     // bytes read by the job so far
	Written int64 `msgpack:"written"`  // bytes written by the job so far

	Allocated int64 `msgpack:"allocated"` // bytes given blocks before they are written, by the job so far
}

// Beat says that the helper is alive though nothing moves; it distinguishes slow from
// stuck.
type Beat struct{}

// Checkpoint says that a checkpoint up to Done is durable in its file.
type Checkpoint struct {
	Phase int   `msgpack:"phase"`
	Done  int64 `msgpack:"done"`
}

// Activity is what State acknowledges.
type Activity string

const (
	ActivityRunning     Activity = "running"
	ActivityPaused      Activity = "paused" // no I/O is being done
	ActivityCanceling   Activity = "canceling"
	ActivityRollingBack Activity = "rolling_back"
	ActivityFinalizing  Activity = "finalizing"
)

// State acknowledges a change of activity, and the limit in force.
type State struct {
	Activity  Activity `msgpack:"activity"`
	Limit     int64    `msgpack:"limit"`      // bytes per second, 0 is none
	FromAfar  bool     `msgpack:"from_afar"`  // cancel by a signal without a Cancel frame; stays set
	SenderPID int      `msgpack:"sender_pid"` // of that signal, 0 if not known
	Waits     string   `msgpack:"waits"`      // paused: for what it waits by itself, "" if it was told to pause
}

// Window asks for a window to open or to close. To close it the helper waits
// for WindowAck with the same ID. Next, when closing, is how much of the phase
// will be durable when the next window opens, in its unit; 0 is not known.
type Window struct {
	ID   int64 `msgpack:"id"`
	Open bool  `msgpack:"open"`
	Next int64 `msgpack:"next"`
}

// Log is one line of the helper's log. Level is hclog's: trace, debug, info,
// warn or error.
type Log struct {
	Level string `msgpack:"level"`
	Text  string `msgpack:"text"`
	Cut   bool   `msgpack:"cut"` // Text was longer
}

// Warn is a warning to be kept with the job. It does not change its outcome.
type Warn struct {
	Text string `msgpack:"text"`
	Cut  bool   `msgpack:"cut"`
}

// Result announces the result file, which is complete and durable before this
// frame is sent. Digest is the SHA-256 of the file, in hex.
type Result struct {
	Outcome Outcome `msgpack:"outcome"`
	Digest  string  `msgpack:"digest"`
	Stays   bool    `msgpack:"stays"` // the helper waits for AGAIN, and has not ended
}

// Confined says how far the helper has given up what it could do.
type Confined struct {
	Level        string   `msgpack:"level"`        // none, partial, full
	Landlock     int      `msgpack:"landlock"`     // ABI of the kernel; 0: names are not taken
	Seccomp      bool     `msgpack:"seccomp"`      // system calls are filtered
	Capabilities []string `msgpack:"capabilities"` // that it keeps
	Anywhere     bool     `msgpack:"anywhere"`     // its task makes or removes the directories of pools
	Lacks        []string `msgpack:"lacks"`        // what the kernel leaves open
}

// Go lets the helper touch storage.
type Go struct {
	Proto  int   `msgpack:"proto"` // the version both speak from here on, Hello.Agree
	Limit  int64 `msgpack:"limit"` // bytes per second, 0 is none
	Paused bool  `msgpack:"paused"`
	// Confinement is the least that the helper has to give up before it works: the word of
	// a level. "" is none.
	Confinement string `msgpack:"confinement"`
	// Stay says that a helper which only looks may be asked again: where it can it does not
	// exit, but says so with its result. It ends with the daemon's end of control.
	Stay bool `msgpack:"stay"`
	Fill int  `msgpack:"fill"` // how full it makes what thin volumes share, percent; 0: as it likes
	// Names are what a task that only looks is to look at, beside what its command line says.
	Names []string `msgpack:"names"`
}

// Cancel asks the helper to stop, undo and end.
type Cancel struct{}

// Pause stops the helper's I/O; it stays cancelable.
type Pause struct{}

// Resume ends a pause.
type Resume struct{}

// Limit changes the rate, in bytes per second; 0 is none.
type Limit struct {
	Rate int64 `msgpack:"rate"`
}

// WindowAck grants what the Window frame with the same ID asked for.
type WindowAck struct {
	ID int64 `msgpack:"id"`
}

// WindowCall says that somebody waits who would come in: a helper whose phase
// is on call opens a window and asks to close it.
type WindowCall struct{}

// Fence is what a helper sends to itself, on the FIFO on which the daemon gives
// it orders: when it comes, all that was ordered before has come.
type Fence struct{}

// Again asks a helper that stays to do its task once more, from the beginning. What it has
// saved is replaced.
type Again struct {
	Names []string `msgpack:"names"` // what it is to look at now, as with GO
}

// Resync asks the helper to send the last HELLO, PLAN, PHASE, CHECKPOINT,
// STATE, CONFINED, WINDOW, PROGRESS, every WARN and RESULT again, as far as there are any.
type Resync struct{}

func (Hello) Type() Type      { return TypeHello }
func (Plan) Type() Type       { return TypePlan }
func (Phase) Type() Type      { return TypePhase }
func (Progress) Type() Type   { return TypeProgress }
func (Beat) Type() Type       { return TypeBeat }
func (Checkpoint) Type() Type { return TypeCheckpoint }
func (State) Type() Type      { return TypeState }
func (Window) Type() Type     { return TypeWindow }
func (Log) Type() Type        { return TypeLog }
func (Warn) Type() Type       { return TypeWarn }
func (Result) Type() Type     { return TypeResult }
func (Confined) Type() Type   { return TypeConfined }
func (Go) Type() Type         { return TypeGo }
func (Cancel) Type() Type     { return TypeCancel }
func (Pause) Type() Type      { return TypePause }
func (Resume) Type() Type     { return TypeResume }
func (Limit) Type() Type      { return TypeLimit }
func (WindowAck) Type() Type  { return TypeWindowAck }
func (Resync) Type() Type     { return TypeResync }
func (WindowCall) Type() Type { return TypeWindowCall }
func (Fence) Type() Type      { return TypeFence }
func (Again) Type() Type      { return TypeAgain }
