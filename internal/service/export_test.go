package service

import "storaged/internal/store"

// LookAt has a volume looked at for who knows its pool as that.
func LookAt(s *Service, asked *store.Pool, volume string) error {
	one := &sight{name: volume}
	if err := s.lookAtAll(asked, []*sight{one}); err != nil {
		return err
	}
	return one.err
}
