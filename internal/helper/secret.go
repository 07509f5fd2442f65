package helper

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/secret"
)

// openSecrets opens the files that secrets are in. The process leaves no core from then
// on. Those of images are read when it is confined.
func (r *Run) openSecrets(files map[string]string) error {
	r.secrets = map[string]*os.File{}
	if len(files) > 0 {
		if err := noCore(); err != nil {
			return err
		}
	}
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

// SecretFile is the file that the secret of a name is in; it is closed when the run has
// ended. Without a name, and without one that was given so, there is none.
func (r *Run) SecretFile(name string) (*os.File, error) {
	f := r.secrets[name]
	if f == nil && name != "" {
		return nil, record.Errorf(record.NotFound, "the secret %q was not given", name).WithHint("%s", "--secret-file "+name+"=FILE")
	}
	return f, nil
}

// Secret gives the secret of a name that opens an image, which the caller wipes when it has
// done its work; nil as SecretFile.
func (r *Run) Secret(name string) ([]byte, error) {
	f, err := r.SecretFile(name)
	if f == nil {
		return nil, err
	}
	value, err := secret.Read(f)
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", name, err)
	}
	if err := secret.CheckValue(name, value); err != nil {
		clear(value)
		return nil, err
	}
	return value, nil
}
