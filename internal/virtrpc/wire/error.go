package wire

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"storaged/internal/virtrpc/xdr"
)

// Code is what an error is: virErrorNumber. Clients act on some of them.
type Code int32

const (
	InternalError       Code = 1
	NoSupport           Code = 3
	NoConnect           Code = 5
	InvalidArg          Code = 8
	OperationFailed     Code = 9
	XMLError            Code = 27
	OperationDenied     Code = 29
	XMLDetail           Code = 35
	SystemError         Code = 38
	RPCError            Code = 39
	AuthFailed          Code = 45
	Overflow            Code = 47 // VIR_ERR_OVERFLOW
	NoStoragePool       Code = 49
	NoStorageVol        Code = 50
	OperationInvalid    Code = 55
	ConfigUnsupported   Code = 67
	OperationTimeout    Code = 68
	ArgumentUnsupported Code = 74
	StorageProbeFailed  Code = 75
	StoragePoolBuilt    Code = 76
	OperationAborted    Code = 78
	AuthCancelled       Code = 79
	OperationUnsup      Code = 84
	ResourceBusy        Code = 87
	AccessDenied        Code = 88
	StorageVolExist     Code = 90
	XMLInvalidSchema    Code = 92
	AuthUnavailable     Code = 94
)

// Domain is which part of libvirt an error comes from: virErrorDomain.
type Domain int32

const (
	FromNone    Domain = 0
	FromXML     Domain = 5
	FromRPC     Domain = 7
	FromRemote  Domain = 13
	FromStorage Domain = 18
	FromDomain  Domain = 20
	FromStreams Domain = 38
	FromPolkit  Domain = 60
)

// templates are how the message of an error begins, as libvirt has it; %s is what
// follows.
var templates = map[Code]string{
	InternalError:       "internal error: %s",
	NoSupport:           "this function is not supported by the connection driver: %s",
	NoConnect:           "no connection driver available for %s",
	InvalidArg:          "invalid argument: %s",
	OperationFailed:     "operation failed: %s",
	XMLError:            "XML error: %s",
	OperationDenied:     "operation forbidden: %s",
	XMLDetail:           "%s",
	SystemError:         "%s",
	RPCError:            "%s",
	Overflow:            "numerical overflow: %s",
	AuthFailed:          "authentication failed: %s",
	NoStoragePool:       "Storage pool not found: %s",
	NoStorageVol:        "Storage volume not found: %s",
	OperationInvalid:    "Requested operation is not valid: %s",
	ConfigUnsupported:   "unsupported configuration: %s",
	OperationTimeout:    "Timed out during operation: %s",
	ArgumentUnsupported: "argument unsupported: %s",
	StorageProbeFailed:  "Storage pool probe failed: %s",
	StoragePoolBuilt:    "Storage pool already built: %s",
	OperationAborted:    "operation aborted: %s",
	AuthCancelled:       "authentication cancelled: %s",
	AuthUnavailable:     "authentication unavailable: %s",
	OperationUnsup:      "Operation not supported: %s",
	ResourceBusy:        "resource busy: %s",
	AccessDenied:        "access denied: %s",
	StorageVolExist:     "storage volume '%s' exists already",
	XMLInvalidSchema:    "XML document failed to validate against schema: %s",
}

// Failure is an error as clients get it: virNetMessageError. Message is all that
// most of them show.
type Failure struct {
	Code    Code
	Domain  Domain
	Message string
	Detail  string // what is in the message beside its template
	Reason  string // our code of it; "": it is one of libvirt's own
	Int1    int32
	Int2    int32
}

// Failf makes one with a detail, whose message begins as libvirt's of that code do.
func Failf(domain Domain, code Code, format string, args ...any) *Failure {
	detail := fmt.Sprintf(format, args...)
	return &Failure{Code: code, Domain: domain, Message: strings.Replace(templates[code], "%s", detail, 1), Detail: detail, Int1: -1, Int2: -1}
}

// SystemFailure makes one of an error of the system.
func SystemFailure(domain Domain, errno syscall.Errno, message string) *Failure {
	return &Failure{Code: SystemError, Domain: domain, Message: message, Detail: message, Int1: int32(errno), Int2: -1}
}

func (f *Failure) Error() string { return f.Message }

const levelError = 2 // VIR_ERR_ERROR

var errObject = errors.New("an error names an object")

// XDR is of xdr.Value.
func (f *Failure) XDR(s xdr.Stream) {
	s.Int32((*int32)(&f.Code))
	s.Int32((*int32)(&f.Domain))
	template, message, detail, level := new(templates[f.Code]), &f.Message, &f.Detail, int32(levelError)
	var reason *string
	if f.Reason != "" {
		reason = &f.Reason
	}
	xdr.OptionalString(s, &message)
	s.Int32(&level)
	nothing(s) // a domain
	xdr.OptionalString(s, &template)
	xdr.OptionalString(s, &detail)
	xdr.OptionalString(s, &reason)
	s.Int32(&f.Int1)
	s.Int32(&f.Int2)
	nothing(s) // a network
	if reason == nil && f.Reason != "" {
		f.Reason = ""
	}
	if reason != nil && reason != &f.Reason {
		f.Reason = *reason
	}
	// Only reading changes f: several may write the same one.
	if message == nil {
		f.Message = ""
	}
	if detail == nil {
		f.Detail = ""
	}
}

// nothing is an optional value that no error about storage has.
func nothing(s xdr.Stream) {
	n := 0
	if s.Count(&n, 1); n != 0 {
		s.Refuse(errObject)
	}
}
