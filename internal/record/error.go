package record

import (
	"errors"
	"fmt"
	"slices"
)

// Code is the one vocabulary for problems, job.error.code and exit codes.
type Code string

const (
	Invalid         Code = "invalid"
	Denied          Code = "denied"
	NotFound        Code = "not_found"
	NotAllowed      Code = "method_not_allowed"
	Busy            Code = "busy"
	WrongState      Code = "wrong_state"
	HasChildren     Code = "has_children"
	Exists          Code = "exists"
	TooLarge        Code = "too_large"
	Changed         Code = "changed"
	RangeUnsat      Code = "range"
	KeyReused       Code = "key_reused"
	QueueFull       Code = "queue_full"
	Unsupported     Code = "unsupported"
	Draining        Code = "draining"
	RecoveringCode  Code = "recovering"
	StateUnwritable Code = "state_unwritable"
	NoSpace         Code = "no_space"

	// Codes that only an ended job or a client has.
	Internal     Code = "internal"
	FailedCode   Code = "failed"       // storage or a tool said no; the message has it
	IO           Code = "io_error"     // read, write or fsync error, with path and offset
	Killed       Code = "killed"       // the helper, or a program of it, died by a signal
	Interrupted  Code = "interrupted"  // host or helper went away in the middle
	Inconsistent Code = "inconsistent" // result and exit status disagree
	CanceledCode Code = "canceled"
	TimedOut     Code = "timed_out"
	Mismatch     Code = "mismatch" // verification found a difference
	Partial      Code = "partial"  // some of several failed
	Unreachable  Code = "unreachable"
)

// Exit codes of every program of ours.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitNotFound    = 3
	ExitBusy        = 4
	ExitExists      = 5
	ExitDenied      = 6
	ExitNoSpace     = 7
	ExitUnsupported = 8
	ExitUnreachable = 9
	ExitMismatch    = 10
	ExitPartial     = 11
	ExitTimedOut    = 124
	ExitCanceled    = 130
)

// Meaning is what one code means to each audience.
type Meaning struct {
	Status int // HTTP
	Exit   int
	Title  string
}

// codes is the one table of codes. A status says whose fault it was: 500 is for
// our own faults only, 502 for those of storage and of tools, and 408 is for a
// client whose stream broke off, which is what a request finds interrupted. The
// statuses are plain numbers, since every
// helper would pay at its start for what comes with net/http.
var codes = map[Code]Meaning{
	Invalid:         {400, ExitUsage, "bad input"},
	Denied:          {403, ExitDenied, "not permitted"},
	NotFound:        {404, ExitNotFound, "not found"},
	NotAllowed:      {405, ExitUsage, "method not allowed"},
	Busy:            {409, ExitBusy, "busy"},
	WrongState:      {409, ExitBusy, "wrong state"},
	HasChildren:     {409, ExitBusy, "has children"},
	Exists:          {409, ExitExists, "exists"},
	TooLarge:        {409, ExitUsage, "too large"},
	Changed:         {412, ExitBusy, "changed meanwhile"},
	RangeUnsat:      {416, ExitUsage, "range not satisfiable"},
	KeyReused:       {422, ExitUsage, "idempotency key reused for another request"},
	QueueFull:       {429, ExitBusy, "queue full"},
	Unsupported:     {501, ExitUnsupported, "not supported"},
	Draining:        {503, ExitUnreachable, "draining"},
	RecoveringCode:  {503, ExitUnreachable, "recovering"},
	StateUnwritable: {503, ExitUnreachable, "state cannot be written"},
	NoSpace:         {507, ExitNoSpace, "no space"},
	Internal:        {500, ExitFailed, "internal error"},
	FailedCode:      {502, ExitFailed, "failed"},
	IO:              {502, ExitFailed, "i/o error"},
	Killed:          {500, ExitFailed, "helper killed"},
	Interrupted:     {408, ExitFailed, "interrupted"},
	Inconsistent:    {500, ExitFailed, "inconsistent end"},
	CanceledCode:    {409, ExitCanceled, "canceled"},
	TimedOut:        {504, ExitTimedOut, "timed out"},
	Mismatch:        {409, ExitMismatch, "verification found a difference"},
	Partial:         {409, ExitPartial, "some of several failed"},
	Unreachable:     {503, ExitUnreachable, "daemon not reachable"},
}

// Codes lists every code.
func Codes() []Code {
	out := make([]Code, 0, len(codes))
	for c := range codes {
		out = append(out, c)
	}
	return out
}

// Meaning gives the code's HTTP status, exit code and title; an unknown code
// (of a newer peer) means a failure.
func (c Code) Meaning() Meaning {
	if m, ok := codes[c]; ok {
		return m
	}
	return Meaning{500, ExitFailed, string(c)}
}

// Error is a refusal or a failure as people and programs see it: what was
// being done to which object and what failed (Message), and what to do (Hint).
type Error struct {
	Code    Code      `json:"code"`
	Message string    `json:"message"`
	Hint    Hint      `json:"hint,omitempty"`
	Holders []Blocker `json:"holders,omitempty"`
	Path    string    `json:"path,omitempty"`   // of an I/O error, and of what was not found: a volume, or the target of a pool
	Offset  *int64    `json:"offset,omitempty"` // of an I/O error, bytes
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error with the given code. A %w operand is not kept: an
// Error is the end of a chain, made where it is told.
func Errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Message: fmt.Errorf(format, args...).Error()}
}

// WithHint returns a copy that says what to do, by Hintf.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = Hintf(format, args...)
	return &c
}

// WithHolders returns a copy that names who is in the way: MaxHolders of them,
// and how many more there are.
func (e *Error) WithHolders(all []Blocker) *Error {
	c := *e
	c.Holders = all
	if more := len(all) - MaxHolders; more > 0 {
		c.Holders = slices.Clone(all[:MaxHolders])
		c.Holders[MaxHolders-1].More += more
	}
	return &c
}

// Within returns a copy that says what the chain says that it was found in.
func (e *Error) Within(chain error) *Error {
	c := *e
	c.Message = chain.Error()
	return &c
}

// CodeOf gives the code of the Error in err's chain, Internal without one, and
// "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

// ExitCode maps an error to the exit code of a program of ours.
func ExitCode(err error) int {
	if err == nil {
		return ExitDone
	}
	return CodeOf(err).Meaning().Exit
}

// ExitCode is the exit code of a program that waited for this job.
func (j *Job) ExitCode() int {
	switch {
	case j.State == Succeeded:
		return ExitDone
	case j.State == Canceled:
		return ExitCanceled
	case j.Error != nil:
		return j.Error.Code.Meaning().Exit
	default:
		return ExitFailed
	}
}
