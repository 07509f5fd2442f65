package notify

import "bytes"

// Said keeps the first of what a program writes, which may be more.
type Said struct {
	bytes.Buffer
	Most int // bytes that are kept
}

func (s *Said) Write(p []byte) (int, error) {
	s.Buffer.Write(p[:min(len(p), max(0, s.Most-s.Len()))])
	return len(p), nil
}
