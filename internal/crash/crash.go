// Package crash names the instants at which a program of ours may be killed
// by a test: between two durable steps, and after each frame. In a build
// without the tag chaos, which is every build but those of the chaos tests,
// the points do nothing and cost nothing.
//
// With the tag, a process that passes a point looks into the directory named
// by the environment variable STORAGED_CRASH_DIR. A file there named as the
// point, holding a number N, kills the process by SIGKILL when it passes the
// point for the N-th time; that takes the file away, so that a point fires
// once, and leaves "fired-POINT" in its place. One that holds "stop" stays, and
// stops each process there by SIGSTOP, until somebody lets it go on. While a file "record" is there, the
// name of each point passed is added to it.
package crash

import "strconv"

// Point is one instant. The part before the dot is the program or package.
type Point string

const (
	Submitted Point = "daemon.submitted" // the job is durable, the answer not sent
	Granted   Point = "daemon.granted"   // starting is durable, no directory is made
	Launched  Point = "daemon.launched"  // the helper runs and waits
	Identity  Point = "daemon.identity"  // whom GO is for is durable, GO is not sent
	Let       Point = "daemon.let"       // GO is sent
	Settling  Point = "daemon.settling"  // that another helper settles is durable
	Ended     Point = "daemon.ended"     // the end is durable, locks and files are there
	Dismissed Point = "daemon.dismissed" // they are gone, nobody was told

	Resumed  Point = "helper.resumed"  // GO has come, nothing is opened
	Locked   Point = "helper.locked"   // all is open and locked, nothing is changed
	Filled   Point = "helper.filled"   // all content is written
	Recorded Point = "helper.recorded" // the commit record is durable
	Merged   Point = "helper.merged"   // what stands on a snapshot has what it lacks of it
	Lifted   Point = "helper.lifted"   // it stands on what the snapshot stands on
	Done     Point = "helper.done"     // the task has ended, nothing is saved
	Saved    Point = "helper.saved"    // the result is durable

	Drafted Point = "dir.drafted" // the temporary file is there
	Synced  Point = "dir.synced"  // its content is durable
	Linked  Point = "dir.linked"  // what it replaces has its other name too, durably; of snapshots alone
	Renamed Point = "dir.renamed" // it has its name, which is not durable
	Removed Point = "dir.removed" // a name is gone, which is not durable
	Cleared Point = "dir.cleared" // a dead job's temporary file is gone, which is not durable
)

// Sent is the point after a frame of that type was written by a helper.
func Sent(frame uint8) Point { return Point("helper.sent-" + strconv.Itoa(int(frame))) }

// Points are all that have names of their own; beside them there is Sent, and Linked,
// Merged and Lifted, which need a volume in a format of its own.
func Points() []Point {
	return []Point{
		Submitted, Granted, Launched, Identity, Let, Settling, Ended, Dismissed,
		Resumed, Locked, Filled, Recorded, Done, Saved,
		Drafted, Synced, Renamed, Removed, Cleared,
	}
}
