package operation

import (
	"slices"
	"strings"
)

// Sealed is embedded by operations whose helper is given secrets. Their values are no
// part of it: Files are the files with them, by name, a path or fd:N. A secret without a
// name is that of an image of which a person says no more.
type Sealed struct {
	Files map[string]string `json:"-"`
}

// Hand says by which files the secrets come.
func (s *Sealed) Hand(files map[string]string) { s.Files = files }

// flags name the files, and the secret that opens the image.
func (s *Sealed) flags(secret *string) []Flag {
	return []Flag{text("secret", secret, "`NAME` of the secret that opens the image"), s.files()}
}

func (s *Sealed) files() Flag {
	return Flag{Name: "secret-file", Usage: "a secret is in that file, to its last byte; fd:N is an open one; may be repeated: `[NAME=]FILE`", value: (*secretFiles)(&s.Files)}
}

// secretFiles is a flag that is repeated for each secret.
type secretFiles map[string]string

func (f *secretFiles) set(text string) error {
	name, file, named := strings.Cut(text, "=")
	if !named {
		name, file = "", text
	}
	if *f == nil {
		*f = secretFiles{}
	}
	(*f)[name] = file
	return nil
}

func (f *secretFiles) texts() (all []string) {
	for name, file := range *f {
		all = append(all, name+"="+file)
	}
	slices.Sort(all)
	return all
}

// SecretsOf are the names of the secrets that the helper of an operation needs.
func SecretsOf(o Operation) (names []string) {
	var all []string
	if c, ok := o.(Chained); ok {
		for _, chain := range c.Chains() {
			all = append(all, chain.keys()...)
		}
	}
	if k, ok := o.(interface{ Keys() []string }); ok {
		all = append(all, k.Keys()...)
	}
	for _, name := range all {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// HandSecrets has the helper of an operation find its secrets in descriptors, from one
// on, and gives their names in that order.
func HandSecrets(o Operation, first int) []string {
	names := SecretsOf(o)
	files := map[string]string{}
	for i, name := range names {
		files[name] = descriptor(first + i)
	}
	if s, ok := o.(interface{ Hand(map[string]string) }); ok && len(names) > 0 {
		s.Hand(files)
	}
	return names
}
