package rest

// The media types that are spoken here.
const (
	jsonType    = "application/json"
	patchType   = "application/merge-patch+json"
	problemMIME = "application/problem+json"
	eventsType  = "text/event-stream"
	logType     = "text/plain; charset=utf-8"
	yamlType    = "application/yaml"
	metricsType = "text/plain; version=0.0.4; charset=utf-8"
)
