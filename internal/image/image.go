// Package image knows how QEMU keeps two users off one image: by locks on single
// bytes of its file. It works on open files only.
//
// It imports nothing of ours. It runs in helper processes, and in scouts, which they start
// to see who has files open when they do not themselves any more.
package image
