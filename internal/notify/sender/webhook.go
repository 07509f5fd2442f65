package sender

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"storaged/internal/confine"
	"storaged/internal/notify"
)

// webhook posts each event to a server.
type webhook struct {
	notify.Mission // URL is the address that was called last
	port           uint16
	client         *http.Client
}

const (
	maxCertificates = 1 << 20  // bytes of the file with those that vouch for a server
	maxHeaders      = 16 << 10 // bytes of a server's answer; its body does not matter
	maxBody         = 4 << 10  // bytes of it that are read, so that the connection can be used again
)

// newWebhook confines this process to calling that server.
func newWebhook(m notify.Mission) (*webhook, error) {
	roots, err := rootsOf(m.CAFile)
	if err != nil {
		return nil, err
	}
	port, err := lookAt(&m)
	if err == nil {
		err = confineTo(m, port)
	}
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Resolver: &net.Resolver{PreferGo: true}} // libraries would want more of the system than is left
	return &webhook{m, port, &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: maxHeaders, DisableCompression: true, MaxConnsPerHost: 1,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// rootsOf reads the certificates that vouch for a server. It is done before this process is
// confined.
func rootsOf(file string) (*x509.CertPool, error) {
	if file == "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("cannot read the system's certificates: %w", err)
		}
		return roots, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificates: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCertificates))
	if err != nil {
		return nil, fmt.Errorf("cannot read certificates: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("there is no certificate in %q", file)
	}
	return roots, nil
}

// namePort is where names are asked for by TCP, when an answer is long.
const namePort = 53

// nameFiles say how names of hosts are found.
var nameFiles = []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"}

// lookAt gives the port of the address, which it takes out of its file if there is one.
func lookAt(m *notify.Mission) (port uint16, err error) {
	if m.URLFile != "" {
		if m.URL, err = readSecret(m.URLFile); err == nil {
			err = m.CheckURL(m.URL)
		}
		if err != nil {
			return 0, fmt.Errorf("url_file: %w", err)
		}
	}
	return notify.PortOf(m.URL)
}

// confineTo leaves this process what calling one server takes: the port, the files that say
// where it is, and the directories of the secrets, which may come anew under the same names.
func confineTo(m notify.Mission, port uint16) error {
	// The runtime of Go reads of itself in /proc, with cgo.
	reads := append(slices.Clone(nameFiles), "/proc/self", "/sys/devices/system/cpu")
	for _, file := range []string{m.SecretFile, m.URLFile} {
		if file == "" {
			continue
		}
		reads = append(reads, filepath.Dir(file))
		if real, err := filepath.EvalSymlinks(file); err == nil {
			reads = append(reads, filepath.Dir(real))
		}
	}
	_, err := confine.Process(confine.Policy{ReadPaths: reads, Connect: []uint16{port, namePort}})
	return err
}

// tell posts an event. What the server answers but for its status does not matter.
func (w *webhook) tell(ctx context.Context, event []byte) error {
	switch port, err := lookAt(&w.Mission); {
	case err != nil:
		return err
	case port != w.port:
		return errors.New("url_file has another port now, and a process that may call that one is started")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(event))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "storaged/"+w.Version)
	if w.SecretFile != "" {
		value, err := readSecret(w.SecretFile)
		if err != nil {
			return err
		}
		request.Header.Set(w.SecretHeader, value)
	}
	response, err := w.client.Do(request)
	if err != nil {
		return w.plain(err)
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, maxBody) // it has the event, whatever becomes of the rest
	return w.judge(response)
}

// plain is the error of a call without the address, which may have in it what not everybody
// is to know.
func (w *webhook) plain(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return fmt.Errorf("cannot call %s: %w", w.host(), err)
}

func (w *webhook) host() string {
	u, err := url.Parse(w.URL)
	if err != nil {
		return "the server"
	}
	return u.Host
}

// judge says by its answer whether the server has the event.
func (w *webhook) judge(r *http.Response) error {
	err := fmt.Errorf("%s answers %d %s", w.host(), r.StatusCode, http.StatusText(r.StatusCode))
	switch {
	case r.StatusCode >= 200 && r.StatusCode < 300:
		return nil
	case r.StatusCode >= 300 && r.StatusCode < 400:
		return fmt.Errorf("%w: redirects are not followed, since the secret would go along", err)
	case slices.Contains([]int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity}, r.StatusCode):
		return refusedError{err} // it is about this event; others are about whom we call, and how
	}
	return err
}
