package wire

import "storaged/internal/virtrpc/xdr"

// PoolFlags are arguments of what is done to a pool.
type PoolFlags struct {
	Pool  Pool
	Flags Flags
}

// XDR is of xdr.Value.
func (v *PoolFlags) XDR(s xdr.Stream) {
	v.Pool.XDR(s)
	v.Flags.XDR(s)
}

// PoolInt are a pool and a number: whether it is to start by itself, how many names
// are wanted.
type PoolInt struct {
	Pool Pool
	N    int32
}

// XDR is of xdr.Value.
func (v *PoolInt) XDR(s xdr.Stream) {
	v.Pool.XDR(s)
	s.Int32(&v.N)
}

// PoolText are a pool and the name of one of its volumes.
type PoolText struct {
	Pool Pool
	Text string
}

// XDR is of xdr.Value.
func (v *PoolText) XDR(s xdr.Stream) {
	v.Pool.XDR(s)
	s.String(&v.Text)
}

// TextFlags are the XML of a pool, and flags.
type TextFlags struct {
	Text  string
	Flags Flags
}

// XDR is of xdr.Value.
func (v *TextFlags) XDR(s xdr.Stream) {
	s.String(&v.Text)
	v.Flags.XDR(s)
}

// SourcesArgs are of ConnectFindStoragePoolSources.
type SourcesArgs struct {
	Type  string
	Spec  *string
	Flags Flags
}

// XDR is of xdr.Value.
func (v *SourcesArgs) XDR(s xdr.Stream) {
	s.String(&v.Type)
	xdr.OptionalString(s, &v.Spec)
	v.Flags.XDR(s)
}

// ListArgs ask for all pools that the flags select. With Need 0 only their number
// is wanted.
type ListArgs struct {
	Need  int32
	Flags Flags
}

// XDR is of xdr.Value.
func (v *ListArgs) XDR(s xdr.Stream) {
	s.Int32(&v.Need)
	v.Flags.XDR(s)
}

// PoolListArgs ask for all volumes of a pool, likewise.
type PoolListArgs struct {
	Pool  Pool
	Need  int32
	Flags Flags
}

// XDR is of xdr.Value.
func (v *PoolListArgs) XDR(s xdr.Stream) {
	v.Pool.XDR(s)
	s.Int32(&v.Need)
	v.Flags.XDR(s)
}

// Pools answers ListArgs.
type Pools struct {
	Pools []Pool
	Count uint32
}

// XDR is of xdr.Value.
func (v *Pools) XDR(s xdr.Stream) {
	xdr.List(s, &v.Pools, MaxNames, func(s xdr.Stream, p *Pool) { p.XDR(s) })
	s.Uint32(&v.Count)
}

// Vols answers PoolListArgs.
type Vols struct {
	Vols  []Vol
	Count uint32
}

// XDR is of xdr.Value.
func (v *Vols) XDR(s xdr.Stream) {
	xdr.List(s, &v.Vols, MaxNames, func(s xdr.Stream, w *Vol) { w.XDR(s) })
	s.Uint32(&v.Count)
}

// PoolState is what clients are shown of the state of a pool: virStoragePoolState.
type PoolState uint32

const (
	PoolInactive PoolState = iota
	PoolBuilding
	PoolRunning
	PoolDegraded
	PoolInaccessible
)

// PoolInfo is of StoragePoolGetInfo. Sizes are bytes.
type PoolInfo struct {
	State                           PoolState
	Capacity, Allocation, Available uint64
}

// XDR is of xdr.Value.
func (v *PoolInfo) XDR(s xdr.Stream) {
	s.Uint32((*uint32)(&v.State))
	s.Uint64(&v.Capacity)
	s.Uint64(&v.Allocation)
	s.Uint64(&v.Available)
}

// RegisterArgs ask for events of a kind, of one pool or, nil, of all.
type RegisterArgs struct {
	Event int32
	Pool  *Pool
}

// XDR is of xdr.Value.
func (v *RegisterArgs) XDR(s xdr.Stream) {
	s.Int32(&v.Event)
	xdr.Optional(s, &v.Pool, func(s xdr.Stream, p *Pool) { p.XDR(s) })
}

// LifecycleEvent is the message that a pool has changed.
type LifecycleEvent struct {
	Callback int32
	Pool     Pool
	Event    int32
	Detail   int32
}

// XDR is of xdr.Value.
func (v *LifecycleEvent) XDR(s xdr.Stream) {
	s.Int32(&v.Callback)
	v.Pool.XDR(s)
	s.Int32(&v.Event)
	s.Int32(&v.Detail)
}

// RefreshEvent is the message that the volumes of a pool were read anew.
type RefreshEvent struct {
	Callback int32
	Pool     Pool
}

// XDR is of xdr.Value.
func (v *RefreshEvent) XDR(s xdr.Stream) {
	s.Int32(&v.Callback)
	v.Pool.XDR(s)
}
