package wire

import (
	"errors"

	"storaged/internal/virtrpc/xdr"
)

const (
	// MaxNames bounds lists of pools, and of a pool's volumes: REMOTE_STORAGE_POOL_LIST_MAX
	// and REMOTE_STORAGE_VOL_LIST_MAX.
	MaxNames = 16384

	maxAuth     = 20 // REMOTE_AUTH_TYPE_LIST_MAX
	maxIdentity = 20 // REMOTE_CONNECT_IDENTITY_PARAMS_MAX
)

// None is no value.
type None struct{}

// XDR is of xdr.Value.
func (*None) XDR(xdr.Stream) {}

// Int is one number: a boolean, a count, the ID of a callback.
type Int int32

// XDR is of xdr.Value.
func (v *Int) XDR(s xdr.Stream) { s.Int32((*int32)(v)) }

// Flags are bits that each procedure has for itself.
type Flags uint32

// XDR is of xdr.Value.
func (v *Flags) XDR(s xdr.Stream) { s.Uint32((*uint32)(v)) }

// Hyper is one large number.
type Hyper uint64

// XDR is of xdr.Value.
func (v *Hyper) XDR(s xdr.Stream) { s.Uint64((*uint64)(v)) }

// Text is one string: a name, a path, XML.
type Text string

// XDR is of xdr.Value.
func (v *Text) XDR(s xdr.Stream) { s.String((*string)(v)) }

// Names are those of pools or volumes.
type Names []string

// XDR is of xdr.Value.
func (v *Names) XDR(s xdr.Stream) {
	xdr.List(s, (*[]string)(v), MaxNames, xdr.Stream.String)
}

// UUID is that of a pool.
type UUID [16]byte

// XDR is of xdr.Value.
func (v *UUID) XDR(s xdr.Stream) { s.Opaque(v[:]) }

// Pool is how clients name a pool. The UUID counts.
type Pool struct {
	Name string
	UUID UUID
}

// XDR is of xdr.Value.
func (v *Pool) XDR(s xdr.Stream) {
	s.String(&v.Name)
	v.UUID.XDR(s)
}

// Vol is how clients name a volume. Pool and name count.
type Vol struct {
	Pool string
	Name string
	Key  string
}

// XDR is of xdr.Value.
func (v *Vol) XDR(s xdr.Stream) {
	s.String(&v.Pool)
	s.String(&v.Name)
	s.String(&v.Key)
}

// Hole is a piece of a stream that is all zeros.
type Hole struct {
	Length int64
	Flags  Flags
}

// XDR is of xdr.Value.
func (v *Hole) XDR(s xdr.Stream) {
	s.Int64(&v.Length)
	v.Flags.XDR(s)
}

// AuthTypes are how a client may prove who it is.
type AuthTypes []int32

// Values of AuthTypes.
const (
	AuthNone     = 0 // no proof at all, beside what the kernel says
	AuthByPolkit = 2 // polkit is asked
)

// XDR is of xdr.Value.
func (v *AuthTypes) XDR(s xdr.Stream) { xdr.List(s, (*[]int32)(v), maxAuth, xdr.Stream.Int32) }

// OpenArgs are of ConnectOpen.
type OpenArgs struct {
	URI   *string
	Flags Flags
}

// OpenReadOnly is a flag of OpenArgs: VIR_CONNECT_RO.
const OpenReadOnly Flags = 1

// XDR is of xdr.Value.
func (v *OpenArgs) XDR(s xdr.Stream) {
	xdr.OptionalString(s, &v.URI)
	v.Flags.XDR(s)
}

// IdentityArgs are of ConnectSetIdentity: on whose behalf the client calls.
type IdentityArgs struct {
	Params []Param
	Flags  Flags
}

// XDR is of xdr.Value.
func (v *IdentityArgs) XDR(s xdr.Stream) {
	xdr.List(s, &v.Params, maxIdentity, func(s xdr.Stream, p *Param) { p.XDR(s) })
	v.Flags.XDR(s)
}

// Param is a value with a name and a type: virTypedParameter. Number has the bits of
// all types but strings.
type Param struct {
	Field  string
	Type   ParamType
	Number uint64
	Text   string
}

// ParamType is of Param.
type ParamType int32

const (
	ParamInt ParamType = iota + 1
	ParamUint
	ParamLong
	ParamUlong
	ParamDouble
	ParamBool
	ParamString
)

var errParam = errors.New("a parameter has a type that there is not")

// XDR is of xdr.Value.
func (v *Param) XDR(s xdr.Stream) {
	s.String(&v.Field)
	s.Int32((*int32)(&v.Type))
	switch v.Type {
	case ParamInt, ParamUint, ParamBool:
		word := uint32(v.Number)
		s.Uint32(&word)
		v.Number = uint64(word)
	case ParamLong, ParamUlong, ParamDouble:
		s.Uint64(&v.Number)
	case ParamString:
		s.String(&v.Text)
	default:
		s.Refuse(errParam)
	}
}
