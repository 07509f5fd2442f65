// Package virtrpc is the front end for libvirt's clients: it answers libvirt's remote
// protocol by calls of a Service, and decides nothing about storage or jobs. What goes
// over the socket is package wire's, XML is package virtxml's.
//
// A connection has one goroutine that reads. It answers keepalive itself, does what
// only concerns the connection, and gives each other call a goroutine. Calls that wait
// for a job wait beside all others. What a client has the daemon hold is bounded; when
// it is at a bound nothing more is read from it.
//
// # Who calls
//
// The kernel says who has connected, and package peer what that makes of it. Of a
// stranger, about whom polkit decides, nothing is answered but what lets it in, until it is
// admitted. What is asked about its changes later the service asks, by the caller; a call
// waits for that beside what is worked on.
//
// # How a procedure is added
//
// Its number is in package wire, and so are its arguments and its result, each a struct
// that says by its method XDR how it is encoded. The procedure is one row of a table
// and one function:
//
//	{wire.StoragePoolGetInfo, "virStoragePoolGetInfo", reads, with(poolInfo)},
//
//	func poolInfo(c *call, p wire.Pool) (xdr.Value, error)
//
// The row has the name of libvirt's public function, which refusals name, and who may
// call it: reads is for everybody who has opened the connection, writes is not for
// those who may only read, and owns is for who may change the one object that the call
// is about, which the function asks (c.ownJob). The function finds its objects by c.pool
// and c.vol, which refuse as libvirt does, calls c.svc with c.ctx() and c.submit(), and
// waits for a job by c.await. It gives the result, nil for none, or an error: a
// *wire.Failure goes to the client as it is, a *record.Error as failureOf translates it.
// Flags that it does not know it refuses by c.flags. Groups of rows are files; programs
// puts them together, those about jobs under our own number (wire.JobControl).
package virtrpc
