package transfer

import (
	"context"
	"errors"
	"io"
	"time"

	"storaged/internal/record"
)

// Sink is where a download's content goes.
type Sink interface {
	// Begin comes once, before the first Write: a content comes. Without it none
	// does, and the front end says why in its own way.
	Begin()
	io.Writer
}

// Send copies what the helper gives to the client, the last piece only when the
// job has succeeded, and closes the pipe: what the client has is whole, or err
// says why it is not.
func (t *Transfer) Send(to Sink) error {
	defer t.end()
	defer t.pipe.Close()
	gone := context.AfterFunc(t.client.Gone, func() { _ = t.pipe.SetReadDeadline(time.Unix(1, 0)) })
	defer gone()
	last, begun, err := t.copyTo(to)
	broken := !errors.Is(err, io.EOF)
	if broken {
		t.pipe.Close() // the helper finds that nobody reads
	}
	j := t.settle(broken)
	switch {
	case j.Error != nil:
		return j.Error
	case broken || j.State != record.Succeeded:
		return t.brokenOff(j)
	case !begun:
		to.Begin() // an empty content
		return nil
	}
	_, err = to.Write(last)
	return err
}

// copyTo copies until an end, which is an error: io.EOF is the helper's. The last
// piece it gives instead of writing it.
func (t *Transfer) copyTo(to Sink) (last []byte, begun bool, err error) {
	next := [2][]byte{make([]byte, pieceBytes), make([]byte, pieceBytes)}
	for i := 0; err == nil; i++ {
		var n int
		n, err = t.pipe.Read(next[i%2])
		if n == 0 {
			continue
		}
		if !begun {
			to.Begin()
			begun = true
		} else if _, werr := to.Write(last); werr != nil {
			err = werr
		}
		last = next[i%2][:n]
	}
	return last, begun, err
}

// brokenOff says why a stream has ended before its content, of whose job there is
// no error: somebody has canceled it, the front end stops, or the client was lost.
func (t *Transfer) brokenOff(j record.Job) error {
	switch {
	case t.client.Stopping.Err() != nil && !j.State.Terminal():
		return record.Errorf(record.Draining, "storaged stops; job %d ends without its stream", j.Number)
	case j.CanceledBy != nil && t.client.Gone.Err() == nil:
		return record.Errorf(record.CanceledCode, "job %d was canceled", j.Number)
	}
	return record.Errorf(record.Interrupted, "the stream of job %d broke off", j.Number)
}
