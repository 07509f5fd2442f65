package virtxml

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"

	"github.com/google/uuid"
)

// Encryption is how the content of a volume is encrypted. Format is luks. The secret is
// named by its usage or by its UUID.
type Encryption struct {
	Format string
	Usage  string
	UUID   string
	Cipher *Cipher
	IV     *IV
}

// Secret is the name of ours that opens it: the UUID or the usage that it is called by.
func (x *Encryption) Secret() string { return cmp.Or(x.UUID, x.Usage) }

// encryptedBy is an encryption that the secret of a name opens, "" where that is not known.
func encryptedBy(name string) *Encryption {
	x := &Encryption{Format: encryptionLUKS}
	x.UUID, x.Usage = named(name)
	return x
}

// named is the name of a secret of ours in libvirt's words.
func named(secret string) (id, usage string) {
	if id, err := uuid.Parse(secret); err == nil && id.String() == secret {
		return secret, ""
	}
	return "", secret
}

// options are those with which an image is encrypted so.
func (x *Encryption) options() map[string]string {
	options := map[string]string{}
	if c := x.Cipher; c != nil {
		options["cipher_alg"] = fmt.Sprintf("%s-%d", c.Name, c.Bits)
		options["cipher_mode"], options["hash_alg"] = c.Mode, c.Hash
	}
	if x.IV != nil {
		options["ivgen_alg"] = x.IV.Name
	}
	maps.DeleteFunc(options, func(_, value string) bool { return value == "" })
	return options
}

// Cipher is with what.
type Cipher struct {
	Name string // aes, say
	Bits int
	Mode string
	Hash string
}

// IV is how initial vectors are made.
type IV struct {
	Name string
	Hash string
}

// encryptionOf reads the element encryption, which need not be there.
func encryptionOf(e *element) (*Encryption, error) {
	if e == nil {
		return nil, nil
	}
	x := &Encryption{Format: e.attr("format")}
	switch x.Format {
	case "":
		return nil, refuse(Wrong, "unknown volume encryption format")
	case "default", "qcow", "luks", "luks2", "luks-any":
	default:
		return nil, refuse(Unsupported, "unknown volume encryption format type %s", x.Format)
	}
	if err := x.secret(e.all("secret")); err != nil {
		return nil, err
	}
	return x, x.algorithms(e)
}

// secret reads the one that opens the volume.
func (x *Encryption) secret(all []*element) (err error) {
	for _, s := range all {
		if t := s.attr("type"); t != "passphrase" {
			return refuse(Unsupported, "unknown volume encryption secret type %s", t)
		}
		x.Usage = s.attr("usage")
		uuid := s.attr("uuid")
		if uuid == "" && x.Usage == "" {
			return refuse(Wrong, "missing secret uuid or usage attribute")
		}
		if uuid == "" {
			continue
		}
		if x.UUID, err = parseUUID(uuid); err != nil {
			return refuse(Wrong, "invalid secret uuid '%s'", uuid)
		}
	}
	if len(all) != 1 {
		return refuse(Argument, "A single <secret type='passphrase'...> element is expected in encryption description")
	}
	return nil
}

func (x *Encryption) algorithms(e *element) (err error) {
	if c := e.child("cipher"); c != nil {
		x.Cipher = &Cipher{Name: c.attr("name"), Mode: c.attr("mode"), Hash: c.attr("hash")}
		if x.Cipher.Name == "" {
			return refuse(Wrong, "cipher info missing 'name' attribute")
		}
		if x.Cipher.Bits, err = strconv.Atoi(c.attr("size")); err != nil || x.Cipher.Bits < 1 {
			return refuse(Wrong, "cannot parse volume encryption cipher size: '%s'", c.attr("size"))
		}
	}
	if v := e.child("ivgen"); v != nil {
		x.IV = &IV{Name: v.attr("name"), Hash: v.attr("hash")}
		if x.IV.Name == "" {
			return refuse(Wrong, "missing ivgen info name string")
		}
	}
	return nil
}

func (x *Encryption) write(w *writer) {
	if x == nil {
		return
	}
	w.with("encryption", func() {
		switch {
		case x.UUID != "":
			w.empty("secret", attr("type", "passphrase"), attr("uuid", x.UUID))
		case x.Usage != "":
			w.empty("secret", attr("type", "passphrase"), attr("usage", x.Usage))
		}
	}, attr("format", x.Format))
}
