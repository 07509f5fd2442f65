package deputy

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/record"
	"storaged/internal/tool"
)

// answer is what comes of an errand on its way. Its length comes first, as four bytes,
// and with them the file.
type answer struct {
	Text  []byte `json:"text,omitempty"`
	Name  string `json:"name,omitempty"` // of the file
	Fault *fault `json:"fault,omitempty"`
}

// maxAnswer bounds one, bytes: more than a driver takes of what a program says.
const maxAnswer = 128 << 20

// send sends an answer, and closes its file.
func send(socket int, a backends.Answer, wrong error) error {
	is := answer{Text: a.Text, Fault: faultOf(wrong)}
	var rights []byte
	if a.File != nil {
		defer a.File.Close() // the other one has it then
		is.Name, rights = a.File.Name(), unix.UnixRights(int(a.File.Fd()))
	}
	text, err := json.Marshal(is)
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	if err := again(func() error { return unix.Sendmsg(socket, head, rights, nil, unix.MSG_NOSIGNAL) }); err != nil {
		return err
	}
	for len(text) > 0 {
		n, err := unix.SendmsgN(socket, text, nil, nil, unix.MSG_NOSIGNAL)
		if err != nil && err != unix.EINTR {
			return err
		}
		text = text[max(n, 0):]
	}
	return nil
}

// receive takes an answer.
func receive(socket int) (a answer, f *os.File, err error) {
	head, rights := make([]byte, 4), make([]byte, unix.CmsgSpace(4))
	var n, m int
	err = again(func() (err error) {
		n, m, _, _, err = unix.Recvmsg(socket, head, rights, unix.MSG_CMSG_CLOEXEC|unix.MSG_WAITALL)
		return err
	})
	if err == nil && n < len(head) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return a, nil, err
	}
	fd := descriptor(rights[:m])
	text := make([]byte, min(binary.BigEndian.Uint32(head), maxAnswer))
	for at := 0; at < len(text) && err == nil; at += max(n, 0) {
		err = again(func() (err error) { n, err = unix.Read(socket, text[at:]); return err })
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if fd >= 0 {
		f = os.NewFile(uintptr(fd), a.Name)
	}
	return a, f, err
}

// descriptor is that which came with a message, -1 if none did.
func descriptor(rights []byte) int {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) == 0 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return -1
	}
	return fds[0]
}

// again repeats a call that a signal interrupted.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// sentinels are the errors that an error can be, beside those with fields.
var sentinels = []error{
	backends.ErrNotFound, backends.ErrExists, backends.ErrNotEmpty, backends.ErrUnsupported, backends.ErrReplaced,
	backends.ErrElsewhere, backends.ErrChanged, backends.ErrUnsafe,
}

// fault is an error on its way: what it says, and all that callers tell errors apart by.
type fault struct {
	Says    string                  `json:"says"`
	Is      []int                   `json:"is,omitempty"` // indices of sentinels
	Errno   *unix.Errno             `json:"errno,omitempty"`
	Busy    *backends.BusyError     `json:"busy,omitempty"`
	Carries *backends.OccupiedError `json:"carries,omitempty"`
	Missing *backends.MissingError  `json:"missing,omitempty"`
	Another *backends.AnotherError  `json:"another,omitempty"`
	Lacks   *tool.MissingError      `json:"lacks,omitempty"`
	Refusal *record.Error           `json:"refusal,omitempty"`
	Away    string                  `json:"away,omitempty"` // target of the pool
}

// faultOf is an error as it is sent, nil for none.
func faultOf(err error) *fault {
	if err == nil {
		return nil
	}
	f := &fault{Says: err.Error()}
	for i, s := range sentinels {
		if errors.Is(err, s) {
			f.Is = append(f.Is, i)
		}
	}
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		f.Errno = &errno
	}
	f.Busy, _ = errors.AsType[*backends.BusyError](err)
	f.Carries, _ = errors.AsType[*backends.OccupiedError](err)
	f.Missing, _ = errors.AsType[*backends.MissingError](err)
	f.Another, _ = errors.AsType[*backends.AnotherError](err)
	f.Lacks, _ = errors.AsType[*tool.MissingError](err)
	f.Refusal, _ = errors.AsType[*record.Error](err)
	if away, ok := errors.AsType[*backends.AwayError](err); ok {
		f.Away = away.Target
	}
	return f
}

// error is what it was when it was sent, as far as anybody can tell.
func (f *fault) error() error {
	e := &remote{says: f.Says}
	e.is = slices.Concat(known(f.Busy), known(f.Carries), known(f.Missing), known(f.Another), known(f.Lacks), known(f.Refusal))
	if f.Away != "" {
		e.is = append(e.is, &backends.AwayError{Target: f.Away, Err: errors.New(f.Says)})
	}
	if f.Errno != nil {
		e.is = append(e.is, *f.Errno)
	}
	for _, i := range f.Is {
		if i >= 0 && i < len(sentinels) {
			e.is = append(e.is, sentinels[i])
		}
	}
	return e
}

// known is an error, if there is one.
func known[T any, E interface {
	*T
	error
}](e E) []error {
	if e == nil {
		return nil
	}
	return []error{e}
}

// remote is an error of an errand that a deputy did.
type remote struct {
	says string
	is   []error
}

func (e *remote) Error() string   { return e.says }
func (e *remote) Unwrap() []error { return e.is }
