package transfer

import (
	"errors"
	"io"
	"math"

	"golang.org/x/sys/unix"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/sparse"
)

// Content is how an upload's content comes.
type Content struct {
	Form   string // operation.RawForm or operation.SparseForm
	Length *int64 // bytes of the content that are taken; nil: all
	Exact  bool   // one that is longer than Length is wrong, which its job knows too
}

// ErrLonger says that a content is longer than it should be. Its job says so too, unless
// it has ended for another reason.
var ErrLonger = errors.New("the content is longer than it should be")

// Receive copies a content from the client to the helper, and closes the pipe. It
// gives the job as it ended, or as it was last known when the front end stops, and
// the error that reading the content or writing the pipe ended with, if any.
func (t *Transfer) Receive(from io.Reader, content Content) (record.Job, error) {
	defer t.end()
	body := &heardBody{Reader: from}
	t.watcher.Go(func() { t.mind(body) })
	if t.client.Silence > 0 {
		t.watcher.Go(func() { t.listen(body) })
	}
	err := content.copy(t.pipe, body)
	t.pipe.Close()                     // a stream that is not whole has no end
	left := errors.Is(err, unix.EPIPE) // the helper wants no more
	longer := errors.Is(err, ErrLonger)
	enough := content.Length != nil && (err == nil || left || longer) // it has taken that
	j := t.settle(err != nil && !enough)
	if (enough || left) && j.State == record.Succeeded { // a client may hear no answer while it sends
		_, err = io.Copy(io.Discard, body)
	}
	return j, err
}

// copy gives the content to the helper. A raw one is put into the form with an
// end; of what it has more than is taken nothing is passed on, or where it is to be exact
// one byte, by which the helper knows.
func (c Content) copy(out io.Writer, body io.Reader) error {
	buf := make([]byte, pieceBytes)
	if c.Form == operation.SparseForm {
		_, err := io.CopyBuffer(struct{ io.Writer }{out}, body, buf)
		return err
	}
	taken := &io.LimitedReader{R: body, N: math.MaxInt64}
	switch {
	case c.Length != nil && c.Exact:
		taken.N = min(*c.Length, math.MaxInt64-1) + 1
	case c.Length != nil:
		taken.N = *c.Length
	}
	w := sparse.NewWriter(out)
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{taken}, buf)
	if err == nil {
		err = w.Close()
	}
	if c.Length != nil && c.Exact && taken.N == 0 {
		return errors.Join(ErrLonger, err)
	}
	return err
}
