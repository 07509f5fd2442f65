// Package store is the durable record of pools, volumes and jobs, in one bbolt
// file. It decides nothing: it keeps what it is given, whole or not at all.
package store
