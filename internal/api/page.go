package api

import "time"

const (
	// defaultPage is how many items a list has when nobody says.
	defaultPage = 100
	// maxPage keeps one answer to a size that both ends can hold.
	maxPage = 1000
	// maxWait is the longest that one request waits for a job. A client asks
	// again; so a forgotten one does not hold a connection for ever.
	maxWait = 10 * time.Minute
)
