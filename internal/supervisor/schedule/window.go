package schedule

import "storaged/internal/record"

// OpenWindow lets visitors into the job's objects whose modes are in mask.
func (e *Entry) OpenWindow(mask []record.Mode) error {
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	change, err := s.locks.OpenWindow(e.job.ID, mask)
	if err != nil {
		return err
	}
	s.follow(change)
	s.fill()
	return nil
}

// CloseWindow lets nobody in any more; who is inside stays.
func (e *Entry) CloseWindow() {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	e.s.locks.CloseWindow(e.job.ID)
}

// OnCall says for which modes the job opens a window when it is called for.
func (e *Entry) OnCall(mask []record.Mode) {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	e.s.locks.OnCall(e.job.ID, mask)
}

// Wanted reports whether a visitor waits only for windows, this one among them.
func (e *Entry) Wanted() bool {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	return e.s.locks.Wanted(e.job.ID)
}

// Visited reports whether visitors are inside.
func (e *Entry) Visited() bool {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	return len(e.s.locks.Visitors(e.job.ID)) > 0
}
