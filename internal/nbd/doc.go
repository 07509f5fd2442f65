// Package nbd is a client of an NBD server, as a diskio.Content: what a process of
// its own serves that has an image open. The protocol is doc/proto.md of the NBD
// project: fixed newstyle negotiation, structured replies, metadata contexts.
//
// The server has parsed the image and may be in the power of who made it. Nothing
// of what it says is believed unless it can be: lengths, offsets, cookies, kinds of
// replies, extents. What a server can make a client keep, or do without an end, is
// bounded. The first thing that cannot be ends all connections and is the error of
// every call from then on.
package nbd
