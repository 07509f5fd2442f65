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

const (
	// maxReport bounds a result file, in bytes.
	maxReport = 64 << 20
	// maxItems bounds its items: more do not fit maxReport when honestly
	// encoded, and a dishonest file of empty items must not fill the memory of
	// its reader.
	maxItems = 1 << 18
)

// SaveReport writes the result file durably and gives its digest for the
// RESULT frame. Texts that are too long are cut; any other value out of its
// bounds is an error.
func SaveReport(path string, r *Report) (digest string, err error) {
	if len(r.Items) > maxItems {
		return "", fmt.Errorf("cannot save result: %d items, at most %d", len(r.Items), maxItems)
	}
	r.ItemCount = len(r.Items)
	records := make([]Message, 0, len(r.Items)+1)
	records = append(records, r.Summary.tidied())
	for _, it := range r.Items {
		records = append(records, it.tidied())
	}
	digest, err = saveRecords(path, records)
	if err != nil {
		return "", fmt.Errorf("cannot save result: %w", err)
	}
	return digest, nil
}

// LoadReport reads a result file back, checking every record, and gives the
// SHA-256 of the whole file to hold against the RESULT frame. A file that does
// not end with its End record is ErrTorn; a missing one is os.ErrNotExist.
func LoadReport(path string) (r *Report, digest string, err error) {
	r = &Report{}
	digest, err = loadRecords(path, func(i int, m Message) error {
		switch m := m.(type) {
		case Summary:
			r.Summary = m
			return mustBe(i == 0, "a second summary")
		case Item:
			r.Items = append(r.Items, m)
			return mustBe(i > 0 && len(r.Items) <= r.ItemCount && len(r.Items) <= maxItems, "an item too many")
		}
		return protocolErrorf("%s in a result", m.Type())
	})
	if err == nil {
		err = mustBe(r.Outcome != "" && len(r.Items) == r.ItemCount, "an incomplete result")
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot read result: %w", err)
	}
	return r, digest, nil
}

func mustBe(ok bool, otherwise string) error {
	if !ok {
		return protocolErrorf("%s", otherwise)
	}
	return nil
}

// SaveCommit writes a job's commit file durably.
func SaveCommit(path string, c Commit) error { return saveOne(path, c) }

// LoadCommit reads it back; errors are those of LoadReport.
func LoadCommit(path string) (Commit, error) { return loadOne[Commit](path) }

// SaveCheckpoint writes a job's checkpoint file durably; only then may the
// CHECKPOINT frame be sent.
func SaveCheckpoint(path string, c Checkpoint) error { return saveOne(path, c) }

// LoadCheckpoint reads it back; errors are those of LoadReport.
func LoadCheckpoint(path string) (Checkpoint, error) { return loadOne[Checkpoint](path) }

func saveOne(path string, m Message) error {
	if _, err := saveRecords(path, []Message{m}); err != nil {
		return fmt.Errorf("cannot save %s: %w", m.Type(), err)
	}
	return nil
}

func loadOne[M Message](path string) (found M, err error) {
	_, err = loadRecords(path, func(i int, m Message) error {
		var ok bool
		found, ok = m.(M)
		return mustBe(ok && i == 0, "another record than this file is for")
	})
	if err == nil && found.check() != nil {
		err = ErrTorn // an empty file with an End
	}
	if err != nil {
		var none M
		return none, fmt.Errorf("cannot read %s: %w", none.Type(), err)
	}
	return found, nil
}

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
	if buf.Len() > maxReport {
		return "", fmt.Errorf("%s has %d bytes, at most %d", path, buf.Len(), maxReport)
	}
	if err := SaveDurable(path, buf.Bytes()); err != nil {
		return "", err
	}
	return digestOf(buf.Bytes()), nil
}

// loadRecords hands every record but the End to take, with its index. The file
// has been seen whole, and found intact, only when it returns without error.
// Records of unknown types are counted and passed over.
func loadRecords(path string, take func(i int, m Message) error) (digest string, err error) {
	f, err := openPlain(path)
	if err != nil {
		return "", err
	}
	defer f.Close() // opened for reading
	in := records{Reader: NewReader(io.LimitReader(f, maxReport), MaxRecord), sum: sha256.New()}
	for !in.ended && err == nil {
		var m Message
		if m, err = in.next(); err == nil && m != nil {
			err = take(in.count-1, m)
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return in.digest(), nil
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

// openPlain opens a file that a helper may have left anything in the place of:
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
		err = fmt.Errorf("%s is no regular file", path)
	case st.Size() > maxReport:
		err = fmt.Errorf("%s has %d bytes, at most %d", path, st.Size(), maxReport)
	}
	if err != nil {
		f.Close() // nothing was read
		return nil, err
	}
	return f, nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
