package ipc

import "fmt"

// SaveMark writes a checkpoint file durably, instead of the one before.
func SaveMark(path string, m Mark) error {
	if _, err := saveRecords(path, []Message{m}); err != nil {
		return fmt.Errorf("cannot save checkpoint: %w", err)
	}
	return nil
}

// LoadMark reads a checkpoint file back. One that is incomplete is ErrTorn; a
// missing one is os.ErrNotExist.
func LoadMark(path string) (*Mark, error) {
	var mark *Mark
	f, err := openPlain(path)
	if err == nil {
		defer f.Close()
		_, err = readRecords(f, func(i int, m Message) error {
			got, ok := m.(Mark)
			mark = &got
			return mustBe(ok && i == 0, "more than a checkpoint")
		})
	}
	if err == nil {
		err = mustBe(mark != nil, "no checkpoint")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read checkpoint %s: %w", path, err)
	}
	return mark, nil
}
