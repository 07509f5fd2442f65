// Package image knows image formats and how QEMU keeps two users off one
// image. It works on bytes and open files only: images are hostile, and
// nothing they name is ever followed or opened.
//
// It imports nothing of ours. It runs in helper processes.
package image
