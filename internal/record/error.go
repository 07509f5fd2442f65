package record

import (
	"errors"
	"fmt"
	"net/http"
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
	Killed       Code = "killed"       // helper died by a signal
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

// codes is the one table of codes.
var codes = map[Code]Meaning{
	Invalid:         {http.StatusBadRequest, ExitUsage, "bad input"},
	Denied:          {http.StatusForbidden, ExitDenied, "not permitted"},
	NotFound:        {http.StatusNotFound, ExitNotFound, "not found"},
	NotAllowed:      {http.StatusMethodNotAllowed, ExitUsage, "method not allowed"},
	Busy:            {http.StatusConflict, ExitBusy, "busy"},
	WrongState:      {http.StatusConflict, ExitBusy, "wrong state"},
	HasChildren:     {http.StatusConflict, ExitBusy, "has children"},
	Exists:          {http.StatusConflict, ExitExists, "exists"},
	TooLarge:        {http.StatusConflict, ExitUsage, "too large"},
	Changed:         {http.StatusPreconditionFailed, ExitBusy, "changed meanwhile"},
	RangeUnsat:      {http.StatusRequestedRangeNotSatisfiable, ExitUsage, "range not satisfiable"},
	KeyReused:       {http.StatusUnprocessableEntity, ExitUsage, "idempotency key reused for another request"},
	QueueFull:       {http.StatusTooManyRequests, ExitBusy, "queue full"},
	Unsupported:     {http.StatusNotImplemented, ExitUnsupported, "not supported"},
	Draining:        {http.StatusServiceUnavailable, ExitUnreachable, "draining"},
	RecoveringCode:  {http.StatusServiceUnavailable, ExitUnreachable, "recovering"},
	StateUnwritable: {http.StatusServiceUnavailable, ExitUnreachable, "state cannot be written"},
	NoSpace:         {http.StatusInsufficientStorage, ExitNoSpace, "no space"},
	Internal:        {http.StatusInternalServerError, ExitFailed, "internal error"},
	FailedCode:      {http.StatusInternalServerError, ExitFailed, "failed"},
	IO:              {http.StatusInternalServerError, ExitFailed, "i/o error"},
	Killed:          {http.StatusInternalServerError, ExitFailed, "helper killed"},
	Interrupted:     {http.StatusInternalServerError, ExitFailed, "interrupted"},
	Inconsistent:    {http.StatusInternalServerError, ExitFailed, "inconsistent end"},
	CanceledCode:    {http.StatusConflict, ExitCanceled, "canceled"},
	TimedOut:        {http.StatusGatewayTimeout, ExitTimedOut, "timed out"},
	Mismatch:        {http.StatusConflict, ExitMismatch, "verification found a difference"},
	Partial:         {http.StatusConflict, ExitPartial, "some of several failed"},
	Unreachable:     {http.StatusServiceUnavailable, ExitUnreachable, "daemon not reachable"},
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
	return Meaning{http.StatusInternalServerError, ExitFailed, string(c)}
}

// Error is a refusal or a failure as people and programs see it: what was
// being done to which object and what failed (Message), and what to do (Hint).
type Error struct {
	Code    Code      `json:"code"`
	Message string    `json:"message"`
	Hint    string    `json:"hint,omitempty"`
	Holders []Blocker `json:"holders,omitempty"`
	Path    string    `json:"path,omitempty"`   // of an I/O error
	Offset  *int64    `json:"offset,omitempty"` // of an I/O error, bytes
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error with the given code. A %w operand is not kept: an
// Error is the end of a chain, made where it is told.
func Errorf(c Code, format string, args ...any) *Error {
	return &Error{Code: c, Message: fmt.Errorf(format, args...).Error()}
}

// WithHint returns a copy that says what to do.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
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
