package tool

import (
	"fmt"
	"os"
	"time"
)

// SecretName is the id of secret i of a command, by which other options name it.
func SecretName(i int) string { return fmt.Sprintf("secret%d", i) }

// gateName is the id of a secret that is nothing but what a program waits for.
const gateName = "gate"

// objects are what a program of QEMU makes before it looks at the options behind: its
// secrets, each of which it reads through a pipe to its end. Nobody else sees what comes
// so: arguments and environment are shown to others, and a file would have to be one
// that no file system keeps.
//
// The first is the gate: as long as our end of it is open the program goes no further.
// So it has opened nothing that somebody else wrote when it gets its limits, which
// cannot be had sooner: before it is executed it shares them with this process.
type objects struct {
	theirs []*os.File
	gate   *os.File // our end
}

// pipeTime is far more than it takes to write a secret: a pipe has room for the longest
// one, or has not, and nobody reads it yet.
const pipeTime = time.Second

// hold adds them to a command.
func (c *Command) hold() (o objects, err error) {
	defer func() {
		if err != nil {
			o.close()
			err = fmt.Errorf("cannot make pipes for %s: %w", c.Name, err)
		}
	}()
	if o.gate, err = o.pipe(c, gateName); err != nil {
		return o, err
	}
	for i, secret := range c.Secrets {
		ours, err := o.pipe(c, SecretName(i))
		if err != nil {
			return o, err
		}
		_ = ours.SetWriteDeadline(time.Now().Add(pipeTime)) // a pipe has deadlines
		_, err = ours.Write(secret)
		if ours.Close(); err != nil {
			return o, err
		}
	}
	return o, nil
}

// pipe makes one that a secret comes through, and gives our end.
func (o *objects) pipe(c *Command, id string) (ours *os.File, err error) {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o.theirs = append(o.theirs, theirs)
	c.Files = append(c.Files[:len(c.Files):len(c.Files)], theirs)
	c.objects = append(c.objects, "--object", fmt.Sprintf("secret,id=%s,format=raw,file=/proc/self/fd/%d", id, FD(len(c.Files)-1)))
	return ours, nil
}

// close opens the gate, and closes what is the program's.
func (o *objects) close() {
	for _, f := range o.theirs {
		f.Close()
	}
	if o.gate != nil {
		o.gate.Close()
	}
}
