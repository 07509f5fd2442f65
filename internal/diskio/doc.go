// Package diskio moves bytes between contents: copy, overwrite, compare, sum,
// trim; and allocates and resizes files. It gets open ones and knows neither paths
// nor pools nor jobs; a Pacer is all that connects a transfer with the world.
//
// What is promised everywhere:
//
//   - A byte counts as durable only after it was written back; success is
//     returned only after fsync. The first failed fsync or write-back is final:
//     it is returned and never tried again, because a second one would lie.
//   - At most maxDirty bytes wait for write-back at any time, and what was
//     written is dropped from the page cache, so that neither a flush nor
//     memory pressure hurts the neighbours.
//   - A canceled context is noticed between chunks, within about 100 ms on a
//     device that answers. When a function returns, its goroutines have ended.
//   - Errors of the storage are *IOError with the offset.
package diskio
