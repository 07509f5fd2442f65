package notify

import "bytes"

// Said keeps the first of what a program writes, which may be more.
type Said struct {
	Most int // bytes that are kept
	kept bytes.Buffer
}

func (s *Said) Write(p []byte) (int, error) {
	s.kept.Write(p[:min(len(p), max(0, s.Most-s.kept.Len()))])
	return len(p), nil
}

func (s *Said) String() string { return s.kept.String() }
