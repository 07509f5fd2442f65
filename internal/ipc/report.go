package ipc

import (
	"fmt"
	"io"
)

// maxItems bounds the items of a result: more do not fit maxFile when honestly
// encoded, and a dishonest file of empty items must not fill the memory of its
// reader.
const maxItems = 1 << 18

// SaveReport writes the result file durably and gives its digest for the
// RESULT frame. Texts that are too long are cut; any other value out of its
// bounds is an error.
func SaveReport(path string, r *Report) (digest string, err error) {
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
// SHA-256 of the file to hold against the RESULT frame. A file that does
// not end with its End record is ErrTorn; a missing one is os.ErrNotExist.
func LoadReport(path string) (r *Report, digest string, err error) {
	f, err := openPlain(path)
	if err == nil {
		defer f.Close()
		r, digest, err = readReport(f)
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot read result %s: %w", path, err)
	}
	return r, digest, nil
}

func readReport(src io.Reader) (*Report, string, error) {
	r := &Report{}
	digest, err := readRecords(src, func(i int, m Message) error {
		switch m := m.(type) {
		case Summary:
			r.Summary = m
			return mustBe(i == 0, "a second summary")
		case Item:
			r.Items = append(r.Items, m)
			return mustBe(len(r.Items) <= r.ItemCount, "an item too many")
		}
		return protocolErrorf("%s in a result", m.Type())
	})
	if err == nil {
		err = mustBe(r.Outcome != "" && len(r.Items) == r.ItemCount, "an incomplete result")
	}
	return r, digest, err
}

func mustBe(ok bool, otherwise string) error {
	if !ok {
		return protocolErrorf("%s", otherwise)
	}
	return nil
}
