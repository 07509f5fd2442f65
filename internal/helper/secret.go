package helper

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/secret"
)

// openSecrets opens the files that secrets are in. They are read when the process is
// confined, and leaves no core any more.
func (r *Run) openSecrets(files map[string]string) error {
	r.secrets = map[string]*os.File{}
	for name, file := range files {
		f, err := openSecret(file)
		if err != nil {
			return err
		}
		r.secrets[name] = f
	}
	return nil
}

func openSecret(file string) (*os.File, error) {
	digits, handed := strings.CutPrefix(file, "fd:")
	if !handed {
		f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOCTTY, 0)
		if err != nil {
			return nil, fmt.Errorf("cannot open a secret: %w", err)
		}
		return f, nil
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n < 3 {
		return nil, record.Errorf(record.Invalid, "%q is no descriptor: it is fd:N, from 3 on", file)
	}
	unix.CloseOnExec(int(n))
	return os.NewFile(uintptr(n), "secret"), nil
}

func (r *Run) dropSecrets() {
	for _, f := range r.secrets {
		f.Close() // it was only read
	}
}

// Secret gives the secret of a name, which the caller wipes when it has done its work.
// Without a name, and without one that was given so, there is none.
func (r *Run) Secret(name string) ([]byte, error) {
	f := r.secrets[name]
	switch {
	case f == nil && name == "":
		return nil, nil
	case f == nil:
		return nil, record.Errorf(record.NotFound, "the secret %q was not given", name).WithHint("%s", "--secret-file "+name+"=FILE")
	}
	value, err := secret.Read(f)
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", name, err)
	}
	if !utf8.Valid(value) || bytes.IndexByte(value, 0) >= 0 {
		clear(value)
		return nil, record.Errorf(record.Unsupported, "secret %q is no text: QEMU takes passphrases of UTF-8 only", name)
	}
	return value, nil
}
