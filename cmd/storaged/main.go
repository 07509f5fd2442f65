// Command storaged manages storage pools and volumes. Every long task is a
// job, run by a helper process of its own.
package main

import (
	"os"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/notify/sender"
	"storaged/internal/record"
)

func main() {
	if sender.Serves(os.Args) {
		return
	}
	exits := []int{
		record.ExitDone, record.ExitFailed, record.ExitUsage, record.ExitBusy,
		record.ExitExists, record.ExitDenied, record.ExitUnsupported,
	}
	p := cmdline.Program{App: newApp(), Exits: exits, Files: files, SeeAlso: []string{"storaged.toml(5)", "storagedctl(8)", "storage-helper(8)", manual}, Pages: []cmdline.Page{settingsPage()}}
	os.Exit(p.Main(os.Args))
}

// manual is where packages put what a manual page is too short for.
const manual = "/usr/share/doc/storaged/operations.md"

// files are those of the system's daemon; the settings move them.
var files = []cmdline.File{
	{Path: "/etc/storaged/storaged.toml", Holds: "the settings, see storaged.toml(5)."},
	{Path: "/etc/storaged/storaged.toml.d/*.toml", Holds: "more of them, read after it in the order of their names."},
	{Path: "/run/storaged/storaged.sock", Holds: "the main socket, for root and the group storaged."},
	{Path: "/run/storaged/storaged-ro.sock", Holds: "the socket for reading, for everybody."},
	{Path: "/run/storaged/libvirt.sock, /run/storaged/libvirt-ro.sock", Holds: "the same for clients of libvirt."},
	{Path: "/run/libvirt/virtstoraged-sock, /run/libvirt/virtstoraged-sock-ro", Holds: "the same in the place of libvirt's own daemon, if so set."},
	{Path: "/run/storaged/jobs/", Holds: "FIFOs and locks of running jobs."},
	{Path: "/var/lib/storaged/", Holds: "the database, its copies, logs and results of jobs, and what waits to be told."},
	{Path: "/usr/libexec/storaged/storage-helper", Holds: "the program that does the work of a job."},
	{Path: "$XDG_CONFIG_HOME/storaged/storaged.toml, $XDG_RUNTIME_DIR/storaged/, $XDG_STATE_HOME/storaged/", Holds: "the same of a user's own daemon."},
}
