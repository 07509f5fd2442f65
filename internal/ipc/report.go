package ipc

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxReport bounds a result file.
const maxReport = 64 << 20

// SaveReport writes the result file durably and gives its digest for the
// RESULT frame.
func SaveReport(path string, r *Report) (digest string, err error) {
	r.ItemCount = len(r.Items)
	var buf bytes.Buffer
	records := make([]Message, 0, len(r.Items)+2)
	records = append(records, r.Summary)
	for _, it := range r.Items {
		records = append(records, it)
	}
	records = append(records, End{Records: len(r.Items) + 1})
	for i, m := range records {
		b, err := Encode(Frame{Seq: uint64(i), Body: m}, MaxRecord)
		if err != nil {
			return "", fmt.Errorf("cannot save result: %w", err)
		}
		buf.Write(b)
	}
	if err := SaveDurable(path, buf.Bytes()); err != nil {
		return "", err
	}
	return digestOf(buf.Bytes()), nil
}

// LoadReport reads a result file back, checking every record. A file that does
// not end with its End record is ErrTorn; a missing one is os.ErrNotExist.
func LoadReport(path string) (r *Report, digest string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("cannot read result: %w", err)
	}
	defer f.Close() // opened for reading
	data, err := io.ReadAll(io.LimitReader(f, maxReport+1))
	if err != nil {
		return nil, "", fmt.Errorf("cannot read result %s: %w", path, err)
	}
	if len(data) > maxReport {
		return nil, "", fmt.Errorf("cannot read result %s: longer than %d bytes", path, maxReport)
	}
	r, err = parseReport(NewReader(bytes.NewReader(data), MaxRecord))
	if err != nil {
		return nil, "", fmt.Errorf("cannot read result %s: %w", path, err)
	}
	return r, digestOf(data), nil
}

func parseReport(in *Reader) (*Report, error) {
	r, records := &Report{}, 0
	for {
		f, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil, ErrTorn
		}
		if err != nil {
			return nil, err
		}
		switch m := f.Body.(type) {
		case Summary:
			r.Summary = m
		case Item:
			r.Items = append(r.Items, m)
		case End:
			if m.Records != records || records == 0 || r.ItemCount != len(r.Items) {
				return nil, protocolErrorf("result has %d records, its end says %d", records, m.Records)
			}
			return r, nil
		default:
			return nil, protocolErrorf("frame of type %d in a result", m.Type())
		}
		records++
	}
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
