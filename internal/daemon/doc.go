// Package daemon is storaged itself: it turns requests into jobs, keeps the
// catalogue of pools and volumes true to what the jobs did, and wires store,
// supervisor and sockets together. It never touches a pool: what it knows of
// storage it learnt from helpers.
package daemon
