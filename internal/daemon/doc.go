// Package daemon is storaged as a process: its configuration, its sockets, what
// signals ask of it and what it tells the service manager. What clients may ask
// is package service's, and how they ask it the front ends'.
package daemon
