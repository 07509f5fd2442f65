package ipc

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxFile bounds a file of records, in bytes.
const maxFile = 64 << 20

// saveRecords writes records and their End. A record's Seq is its index.
func saveRecords(path string, records []Message) (digest string, err error) {
	var buf bytes.Buffer
	for i, m := range records {
		b, err := Encode(Frame{Seq: uint64(i), Body: m}, MaxRecord)
		if err != nil {
			return "", err
		}
		buf.Write(b)
	}
	end := End{Records: len(records), Digest: digestOf(buf.Bytes())}
	b, err := Encode(Frame{Seq: uint64(len(records)), Body: end}, MaxRecord)
	if err != nil {
		return "", err
	}
	buf.Write(b)
	if buf.Len() > maxFile {
		return "", fmt.Errorf("%d bytes, at most %d", buf.Len(), maxFile)
	}
	if err := SaveDurable(path, buf.Bytes()); err != nil {
		return "", err
	}
	return digestOf(buf.Bytes()), nil
}

// readRecords gives every record but the End to take, with its index, and
// gives the digest of all. The file has been read to its end, and found
// intact, only when it returns without error. Records of unknown types are
// counted and passed over.
func readRecords(src io.Reader, take func(i int, m Message) error) (digest string, err error) {
	in := records{Reader: NewReader(io.LimitReader(src, maxFile), MaxRecord), sum: sha256.New()}
	for !in.ended && err == nil {
		var m Message
		if m, err = in.next(); err == nil && m != nil {
			err = take(in.count-1, m)
		}
	}
	return in.digest(), err
}

// records reads the frames of a file.
type records struct {
	*Reader
	sum   hash.Hash // of the records read
	count int       // of the records read, without the End
	ended bool
}

func (r *records) digest() string { return hex.EncodeToString(r.sum.Sum(nil)) }

// next gives nil for a record of unknown type and for the End.
func (r *records) next() (Message, error) {
	payload, err := r.payload()
	if errors.Is(err, io.EOF) {
		return nil, ErrTorn
	}
	if err != nil {
		return nil, err
	}
	f, err := decode(payload)
	if err != nil && !errors.Is(err, errUnknownType) {
		return nil, err
	}
	if f.Seq != uint64(r.count) || f.MonoNS != 0 {
		return nil, protocolErrorf("record %d has number %d and time %d", r.count, f.Seq, f.MonoNS)
	}
	if end, ok := f.Body.(End); ok {
		return nil, r.end(end, len(payload))
	}
	r.count++
	r.consume(len(payload))
	return f.Body, nil
}

func (r *records) consume(payload int) {
	n := headerLen + payload
	r.sum.Write(r.have[:n])
	r.have = r.have[n:]
}

// end holds the file against its End and makes sure that nothing follows.
func (r *records) end(e End, payload int) error {
	if e.Records != r.count || e.Digest != r.digest() {
		return protocolErrorf("%d records of digest %s, the end says %d of %s", r.count, r.digest(), e.Records, e.Digest)
	}
	r.ended = true
	r.consume(payload)
	if err := r.fill(1); !errors.Is(err, io.EOF) {
		return protocolErrorf("bytes behind the end (%v)", err)
	}
	return nil
}

// openPlain opens a file in whose stead a helper may have put anything:
// it follows no link and waits for no FIFO.
func openPlain(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	switch {
	case err != nil:
	case !st.Mode().IsRegular():
		err = errors.New("no regular file")
	case st.Size() > maxFile:
		err = fmt.Errorf("%d bytes, at most %d", st.Size(), maxFile)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
