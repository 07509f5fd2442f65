package record

// problemType begins the type URI of every problem; the code follows.
const problemType = "urn:storaged:problem:"

// Problem is an Error as RFC 9457 writes it (application/problem+json), the
// form in which REST and "storagedctl -o json" tell it.
type Problem struct {
	Type    string    `json:"type"`
	Title   string    `json:"title"`
	Status  int       `json:"status"`
	Detail  string    `json:"detail"`
	Code    Code      `json:"code"`
	Hint    Hint      `json:"hint,omitempty"`
	Holders []Blocker `json:"holders,omitempty"`
	Path    string    `json:"path,omitempty"`
	Offset  *int64    `json:"offset,omitempty"`
}

// Problem gives the error in that form.
func (e *Error) Problem() Problem {
	m := e.Code.Meaning()
	return Problem{
		Type: problemType + string(e.Code), Title: m.Title, Status: m.Status, Detail: e.Message,
		Code: e.Code, Hint: e.Hint, Holders: e.Holders, Path: e.Path, Offset: e.Offset,
	}
}

// Error gives the error back.
func (p Problem) Error() *Error {
	return &Error{Code: p.Code, Message: p.Detail, Hint: p.Hint, Holders: p.Holders, Path: p.Path, Offset: p.Offset}
}
