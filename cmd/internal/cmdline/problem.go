package cmdline

import (
	"context"
	"encoding/json"
	"errors"

	"storaged/internal/record"
)

// problem gives an error as the JSON object that REST would answer.
func problem(err error) []byte {
	var e *record.Error
	switch {
	case errors.As(err, &e):
		said := *e
		said.Message = err.Error() // with what was put before it
		e = &said
	case errors.Is(err, context.Canceled):
		e = record.Errorf(record.CanceledCode, "%v", err)
	default:
		e = record.Errorf(record.Internal, "%v", err)
	}
	b, err := json.Marshal(e.Problem())
	if err != nil {
		panic("internal error: cmdline: " + err.Error())
	}
	return b
}
