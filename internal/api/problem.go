package api

import (
	"storaged/internal/record"
)

// problemType begins the type URI of every problem; the code follows.
const problemType = "urn:storaged:problem:"

const (
	jsonType    = "application/json"
	patchType   = "application/merge-patch+json"
	problemMIME = "application/problem+json"
	eventsType  = "text/event-stream"
	logType     = "text/plain; charset=utf-8"
	yamlType    = "application/yaml"
	metricsType = "text/plain; version=0.0.4; charset=utf-8"
)

// problem is a record.Error as RFC 9457 writes it.
type problem struct {
	Type    string           `json:"type"`
	Title   string           `json:"title"`
	Status  int              `json:"status"`
	Detail  string           `json:"detail"`
	Code    record.Code      `json:"code"`
	Hint    string           `json:"hint,omitempty"`
	Holders []record.Blocker `json:"holders,omitempty"`
	Path    string           `json:"path,omitempty"`
	Offset  *int64           `json:"offset,omitempty"`
}

func toProblem(e *record.Error) problem {
	m := e.Code.Meaning()
	return problem{
		Type:    problemType + string(e.Code),
		Title:   m.Title,
		Status:  m.Status,
		Detail:  e.Message,
		Code:    e.Code,
		Hint:    e.Hint,
		Holders: e.Holders,
		Path:    e.Path,
		Offset:  e.Offset,
	}
}

func (p problem) toError() *record.Error {
	return &record.Error{
		Code: p.Code, Message: p.Detail, Hint: p.Hint, Holders: p.Holders, Path: p.Path, Offset: p.Offset,
	}
}
