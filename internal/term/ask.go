package term

import (
	"fmt"
	"io"
	"strings"
)

// maxAnswer is more than anybody types to a question, in bytes.
const maxAnswer = 1024

// Ask writes the question and reads one line. It reads no further than the
// end of the line; the end of the input is an empty answer.
func Ask(in io.Reader, out io.Writer, question string) (string, error) {
	if _, err := fmt.Fprint(out, question+" "); err != nil {
		return "", fmt.Errorf("cannot ask: %w", err)
	}
	var line []byte
	for b := make([]byte, 1); len(line) < maxAnswer; {
		n, err := in.Read(b)
		if n == 1 && b[0] == '\n' || err == io.EOF {
			break
		}
		if err != nil {
			return "", fmt.Errorf("cannot read the answer: %w", err)
		}
		line = append(line, b[:n]...)
	}
	return strings.TrimSpace(string(line)), nil
}

// Confirm asks a yes-or-no question. Anything but y and yes is no.
func Confirm(in io.Reader, out io.Writer, question string) (bool, error) {
	answer, err := Ask(in, out, question+" [y/N]")
	if err != nil {
		return false, err
	}
	low := strings.ToLower(answer)
	return low == "y" || low == "yes", nil
}
