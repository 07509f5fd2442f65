package virtrpc

import (
	"errors"
	"fmt"
	"strings"

	"storaged/internal/record"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtxml"
)

// codes says what libvirt calls our codes; those that are not here are failures.
var codes = map[record.Code]wire.Code{
	record.Invalid:         wire.InvalidArg,
	record.Denied:          wire.AccessDenied,
	record.Busy:            wire.OperationInvalid,
	record.WrongState:      wire.OperationInvalid,
	record.HasChildren:     wire.OperationInvalid,
	record.Exists:          wire.OperationFailed,
	record.TooLarge:        wire.InvalidArg,
	record.RangeUnsat:      wire.InvalidArg,
	record.QueueFull:       wire.ResourceBusy,
	record.Unsupported:     wire.OperationUnsup,
	record.Draining:        wire.OperationFailed,
	record.RecoveringCode:  wire.OperationFailed,
	record.StateUnwritable: wire.OperationFailed,
	record.NoSpace:         wire.OperationFailed,
	record.CanceledCode:    wire.OperationAborted,
	record.TimedOut:        wire.OperationTimeout,
	record.Internal:        wire.InternalError,
	record.Inconsistent:    wire.InternalError,
}

// failureOf makes of an error what clients get: most of them show its message alone,
// so that says what to do as well.
func failureOf(err error) *wire.Failure {
	var f *wire.Failure
	if errors.As(err, &f) {
		return f
	}
	var x *virtxml.Error
	if errors.As(err, &x) {
		return documentFailure(x)
	}
	var e *record.Error
	if !errors.As(err, &e) {
		return wire.Failf(wire.FromStorage, wire.InternalError, "%v", err)
	}
	code, ok := codes[e.Code]
	if !ok {
		code = wire.OperationFailed
	}
	f = wire.Failf(wire.FromStorage, code, "%s", wordsOf(e, err))
	f.Reason = string(e.Code)
	return f
}

// wordsOf says what err says, which has e in it, and what to do.
func wordsOf(e *record.Error, err error) string {
	words := e.Within(err).Message
	if hint := advice(e.Hint); hint != "" {
		words += "; " + hint
	}
	return words
}

// classes says what libvirt calls refusals of documents.
var classes = map[virtxml.Class]struct {
	domain wire.Domain
	code   wire.Code
}{
	virtxml.NotXML:      {wire.FromStorage, wire.XMLDetail},
	virtxml.Shape:       {wire.FromXML, wire.XMLError},
	virtxml.Wrong:       {wire.FromStorage, wire.XMLError},
	virtxml.Unsupported: {wire.FromStorage, wire.ConfigUnsupported},
	virtxml.Argument:    {wire.FromStorage, wire.InvalidArg},
	virtxml.Unit:        {wire.FromNone, wire.InvalidArg},
	virtxml.Overflow:    {wire.FromNone, wire.Overflow},
	virtxml.Impossible:  {wire.FromStorage, wire.NoSupport},
	virtxml.Invalid:     {wire.FromStorage, wire.OperationInvalid},
}

func documentFailure(e *virtxml.Error) *wire.Failure {
	c, ok := classes[e.Class]
	if !ok {
		panic("internal error: virtrpc: a document is refused as " + string(e.Class))
	}
	return wire.Failf(c.domain, c.code, "%s", e.Text)
}

// driverFunction is the function of libvirt's storage driver behind a public one: errors
// about flags name it.
func driverFunction(public string) string {
	name := strings.TrimPrefix(public, "vir")
	if strings.HasPrefix(name, "Storage") {
		return "s" + name[1:]
	}
	return "storage" + name
}

// badArgument refuses an argument as libvirt's macro for it does, which puts no words before
// the message.
func badArgument(name, format string, args ...any) *wire.Failure {
	return &wire.Failure{Code: wire.InvalidArg, Domain: wire.FromStorage, Message: fmt.Sprintf(format, args...), Detail: name}
}
