package wire

import "storaged/internal/virtrpc/xdr"

// VolFlags are arguments of what is done to a volume.
type VolFlags struct {
	Vol   Vol
	Flags Flags
}

// XDR is of xdr.Value.
func (v *VolFlags) XDR(s xdr.Stream) {
	v.Vol.XDR(s)
	v.Flags.XDR(s)
}

// VolCreateArgs are of StorageVolCreateXML.
type VolCreateArgs struct {
	Pool  Pool
	XML   string
	Flags Flags
}

// XDR is of xdr.Value.
func (v *VolCreateArgs) XDR(s xdr.Stream) {
	v.Pool.XDR(s)
	s.String(&v.XML)
	v.Flags.XDR(s)
}

// VolCreateFromArgs are of StorageVolCreateXMLFrom: with the content of From.
type VolCreateFromArgs struct {
	Pool  Pool
	XML   string
	From  Vol
	Flags Flags
}

// XDR is of xdr.Value.
func (v *VolCreateFromArgs) XDR(s xdr.Stream) {
	v.Pool.XDR(s)
	s.String(&v.XML)
	v.From.XDR(s)
	v.Flags.XDR(s)
}

// VolStreamArgs are of StorageVolUpload and StorageVolDownload. Offset and length are
// bytes; a length of 0 is all.
type VolStreamArgs struct {
	Vol            Vol
	Offset, Length uint64
	Flags          Flags
}

// StreamSparse is a flag of VolStreamArgs: holes come as holes.
const StreamSparse Flags = 1

// XDR is of xdr.Value.
func (v *VolStreamArgs) XDR(s xdr.Stream) {
	v.Vol.XDR(s)
	s.Uint64(&v.Offset)
	s.Uint64(&v.Length)
	v.Flags.XDR(s)
}

// VolWipeArgs are of StorageVolWipePattern.
type VolWipeArgs struct {
	Vol       Vol
	Algorithm uint32
	Flags     Flags
}

// XDR is of xdr.Value.
func (v *VolWipeArgs) XDR(s xdr.Stream) {
	v.Vol.XDR(s)
	s.Uint32(&v.Algorithm)
	v.Flags.XDR(s)
}

// VolResizeArgs are of StorageVolResize. Capacity is bytes.
type VolResizeArgs struct {
	Vol      Vol
	Capacity uint64
	Flags    Flags
}

// XDR is of xdr.Value.
func (v *VolResizeArgs) XDR(s xdr.Stream) {
	v.Vol.XDR(s)
	s.Uint64(&v.Capacity)
	v.Flags.XDR(s)
}

// VolType is what a volume is: virStorageVolType.
type VolType int32

const (
	VolFile VolType = iota
	VolBlock
	VolDir
	VolNetwork
	VolNetDir
	VolPloop
)

// VolInfo is of StorageVolGetInfo. Sizes are bytes.
type VolInfo struct {
	Type                 VolType
	Capacity, Allocation uint64
}

// XDR is of xdr.Value.
func (v *VolInfo) XDR(s xdr.Stream) {
	s.Int32((*int32)(&v.Type))
	s.Uint64(&v.Capacity)
	s.Uint64(&v.Allocation)
}
