package service

import (
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"storaged/internal/record"
)

// herald tells what happens to who does not look: each notice is a line of the log, and is
// for the receivers that the settings have. It is safe for concurrent use.
type herald struct {
	log, notes hclog.Logger
	receivers  func(record.Notice) // hands it to them, without waiting; nil: there are none
}

// tell tells a notice; more are further words of its line.
func (h *herald) tell(n record.Notice, more ...any) {
	n.Time = time.Now().UTC()
	if n.ID == "" {
		n.ID = uuid.NewString()
	}
	h.say(n.Urgency)(n.Message, append(wordsOf(n), more...)...)
	if h.receivers != nil {
		h.receivers(n)
	}
}

// say is what writes a line of an urgency.
func (h *herald) say(u record.Urgency) func(string, ...any) {
	switch u {
	case record.Broken:
		return h.log.Error
	case record.Alarming:
		return h.log.Warn
	case record.Notable:
		return h.notes.Info
	}
	return h.log.Info
}

// wordsOf are the fields of a notice that have something.
func wordsOf(n record.Notice) (words []any) {
	if n.Job != 0 {
		words = append(words, "job", n.Job)
	}
	for _, f := range [][2]string{
		{"kind", string(n.Kind)}, {"object", n.Object}, {"outcome", n.Outcome}, {"owner", n.Owner},
		{"canceled_by", n.By}, {"code", string(n.Code)}, {"error", n.Error},
	} {
		if f[1] != "" {
			words = append(words, f[0], f[1])
		}
	}
	return words
}

// ail tells of a trouble with the daemon's own records.
func (h *herald) ail(what string, err error) {
	h.tell(record.Notice{Type: record.NoticeState, Urgency: record.Broken, Message: what, Error: err.Error()})
}
